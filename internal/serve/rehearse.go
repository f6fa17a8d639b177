package serve

import (
	"context"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/draft"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// rehearsal does what a host does, with a draft of the records.
type rehearsal struct {
	Trial
	h *Host
}

// recordsBelow is where the cluster's records stand.
const recordsBelow = "holdfast/"

// maxRehearsals is how many go on at once: each holds a copy of the records.
const maxRehearsals = 2

// rehearsalWait is how long a request waits for its turn to be tried. Hosts ask one
// another while they try, so none may wait for good.
const rehearsalWait = 10 * time.Second

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
	case <-time.After(rehearsalWait):
		return nil, nil, holdfast.Errorf(holdfast.Busy, "host %s is trying other requests; try again", h.cfg.Name)
	}
	d, err := draft.Of(m.kv, recordsBelow, clock.System{})
	if err != nil {
		<-h.rehearsals
		return nil, nil, err
	}
	records := cluster.Open(d, clock.System{}, h.log)
	r := &rehearsal{NewTrial(NewDeeds(records, m.node.Self, m.node.Make.Boot, m.node.Keys, h.log)), h}
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

// Revert implements httpapi.Changer: the volume's writer says whether it is used.
func (r *rehearsal) Revert(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	if err := r.Trial.Revert(ctx, id, snap); err != nil {
		return err
	}
	m, err := r.h.member()
	if err != nil {
		return err
	}
	return r.h.onWriter(m, id, func() error {
		if v := m.node.Volumes.Opened(id); v != nil && v.HasSession() {
			return holdfast.Errorf(holdfast.Busy, "volume %s already has a writing session; close it first or connect read-only", v.Record().Name)
		}
		return nil
	}, func(c *client.Client) error {
		return c.Revert(client.DryRun(ctx), id.String(), v1.RevertSpec{Snapshot: snap.String()})
	})
}

// AddDisk implements httpapi.Changer.
func (r *rehearsal) AddDisk(_ context.Context, n httpapi.NewDisk) (d cluster.Disk, err error) {
	m, err := r.h.member()
	if err != nil {
		return d, err
	}
	if d, err = r.h.wouldAdd(m, n); err != nil {
		return d, err
	}
	return d, r.Make.AddDisk(d)
}

// ReplaceDisk implements httpapi.Changer: the disk's host says whether it has a disk
// to put in its place.
func (r *rehearsal) ReplaceDisk(ctx context.Context, id holdfast.DiskID, n httpapi.NewDisk) (d cluster.Disk, err error) {
	m, err := r.h.member()
	if err != nil {
		return d, err
	}
	st, err := r.Records.Refresh()
	if err != nil {
		return d, err
	}
	old, ok := st.Disks[id]
	switch {
	case !ok:
		return d, holdfast.Errorf(holdfast.NotFound, "disk %s is not known", id.Short())
	case old.Val.Host == r.h.dir.id.Host:
		d, err = r.AddDisk(ctx, n)
	default:
		if d, err = m.replaceElsewhere(client.DryRun(ctx), st, old.Val, n); err == nil {
			err = r.Make.AddDisk(d)
		}
	}
	if err == nil {
		_, err = r.Make.EvacuateDisk(id, provision.Evacuation{On: true, Remove: true, Successor: d.ID})
	}
	return d, err
}

var _ kv.Store = (*draft.Store)(nil)
