package serve

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// CreateExport implements httpapi.Exports.
func (h *Host) CreateExport(ctx context.Context, name string, units []cluster.Unit) (cluster.Export, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Export{}, err
	}
	return m.node.Make.CreateExport(name, units)
}

// DeleteExport implements httpapi.Exports.
func (h *Host) DeleteExport(ctx context.Context, id holdfast.ExportID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.DeleteExport(id)
}

// AllowInitiator implements httpapi.Exports.
func (h *Host) AllowInitiator(ctx context.Context, id holdfast.ExportID, i cluster.Initiator) (cluster.Export, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Export{}, err
	}
	return m.node.Make.AllowInitiator(id, i)
}

// DenyInitiator implements httpapi.Exports.
func (h *Host) DenyInitiator(ctx context.Context, id holdfast.ExportID, name string) (cluster.Export, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Export{}, err
	}
	return m.node.Make.DenyInitiator(id, name)
}
