package sim

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// running draws a VM that runs, and its host; nil: there is none.
func (e *endgame) running() (vm cluster.VM, h *host) {
	st := e.s.eye.State()
	for _, i := range e.rng.Perm(len(e.s.vms.vms)) {
		vm = st.VMs[e.s.vms.vms[i].ID].Val
		m := st.Machines[vm.ID].Val
		if h := e.s.byID(vm.Host); h != nil && h.serving() && vm.Power == cluster.On && m.State == string(hypervisor.Running) && m.Generation == vm.Generation {
			return vm, h
		}
	}
	return vm, nil
}

// order has the operator do something, and waits for it, and for the next whole
// millisecond: what comes then does not happen at the moment in which that ended.
func (e *endgame) order(format string, args ...any) {
	e.s.act(e.s.line(format, args...)).Wait(operatorLimit)
	clock.Sleep(e.s.c, time.Millisecond-e.s.sinceBegun()%time.Millisecond)
}

// startedUnseen has a VM be stopped and started while its host's process stands still,
// which then sees only that it is to run, there or elsewhere, and sometimes not even
// that at once: its machine is one of an earlier start (invariant 4).
func (e *endgame) startedUnseen() bool {
	vm, h := e.running()
	if h == nil {
		return false
	}
	elsewhere, lasts := e.rng.IntN(2) == 0, e.between(2*time.Second, 3500*time.Millisecond)
	end := e.s.w.Now() + lasts
	e.strike("freeze process %s for %v", h.name, lasts)
	if elsewhere {
		e.order("drain host %s", h.name)
	}
	e.order("stop vm %s", vm.Name)
	e.order("start vm %s", vm.Name)
	if e.rng.IntN(2) == 0 {
		e.sleep(end - e.s.w.Now() - e.between(time.Millisecond, 30*time.Millisecond))
		e.strike("kv forget")
	}
	e.sleep(4 * time.Second)
	if elsewhere {
		e.order("undrain host %s", h.name)
	}
	return true
}

// leftBehind has a host's process stand still until its VM runs elsewhere, and not
// hear of that at once when it goes on: its machine, which is still there, must not
// get its disk back (invariant 4).
func (e *endgame) leftBehind() bool {
	vm, h := e.running()
	if h == nil {
		return false
	}
	lasts := overtake + 4*time.Second
	end := e.s.w.Now() + lasts
	e.strike("freeze process %s for %v", h.name, lasts)
	elsewhere := func() bool {
		m := e.s.eye.State().Machines[vm.ID].Val
		return m.Host != h.rec.ID && m.State == string(hypervisor.Running)
	}
	if e.await(lasts-100*time.Millisecond, elsewhere) {
		e.sleep(end - e.s.w.Now() - e.between(time.Millisecond, 30*time.Millisecond))
		e.strike("kv forget")
		e.sleep(3 * time.Second)
	}
	return true
}
