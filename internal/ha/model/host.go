package model

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/agent"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// Times of the shell around the machines, as internal/volume has them.
const (
	stopGrace   = time.Second
	promiseSoon = time.Second
	promiseWait = 10 * time.Second
	askTimeout  = 2 * time.Second
	pingEvery   = replica.Lease / 3
	tickEvery   = 500 * time.Millisecond // there 200 ms
)

// reaches reports whether a host can talk to the control plane.
func (s *state) reaches(h int) bool { return s.hosts[h].up && !s.away && !s.down[h] }

// meet reports whether the two hosts can talk to each other.
func (s *state) meet() bool { return s.hosts[0].up && s.hosts[1].up && !s.down[linkAB] }

// renew is a beat of the host's KeepAlive that is answered at once, or lost.
func (w *world) renew(s *state, h int) {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	if !s.reaches(h) {
		return
	}
	if id := x.word.Lease(); id != 0 && s.slow&(byLinkA<<h) != 0 {
		if !x.answer.on || now-x.answer.asked > cluster.LeaseTTL {
			x.answer, x.leased = flight{on: true, asked: now}, id
		}
		return
	}
	if id := x.word.Lease(); id != 0 && s.leases[h].id == id {
		s.leases[h].until = w.local(kvClock, s.now) + cluster.LeaseTTL
		x.word.Renewed(id, now)
		return
	}
	x.word.Ended(x.word.Lease())
	id := kv.LeaseID(s.records.Rev + 1000)
	if s.leases[h].id != 0 { // that of an earlier life, which what is told now does without
		id = max(id, s.leases[h].id+1)
	}
	s.leases[h] = lease{id, w.local(kvClock, s.now) + cluster.LeaseTTL}
	x.word.Granted(id, now)
	rev := w.commit(s, func(st *cluster.State, rev kv.Rev) { put(&st.Alive, w.ids[h], w.alive[h], rev) })
	x.word.Published(id, rev)
}

// machineOf is the volume's writer as replica.Writer has it.
func (x *host) writer(w *world, h int) *replica.Writer[int] {
	var members []replica.Member
	for i, in := range x.w.inSync {
		if in {
			members = append(members, replica.Member{ID: w.refs[i].ID})
		}
	}
	m := replica.NewWriter[int](x.w.epoch, members)
	for i := range m.Members() {
		if mm := &m.Members()[i]; mm.ID != w.refs[h].ID {
			mm.LeaseUntil, mm.Asked = x.w.until, x.w.asked
		}
	}
	return m
}

// leaseLeft is what agent has of the volume's writer.
func (x *host) leaseLeft(w *world, h int, now time.Duration) time.Duration {
	if !x.w.on {
		return 0
	}
	return x.writer(w, h).LeaseLeft(w.refs[h].ID, now)
}

// answered takes the other replica's answer to a question of a time.
func (w *world) answered(s *state, h int, asked time.Duration) {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	if w.Mistake == LeaseFromAnswer {
		asked = now
	}
	m := x.writer(w, h)
	for i := range m.Members() {
		if mm := &m.Members()[i]; mm.ID != w.refs[h].ID {
			m.Answer(i, mm.Boot, mm.Sent, mm.Sent, asked, now)
			x.w.until, x.w.asked = mm.LeaseUntil, 0
		}
	}
}

// authorize asks the replica of host o whether it serves an epoch.
func (w *world) authorize(s *state, o int, e holdfast.Epoch) error {
	err := s.hosts[o].auth.Authorize(w.refs[o].ID, e, w.local(o, s.now))
	if w.Mistake == NoEpochCheck && holdfast.IsKind(err, holdfast.Fenced) {
		return nil
	}
	return err
}

// ask is a question of the volume's writer to the other replica that is answered
// at once, or lost.
func (w *world) ask(s *state, h int) {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	if x.w.asked == 0 {
		x.w.asked = now
	}
	if !s.meet() {
		return
	}
	if s.slow&byLinkAB != 0 {
		if !x.w.late.on || now-x.w.late.asked > askTimeout {
			x.w.late = flight{on: true, asked: now, epoch: x.w.epoch}
		}
		return
	}
	if err := w.authorize(s, 1-h, x.w.epoch); err != nil {
		w.refused(s, h, err)
		return
	}
	w.answered(s, h, now)
}

