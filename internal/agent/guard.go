package agent

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// A machine runs by one of two rights, both told by this host's monotonic clock
// (ADR 0071). As long as the control plane confirms the host's lease, nobody is
// given its VMs. As long as the other replicas of all its volumes stand by this
// writer, nobody opens them: an opening waits until the leases that they gave
// have run out. Whoever has neither stands still before either can have ended for
// the others, so a machine that is started elsewhere finds this one at rest.
const (
	// standFor is how long after the control plane's last word a machine may run
	// by it. The lease ends cluster.LeaseTTL after that, on a clock that may be
	// faster by a fiftieth; what is between is StopTime and to spare.
	standFor = 3400 * time.Millisecond
	// StopTime is what it takes to hold a machine, if all goes badly.
	StopTime = 500 * time.Millisecond
	// leaseSpare is how long before the end of a volume's leases they do not count
	// any more: they end for the writer before they end for the members, and no
	// machine starts in less than StartTime after its volumes were opened.
	leaseSpare = 300 * time.Millisecond
	// StartTime is what it takes to start a machine at the least, from its volumes
	// being open to its processors running.
	StartTime = 300 * time.Millisecond
	// startWithin is how fresh the control plane's word must be for a machine to be
	// started by it: what is left is for the start.
	startWithin = standFor / 2
	// offAfter is how long what is to be powered off stands still before it is, so
	// that a short cut costs no machine.
	offAfter = 5 * time.Second

	guardEvery = 100 * time.Millisecond // while a right may end or come back at any moment
	guardRest  = time.Second            // the longest pause
	shortest   = 10 * time.Millisecond  // likewise
)

// stand looks after the machine's right to run, until the worker is over. It
// waits for nobody but the machine itself.
func (w *worker) stand() {
	for !w.a.stopped() {
		w.mu.Lock()
		over, m, vm, known := w.over, w.machine, w.vm, w.known
		w.mu.Unlock()
		if over {
			return
		}
		wait := guardRest
		if m != nil {
			wait = w.guard(m, vm, known)
		}
		w.alarm.Wait(wait)
	}
}

// leaves reports whether a machine is to be left on by a host that is cut off.
func leaves(m hypervisor.Machine, vm cluster.VM, known bool) bool {
	if !known {
		return m.Spec().LeaveOn
	}
	return vm.Isolation == cluster.IsolationLeave
}

// Sight is what the guard of a machine sees at one moment.
type Sight struct {
	State       hypervisor.State
	Told        time.Duration // for how long it may run by the control plane's word
	Lease       time.Duration // for how long the other replicas of all its volumes stand by this writer
	Held        bool          // it stands still because this host is cut off
	HeldFor     time.Duration // since when
	Leaves      bool          // it is to be left on
	PowerOff    bool          // it is to be powered off if that lasts
	StandsStill bool          // its memory is being kept, or it has got one and that is not on record; or that may be so
}

// Deed is what a guard does to its machine.
type Deed uint8

// The deeds.
const (
	Nothing Deed = iota
	Hold         // it is paused
	End          // it is powered off
	GoOn         // it runs again
)

// Decide says what is done to a machine, and when to look again. One that stands
// still though this host is not cut off goes on too: a write of its failed, for
// want of space maybe, and is tried again; or an earlier life of this agent had
// paused it.
func (s Sight) Decide() (do Deed, again time.Duration) {
	leased := s.Lease - leaseSpare
	right := max(s.Told, leased)
	switch {
	case s.State == hypervisor.Off:
		return Nothing, guardRest
	case right <= 0 && !s.Held && !s.Leaves:
		do = Hold
	case right <= 0 && s.Held && s.PowerOff && s.HeldFor >= offAfter:
		do = End
	case s.StandsStill:
	case leased > 0 && (s.Held || s.State == hypervisor.Paused):
		do = GoOn
	}
	switch {
	case s.Held || s.State != hypervisor.Running || right <= 0:
		return do, guardEvery
	case s.Told <= 0: // a volume may cease to be this host's at any moment
		return do, min(max(leased, shortest), guardEvery)
	}
	return do, min(max(s.Told, shortest), guardRest)
}

// Told is for how long a machine may run by the control plane's word, which is so
// old, zero or less if it may not. given says that the picture of the records
// gives its VM, at its generation, to nobody else.
func Told(since time.Duration, given bool) time.Duration {
	if left := standFor - since; left <= 0 || given {
		return left
	}
	return 0 // another host may have it already
}

