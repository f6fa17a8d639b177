package agent

import (
	"bytes"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Firmware is a Hypervisor that starts machines with UEFI.
type Firmware interface {
	// UEFI reports whether it can now.
	UEFI() bool
	// UEFIVars returns what the variables of a machine are at first. Unavailable:
	// the firmware is not installed.
	UEFIVars() ([]byte, error)
}

// fillVars writes to the volume of a VM's UEFI variables, which is open here,
// what they are at first, unless there is something. The first block is written
// last: what was interrupted is done again.
func (w *worker) fillVars(vm cluster.VM) error {
	f, ok := w.a.Hyper.(Firmware)
	if !ok {
		return holdfast.Errorf(holdfast.Unavailable, "this host starts no machines with UEFI")
	}
	first, err := f.UEFIVars()
	if err != nil {
		return err
	}
	v := w.a.Volumes.Opened(vm.Vars)
	if v == nil {
		return holdfast.Errorf(holdfast.Unavailable, "its UEFI variables (volume %s) are not open here any more", w.volumeName(vm.Vars))
	}
	d, err := v.Session(false)
	if err != nil {
		return err
	}
	defer d.Close()
	if int64(len(first)) != d.Size() {
		return holdfast.Errorf(holdfast.Conflict, "the UEFI firmware of this host keeps %d bytes of variables, and volume %s has %d: it is of another kind", len(first), w.volumeName(vm.Vars), d.Size())
	}
	head := make([]byte, holdfast.BlockSize)
	if err := w.do(d, export.Request{Op: export.Read, Length: int64(len(head)), Data: head}); err != nil {
		return err
	}
	if !bytes.Equal(head, make([]byte, len(head))) {
		return nil
	}
	rest := first[len(head):]
	if err := w.do(d, export.Request{Op: export.Write, Off: int64(len(head)), Length: int64(len(rest)), Data: rest, FUA: true}); err != nil {
		return err
	}
	return w.do(d, export.Request{Op: export.Write, Length: int64(len(head)), Data: first[:len(head)], FUA: true})
}

// do submits one request and waits for it.
func (w *worker) do(d export.Disk, r export.Request) error {
	return export.Do(d, r, func() (func(), func()) {
		ev := w.a.Clock.NewEvent()
		return ev.Set, func() { ev.Wait(clock.Forever) }
	})
}
