package serve

import (
	"context"
	"crypto/rand"
	"log/slog"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Deeds do on records alone what a host does, with hosts that make every replica
// they are asked for. Placement, admission and refusals are the product's own.
type Deeds struct {
	Records *cluster.Client
	Make    *provision.Provisioner
}

// NewDeeds returns what acts on records as a host in one of its lives.
func NewDeeds(records *cluster.Client, self holdfast.HostID, boot holdfast.BootID, keys *keyring.Ring, log *slog.Logger) Deeds {
	return Deeds{Records: records, Make: &provision.Provisioner{Self: self, Boot: boot, Cluster: records, Keys: keys, Clock: clock.System{}, Rand: rand.Reader, Log: log,
		Volumes: volume.New(volume.Config{Self: self, Clock: clock.System{}, Rand: rand.Reader, Net: willing{records}, Records: claims{records}, Log: log,
			Keys: func(rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) { return keysOf(keys, rec) }})}}
}

// State implements httpapi.Changer.
func (d *Deeds) State(context.Context) (*cluster.State, error) { return d.Records.Refresh() }

// CreateVolume implements httpapi.Changer.
func (d *Deeds) CreateVolume(_ context.Context, n httpapi.NewVolume) (cluster.Volume, error) {
	return d.Make.CreateVolume(volumeSpec(n))
}

// DeleteVolume implements httpapi.Changer.
func (d *Deeds) DeleteVolume(_ context.Context, id holdfast.VolumeID, erase bool) error {
	return d.Make.DeleteVolume(id, erase)
}

// GrowVolume implements httpapi.Changer.
func (d *Deeds) GrowVolume(_ context.Context, id holdfast.VolumeID, blocks uint64) (cluster.Volume, error) {
	return d.Make.GrowVolume(id, blocks)
}

// CreateVM implements httpapi.Changer.
func (d *Deeds) CreateVM(_ context.Context, n httpapi.NewVM) (cluster.VM, error) {
	return d.Make.CreateVM(vmSpec(n))
}

// ChangeVM implements httpapi.Changer.
func (d *Deeds) ChangeVM(_ context.Context, id holdfast.VMID, c cluster.VMChange) error {
	_, err := d.Make.ChangeVM(id, c)
	return err
}

// DeleteVM implements httpapi.Changer.
func (d *Deeds) DeleteVM(_ context.Context, id holdfast.VMID, how cluster.VMRemoval) error {
	return d.Make.DeleteVM(id, how)
}

// AddVMDisk implements httpapi.Changer.
func (d *Deeds) AddVMDisk(_ context.Context, id holdfast.VMID, n httpapi.NewVMDisk) error {
	_, err := d.Make.AddVMDisk(id, provision.VMDisk{Volume: n.Volume, New: volumeSpec(n.New)})
	return err
}

// RemoveVMDisk implements httpapi.Changer.
func (d *Deeds) RemoveVMDisk(_ context.Context, id holdfast.VMID, volume holdfast.VolumeID) error {
	_, err := d.Make.RemoveVMDisk(id, volume)
	return err
}

// CreatePool implements httpapi.Changer.
func (d *Deeds) CreatePool(_ context.Context, p cluster.Pool) (cluster.Pool, error) {
	return d.Make.CreatePool(p)
}

// DeletePool implements httpapi.Changer.
func (d *Deeds) DeletePool(_ context.Context, id holdfast.PoolID) error {
	return d.Make.DeletePool(id)
}

// CreateExport implements httpapi.Changer.
func (d *Deeds) CreateExport(_ context.Context, name string, units []cluster.Unit) (cluster.Export, error) {
	return d.Make.CreateExport(name, units)
}

// DeleteExport implements httpapi.Changer.
func (d *Deeds) DeleteExport(_ context.Context, id holdfast.ExportID) error {
	return d.Make.DeleteExport(id)
}

// AllowInitiator implements httpapi.Changer.
func (d *Deeds) AllowInitiator(_ context.Context, id holdfast.ExportID, i cluster.Initiator) (cluster.Export, error) {
	return d.Make.AllowInitiator(id, i)
}

// DenyInitiator implements httpapi.Changer.
func (d *Deeds) DenyInitiator(_ context.Context, id holdfast.ExportID, name string) (cluster.Export, error) {
	return d.Make.DenyInitiator(id, name)
}

// EvacuateDisk implements httpapi.Changer.
func (d *Deeds) EvacuateDisk(_ context.Context, id holdfast.DiskID, on, remove bool) error {
	_, err := d.Make.EvacuateDisk(id, provision.Evacuation{On: on, Remove: remove})
	return err
}

// Drain implements httpapi.Changer.
func (d *Deeds) Drain(_ context.Context, id holdfast.HostID, on bool, guestSeconds int) error {
	return drainHost(d.Records, id, on, guestSeconds)
}

// RemoveHosts implements httpapi.Changer: it says whether they could go. Votes,
// certificates and records are not touched.
func (d *Deeds) RemoveHosts(_ context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	st, err := d.Records.Refresh()
	if err != nil {
		return err
	}
	return placement.PlanRemoval(st, ids, lost).Allow(giveUp)
}
