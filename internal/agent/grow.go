package agent

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Grower is a Machine that shows its guest that a disk has become larger, once
// the disk's session has been begun anew.
type Grower interface {
	// DiskSize returns the size in bytes that the guest sees of a disk.
	DiskSize(disk int) (int64, error)
	// Grow has the guest see a larger size. Kind Unavailable: the new session
	// has not begun yet.
	Grow(disk int, size int64) error
}

// Renewer is an export.Server that can end the sessions of a volume's machine,
// which begins new ones at once and so learns of the volume's size. Nothing that
// was asked for is lost by that: it is asked for again.
type Renewer interface {
	Renew(id holdfast.VolumeID)
}

// growAgain is how long a machine has to begin a new session.
const growAgain = 500 * time.Millisecond

// shownSize is what is known of the size that a guest sees of a disk.
type shownSize struct {
	shown   int64         // bytes
	renewed int64         // bytes for which its session was begun anew
	again   time.Duration // not before: the next try to show it more
}

// grow shows the guest of a running machine that its volumes have become larger.
func (w *worker) grow(m hypervisor.Machine) {
	g, ok := m.(Grower)
	exports, can := w.a.Exports.(Renewer)
	if !ok || !can || m.State() != hypervisor.Running {
		return
	}
	for _, d := range m.Spec().Disks {
		if v := w.a.Volumes.Opened(d.Volume); v != nil {
			w.growDisk(g, exports, d, int64(v.Record().Blocks)*holdfast.BlockSize)
		}
	}
}

func (w *worker) growDisk(g Grower, exports Renewer, d hypervisor.Disk, size int64) {
	if w.sizes == nil {
		w.sizes = make(map[holdfast.VolumeID]*shownSize)
	}
	s := w.sizes[d.Volume]
	if s == nil {
		s = &shownSize{}
		w.sizes[d.Volume] = s
	}
	now := w.a.Clock.Now()
	if size == s.shown || now < s.again {
		return
	}
	s.again = now + growAgain
	if shown, err := g.DiskSize(d.Slot); err != nil || shown >= size {
		if err == nil {
			s.shown = size
		}
		return
	}
	if s.renewed != size {
		s.renewed = size
		exports.Renew(d.Volume)
		w.wake.Set()
		return
	}
	switch err := g.Grow(d.Slot, size); {
	case err == nil:
		s.shown = size
		w.a.Log.Info("the guest sees that its disk has grown", "disk", d.Export, "bytes", size)
	case holdfast.IsKind(err, holdfast.Unavailable):
		s.renewed = 0
		w.wake.Set()
	default:
		w.a.Log.Warn("the guest could not be shown that its disk has grown", "disk", d.Export, "error", err)
	}
}
