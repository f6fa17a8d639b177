package volume

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// How many copies are built or brought up to date at the same time: enough that
// a slow disk or link does not hold up the others, and that a short one need not
// wait for a long one; few enough that each comes to an end.
const (
	seatsHost = 6 // that a host gives, and as many that it takes
	seatsDisk = 3 // that a disk takes
	seatsLink = 2 // that one host gives to another
)

const (
	seatIdle  = 15 * time.Second // a seat that was not asked for so long is free: longer than any one step of a build
	waitIdle  = time.Second      // and somebody who did not ask for so long does not wait
	refusedAt = 300 * time.Millisecond
	// ageFirst is how long one waits until it goes before those that lack as
	// much, whatever else speaks for them.
	ageFirst = 30 * time.Minute
	// patienceFor is how long it is refused before it keeps its seat here while
	// it goes on asking there, so that one day it has both; seatsStuck is how many
	// may do that.
	patienceFor = 10 * time.Second
	seatsStuck  = 2
)

// desk gives out the seats of a host: one to every copy that leaves it, one to
// every copy that comes in. It is a machine, whose times come from outside.
//
// A copy first takes a seat where it leaves, then where it arrives. Nobody who
// has one waits for one of the first kind, so there is no circle of waiting.
type desk struct {
	claims  []*claim
	refused []refusal
}

// claim is a copy that has a seat or wants one.
type claim struct {
	id     holdfast.ReplicaID
	taking bool            // it arrives here
	disk   holdfast.DiskID // that takes it
	peer   holdfast.HostID // the other end
	rank   uint64          // the lowest is first
	since  time.Duration   // when it was first asked for
	seen   time.Duration   // and last
	held   bool            // it has its seat
	next   bool            // it is among those that may have theirs now
	stuck  bool            // and keeps it though the disk elsewhere has none yet
	wake   func()          // when it may get it; nil: it asks again by itself
}

// refusal is a disk elsewhere that had no seat for a copy of that rank.
type refusal struct {
	disk  holdfast.DiskID
	rank  uint64
	ahead int
	until time.Duration
}

// rankOf orders rebuilds: redundancy before moves, the fewer good copies the
// earlier; what others are clones of before the clones; volumes of VMs by the
// VM's priority; and of those the small ones.
func rankOf(rec *cluster.Volume, priority int) uint64 {
	class := uint64(0x7f) // a copy that is moved, or one more than are wanted
	if n := len(rec.InSync); n < rec.Copies {
		class = uint64(min(n, 0x7e))
	}
	clone := uint64(0)
	if rec.Origin != nil {
		clone = 1
	}
	return class<<57 | clone<<56 | uint64(3-min(max(priority, 0), 3))<<54 | min(rec.Blocks, 1<<54-1)
}

const rankClass = 57 // what is above is what is lacking

// before orders claims.
func (c *claim) before(o *claim, now time.Duration) bool {
	if a, b := c.rank>>rankClass, o.rank>>rankClass; a != b {
		return a < b
	}
	if a, b := now-c.since >= ageFirst, now-o.since >= ageFirst; a != b {
		return a
	} else if a {
		return c.since < o.since
	}
	return cmp.Or(cmp.Compare(c.rank, o.rank), cmp.Compare(c.since, o.since), cmp.Compare(string(c.id.UUID[:]), string(o.id.UUID[:]))) < 0
}

// expire forgets who did not ask again. Seats of this host's own tasks end with
// those: they have wake.
func (d *desk) expire(now time.Duration) {
	d.claims = slices.DeleteFunc(d.claims, func(c *claim) bool {
		if c.held {
			return c.wake == nil && now-c.seen > seatIdle
		}
		return now-c.seen > waitIdle
	})
	d.refused = slices.DeleteFunc(d.refused, func(r refusal) bool { return now >= r.until })
}

func (d *desk) find(id holdfast.ReplicaID, taking bool) *claim {
	for _, c := range d.claims {
		if c.id == id && c.taking == taking {
			return c
		}
	}
	return nil
}

