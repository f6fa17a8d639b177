package sim

import (
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
)

// failSync makes the next sync of a disk fail: what was written since the last
// one may be there or not, whatever reads say. Somebody takes the host's power
// off and on later.
func (f *faults) failSync() {
	h := f.host()
	f.s.tell("fault: a sync of %s's disk fails", h.name)
	h.disk.FailNext(memdisk.Sync, 1)
	f.later(func() { f.s.powerCycle(h) })
}

// fullDisk takes away the room under a disk that is a sparse file.
func (f *faults) fullDisk() {
	h := f.host()
	f.s.tell("fault: the file system under %s's disk is full", h.name)
	h.disk.SetFull(true)
	f.later(func() {
		h.disk.SetFull(false)
		if h.fenced() {
			f.s.powerCycle(h)
		}
	})
}

// hungDisk makes a disk answer nothing for a while.
func (f *faults) hungDisk() {
	h := f.host()
	f.s.tell("fault: %s's disk does not answer", h.name)
	h.disk.SetHung(true)
	f.later(func() { h.disk.SetHung(false) })
}

// fenced reports whether a store of the host gave its disk up, or could not be
// opened because of a fault that is over.
func (h *host) fenced() bool {
	if h.unsound != "" || h.node == nil {
		return h.unsound != ""
	}
	for _, st := range h.node.Volumes.Stores() {
		if st.Err() != nil {
			return true
		}
	}
	return false
}

func (s *simulation) powerCycle(h *host) {
	s.tell("%s is switched off and on", h.name)
	h.powerCut()
	h.powerOn()
}

const (
	rotBytes = 40      // flipped bits
	rotFrom  = 1 << 20 // behind superblock, roots and the first catalogs
)

// rot flips bits in what is written on one host's disk, while everything else is
// whole, and has the clients read everything again: what is bad is found and
// read from another replica. Then the host's power goes, and it must come back
// with what it can still vouch for, or say that it cannot.
func (s *simulation) rot(rng *rand.Rand) {
	h := s.hosts[rng.IntN(len(s.hosts))]
	s.tell("fault: bits rot on %s's disk", h.name)
	buf := make([]byte, holdfast.BlockSize)
	for n, tries := 0, 0; n < rotBytes && tries < 100*rotBytes; tries++ {
		at := rotFrom + rng.Int64N(h.size-rotFrom)
		h.disk.Peek(buf, at&^(holdfast.BlockSize-1))
		if *(*[holdfast.BlockSize]byte)(buf) != [holdfast.BlockSize]byte{} {
			h.disk.Rot(at)
			n++
		}
	}
	for _, c := range s.clients {
		c.verify()
	}
	s.powerCycle(h)
	clock.Sleep(s.c, 15*time.Second)
	for _, c := range s.clients {
		c.verify()
	}
}
