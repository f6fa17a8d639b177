package sim

import (
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// situations are all that an endgame draws from.
func situations() []situation {
	return []situation{
		{"a replica promises and loses its power", (*endgame).promised},
		{"an old writer has its last lease", (*endgame).leased},
		{"a writer is cut off and read", (*endgame).cutOff},
		{"a joiner is all that is left", (*endgame).onlyJoiner},
		{"all power goes when a replica has joined", (*endgame).darkAtJoin},
		{"all processes end", (*endgame).allProcesses},
		{"a disk forgets and its host is left alone", (*endgame).forgetful},
		{"a writer dies in a storm", (*endgame).storm},
		{"a writer without a copy reads from one that blinks", (*endgame).blinks},
		{"all power goes in a burst", (*endgame).darkInBurst},
		{"a VM is stopped and started unseen by its host", (*endgame).startedUnseen},
		{"a host has not heard that its VM is elsewhere", (*endgame).leftBehind},
	}
}

const (
	// overtake is how long it takes, at most, until a volume is opened anew whose
	// writer does not reach the control plane: its host's lease is 4 s.
	overtake = 7 * time.Second
	// goesOn is how long a volume is left to its new writer: it has waited a second
	// for members that do not answer, and then for leases.
	goesOn = 4500 * time.Millisecond
)

// elsewhere reports whether the client's session is at another host than the two, so
// that the writer owes nothing when it is cut off from the others.
func (x *scene) elsewhere() bool { return x.c.disk != nil && x.c.h != x.writer && x.c.h != x.member }

// holdOn cuts a writer off from all but one replica, so that others open the volume
// while it asks that one, and waits until somebody begins to; false: nobody does.
func (e *endgame) holdOn(x *scene) bool {
	e.strike("cut host %s from %s for %v", x.writer.name, e.but(x.writer, x.member), overtake+goesOn)
	e.strike("cut host %s kv for %v", x.writer.name, overtake+goesOn)
	return e.await(overtake, x.claimed(e))
}

// promised has the replica that an old writer holds on to lose its power for a moment
// when it has promised the new epoch: it must not have forgotten (invariant 3).
func (e *endgame) promised() bool {
	x := e.scene((*scene).elsewhere)
	if x == nil {
		return false
	}
	if e.holdOn(x) {
		e.sleep(e.between(20*time.Millisecond, 900*time.Millisecond))
		e.strike("power off host %s for %v", x.member.name, e.between(20*time.Millisecond, 300*time.Millisecond))
		e.sleep(1500 * time.Millisecond)
	}
	return true
}

// leased has an old writer hear no more of the one replica that it holds on to, whose
// answers mostly are long under way, and reads there: it must know when its leases
// end, which the new writer outwaits (invariant 6).
func (e *endgame) leased() bool {
	x := e.scene(func(x *scene) bool { return x.elsewhere() && x.v.Reads != cluster.Confirmed })
	if x == nil {
		return false
	}
	if e.rng.IntN(3) > 0 {
		e.strike("slow %s in by %v for %v", x.writer.name, e.between(900*time.Millisecond, 1300*time.Millisecond), overtake+goesOn)
	}
	e.strike("read %s at %s for %v", x.c.vol.Name, x.writer.name, overtake+goesOn)
	if e.holdOn(x) {
		e.strike("cut host %s from %s out for %v", x.writer.name, x.member.name, goesOn)
		e.sleep(goesOn)
	}
	return true
}

// cutOff cuts a writer off from everything and reads there: its leases have ended
// when another writes the volume (invariant 6).
func (e *endgame) cutOff() bool {
	x := e.scene(func(x *scene) bool { return x.elsewhere() && x.v.Reads != cluster.Confirmed })
	if x == nil {
		return false
	}
	lasts := overtake + goesOn
	e.strike("cut host %s for %v", x.writer.name, lasts)
	e.strike("read %s at %s for %v", x.c.vol.Name, x.writer.name, lasts)
	if e.await(overtake, x.claimed(e)) {
		e.sleep(2500 * time.Millisecond)
	}
	return true
}

// joins has a replica lose its memory and waits until it is to join again; nil: it
// did not come so far.
func (e *endgame) joins() *scene {
	x := e.scene(whichever)
	if x == nil {
		return nil
	}
	e.strike("read %s at %s for 6s", x.c.vol.Name, x.member.name) // its client does not rest
	e.strike("restart host %s", x.member.name)
	e.await(4*time.Second, func() bool { return isIn(x.record(e).Others, x.member.rec.ID) })
	return x
}

// added waits until the record says that the replica is in sync again.
func (x *scene) added(e *endgame, limit time.Duration) bool {
	return e.await(limit, func() bool { v := x.record(e); return isIn(v.InSync, x.member.rec.ID) && len(v.Others) == 0 })
}

// onlyJoiner keeps a writer from hearing that its joiner was added, cuts the two off
// from one another as soon as it was, and then takes the power of all others: what
// was acknowledged meanwhile must be at the joiner (invariants 1, 7).
func (e *endgame) onlyJoiner() bool {
	x := e.joins()
	if x == nil {
		return false
	}
	if !x.added(e, e.between(0, 1300*time.Millisecond)) { // a join takes about as long
		e.strike("cut host %s in kv for 4s", x.writer.name)
		if !x.added(e, 3*time.Second) {
			return true
		}
	}
	e.strike("cut host %s from %s for 4s", x.writer.name, x.member.name)
	e.sleep(e.between(0, 800*time.Millisecond))
	e.leaveAlone(x, x.member)
	return true
}

// leaveAlone takes the power of all hosts with a copy but one, for as long as it
// takes that one to take over.
func (e *endgame) leaveAlone(x *scene, h *host) {
	for _, o := range x.copies(e, h) {
		e.strike("power off host %s for %v", o.name, overtake+goesOn)
	}
	if e.await(overtake, x.claimed(e)) {
		e.sleep(2500 * time.Millisecond)
	}
}

// darkAtJoin has a replica join whose disk is slow, takes all power as soon as it is
// in the record, and gives it back to that host alone: what was flushed must be on
// its disk (invariant 1).
func (e *endgame) darkAtJoin() bool {
	x := e.joins()
	if x == nil {
		return false
	}
	e.strike("disk slow %s x%d for 3s", x.member.name, 50+e.rng.IntN(200))
	if !x.added(e, 4*time.Second) {
		return true
	}
	e.sleep(e.between(0, 20*time.Millisecond))
	// Nobody has kept its memory, so an opening waits 10 s for the others.
	var times []string
	for _, h := range e.s.hosts {
		if h == x.member {
			times = append(times, "100ms")
		} else {
			times = append(times, "15s")
		}
	}
	e.strike("power off everything for %s", strings.Join(times, ","))
	if e.await(overtake, x.claimed(e)) {
		e.await(11*time.Second, func() bool { return x.c.disk != nil })
		e.sleep(time.Second)
	}
	return true
}

// darkInBurst takes all power while a client writes as fast as it can, and makes sure
// of nothing: several batches of every log are on their way, and of some that are torn
// later ones are whole. What is left is a prefix of what was written (invariant 1).
func (e *endgame) darkInBurst() bool {
	x := e.scene(whichever)
	if x == nil {
		return false
	}
	e.strike("burst %s for 800ms", x.c.vol.Name)
	e.sleep(e.between(10*time.Millisecond, 600*time.Millisecond))
	e.strike("power off everything for 300ms")
	e.await(overtake, x.claimed(e))
	e.await(11*time.Second, func() bool { return x.c.disk != nil && !x.c.lostCache })
	return true
}

// allProcesses ends all processes at once, while disks are so slow that guests wait
// for a flush: their unflushed writes are gone, and they must hear of it (invariant
// 12).
func (e *endgame) allProcesses() bool {
	if len(e.s.vms.vms) == 0 {
		return false
	}
	for _, h := range e.s.hosts {
		e.strike("disk slow %s x%d for 400ms", h.name, 100+e.rng.IntN(200))
	}
	e.sleep(e.between(50*time.Millisecond, 300*time.Millisecond))
	e.strike("restart everything")
	e.sleep(3 * time.Second)
	return true
}

// forgetful has a sync of a replica's disk fail, and what was to be synced be in no
// memory any more, so that it is opened anew without it, and a little later takes the
// power of all others: it cannot vouch for what was not flushed (invariant 7).
func (e *endgame) forgetful() bool {
	x := e.scene(whichever)
	if x == nil {
		return false
	}
	e.strike("read %s at %s for 2s", x.c.vol.Name, x.member.name) // its client does not rest
	e.sleep(e.between(50*time.Millisecond, 500*time.Millisecond))
	if e.rng.IntN(3) > 0 { // it is not ejected before it is whole again
		e.strike("cut host %s kv for %v", x.writer.name, overtake)
	}
	e.strike("disk failsync %s", x.member.name)
	for range 10 { // until it is opened anew, half a second after it has failed
		e.sleep(e.between(40*time.Millisecond, 120*time.Millisecond))
		e.strike("disk evict %s", x.member.name)
	}
	e.sleep(e.between(0, 400*time.Millisecond))
	e.leaveAlone(x, x.member)
	return true
}

// storm has frames get lost and come out of order while a client is busy, and takes
// the writer's power in the middle of it: what was acknowledged is at the others,
// without gaps (invariant 7).
func (e *endgame) storm() bool {
	x := e.scene(whichever)
	if x == nil {
		return false
	}
	e.strike("read %s at %s for 3s", x.c.vol.Name, x.member.name) // its client does not rest
	e.strike("storm for 2s")
	e.sleep(e.between(300*time.Millisecond, 2*time.Second))
	e.leaveAlone(x, x.member)
	return true
}

// blinks takes a writer's own copy away, so that it reads from another, and has that
// one's host lose its power for moments, again and again: what it has acknowledged
// from memory it has forgotten, and nobody may read as if it had not (invariant 6).
func (e *endgame) blinks() bool {
	x := e.scene(func(x *scene) bool { return isIn(x.v.InSync, x.writer.rec.ID) })
	if x == nil {
		return false
	}
	e.strike("read %s at %s for 10s", x.c.vol.Name, x.writer.name)
	e.strike("disk pull %s for 10s", x.writer.name)
	if !e.await(2*time.Second, func() bool { return !isIn(x.record(e).InSync, x.writer.rec.ID) }) {
		return true
	}
	for range 4 {
		e.strike("power off host %s for %v", x.member.name, e.between(time.Millisecond, 30*time.Millisecond))
		e.await(2*time.Second, func() bool { return isIn(x.record(e).Others, x.member.rec.ID) })
		e.await(2*time.Second, func() bool { return isIn(x.record(e).InSync, x.member.rec.ID) })
		e.sleep(e.between(10*time.Millisecond, 200*time.Millisecond))
	}
	return true
}

// lastly has a replica's host lose its power for a moment, with what it has
// acknowledged not on its disk yet, and nothing more happens: whoever goes on with it
// as if it had kept its memory never comes to an end (invariant 7).
func (e *endgame) lastly() {
	x := e.scene(whichever)
	if x == nil {
		return
	}
	e.strike("read %s at %s for 300ms", x.c.vol.Name, x.member.name) // its client does not rest
	e.sleep(e.between(50*time.Millisecond, 300*time.Millisecond))
	e.strike("power off host %s for %v", x.member.name, e.between(time.Millisecond, 50*time.Millisecond))
	e.sleep(300 * time.Millisecond)
}