// ask gives a copy a seat, or notes that it waits and tells how many are before
// it.
func (d *desk) ask(want claim, now time.Duration) (ok bool, ahead int) {
	d.expire(now)
	c := d.find(want.id, want.taking)
	if c == nil || c.disk != want.disk || c.peer != want.peer {
		d.leave(want.id, want.taking)
		c = &want
		d.claims = append(d.claims, c)
	}
	c.seen, c.rank, c.wake = now, want.rank, want.wake
	c.since = min(c.since, want.since)
	if c.held {
		return true, 0
	}
	if d.free(c) && slices.Contains(d.next(now), c) {
		c.held = true
		return true, 0
	}
	return false, d.ahead(c, now)
}

// ahead is how many are before a claim that waits: who has a seat that it could
// have, and who waits for one and is to have it sooner.
func (d *desk) ahead(c *claim, now time.Duration) (n int) {
	for _, o := range d.claims {
		if o != c && o.taking == c.taking && (o.held || o.before(c, now)) {
			n++
		}
	}
	for _, r := range d.refused {
		if r.disk == c.disk && r.rank <= c.rank && !c.taking {
			n += r.ahead
		}
	}
	return n
}

// next returns those that wait and may have a seat now, in order. Who waits for
// a seat that is not free is in nobody's way.
func (d *desk) next(now time.Duration) (out []*claim) {
	var waiting []*claim
	for _, c := range d.claims {
		if !c.held && d.free(c) {
			waiting = append(waiting, c)
		}
	}
	slices.SortFunc(waiting, func(a, b *claim) int {
		if a.before(b, now) {
			return -1
		}
		return 1
	})
	for _, c := range waiting {
		if c.next = fits(d.claims, c); c.next {
			out = append(out, c)
		}
	}
	for _, c := range out {
		c.next = false
	}
	return out
}

// free reports whether there is a seat for a claim, if nobody is before it.
func (d *desk) free(c *claim) bool { return !d.isRefused(c) && fits(d.claims, c) }

// isRefused reports whether the disk that is to take a copy said just now that
// it takes none of that rank.
func (d *desk) isRefused(c *claim) bool {
	return !c.taking && slices.ContainsFunc(d.refused, func(r refusal) bool { return r.disk == c.disk && r.rank <= c.rank })
}

// fits reports whether there is a seat beside those that are taken.
func fits(claims []*claim, c *claim) bool {
	host, disk, link := 0, 0, 0
	for _, o := range claims {
		if !o.held && !o.next || o.taking != c.taking {
			continue
		}
		host++
		if o.disk == c.disk {
			disk++
		}
		if o.peer == c.peer {
			link++
		}
	}
	return host < seatsHost && disk < seatsDisk && link < seatsLink
}

// refuse notes that the disk to which a copy would go has no seat for it now.
// Unless it has been so for long, it gives up its seat here meanwhile.
func (d *desk) refuse(id holdfast.ReplicaID, ahead int, now time.Duration) (keeps bool) {
	c := d.find(id, false)
	if c == nil {
		return false
	}
	d.refused = slices.DeleteFunc(d.refused, func(r refusal) bool { return r.disk == c.disk })
	d.refused = append(d.refused, refusal{disk: c.disk, rank: c.rank, ahead: ahead, until: now + refusedAt})
	stuck := 0
	for _, o := range d.claims {
		if o != c && o.stuck {
			stuck++
		}
	}
	c.stuck = c.held && now-c.since >= patienceFor && stuck < seatsStuck
	c.held = c.stuck
	return c.stuck
}

// granted notes that the disk elsewhere has a seat for a copy that has one here.
func (d *desk) granted(id holdfast.ReplicaID) {
	if c := d.find(id, false); c != nil {
		c.stuck = false
	}
}

// leave gives a seat back, or stops waiting.
func (d *desk) leave(id holdfast.ReplicaID, taking bool) {
	d.claims = slices.DeleteFunc(d.claims, func(c *claim) bool { return c.id == id && c.taking == taking })
}

// released is leave of a copy that arrived elsewhere: its seat there is free, too.
func (d *desk) released(id holdfast.ReplicaID) {
	if c := d.find(id, false); c != nil && c.held {
		d.refused = slices.DeleteFunc(d.refused, func(r refusal) bool { return r.disk == c.disk })
	}
	d.leave(id, false)
}
