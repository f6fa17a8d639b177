package agent

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// What a VM may have, a machine can (it does not compile otherwise).
const _ = uint(hypervisor.MaxDisks - cluster.MaxVMDisks)

// openAll opens volumes here, in their order. The error says which it could not.
func (w *worker) openAll(ids []holdfast.VolumeID) ([]*volume.Volume, error) {
	var out []*volume.Volume
	for _, id := range ids {
		v := w.a.Volumes.Opened(id)
		if v == nil {
			if w.a.stopped() { // each may take a while
				return out, holdfast.Errorf(holdfast.Closed, "this host stops")
			}
			var err error
			if v, err = w.a.Volumes.Open(id); err != nil {
				return out, holdfast.Errorf(holdfast.KindOf(err), "its disk %s: %w", w.volumeName(id), err)
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func (w *worker) volumeName(id holdfast.VolumeID) string {
	if st := w.a.Control.State(); st != nil {
		if rec, ok := st.Volumes[id]; ok {
			return rec.Val.Name
		}
	}
	return id.Short()
}

// volumesOf are the volumes that a machine writes.
func volumesOf(s hypervisor.Spec) (ids []holdfast.VolumeID) {
	for _, d := range s.Written() {
		ids = append(ids, d.Volume)
	}
	return ids
}

// disk is a volume that is open here as a machine gets it.
func (w *worker) disk(v *volume.Volume, slot int) (hypervisor.Disk, error) {
	rec := v.Record()
	socket := w.a.Socket(rec.ID)
	if socket == "" {
		return hypervisor.Disk{}, holdfast.Errorf(holdfast.Unavailable, "its disk %s is not exported here yet", rec.Name)
	}
	return hypervisor.Disk{Slot: slot, Volume: rec.ID, Cache: rec.Generation, Socket: socket, Export: rec.Name}, nil
}

// disks gives a machine a VM's volumes, opened in the order of
// cluster.VM.Volumes.
func (w *worker) disks(vm cluster.VM, vols []*volume.Volume, s *hypervisor.Spec) error {
	for _, v := range vols {
		id := v.Record().ID
		if vm.UEFI() && id == vm.Vars {
			d, err := w.disk(v, hypervisor.SlotVars)
			if err != nil {
				return err
			}
			s.Vars = &d
			continue
		}
		d, err := w.disk(v, vm.SlotOf(id))
		if err != nil {
			return err
		}
		s.Disks = append(s.Disks, d)
	}
	return nil
}

// fitDisks gives a running machine the disks that its VM was given since, and
// takes away those that are to go, as far as its guest lets them.
func (w *worker) fitDisks(m hypervisor.Machine, vm cluster.VM) {
	now := w.a.Clock.Now()
	if now < w.fitAt || m.State() != hypervisor.Running {
		return
	}
	w.said = ""
	spec := m.Spec()
	var gone []holdfast.VolumeID
	for _, d := range vm.Disks {
		_, has := spec.Disk(d.Volume)
		var err error
		switch {
		case d.Leaving && has:
			if err = m.Unplug(d.Slot); holdfast.IsKind(err, holdfast.Busy) {
				err = nil // the guest takes its time; what is pending says so
			} else if err == nil {
				gone = append(gone, d.Volume)
			}
		case d.Leaving:
			gone = append(gone, d.Volume)
		default:
			err = w.plug(m, d)
		}
		if err != nil {
			w.fitAt = now + startAgain
			w.said = "its disk " + w.volumeName(d.Volume) + ": " + err.Error()
			w.a.Log.Info("a machine's disks could not be changed yet", "vm", vm.Name, "disk", w.volumeName(d.Volume), "error", err)
		}
	}
	if err := w.fitMedium(m, vm); err != nil && w.said == "" {
		w.fitAt = now + startAgain
		w.said = "its CD-ROM drive: " + err.Error()
		w.a.Log.Info("what lies in a machine's CD-ROM drive could not be changed yet", "vm", vm.Name, "error", err)
	}
	w.detach(vm, gone)
}

// plug gives a machine a disk, or makes sure that it finds again one that it
// has.
func (w *worker) plug(m hypervisor.Machine, d cluster.VMDisk) error {
	vols, err := w.openAll([]holdfast.VolumeID{d.Volume})
	if err != nil {
		return err
	}
	disk, err := w.disk(vols[0], d.Slot)
	if err != nil {
		return err
	}
	return m.Plug(disk)
}

// detach lets volumes go that are to leave the VM and that no machine of it has.
func (w *worker) detach(vm cluster.VM, gone []holdfast.VolumeID) {
	if len(gone) == 0 {
		return
	}
	for _, id := range gone {
		w.rest(id)
	}
	if err := w.a.Control.DetachDisks(vm, gone, w.as); err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
		w.a.Log.Info("a VM's disk could not be let go yet", "vm", vm.Name, "error", err)
	}
}

// leavingOf are the volumes that are to leave a VM.
func leavingOf(vm cluster.VM) (ids []holdfast.VolumeID) {
	for _, d := range vm.Disks {
		if d.Leaving {
			ids = append(ids, d.Volume)
		}
	}
	return ids
}

// allOf are all volumes of a VM, those that are to leave it included.
func allOf(vm cluster.VM) []holdfast.VolumeID { return slices.Concat(vm.Volumes(), leavingOf(vm)) }

// closeAll closes volumes here.
func (w *worker) closeAll(ids []holdfast.VolumeID) {
	for _, id := range ids {
		if v := w.a.Volumes.Opened(id); v != nil {
			v.Close()
		}
	}
}

// rest closes a volume that the machine used, unless its copies are to change:
// then it stays open to be mended. It is done once: somebody may open it since,
// to keep what is in it or to set it back.
func (w *worker) rest(id holdfast.VolumeID) {
	v := w.a.Volumes.Opened(id)
	if v != nil && needsCare(v.Record()) {
		return
	}
	if v != nil {
		v.Close()
	}
	if w.rested == nil {
		w.rested = make(map[holdfast.VolumeID]bool)
	}
	w.rested[id] = true
}
