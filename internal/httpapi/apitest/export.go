package apitest

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// CreateExport implements httpapi.Backend.
func (b *Backend) CreateExport(_ context.Context, name string, units []cluster.Unit) (e cluster.Export, err error) {
	err = b.change(func() error {
		for _, u := range units {
			if other, ok := b.St.ExportOf(u.Volume); ok {
				return holdfast.Errorf(holdfast.Busy, "volume %s is reachable through export %s", b.St.Volumes[u.Volume].Val.Name, other.Val.Name)
			}
		}
		e = cluster.Export{ID: holdfast.ExportID{UUID: b.id()}, Name: name, Target: "iqn.2026-11.cloud.holdfast:field." + name, Units: units, Created: epoch0()}
		put(b, b.St.Exports, e.ID, e)
		return nil
	})
	return e, err
}

// DeleteExport implements httpapi.Backend.
func (b *Backend) DeleteExport(_ context.Context, id holdfast.ExportID) error {
	return b.change(func() error { delete(b.St.Exports, id); return nil })
}

// AllowInitiator implements httpapi.Backend.
func (b *Backend) AllowInitiator(_ context.Context, id holdfast.ExportID, i cluster.Initiator) (cluster.Export, error) {
	if i.Secret != "" && i.User == "" {
		i.User = i.Name
	}
	return b.editExport(id, func(e *cluster.Export) error {
		e.Initiators = append(slices.DeleteFunc(slices.Clone(e.Initiators), func(x cluster.Initiator) bool { return x.Name == i.Name }), i)
		return nil
	})
}

// DenyInitiator implements httpapi.Backend.
func (b *Backend) DenyInitiator(_ context.Context, id holdfast.ExportID, name string) (cluster.Export, error) {
	return b.editExport(id, func(e *cluster.Export) error {
		n := len(e.Initiators)
		e.Initiators = slices.DeleteFunc(slices.Clone(e.Initiators), func(x cluster.Initiator) bool { return x.Name == name })
		if len(e.Initiators) == n {
			return holdfast.Errorf(holdfast.NotFound, "initiator %q is not on the list of export %s", name, e.Name)
		}
		return nil
	})
}

func (b *Backend) editExport(id holdfast.ExportID, f func(*cluster.Export) error) (e cluster.Export, err error) {
	err = b.change(func() error {
		e = b.St.Exports[id].Val
		if err := f(&e); err != nil {
			return err
		}
		put(b, b.St.Exports, id, e)
		return nil
	})
	return e, err
}
