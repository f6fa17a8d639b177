package provision

import (
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// tries bounds how often a change is decided anew after somebody else's.
const tries = 10

// errStands is decide's answer when an earlier try was made after all: its
// outcome was not known, and the records were changed again since, so that they
// do not stand as it put them.
var errStands = errors.New("the change stands")

// transact has decide put together a transaction from the newest records and
// commits it, again if somebody else was first. An error of decide ends it.
// decide must know a change that cannot be made twice, and say errStands.
func (p *Provisioner) transact(decide func(*cluster.State, *cluster.Txn) error) error {
	var last error
	for range tries {
		st, err := p.fresh()
		if err != nil {
			return err
		}
		tx := p.Cluster.Begin()
		switch err := decide(st, tx); {
		case err == errStands:
			return nil
		case err != nil:
			return err
		}
		rev, err := tx.Settle(settle)
		if err == nil {
			p.Cluster.WaitRev(rev, kv.CallTimeout)
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
		last = err
		clock.Sleep(p.Clock, 20e6)
	}
	return last
}

// again has something made from its beginning, as long as what it depends on, as the
// volume that a clone is made of, was changed meanwhile: what was made for it is gone
// by then. To decide the commit alone anew would not do: a snapshot or a key that the
// replicas were made with may be gone.
func (p *Provisioner) again(make func() error) (err error) {
	for range tries {
		if err = make(); !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
		clock.Sleep(p.Clock, 20e6)
	}
	return err
}

// change applies f to a volume's newest record and commits it.
func (p *Provisioner) change(id holdfast.VolumeID, f func(*cluster.State, *cluster.Volume) error) (rec cluster.Volume, err error) {
	err = p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, ok := st.Volumes[id]
		if !ok || v.Val.Deleted {
			return holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
		}
		rec = v.Val
		rec.Snapshots = append([]cluster.Snapshot(nil), rec.Snapshots...)
		if err := f(st, &rec); err != nil {
			return err
		}
		tx.PutVolume(rec, v.Mod)
		return nil
	})
	return rec, err
}

// clonesOf returns the name of a volume that is a linked clone of id and, with
// snap not zero, of that snapshot.
func clonesOf(st *cluster.State, id holdfast.VolumeID, snap holdfast.SnapshotID) (string, bool) {
	for _, v := range st.SortedVolumes() {
		if o := v.Val.Origin; o != nil && o.Volume == id && !v.Val.Deleted && (snap.IsZero() || o.Snapshot == snap) {
			return v.Val.Name, true
		}
	}
	return "", false
}

// DeleteVolume marks a volume deleted; its hosts remove the replicas, and with
// the last one the record. Linked clones keep the blocks they share.
//
// The keys of an encrypted volume are erased with that. With erase it is an
// error if this does not make it unreadable.
func (p *Provisioner) DeleteVolume(id holdfast.VolumeID, erase bool) error {
	_, err := p.change(id, func(st *cluster.State, rec *cluster.Volume) error {
		if vm, ok := st.VMs[rec.VM]; ok && !vm.Val.Deleted {
			if vm.Val.UEFI() && vm.Val.Vars == id {
				return holdfast.Errorf(holdfast.Conflict, "volume %s holds the UEFI variables of VM %s; delete the VM first", rec.Name, vm.Val.Name)
			}
			if slices.Contains(vm.Val.Memories(), id) {
				return holdfast.Errorf(holdfast.Conflict, "volume %s holds the memory of VM %s at a snapshot; delete that: 'holdfast vm snapshot list %s'", rec.Name, vm.Val.Name, vm.Val.Name)
			}
			if vm.Val.Volume != id {
				return holdfast.Errorf(holdfast.Conflict, "volume %s is a disk of VM %s; take it away first: 'holdfast vm disk remove %s %s'", rec.Name, vm.Val.Name, vm.Val.Name, rec.Name)
			}
			return holdfast.Errorf(holdfast.Conflict, "volume %s is the disk of VM %s; delete the VM first", rec.Name, vm.Val.Name)
		}
		if vm, ok := st.InDriveOf(id); ok {
			return holdfast.Errorf(holdfast.Conflict, "image %s lies in the CD-ROM drive of VM %s; take it out first: 'holdfast vm cdrom eject %s'", rec.Name, vm.Name, vm.Name)
		}
		if e, ok := st.ExportOf(id); ok {
			return errExported(rec.Name, e.Val.Name)
		}
		rec.Deleted = true
		return eraseKeys(st, rec, erase)
	})
	return err
}

// GrowVolume makes a volume larger; its writer follows.
func (p *Provisioner) GrowVolume(id holdfast.VolumeID, blocks uint64) (cluster.Volume, error) {
	return p.change(id, func(st *cluster.State, rec *cluster.Volume) error {
		if vm, ok := st.VMs[rec.VM]; ok && vm.Val.UEFI() && vm.Val.Vars == id {
			return holdfast.Errorf(holdfast.Denied, "volume %s holds the UEFI variables of VM %s, whose size is the firmware's", rec.Name, vm.Val.Name)
		}
		if blocks < rec.Blocks || blocks > holdfast.MaxVolumeBlocks {
			return holdfast.Errorf(holdfast.Invalid, "volume %s has %d blocks; it can grow to at most %d and never shrinks", rec.Name, rec.Blocks, uint64(holdfast.MaxVolumeBlocks))
		}
		if rec.Image {
			return holdfast.Errorf(holdfast.Denied, "image %s is immutable", rec.Name)
		}
		rec.Blocks = blocks
		return nil
	})
}

