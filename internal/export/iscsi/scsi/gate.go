package scsi

import "slices"

// The task set (SAM-5 §8): which of the begun tasks may run. A task waits for
// others for two reasons: the order that task attributes ask for, and spans of
// blocks that a command needs for itself (COMPARE AND WRITE and its like).

// enter puts a begun task into the set; u.mu is held.
func (u *Unit) enter(t *Task) {
	u.seq++
	t.seq, t.phase, t.at = u.seq, arrived, len(u.tasks)
	u.tasks = append(u.tasks, t)
	if t.Attr == Ordered {
		u.ordered++
	}
}

// remove takes a task out of the set; u.mu is held.
func (u *Unit) remove(t *Task) {
	last := len(u.tasks) - 1
	u.tasks[t.at] = u.tasks[last]
	u.tasks[t.at].at = t.at
	u.tasks[last] = nil
	u.tasks = u.tasks[:last]
	if t.Attr == Ordered {
		u.ordered--
	}
	if t.alone && t.phase >= chosen {
		u.alone--
	}
	t.phase = ended
}

// free reports whether t may run now; u.mu is held.
func (u *Unit) free(t *Task) bool {
	if len(u.blocked) == 0 && u.alone == 0 && u.ordered == 0 && !t.alone {
		return true // nearly always
	}
	for _, x := range u.tasks {
		if x != t && u.before(x, t) {
			return false
		}
	}
	return true
}

// before reports whether t must wait for x: for one that runs, or one that came
// earlier, so that no two ever wait for each other.
func (u *Unit) before(x, t *Task) bool {
	if t.Attr != Head && x.seq < t.seq && (t.Attr == Ordered || x.Attr == Ordered) {
		return true
	}
	if !x.alone && !t.alone || !overlap(x, t) {
		return false
	}
	return x.phase >= chosen || (x.phase == blocked || x.phase == parked) && x.seq < t.seq
}

func overlap(a, b *Task) bool {
	return a.blocks > 0 && b.blocks > 0 && a.first < b.first+b.blocks && b.first < a.first+a.blocks
}

// Run lets a begun task go on, with Buf lent. It does nothing for a task that
// was aborted meanwhile: its Done has been called.
func (u *Unit) run(t *Task) {
	u.mu.Lock()
	if t.phase != arrived {
		u.mu.Unlock()
		return
	}
	if s := u.forbidden(t); s != 0 {
		u.mu.Unlock()
		t.end(s, nil)
		return
	}
	if !u.free(t) {
		t.phase = blocked
		u.blocked = append(u.blocked, t)
		u.mu.Unlock()
		return
	}
	u.choose(t)
	u.startLocked(t)
}

// choose notes that t is the next to be started: from here on it is in the way
// of others, and an abort waits for it. u.mu is held.
func (u *Unit) choose(t *Task) {
	t.phase = chosen
	if t.alone {
		u.alone++
	}
}

// startAll starts the tasks that unblock has chosen.
func (u *Unit) startAll(next []*Task) {
	for _, t := range next {
		u.mu.Lock()
		u.startLocked(t)
	}
}

// startLocked runs a chosen task, or parks it until the medium is open. u.mu
// is held; it gives it up.
func (u *Unit) startLocked(t *Task) {
	if t.Aborted { // since it was chosen
		u.mu.Unlock()
		t.end(Good, nil)
		return
	}
	if t.cmd.medium && u.disk == nil {
		if u.ejected || u.closed {
			u.mu.Unlock()
			t.end(CheckCondition, sense(NotReady, NoMediumEjected))
			return
		}
		t.phase = parked
		if t.alone {
			u.alone--
		}
		u.parked = append(u.parked, t)
		u.openLocked()
		u.mu.Unlock()
		return
	}
	if t.state.lost && (t.cmd.change || t.cmd.flush) { // found when the disk was opened again
		u.mu.Unlock()
		t.end(CheckCondition, sense(MediumError, WriteError))
		return
	}
	t.phase, t.disk = running, u.disk
	u.mu.Unlock()
	t.cmd.run(t)
}

// leave ends a task: its initiator is told, and whatever waited goes on.
func (u *Unit) leave(t *Task) {
	u.mu.Lock()
	u.remove(t)
	enders := t.enders
	t.enders = nil
	var next []*Task
	if len(u.blocked) > 0 {
		next = u.unblock()
	}
	u.mu.Unlock()
	if t.Aborted {
		t.void()
	}
	t.Done(t)
	for _, e := range enders {
		e.ended()
	}
	u.startAll(next)
}

// unblock chooses the tasks among the waiting ones that may go on; u.mu is
// held.
func (u *Unit) unblock() (next []*Task) {
	for i := 0; i < len(u.blocked); {
		t := u.blocked[i]
		if !u.free(t) {
			i++
			continue
		}
		u.blocked = slices.Delete(u.blocked, i, i+1)
		u.choose(t)
		next = append(next, t)
	}
	return next
}
