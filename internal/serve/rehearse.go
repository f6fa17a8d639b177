package serve

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/draft"
)

// rehearsal does what a host does, with a draft of the records.
type rehearsal struct {
	Deeds
	h *Host
}

// recordsBelow is where the cluster's records stand.
const recordsBelow = "holdfast/"

// maxRehearsals is how many go on at once: each holds a copy of the records.
const maxRehearsals = 2

// Rehearse implements httpapi.Rehearser.
func (h *Host) Rehearse(ctx context.Context) (httpapi.Changer, func(), error) {
	m, err := h.member()
	if err != nil {
		return nil, nil, err
	}
	select {
	case h.rehearsals <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	d, err := draft.Of(m.kv, recordsBelow, clock.System{})
	if err != nil {
		<-h.rehearsals
		return nil, nil, err
	}
	records := cluster.Open(d, clock.System{}, h.log)
	r := &rehearsal{NewDeeds(records, m.node.Self, m.node.Make.Boot, m.node.Keys, h.log), h}
	end := func() {
		records.Close()
		_ = d.Close() // it is in memory
		<-h.rehearsals
	}
	if _, err := records.Refresh(); err != nil {
		end()
		return nil, nil, err
	}
	return r, end, nil
}

// RemoveHosts implements httpapi.Changer.
func (r *rehearsal) RemoveHosts(ctx context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	err := r.Deeds.RemoveHosts(ctx, ids, lost, giveUp)
	if err == nil {
		err = r.h.notMyself(ids)
	}
	return err
}

var _ kv.Store = (*draft.Store)(nil)
