package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// failSync makes the next sync of a disk fail: what was written since the last
// one may be there or not, whatever reads say. The host opens the disk anew; at
// times somebody takes its power off and on later, or restarts its process, which
// then reads what was not written from the cache of its operating system, until
// the power goes.
func (f *faults) failSync() {
	h := f.host()
	f.strike("disk failsync %s", h.name)
	then := []string{"power cycle", "restart", ""}[f.rng.IntN(3)]
	f.after(f.length(), func() {
		if then != "" {
			f.strike("%s host %s", then, h.name)
		}
	})
}

// flakyDisk makes some writes and syncs of a disk fail for a while. Nobody does
// anything about it.
func (f *faults) flakyDisk() {
	f.strike("disk flaky %s syncs %.1f%% writes %.2f%% for %v", f.disk(f.host()), 10*f.rng.Float64(), 2*f.rng.Float64(), f.length())
}

// fullDisk takes away the room under a disk that is a sparse file. If the host
// has given it up, it gets another chance once there is room again.
func (f *faults) fullDisk() {
	h, d := f.host(), f.length()
	f.strike("disk full %s for %v", h.name, d)
	f.after(d+time.Millisecond, func() {
		if h.fenced() {
			f.strike("power cycle host %s", h.name)
		}
	})
}

// rests reports whether a disk of the host does not come back by itself: it could
// not be opened when the process began, or has failed too often since.
func (h *host) rests() bool { return h.unsound != "" || h.reopened >= 4 && h.fenced() }

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
	rotBytes  = 40      // flipped bits
	rotFrom   = 1 << 20 // behind superblock, roots and the first catalogs
	lieRounds = 40      // of writes by the clients while a disk lies
	lieChance = 0.02    // per write of the disk
	aloneFor  = 15 * time.Second

	askedBefore = 6 * time.Second // after all was put right no question of before is waited for
)

// scrub has a whole disk scrubbed, and waits until that is done.
func (s *simulation) scrub(l story.Line) error {
	name, n := l.Disk("disk")
	h := s.named(name)
	if !h.serving() || len(h.node.Volumes.Stores()) < n {
		return holdfast.Errorf(holdfast.Unavailable, "%s does not serve, or not with that disk", name)
	}
	st := h.node.Volumes.Stores()[n-1]
	var err error
	if !s.runOn(h, operatorLimit, func() { err = st.Scrub(holdfast.ReplicaID{}) }) {
		return holdfast.Errorf(holdfast.Unknown, "%s went away", name)
	}
	for life := (&clockLife{h, h.lives}); err == nil && st.Scrubbing().Running; clock.Sleep(s.c, lookEvery) {
		if life.over() {
			return holdfast.Errorf(holdfast.Unavailable, "%s went away", name)
		}
	}
	return err
}

// damage spoils what one disk holds, while everything else is whole, and has
// the clients read everything again: what is bad is found and read from another
// replica. Then the host's power goes, and it must come back with what it can
// still vouch for, or say that it cannot.
func (s *simulation) damage(rng *rand.Rand) {
	h := s.hosts[rng.IntN(len(s.hosts))]
	if since := s.w.Now() - s.healedAt; since < askedBefore {
		clock.Sleep(s.c, askedBefore-since) // a copy that a question of before does not reach is ejected by then
	}
	if s.unwhole() != "" { // a copy was ejected meanwhile: the disk may hold the last one
		s.recovered(h)
	}
	if s.unwhole() != "" {
		return
	}
	rots := false
	switch k := rng.IntN(4); {
	case k == 0 && s.roomy():
		s.lie(h, memdisk.Chances{LostWrite: lieChance}, "loses writes")
	case k == 1 && s.roomy():
		s.lie(h, memdisk.Chances{Misdirected: lieChance}, "writes to wrong places")
	default:
		s.rot(h, rng)
		rots = true
	}
	for _, c := range s.clients {
		c.verify()
	}
	if rots && rng.IntN(2) == 0 {
		s.returnFirst(h) // a lost last write cannot be told from one that was never made
	} else {
		s.powerCycle(h)
	}
	s.recovered(h)
	for _, c := range s.clients {
		c.verify()
	}
}

// returnFirst cuts all power. The host whose disk is bad comes back long before
// the others, so that nobody else can tell what it does not know any more.
func (s *simulation) returnFirst(h *host) {
	s.tell("power of everything is cut, %s comes back first", h.name)
	for _, o := range s.hosts {
		o.powerCut()
	}
	h.powerOn()
	clock.Sleep(s.c, aloneFor)
	for _, o := range s.hosts {
		o.powerOn()
	}
}

// recovered waits until the cluster is whole again, or for a while: a host whose
// disk cannot be used any more stays without.
func (s *simulation) recovered(h *host) {
	for end := s.w.Now() + 15*time.Second; s.w.Now() < end; {
		clock.Sleep(s.c, 500*time.Millisecond)
		if h.node != nil && s.unwhole() == "" {
			return
		}
	}
}

// rot flips bits in what is written; some of them in what was written last,
// where the log is.
func (s *simulation) rot(h *host, rng *rand.Rand) {
	s.tell("fault: bits rot on %s's disk", h.name)
	late := h.disk.Recent()
	buf := make([]byte, holdfast.BlockSize)
	for n, tries := 0, 0; n < rotBytes && tries < 100*rotBytes; tries++ {
		at := rotFrom + rng.Int64N(h.size-rotFrom)
		if n%4 == 0 {
			at = late[rng.IntN(len(late))] + rng.Int64N(holdfast.BlockSize)
		}
		h.disk.Peek(buf, at&^(holdfast.BlockSize-1))
		if at >= rotFrom && *(*[holdfast.BlockSize]byte)(buf) != [holdfast.BlockSize]byte{} {
			h.disk.Rot(at)
			n++
		}
	}
}

// roomy reports whether no disk may become full. Where one does, its replicas
// are ejected, and what is left may be the copy on the disk that lies.
func (s *simulation) roomy() bool {
	return !slices.ContainsFunc(s.hosts, func(h *host) bool { return h.size < 24<<20 })
}

// lie has the clients write while a disk says that it did what it did not.
func (s *simulation) lie(h *host, c memdisk.Chances, what string) {
	s.tell("fault: %s's disk %s", h.name, what)
	h.disk.SetChances(c)
	for range lieRounds {
		for _, c := range s.clients {
			if c.disk == nil && !c.connect() || !c.round() {
				c.drop()
			}
			clock.Sleep(s.c, time.Duration(1+c.rng.Int64N(int64(2*think))))
		}
	}
	h.disk.SetChances(memdisk.Chances{})
}
