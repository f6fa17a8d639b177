package model

import (
	"maps"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/agent"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// move is something that may happen in a state.
type move struct {
	name    string
	costs   bool // one disturbance
	only    uint8
	benign  bool // it happens by itself when nothing disturbs
	by      uint16
	execute func(s *state)
}

// Who does something, and may lag behind: then it happens some time, else at once,
// in any order with what others do then.
const (
	byLeader uint16 = 1 << iota
	byLease         // the control plane ends a lease
	byWatchA        // the records reach a host
	byWatchB
	byTasksA // what a host does on tasks of its own
	byTasksB
	byLinkA // messages: renewals
	byLinkB
	byLinkAB // and questions to the other replica
	lags     = 9
)

var lagging = [lags]string{"the leader", "the end of a lease", "what a sees of the records", "what b sees of the records", "a", "b",
	"what a and the control plane say", "what b and the control plane say", "what a and b say"}

// urgent reports whether a move does not wait.
func (s *state) urgent(m move) bool { return m.by&^s.slow != 0 }

var hostNames = [...]string{"a", "b"}

// moves lists all that may happen, besides time going on.
func (w *world) moves(s *state) (out []move) {
	add := func(m move) {
		if !m.costs || s.left > 0 {
			out = append(out, m)
		}
	}
	benign := func(by uint16, name string, f func(s *state)) {
		add(move{name: name, benign: true, by: by, execute: f})
	}
	if len(s.lead.pending) > 0 && !s.away {
		benign(byLeader, "the leader commits "+s.lead.pending[0].What, w.lead)
	}
	for h := range s.hosts {
		w.protocol(s, h, benign)
		w.stragglers(s, h, benign)
	}
	w.disturb(s, add)
	return out
}

// protocol is what a host does next.
func (w *world) protocol(s *state, h int, add func(uint16, string, func(*state))) {
	x, name := &s.hosts[h], hostNames[h]
	if s.leases[h].id != 0 && !s.away && w.local(kvClock, s.now) >= s.leases[h].until {
		add(byLease, "the lease of "+name+" ends", func(s *state) {
			s.leases[h].id = 0
			w.commit(s, func(st *cluster.State, _ kvRev) {
				st.Alive = maps.Clone(st.Alive)
				delete(st.Alive, w.ids[h])
			})
		})
	}
	if !x.up {
		add(0, name+" comes back", func(s *state) { w.revive(s, h) })
		return
	}
	if s.reaches(h) && x.pic != s.records {
		add(byWatchA<<h, name+" sees the records", func(s *state) {
			y := &s.hosts[h]
			y.pic = s.records
			if y.m.act != none {
				y.guard = w.local(h, s.now)
			}
		})
	}
	if w.unwanted(x, h) {
		add(byTasksA<<h, name+" ends its machine", func(s *state) { w.end(s, h) })
	}
	if w.mayClaim(s, h) {
		add(byTasksA<<h, name+" claims the volume", func(s *state) { w.claim(s, h, true) })
	}
	if x.o.stage == collecting && x.o.keep[1-h] && !x.o.got[1-h] && s.meet() {
		add(byTasksA<<h, "the replica of "+hostNames[1-h]+" promises "+name, func(s *state) { w.promise(s, h, 1-h) })
	}
	if w.collected(s, h) {
		add(byTasksA<<h, name+" begins its epoch", func(s *state) { w.finish(s, h) })
	}
	if w.mayStart(s, h) {
		add(byTasksA<<h, name+" starts the machine", func(s *state) {
			y := &s.hosts[h]
			gen, _ := w.mine(y, h)
			y.m = machine{act: starting, gen: gen, until: w.local(h, s.now) + agent.StartTime}
		})
	}
	if w.maySilence(s, h) {
		add(byTasksA<<h, name+" ejects the other replica", func(s *state) { w.eject(s, h, true) })
	}
	if w.mayJoin(s, h) {
		add(byTasksA<<h, name+" takes the other replica in", func(s *state) { w.join(s, h) })
	}
}

// stragglers are messages that are late and may arrive now.
func (w *world) stragglers(s *state, h int, add func(uint16, string, func(*state))) {
	x, name := &s.hosts[h], hostNames[h]
	if f := x.answer; f.on && s.reaches(h) {
		add(0, "a late renewal of "+name+" goes on", func(s *state) {
			y := &s.hosts[h]
			if f.arrived {
				y.word.Renewed(y.leased, f.asked)
				y.answer = flight{}
				return
			}
			if y.answer.arrived = s.leases[h].id == y.leased; y.answer.arrived {
				s.leases[h].until = w.local(kvClock, s.now) + cluster.LeaseTTL
			} else {
				y.word.Ended(y.leased)
				y.answer = flight{}
			}
		})
	}
	if f := x.w.late; f.on && s.meet() {
		add(0, "a late question of "+name+" goes on", func(s *state) {
			y := &s.hosts[h]
			switch {
			case f.arrived:
				y.w.late = flight{}
				if y.w.epoch == f.epoch && y.w.inSync[1-h] && w.local(h, s.now)-f.asked <= askTimeout {
					w.answered(s, h, f.asked)
				}
			default:
				if err := w.authorize(s, 1-h, f.epoch); err != nil {
					y.w.late = flight{}
					w.refused(s, h, err)
					return
				}
				y.w.late.arrived = true
			}
		})
	}
}

// disturb is what nobody wants, and its end.
func (w *world) disturb(s *state, add func(move)) {
	for l, name := range [links]string{"a and the control plane", "b and the control plane", "a and b"} {
		if s.down[l] {
			add(move{name: name + " are joined", benign: true, execute: func(s *state) { s.down[l] = false }})
		} else if w.Kinds&Cuts != 0 {
			add(move{name: name + " are cut off", costs: true, only: cutSome, execute: func(s *state) {
				s.down[l] = true
				for h := range s.hosts {
					if l == h {
						s.hosts[h].answer = flight{}
					} else if l == linkAB {
						s.hosts[h].w.late = flight{}
					}
				}
			}})
		}
	}
	for i, name := range lagging {
		switch bit := uint16(1) << i; {
		case s.slow&bit != 0:
			add(move{name: name + " lags no more", benign: true, execute: func(s *state) { s.slow &^= bit }})
		case w.Kinds&Lags != 0:
			add(move{name: name + " lags", costs: true, only: lateSome, execute: func(s *state) { s.slow |= bit }})
		}
	}
	switch {
	case s.away:
		add(move{name: "the control plane is back", benign: true, execute: func(s *state) {
			s.away = false
			for h := range s.leases { // a new leader gives every lease its time again
				s.leases[h].until = w.local(kvClock, s.now) + cluster.LeaseTTL
			}
		}})
	case w.Kinds&KVAway != 0:
		add(move{name: "the control plane goes away", costs: true, only: kvWasAway, execute: func(s *state) {
			s.away = true
			for h := range s.hosts {
				s.hosts[h].answer = flight{}
			}
		}})
	}
	for h := range s.hosts {
		x, name := &s.hosts[h], hostNames[h]
		if w.Kinds&Deaths != 0 {
			if x.up {
				add(move{name: "the process of " + name + " dies", costs: true, only: diedSome, execute: func(s *state) { w.die(s, h, false) }})
			}
			if x.power {
				add(move{name: name + " loses its power", costs: true, only: diedSome, execute: func(s *state) { w.die(s, h, true) }})
			}
		}
		if w.Kinds&Late == 0 || !x.up {
			continue
		}
		if w.mayClaim(s, h) {
			add(move{name: name + " does not hear that it has claimed the volume", costs: true, only: lateSome, execute: func(s *state) { w.claim(s, h, false) }})
		}
		if w.maySilence(s, h) {
			add(move{name: name + " does not hear that it has ejected the other", costs: true, only: lateSome, execute: func(s *state) { w.eject(s, h, false) }})
		}
	}
}

// pass lets time go on to the next instant at which something falls due, and does
// what has; false if nothing ever does.
func (w *world) pass(s *state) bool {
	next := never
	due := func(clock int, at time.Duration) {
		if at != never && at > w.local(clock, s.now) {
			next = min(next, w.trueTime(clock, at))
		}
	}
	soon := func(clock int, at time.Duration) {
		if at != never {
			next = min(next, max(w.trueTime(clock, at), s.now))
		}
	}
	for h := range s.hosts {
		x := &s.hosts[h]
		if s.leases[h].id != 0 {
			due(kvClock, s.leases[h].until)
		}
		if !x.up {
			continue
		}
		soon(trueClock, x.beat)
		soon(h, x.guard)
		soon(trueClock, x.tick)
		if x.m.act == starting || x.m.act == stopping {
			due(h, x.m.until)
		}
		switch x.o.stage {
		case collecting:
			due(h, x.o.began+promiseSoon)
			due(h, x.o.began+promiseWait)
		case outwaiting:
			due(h, x.o.until)
		}
	}
	soon(kvClock, s.lead.wake)
	if next == never {
		return false
	}
	s.now = next
	for h := range s.hosts {
		w.fire(s, h)
	}
	if s.lead.wake != never && w.local(kvClock, s.now) >= s.lead.wake {
		w.look(s)
	}
	return true
}

// fire does what has fallen due at a host.
func (w *world) fire(s *state, h int) {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	if !x.up {
		return
	}
	if x.m.act == stopping && now >= x.m.until {
		x.m.act = paused
	}
	if x.m.act == starting && now >= x.m.until {
		x.m.act, x.guard = running, now
	}
	if x.beat != never && s.now >= x.beat {
		x.beat = s.now + cluster.RenewEvery
		w.renew(s, h)
		w.settle(s)
	}
	if x.tick != never && s.now >= x.tick {
		x.tick = s.now + tickEvery
		w.pulse(s, h)
	}
	if x.o.stage == outwaiting && now >= x.o.until {
		w.opened(s, h)
	}
	w.settle(s)
	if x.guard != never && now >= x.guard {
		w.watchOver(s, h)
	}
}
