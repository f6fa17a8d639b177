package serve

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/draft"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// rehearsal does what a host does, with a draft of the records, and hosts that make
// every replica they are asked for.
type rehearsal struct {
	h       *Host
	draft   *draft.Store
	records *cluster.Client
	make    *provision.Provisioner
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
	r := &rehearsal{h: h, draft: d, records: cluster.Open(d, clock.System{}, h.log)}
	r.make = &provision.Provisioner{Self: m.node.Self, Boot: m.node.Make.Boot, Cluster: r.records, Keys: m.node.Keys, Clock: clock.System{}, Rand: rand.Reader, Log: h.log,
		Volumes: volume.New(volume.Config{Self: m.node.Self, Clock: clock.System{}, Rand: rand.Reader, Net: willing{}, Log: h.log})}
	end := func() {
		r.records.Close()
		_ = d.Close() // it is in memory
		<-h.rehearsals
	}
	if _, err := r.records.Refresh(); err != nil {
		end()
		return nil, nil, err
	}
	return r, end, nil
}

// willing are hosts that make and remove replicas, and do nothing else.
type willing struct{}

// Send implements transport.Network.
func (willing) Send(_ holdfast.HostID, f transport.Frame, _ time.Duration, done func(transport.Frame, error)) {
	if f.Kind == volume.KindCreate || f.Kind == volume.KindRemove {
		done(transport.Frame{}, nil)
		return
	}
	done(transport.Frame{}, holdfast.Errorf(holdfast.Unavailable, "this cannot be tried without being done"))
}

// Handle implements transport.Network.
func (willing) Handle(transport.Kind, transport.Handler) {}

// Start implements transport.Network.
func (willing) Start() error { return nil }

// Close implements transport.Network.
func (willing) Close() error { return nil }

// State implements httpapi.Changer.
func (r *rehearsal) State(context.Context) (*cluster.State, error) { return r.records.Refresh() }

// CreateVolume implements httpapi.Changer.
func (r *rehearsal) CreateVolume(_ context.Context, n httpapi.NewVolume) (cluster.Volume, error) {
	return r.make.CreateVolume(volumeSpec(n))
}

// DeleteVolume implements httpapi.Changer.
func (r *rehearsal) DeleteVolume(_ context.Context, id holdfast.VolumeID, erase bool) error {
	return r.make.DeleteVolume(id, erase)
}

// GrowVolume implements httpapi.Changer.
func (r *rehearsal) GrowVolume(_ context.Context, id holdfast.VolumeID, blocks uint64) (cluster.Volume, error) {
	return r.make.GrowVolume(id, blocks)
}

// CreateVM implements httpapi.Changer.
func (r *rehearsal) CreateVM(_ context.Context, n httpapi.NewVM) (cluster.VM, error) {
	return r.make.CreateVM(vmSpec(n))
}

// ChangeVM implements httpapi.Changer.
func (r *rehearsal) ChangeVM(_ context.Context, id holdfast.VMID, c cluster.VMChange) error {
	_, err := r.make.ChangeVM(id, c)
	return err
}

// DeleteVM implements httpapi.Changer.
func (r *rehearsal) DeleteVM(_ context.Context, id holdfast.VMID, how cluster.VMRemoval) error {
	return r.make.DeleteVM(id, how)
}

// AddVMDisk implements httpapi.Changer.
func (r *rehearsal) AddVMDisk(_ context.Context, id holdfast.VMID, d httpapi.NewVMDisk) error {
	_, err := r.make.AddVMDisk(id, provision.VMDisk{Volume: d.Volume, New: volumeSpec(d.New)})
	return err
}

// RemoveVMDisk implements httpapi.Changer.
func (r *rehearsal) RemoveVMDisk(_ context.Context, id holdfast.VMID, volume holdfast.VolumeID) error {
	_, err := r.make.RemoveVMDisk(id, volume)
	return err
}

// CreatePool implements httpapi.Changer.
func (r *rehearsal) CreatePool(_ context.Context, p cluster.Pool) (cluster.Pool, error) {
	return r.make.CreatePool(p)
}

// DeletePool implements httpapi.Changer.
func (r *rehearsal) DeletePool(_ context.Context, id holdfast.PoolID) error {
	return r.make.DeletePool(id)
}

// CreateExport implements httpapi.Changer.
func (r *rehearsal) CreateExport(_ context.Context, name string, units []cluster.Unit) (cluster.Export, error) {
	return r.make.CreateExport(name, units)
}

// DeleteExport implements httpapi.Changer.
func (r *rehearsal) DeleteExport(_ context.Context, id holdfast.ExportID) error {
	return r.make.DeleteExport(id)
}

// EvacuateDisk implements httpapi.Changer.
func (r *rehearsal) EvacuateDisk(_ context.Context, id holdfast.DiskID, on, remove bool) error {
	_, err := r.make.EvacuateDisk(id, provision.Evacuation{On: on, Remove: remove})
	return err
}

// Drain implements httpapi.Changer.
func (r *rehearsal) Drain(_ context.Context, id holdfast.HostID, on bool, guestSeconds int) error {
	return drainHost(r.records, id, on, guestSeconds)
}

// RemoveHosts implements httpapi.Changer. What votes and certificates would do is not
// tried: they follow the records.
func (r *rehearsal) RemoveHosts(_ context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	st, err := r.records.Refresh()
	if err == nil {
		err = placement.PlanRemoval(st, ids, lost).Allow(giveUp)
	}
	if err == nil {
		err = r.h.notMyself(ids)
	}
	return err
}

var _ kv.Store = (*draft.Store)(nil)
