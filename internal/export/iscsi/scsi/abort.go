package scsi

import (
	"slices"
	"sync/atomic"
)

// abortion waits for the tasks it has aborted: what already stands before the
// disk cannot be recalled, so the answer to the one who asked waits for it.
type abortion struct {
	left atomic.Int32
	done func()
}

func (a *abortion) ended() {
	if a.left.Add(-1) == 0 {
		a.done()
	}
}

// Abort ends the task t if it is still the one that was given seq. done is
// called when nothing of it can happen any more; before that its Done has been
// called with Aborted set. Found is false if the task had ended already: then
// done is not called.
func (u *Unit) Abort(t *Task, seq uint64, done func()) (found bool) {
	a := &abortion{done: done}
	return u.abort(a, nil, false, func(x *Task) bool { return x == t && x.seq == seq }) > 0
}

// abort aborts the tasks that which chooses. by is the nexus that asks (nil
// for the tasks' own): tasks of others end with TASK ABORTED. With always, a
// is told even if there are none.
func (u *Unit) abort(a *abortion, by *nexusState, always bool, which func(*Task) bool) int {
	a.left.Store(1)
	n := 0
	var drop []*Task
	u.mu.Lock()
	for i := 0; i < len(u.tasks); {
		t := u.tasks[i]
		if !which(t) {
			i++
			continue
		}
		n++
		if !t.Aborted {
			t.Aborted, t.foreign = true, by != nil && t.state != by
		}
		if t.phase >= chosen {
			a.left.Add(1)
			t.enders = append(t.enders, a)
			i++
			continue
		}
		t.void()
		u.blocked = without(u.blocked, t)
		u.parked = without(u.parked, t)
		u.remove(t) // moves another one to i
		drop = append(drop, t)
	}
	var next []*Task
	if len(u.blocked) > 0 {
		next = u.unblock()
	}
	u.mu.Unlock()
	for _, t := range drop {
		t.Done(t)
	}
	u.startAll(next)
	if n > 0 || always {
		a.ended()
	}
	return n
}

func without(list []*Task, t *Task) []*Task {
	if i := slices.Index(list, t); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// AbortSet ends all tasks of a path's nexus on the unit (ABORT TASK SET).
func (u *Unit) AbortSet(p *Path, done func()) {
	st := p.states[u]
	u.abort(&abortion{done: done}, nil, true, func(t *Task) bool { return t.state == st })
}

// ClearSet ends all tasks of all nexuses on the unit (CLEAR TASK SET); the
// others learn it by a unit attention.
func (u *Unit) ClearSet(p *Path, done func()) {
	st := p.states[u]
	victims := map[*nexusState]bool{}
	a := &abortion{done: done}
	u.abort(a, st, true, func(t *Task) bool {
		if t.state != st {
			victims[t.state] = true
		}
		return true
	})
	u.mu.Lock()
	for v := range victims {
		v.pending.add(CommandsCleared)
	}
	u.mu.Unlock()
}

// Reset is LOGICAL UNIT RESET (SAM-5 §6.3.3): all tasks end, what was set for
// the session's time is as after power on, everybody gets a unit attention.
// Persistent reservations stay.
func (u *Unit) Reset(p *Path, why Code, done func()) {
	u.abort(&abortion{done: func() {
		u.mu.Lock()
		u.setMode(u.defaultMode())
		u.reserved = nil
		for _, st := range u.nexuses {
			st.prevents = false
			st.pending.add(why)
		}
		u.mu.Unlock()
		done()
	}}, p.states[u], true, func(*Task) bool { return true })
}
