package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

const (
	awayLimit = 25 * time.Second // for all volumes to go on without a host
	awayFor   = 5 * time.Second  // it has been away, for longer than any change of a record takes
	awayLook  = 100 * time.Millisecond
)

// oldCopy is somebody who puts a copy of a disk in its place that was made some
// time ago. A copy that missed what was flushed is no undamaged disk (invariant
// 1), so it is done once no volume counts on that host any more; everything else
// on it, promises above all, is of then.
func (f *faults) oldCopy() {
	h := f.host()
	d := f.disk(h)
	f.strike("disk copy %s", d)
	f.after(f.length(), func() {
		if h.computer == nil {
			return
		}
		f.strike("power off host %s", h.name)
		for end := f.s.w.Now() + awayLimit; f.s.w.Now() < end && !f.over && h.computer == nil; clock.Sleep(f.s.c, awayLook) {
			if f.s.without(h) {
				f.strike("disk restore %s", d)
				break
			}
		}
		if !f.over {
			f.strike("power on host %s", h.name)
		}
	})
}

// copyDisk keeps a copy of a disk as it is now.
func (s *simulation) copyDisk(h *host, n int) {
	if h.swapped != nil {
		return // it would come to be in two hosts
	}
	s.copied++
	h.copies[n-1] = h.media()[n-1].Clone(s.w.Rand(fmt.Sprintf("copy %d, of disk %d of %s", s.copied, n, h.name)))
	h.copies[n-1].Crash()
	for _, c := range s.clients {
		c.marks.copied(h, n)
	}
}

// restoreDisk puts the copy in the disk's place, if nobody counts on the host.
func (s *simulation) restoreDisk(h *host, n int) {
	c := h.copies[n-1]
	if c == nil || h.swapped != nil || !s.without(h) {
		return
	}
	s.oldCopies++
	s.promises.forget(h)
	for _, c := range s.clients {
		c.marks.restored(h, n)
	}
	if h.copies[n-1] = nil; n == 1 {
		h.disk = c
	} else {
		h.second = c
	}
}

// without reports whether a host has been without power for so long, and no volume
// has a copy in sync on it.
func (s *simulation) without(h *host) bool {
	if h.computer != nil || s.w.Now()-h.offAt < awayFor {
		return false
	}
	for id := range s.eye.State().Volumes {
		v, err := cluster.PeekVolume(s.peek, id)
		if err != nil || slices.ContainsFunc(v.InSync, func(r cluster.Replica) bool { return r.Host == h.rec.ID }) {
			return false
		}
		if v.Forced != nil && slices.ContainsFunc(v.Forced.Lost, func(l cluster.LostCopy) bool { return l.Host == h.rec.ID && l.At == nil }) {
			return false // it is to be set aside
		}
	}
	return true
}

// swapDisks is somebody who puts the first disks of two hosts back the wrong way
// round, and notices later.
func (f *faults) swapDisks() {
	a, b := f.host(), f.s.hosts[f.rng.IntN(len(f.s.hosts))]
	if a == b || a.swapped != nil || b.swapped != nil {
		f.restart()
		return
	}
	f.strike("disk swap %s with %s for %v", a.name, b.name, f.length())
}

// swapDisks has two hosts have each other's first disk.
func (s *simulation) swapDisks(a, b *host) (undo func()) {
	if a == b || a.swapped != nil || b.swapped != nil {
		return nil
	}
	a.swapped, b.swapped = b, a
	a.swap(b)
	return func() { s.swapBack(a) }
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
		h.swapped, o.swapped = nil, nil
		h.swap(o)
	}
}