// MayStart reports whether a machine may be started by a word so old, or on
// volumes with so much left of their leases: with time enough for that before
// anybody else could.
func MayStart(since, lease time.Duration) bool {
	return since < startWithin || lease >= leaseSpare+time.Second
}

// guard stops a machine that has no right to run any more, as its VM's isolation
// response says, lets it go on when it has, and returns when to look again.
func (w *worker) guard(m hypervisor.Machine, vm cluster.VM, known bool) time.Duration {
	held := w.isIsolated()
	do, again := Sight{
		State: m.State(), Told: w.told(m), Lease: w.leaseLeft(m), Held: held, HeldFor: w.heldFor(),
		Leaves:      leaves(m, vm, known),
		PowerOff:    known && vm.Isolation == cluster.IsolationOff,
		StandsStill: !known || vm.StandsStill(m.Spec().Generation),
	}.Decide()
	switch do {
	case Hold:
		w.hold(m, vm)
	case End:
		w.a.Log.Warn("this host is still cut off: the machine is powered off", "vm", m.Spec().Name)
		w.kill(m)
	case GoOn:
		w.goOn(m, held)
	}
	return again
}

// told is for how long a machine may run by the control plane's word.
func (w *worker) told(m hypervisor.Machine) time.Duration {
	since := w.a.Control.Confirmed()
	given := true
	if st := w.a.Control.State(); st != nil {
		vm, ok := st.VMs[w.id]
		given = ok && vm.Val.Host == w.a.Self && vm.Val.Generation == m.Spec().Generation
	}
	return Told(since, given)
}

// leaseLeft is for how long the other replicas of all volumes of a machine stand
// by this writer, zero or less if they do not.
func (w *worker) leaseLeft(m hypervisor.Machine) time.Duration {
	left := time.Duration(1<<63 - 1)
	for _, id := range volumesOf(m.Spec()) {
		v := w.a.Volumes.Opened(id)
		if v == nil {
			return 0
		}
		left = min(left, v.LeaseLeft())
	}
	return left
}

// mayStart reports whether a machine may be started on volumes that are open
// here: with time enough for that before anybody else could.
func (w *worker) mayStart(vols []*volume.Volume) error {
	since := w.a.Control.Confirmed()
	for _, v := range vols {
		if !MayStart(since, v.LeaseLeft()) {
			return holdfast.Errorf(holdfast.Unavailable, "this host has heard nothing of the control plane for %v: no machine is started, for the others may count it as lost", since.Round(time.Millisecond))
		}
	}
	return nil
}

// hold stops a machine. What is to be powered off is held first as well.
func (w *worker) hold(m hypervisor.Machine, vm cluster.VM) {
	w.mu.Lock()
	if w.machine != m {
		w.mu.Unlock()
		return
	}
	w.isolated, w.heldAt = true, w.a.Clock.Now()
	w.mu.Unlock()
	w.a.Log.Warn("this host is cut off", "vm", m.Spec().Name, "response", string(vm.Isolation))
	if err := m.Pause(); err != nil && m.State() != hypervisor.Off {
		w.a.Log.Error("a machine could not be paused", "vm", m.Spec().Name, "error", err)
		w.mu.Lock()
		w.isolated = false // tried again at once
		w.mu.Unlock()
	}
}

// heldFor is how long ago the machine was held.
func (w *worker) heldFor() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.a.Clock.Now() - w.heldAt
}

func (w *worker) kill(m hypervisor.Machine) {
	if err := m.Kill(); err != nil {
		w.a.Log.Error("a machine could not be ended", "vm", m.Spec().Name, "error", err)
	}
	w.wake.Set()
}

// goOn lets a machine run again; one that another reason holds is tried only now
// and then.
func (w *worker) goOn(m hypervisor.Machine, held bool) {
	now := w.a.Clock.Now()
	w.mu.Lock()
	if w.machine != m || !held && now < w.resumeAt {
		w.mu.Unlock()
		return
	}
	w.resumeAt = now + startAgain
	w.isolated = false
	w.mu.Unlock()
	if held {
		w.a.Log.Info("this host is no longer cut off", "vm", m.Spec().Name)
	} else {
		w.a.Log.Info("machine goes on", "vm", m.Spec().Name)
	}
	if err := m.Resume(); err != nil && m.State() != hypervisor.Off {
		w.a.Log.Error("a machine could not be resumed", "vm", m.Spec().Name, "error", err)
	}
}
