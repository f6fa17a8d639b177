package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

const (
	awayLimit = 20 * time.Second // for all volumes to go on without a host
	awayFor   = 5 * time.Second  // they have been, for longer than any change of a record takes
	awayLook  = 100 * time.Millisecond
)

// oldCopy is somebody who puts a copy of a disk in its place that was made some
// time ago. A copy that missed what was flushed is no undamaged disk (invariant
// 1), so it is done once no volume counts on that host any more; everything else
// on it, promises above all, is of then.
func (f *faults) oldCopy() {
	h := f.host()
	i := f.rng.IntN(len(h.media()))
	copied := h.media()[i].Clone(f.s.w.Rand(fmt.Sprintf("copy of disk %d of %s at %v", i, h.name, f.s.w.Now())))
	copied.Crash()
	f.s.tell("fault: disk %d of %s is copied", i+1, h.name)
	f.later(func() {
		if f.s.ending || h.computer == nil {
			return
		}
		f.s.tell("fault: %s loses power, to come back with the copy of its disk %d", h.name, i+1)
		h.powerCut()
		if f.goOnWithout(h) {
			f.s.tell("%s has the copy of its disk %d", h.name, i+1)
			f.s.oldCopies++
			if i == 0 {
				h.disk = copied
			} else {
				h.second = copied
			}
		}
		h.powerOn()
	})
}

// goOnWithout waits until no volume has had a copy in sync on a host without
// power for a while, and reports whether it is so.
func (f *faults) goOnWithout(h *host) bool {
	since := f.s.w.Now()
	for end := since + awayLimit; f.s.w.Now() < end; clock.Sleep(f.s.c, awayLook) {
		st, err := f.s.eye.Refresh()
		if h.computer != nil || f.s.ending {
			return false
		}
		if err != nil || counted(st, h.rec.ID) {
			since = f.s.w.Now()
		}
		if f.s.w.Now()-since > awayFor {
			return true
		}
	}
	return false
}

// counted reports whether a volume has a copy in sync on a host.
func counted(st *cluster.State, id holdfast.HostID) bool {
	for _, v := range st.Volumes {
		if slices.ContainsFunc(v.Val.InSync, func(r cluster.Replica) bool { return r.Host == id }) {
			return true
		}
	}
	return false
}

// swapDisks is somebody who puts the first disks of two hosts back the wrong way
// round, and notices later.
func (f *faults) swapDisks() {
	a, b := f.host(), f.s.hosts[f.rng.IntN(len(f.s.hosts))]
	if a == b || a.swapped != nil || b.swapped != nil {
		f.restart()
		return
	}
	f.s.tell("fault: the disks of %s and %s change places", a.name, b.name)
	a.swapped, b.swapped = b, a
	a.swap(b)
	f.later(func() { f.s.swapBack(a) })
}

// swap switches two hosts off, has their disks change places, and switches them
// on.
func (h *host) swap(o *host) {
	h.powerCut()
	o.powerCut()
	h.disk, o.disk = o.disk, h.disk
	h.powerOn()
	o.powerOn()
}

// swapBack has a host and the other get their own disks again.
func (s *simulation) swapBack(h *host) {
	if o := h.swapped; o != nil {
		s.tell("%s and %s get their own disks again", h.name, o.name)
		h.swapped, o.swapped = nil, nil
		h.swap(o)
	}
}
