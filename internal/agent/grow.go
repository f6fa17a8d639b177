package agent

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
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

// grow shows the guest of a running machine that its volume has become larger.
func (w *worker) grow(m hypervisor.Machine, rec cluster.Volume) {
	size := int64(rec.Blocks) * holdfast.BlockSize
	g, ok := m.(Grower)
	exports, can := w.a.Exports.(Renewer)
	if !ok || !can || size == w.shown || m.State() != hypervisor.Running {
		return
	}
	now := w.a.Clock.Now()
	if now < w.growAt {
		return
	}
	w.growAt = now + growAgain
	if shown, err := g.DiskSize(0); err != nil || shown >= size {
		if err == nil {
			w.shown = size
		}
		return
	}
	if w.renewed != size {
		w.renewed = size
		exports.Renew(rec.ID)
		w.wake.Set()
		return
	}
	switch err := g.Grow(0, size); {
	case err == nil:
		w.shown = size
		w.a.Log.Info("the guest sees that its disk has grown", "vm", m.Spec().Name, "bytes", size)
	case holdfast.IsKind(err, holdfast.Unavailable):
		w.renewed = 0
		w.wake.Set()
	default:
		w.a.Log.Warn("the guest could not be shown that its disk has grown", "vm", m.Spec().Name, "error", err)
	}
}
