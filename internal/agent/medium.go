package agent

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// medium is the image in a VM's CD-ROM drive as its machine gets it; nil:
// nothing lies there. The image is not opened here: it is read where it is open,
// or where a session has it opened.
func (w *worker) medium(vm cluster.VM) (*hypervisor.Disk, error) {
	if vm.CDROM.IsZero() {
		return nil, nil
	}
	st := w.a.Control.State()
	if st == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host has not seen the cluster's state yet")
	}
	rec, ok := st.Volumes[vm.CDROM]
	socket := w.a.Socket(vm.CDROM)
	alive := slices.ContainsFunc(rec.Val.InSync, func(r cluster.Replica) bool { return st.AliveHost(r.Host) })
	switch {
	case !ok || rec.Val.Deleted:
		return nil, holdfast.Errorf(holdfast.NotFound, "image %s is gone", vm.CDROM.Short())
	case !alive:
		return nil, holdfast.Errorf(holdfast.Unavailable, "image %s cannot be read: no host that has a good copy of it answers", rec.Val.Name)
	case socket == "":
		return nil, holdfast.Errorf(holdfast.Unavailable, "image %s is not exported here yet", rec.Val.Name)
	}
	return &hypervisor.Disk{Slot: hypervisor.SlotCD, Volume: rec.Val.ID, Cache: rec.Val.Generation, Socket: socket, Export: rec.Val.Name, ReadOnly: true}, nil
}

// fitMedium has the drive of a running machine hold what its VM says.
func (w *worker) fitMedium(m hypervisor.Machine, vm cluster.VM) error {
	now := m.Spec().CD
	if now == nil && vm.CDROM.IsZero() {
		return nil
	}
	medium, err := w.medium(vm)
	if err != nil && now != nil && now.Volume == vm.CDROM {
		return nil // its reads wait for who serves it
	}
	if err != nil {
		return err
	}
	return m.Load(medium)
}