func (w *world) refused(s *state, h int, err error) {
	if holdfast.IsKind(err, holdfast.Fenced) {
		s.hosts[h].w = writer{}
	}
}

// pulse is the volume's timer.
func (w *world) pulse(s *state, h int) {
	x := &s.hosts[h]
	if x.w.inSync[1-h] && (x.w.asked != 0 || x.w.until-w.local(h, s.now) < replica.LeaseWriter-pingEvery) {
		w.ask(s, h)
	}
}

// sight is what the guard of the machine sees.
func (w *world) sight(s *state, h int) agent.Sight {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	given := true
	if x.pic != nil {
		vm := x.pic.VMs[w.vm].Val
		given = vm.Host == w.ids[h] && vm.Generation == x.m.gen || w.Mistake == ReadoptDead
	}
	state := map[act]hypervisor.State{none: hypervisor.Off, starting: hypervisor.Off, running: hypervisor.Running,
		stopping: hypervisor.Paused, paused: hypervisor.Paused}[x.m.act]
	return agent.Sight{State: state, Told: agent.Told(now-x.stood, given), Lease: x.leaseLeft(w, h, now), Held: x.m.held, StandsStill: x.pic == nil}
}

// watchOver is the guard's look at the machine.
func (w *world) watchOver(s *state, h int) {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	do, again := w.sight(s, h).Decide()
	if do == agent.Nothing && x.pic != nil && x.m.act == running {
		x.m.loose = false // the agent knows, and lets it run
	}
	switch do {
	case agent.Hold:
		x.m.held = true
		if x.m.act == running {
			x.m.act, x.m.until = stopping, now+agent.StopTime
		}
	case agent.GoOn:
		x.m.act, x.m.held = running, false
	}
	x.guard = now + again
	if again >= time.Second {
		x.guard = w.local(h, s.now+again)
	}
}

// settle brings what is derived up to date after anything has happened.
func (w *world) settle(s *state) {
	for h := range s.hosts {
		x := &s.hosts[h]
		if !x.up {
			continue
		}
		var rev kv.Rev
		if x.pic != nil {
			rev = x.pic.Rev
		}
		at, ok := x.word.Standing(rev)
		if !ok {
			at = x.born
		}
		x.stood = at
		if x.m.act == none || x.m.act == starting {
			x.guard = never
		} else if x.guard == never {
			x.guard = w.local(h, s.now)
		}
		if !x.w.on {
			x.w, x.tick = writer{}, never
		}
		if !x.m.awake() {
			x.m.loose = false
		}
	}
}

// mine reports whether a host's picture gives it the VM, and at which generation.
func (w *world) mine(x *host, h int) (gen int64, ok bool) {
	if x.pic == nil {
		return 0, false
	}
	vm := x.pic.VMs[w.vm].Val
	return vm.Generation, vm.Host == w.ids[h]
}

// mayClaim reports whether a host is about to open the volume.
func (w *world) mayClaim(s *state, h int) bool {
	x := &s.hosts[h]
	gen, ok := w.mine(x, h)
	if !ok || !s.reaches(h) || x.w.on || x.o.stage != 0 || len(s.records.Volumes[w.vol].Val.InSync) == 0 {
		return false
	}
	if s.records.VMs[w.vm].Mod != x.pic.VMs[w.vm].Mod {
		return false // the commit's condition
	}
	return x.m.act == none || x.m.gen == gen && x.m.act != starting
}

// claim commits a new epoch with the host as the writer, and has its own replica
// promise it.
func (w *world) claim(s *state, h int, known bool) {
	rec := s.records.Volumes[w.vol].Val
	rec.Epoch = replica.Next(rec.Epoch)
	rec.Writer = w.ids[h]
	mod := w.commit(s, func(st *cluster.State, rev kv.Rev) { put(&st.Volumes, w.vol, rec, rev) })
	if !known {
		return
	}
	x := &s.hosts[h]
	x.o = opening{stage: collecting, epoch: rec.Epoch, mod: mod, began: w.local(h, s.now)}
	for i := range w.refs {
		x.o.keep[i] = w.inSync(rec, i)
	}
	if x.o.keep[h] {
		w.promise(s, h, h)
	}
}