// Snapshot keeps the volume's content as of now. The volume must be open on
// this host (see Here).
func (p *Provisioner) Snapshot(id holdfast.VolumeID, name string) (cluster.Snapshot, error) {
	if err := holdfast.CheckName("snapshot", name); err != nil {
		return cluster.Snapshot{}, err
	}
	v, err := p.Volumes.Open(id)
	if err != nil {
		return cluster.Snapshot{}, err
	}
	rec := v.Record()
	if err := nameIsFree(&rec, name); err != nil {
		return cluster.Snapshot{}, err
	}
	u, err := p.uuid()
	if err != nil {
		return cluster.Snapshot{}, err
	}
	snap := cluster.Snapshot{ID: holdfast.SnapshotID{UUID: u}, Name: name, Created: p.Clock.Wall()}
	err = v.Snapshot(snap.ID, func(at holdfast.LSN) error {
		snap.LSN = at
		_, err := p.change(id, naming(snap, v.Epoch()))
		return err
	})
	return snap, err
}

// naming adds a snapshot that was made at an epoch to its volume's record.
func naming(snap cluster.Snapshot, made holdfast.Epoch) func(*cluster.State, *cluster.Volume) error {
	return func(_ *cluster.State, rec *cluster.Volume) error {
		switch {
		case names(rec, snap.ID):
			return errStands
		case rec.Epoch != made: // its writer of now lets go what the record does not name
			return holdfast.Errorf(holdfast.Conflict, "volume %s moved to another host while the snapshot was taken; take it again", rec.Name)
		}
		rec.Snapshots = append(rec.Snapshots, snap)
		return nil
	}
}

// names reports whether a record names a snapshot.
func names(rec *cluster.Volume, id holdfast.SnapshotID) bool {
	return slices.ContainsFunc(rec.Snapshots, func(s cluster.Snapshot) bool { return s.ID == id })
}

// DeleteSnapshot lets a snapshot go. One that clones were made of is hidden
// and goes with the last of them.
func (p *Provisioner) DeleteSnapshot(id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	hidden := false
	_, err := p.change(id, func(st *cluster.State, rec *cluster.Volume) error {
		for i := range rec.Snapshots {
			if rec.Snapshots[i].ID != snap {
				continue
			}
			if vm, of, kept := st.KeptFor(*rec, snap); kept {
				return holdfast.Errorf(holdfast.Conflict, "snapshot %s of volume %s belongs to that of VM %s: 'holdfast vm snapshot delete %s %s'", rec.Snapshots[i].Name, rec.Name, vm.Name, vm.Name, of.Name)
			}
			if _, hidden = clonesOf(st, id, snap); hidden {
				rec.Snapshots[i].Hidden = true
			} else {
				rec.Snapshots = append(rec.Snapshots[:i], rec.Snapshots[i+1:]...)
			}
			return nil
		}
		return holdfast.Errorf(holdfast.NotFound, "volume %s has no such snapshot", rec.Name)
	})
	if err != nil || hidden {
		return err
	}
	v, err := p.Volumes.Open(id)
	if err != nil {
		return err
	}
	return v.DropSnapshot(snap)
}

// Revert sets a volume back to a snapshot. No VM may run on it.
func (p *Provisioner) Revert(id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	rec, ok := st.Volumes[id]
	if !ok {
		return holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
	}
	if vm, ok := st.VMs[rec.Val.VM]; ok && vm.Val.Power == cluster.On {
		return holdfast.Errorf(holdfast.Conflict, "VM %s runs on volume %s; stop it first", vm.Val.Name, rec.Val.Name)
	} else if of, wakes := vm.Val.Snapshot(vm.Val.Wake); ok && wakes && vm.Val.Reverting.IsZero() {
		return holdfast.Errorf(holdfast.Conflict, "VM %s is to go on with the memory of snapshot %s, on its disks as they were then; set it back with --without-memory first", vm.Val.Name, of.Name)
	}
	v, err := p.Volumes.Open(id)
	if err != nil {
		return err
	}
	s, err := v.Session(false)
	if err != nil {
		return err
	}
	defer s.Close()
	return v.Revert(snap)
}

// Seal makes an imported image immutable, of its true size in blocks, and ready
// to be cloned.
func (p *Provisioner) Seal(id holdfast.VolumeID, blocks uint64) (cluster.Volume, error) {
	if v := p.Volumes.Opened(id); v != nil {
		if err := v.Flush(); err != nil {
			return cluster.Volume{}, err
		}
		v.Close()
	}
	return p.change(id, func(_ *cluster.State, rec *cluster.Volume) error {
		rec.Sealed, rec.Writer, rec.Blocks = true, holdfast.HostID{}, blocks
		rec.Importer, rec.ImporterBoot = holdfast.HostID{}, holdfast.BootID{}
		return nil
	})
}

// Restored makes a volume that was filled as an image an ordinary one, that may
// be used.
func (p *Provisioner) Restored(id holdfast.VolumeID) (cluster.Volume, error) {
	if v := p.Volumes.Opened(id); v != nil {
		if err := v.Flush(); err != nil {
			return cluster.Volume{}, err
		}
		v.Close()
	}
	return p.change(id, func(_ *cluster.State, rec *cluster.Volume) error {
		rec.Image, rec.Writer = false, holdfast.HostID{}
		rec.Importer, rec.ImporterBoot = holdfast.HostID{}, holdfast.BootID{}
		return nil
	})
}
