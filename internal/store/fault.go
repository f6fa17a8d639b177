package store

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Hop is where bytes were first seen not to match their hash. What lies between
// it and the hop before is to be suspected.
type Hop uint8

// The hops, in the order in which a block passes them.
const (
	HopWriter  Hop = 1 // between hashing and this host's own replica: memory
	HopReceipt Hop = 2 // on arrival from another host: the network, or that host's memory
	HopRead    Hop = 3 // when it was read to be served: the disk
	HopScrub   Hop = 4 // when it was read to be verified: the disk
	HopCopy    Hop = 5 // no copy had it when this one was built
)

var hopTexts = [...]string{HopWriter: "writer: memory", HopReceipt: "receipt: network", HopRead: "read: disk", HopScrub: "scrub: disk", HopCopy: "rebuild: no copy had it"}

// String names the hop and what is to be suspected.
func (h Hop) String() string {
	if int(h) < len(hopTexts) && hopTexts[h] != "" {
		return hopTexts[h]
	}
	return "unknown"
}

// Fault is one block whose bytes did not match their hash.
type Fault struct {
	Replica  holdfast.ReplicaID
	Addr     uint64
	LSN      holdfast.LSN
	Origin   holdfast.VolumeID // the volume that it was written as
	Hash     uint64
	Hop      Hop
	Repaired bool // restored, or refused and sent again
	Gone     bool // overwritten or let go since: nothing refers to it any more
	Nowhere  bool // every copy that could be asked lacks it, too
	Known    bool // a person has acknowledged it
	First    time.Time
	Last     time.Time

	seg  uint32 // its identity; 0: it was never stored
	slot uint16
}

// Open reports whether something is still to be done about the fault.
func (f *Fault) Open() bool { return !f.Repaired && !f.Gone }

// maxFaults bounds what is remembered of a disk; what is done with goes first.
const maxFaults = 192

// Faults returns what the disk remembers, in the order in which it was seen last.
func (s *Store) Faults() []Fault {
	s.lock()
	defer s.unlock()
	s.settleFaults()
	return slices.Clone(s.faults)
}

// settleFaults finds open faults of blocks that nothing needs any more. Under
// the lock.
func (s *Store) settleFaults() {
	for i := range s.faults {
		f := &s.faults[i]
		if f.Open() && f.seg != 0 {
			if g := s.space.segs[f.seg]; g == nil || !g.isLive(f.slot) {
				f.Gone = true
				s.scrub.dirty = true
			}
		}
	}
}

// noteFault remembers a fault; one that is known already is only brought up to
// date. Under the lock.
func (s *Store) noteFault(f Fault) {
	now := s.clk.Wall()
	i := slices.IndexFunc(s.faults, func(x Fault) bool {
		return x.seg == f.seg && x.slot == f.slot && x.LSN == f.LSN && x.Addr == f.Addr && x.Origin == f.Origin && x.Replica == f.Replica
	})
	s.scrub.dirty = true
	s.scrub.wake.Set()
	if i >= 0 {
		x := s.faults[i]
		x.Last = now
		if !x.Open() {
			x.Repaired, x.Gone, x.Known, x.Hop, x.First = f.Repaired, false, false, f.Hop, now
		}
		s.faults = append(slices.Delete(s.faults, i, i+1), x) // what was seen last is forgotten last
		return
	}
	f.First, f.Last = now, now
	if len(s.faults) >= maxFaults {
		s.settleFaults()
		i := slices.IndexFunc(s.faults, func(x Fault) bool { return !x.Open() })
		s.faults = slices.Delete(s.faults, max(i, 0), max(i, 0)+1)
	}
	s.faults = append(s.faults, f)
}

// atFault reports whether a fault is open. Under the lock.
func (s *Store) atFault(f Fault) bool {
	return slices.ContainsFunc(s.faults, func(x Fault) bool { return x.seg == f.seg && x.slot == f.slot && x.Open() })
}

// repairedAt notes that a block's bytes are good again. Under the lock.
func (s *Store) repairedAt(seg uint32, slot uint16) {
	for i := range s.faults {
		if f := &s.faults[i]; f.seg == seg && f.slot == slot && f.Open() {
			f.Repaired, f.Nowhere = true, false
			s.scrub.dirty = true
			s.scrub.wake.Set()
		}
	}
}

// Acknowledge marks the faults of a replica as known; what is still wrong with
// it stays wrong.
func (s *Store) Acknowledge(id holdfast.ReplicaID) {
	s.lock()
	defer s.unlock()
	for i := range s.faults {
		if f := &s.faults[i]; f.Replica == id && !f.Known {
			f.Known, s.scrub.dirty = true, true
		}
	}
	s.scrub.wake.Set()
}

// NoteNowhere notes that no other copy has what a fault lacks.
func (s *Store) NoteNowhere(f Fault) {
	s.lock()
	defer s.unlock()
	for i := range s.faults {
		if x := &s.faults[i]; x.seg == f.seg && x.slot == f.slot && x.LSN == f.LSN && x.Open() && !x.Nowhere {
			x.Nowhere, s.scrub.dirty = true, true
			s.scrub.wake.Set()
		}
	}
}

// NoteReceipt remembers a record of which a block did not match its hash when
// it came, and that was therefore refused.
func (r *Replica) NoteReceipt(hop Hop, addr uint64, lsn holdfast.LSN) {
	s := r.s
	s.lock()
	defer s.unlock()
	s.noteFault(Fault{Replica: r.id, Addr: addr, LSN: lsn, Origin: r.vol, Hop: hop, Repaired: true})
}