func (w *world) inSync(rec cluster.Volume, h int) bool {
	for _, r := range rec.InSync {
		if r.ID == w.refs[h].ID {
			return true
		}
	}
	return false
}

// promise has the replica of host o promise the opening of host h.
func (w *world) promise(s *state, h, o int) {
	x, y := &s.hosts[h], &s.hosts[o]
	now := w.local(o, s.now)
	e := x.o.epoch
	if y.auth.Raise(e) {
		x.o = opening{} // another opening is ahead
		return
	}
	rep := replica.Report{Replica: w.refs[o].ID, Promise: y.auth.Promise(), Kept: y.kept, Prefix: 1, Lease: y.auth.LeaseBelow(e, now)}
	if y.w.on && y.w.epoch < e {
		y.w = writer{}
		rep.Lease = max(rep.Lease, stopGrace)
	}
	x.o.got[o], x.o.report[o] = true, rep
}

// collected reports whether an opening waits for no promise any more.
func (w *world) collected(s *state, h int) bool {
	x := &s.hosts[h]
	if x.o.stage != collecting {
		return false
	}
	missing, kept, alive := 0, 0, false
	for i, in := range x.o.keep {
		switch {
		case in && !x.o.got[i]:
			missing++
			alive = alive || x.pic != nil && x.pic.AliveHost(w.ids[i])
		case in && x.o.report[i].Eligible() && x.o.report[i].Kept:
			kept++
		}
	}
	elapsed := w.local(h, s.now) - x.o.began
	return missing == 0 || kept > 0 && (elapsed >= promiseSoon || !alive) || elapsed >= promiseWait
}

// finish ejects who is silent, begins the epoch and waits for the leases of
// writers before.
func (w *world) finish(s *state, h int) {
	x := &s.hosts[h]
	o := x.o
	x.o = opening{}
	var reports []replica.Report
	var seats []int
	for i, got := range o.got {
		if got {
			reports, seats = append(reports, o.report[i]), append(seats, i)
		}
	}
	cut, ok := replica.Takeover(reports)
	if !ok || !s.reaches(h) || s.records.Volumes[w.vol].Mod != o.mod {
		return // and tried again
	}
	rec := s.records.Volumes[w.vol].Val
	o.keep = [2]bool{}
	for _, i := range seats {
		if i == h || s.meet() {
			o.keep[i] = w.authorize(s, i, o.epoch) == nil
		}
	}
	if !o.keep[0] && !o.keep[1] {
		return
	}
	for i, ref := range w.refs {
		if !o.keep[i] && w.inSync(rec, i) {
			rec.Eject(ref, sketch.Wall(), 0)
		}
		s.hosts[i].kept = s.hosts[i].kept || o.keep[i]
	}
	w.commit(s, func(st *cluster.State, rev kv.Rev) { put(&st.Volumes, w.vol, rec, rev) })
	o.stage, o.until = outwaiting, w.local(h, s.now)+cut.Wait
	if w.Mistake == StartEarly {
		o.until = w.local(h, s.now)
	}
	x.o = o
	if x.o.until <= w.local(h, s.now) {
		w.opened(s, h)
	}
}

// opened ends an opening: the volume may be written.
func (w *world) opened(s *state, h int) {
	x := &s.hosts[h]
	o := x.o
	x.o = opening{}
	if w.Mistake != OpenOvertaken && o.keep[h] && x.auth.Promise() > o.epoch {
		return
	}
	x.w = writer{on: true, epoch: o.epoch, inSync: o.keep}
	x.tick = s.now
}

// mayStart reports whether the host is about to start a machine.
func (w *world) mayStart(s *state, h int) bool {
	x := &s.hosts[h]
	_, ok := w.mine(x, h)
	now := w.local(h, s.now)
	return ok && x.up && x.w.on && x.m.act == none &&
		agent.MayStart(now-x.stood, x.leaseLeft(w, h, now))
}

// own reads the volume's record as its writer does before a change; false if it
// is not the writer any more, which ends the volume.
func (w *world) own(s *state, h int) (cluster.Volume, bool) {
	rec := s.records.Volumes[w.vol].Val
	if rec.Epoch != s.hosts[h].w.epoch || rec.Writer != w.ids[h] {
		s.hosts[h].w = writer{}
		return rec, false
	}
	return rec, true
}

// maySilence reports whether the other replica is about to be ejected.
func (w *world) maySilence(s *state, h int) bool {
	x := &s.hosts[h]
	return x.w.on && s.reaches(h) && x.w.inSync[1-h] && x.w.inSync[h] && x.w.asked != 0 &&
		len(x.writer(w, h).Silent(w.local(h, s.now), nil)) > 0
}

// eject commits that the volume goes on without the other replica.
func (w *world) eject(s *state, h int, known bool) {
	rec, ok := w.own(s, h)
	if !ok {
		return
	}
	if w.inSync(rec, 1-h) {
		rec.Eject(w.refs[1-h], sketch.Wall(), 0)
		w.commit(s, func(st *cluster.State, rev kv.Rev) { put(&st.Volumes, w.vol, rec, rev) })
	}
	if x := &s.hosts[h]; known {
		x.w.inSync[1-h], x.w.asked, x.w.until = false, 0, 0
	}
}

// mayJoin reports whether the other replica is about to be brought up to date.
func (w *world) mayJoin(s *state, h int) bool {
	x := &s.hosts[h]
	return x.w.on && s.reaches(h) && s.meet() && !x.w.inSync[1-h] && s.hosts[1-h].auth.Promise() <= x.w.epoch
}

// join adds the other replica, which has everything and answers, to the set.
func (w *world) join(s *state, h int) {
	rec, ok := w.own(s, h)
	if !ok {
		return
	}
	x, y := &s.hosts[h], &s.hosts[1-h]
	y.auth.Raise(x.w.epoch)
	if y.w.on && y.w.epoch < x.w.epoch {
		y.w = writer{}
	}
	if w.authorize(s, 1-h, x.w.epoch) != nil {
		return
	}
	if !w.inSync(rec, 1-h) {
		rec.Others = nil
		rec.InSync = []cluster.Replica{w.refs[0], w.refs[1]}
		rec.Tidy()
		w.commit(s, func(st *cluster.State, rev kv.Rev) { put(&st.Volumes, w.vol, rec, rev) })
	}
	y.kept = true
	x.w.inSync[1-h], x.w.until, x.w.asked = true, w.local(h, s.now)+replica.LeaseWriter, 0
}

// unwanted reports whether the host's machine is of another host by now, or of
// another generation.
func (w *world) unwanted(x *host, h int) bool {
	gen, ok := w.mine(x, h)
	return x.up && x.pic != nil && x.m.act != none && (!ok || gen != x.m.gen) && w.Mistake != ReadoptDead
}

// end ends the host's machine, and its volume if that is of another host.
func (w *world) end(s *state, h int) {
	x := &s.hosts[h]
	x.m = machine{}
	if _, ok := w.mine(x, h); !ok {
		x.w, x.o = writer{}, opening{}
	}
}

// die ends the host's process; with power the computer.
func (w *world) die(s *state, h int, power bool) {
	x := &s.hosts[h]
	m := x.m
	switch {
	case power || m.act == starting:
		m = machine{}
	case m.awake():
		m = machine{act: running, gen: m.gen, loose: true}
	default:
		m.held = false
	}
	*x = host{power: !power, auth: x.auth, m: m, beat: never, guard: never, tick: never}
}

// revive starts the host's process, on a computer that may have to be started too.
func (w *world) revive(s *state, h int) {
	x := &s.hosts[h]
	now := w.local(h, s.now)
	x.power, x.up, x.born, x.beat = true, true, now, s.now
	x.auth = replica.Awakened(x.auth.Promise(), now)
}
