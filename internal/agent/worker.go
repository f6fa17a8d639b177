package agent

import (
	"reflect"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

const (
	workEvery  = 500 * time.Millisecond
	startAgain = time.Second // after a failed start
)

// worker owns one VM's machine on this host. Its task alone starts the machine
// and ends one that is not wanted; a task beside it (guard.go), which never
// waits for the control plane, alone pauses it and lets it go on. mu guards
// what they share, and what others read and hand over.
type worker struct {
	a     *Agent
	id    holdfast.VMID
	wake  clock.Event
	alarm clock.Event // for the guard: the machine or what is wanted is another

	mu       sync.Mutex
	machine  hypervisor.Machine
	starting *hypervisor.Spec // of a machine that is being started
	vm       cluster.VM       // desired, valid if known and present
	mod      kv.Rev
	known    bool          // the state has been seen since the agent started
	present  bool          // and the VM's record is in it
	isolated bool          // the machine stands still, or is off, because this host is cut off
	over     bool          // the worker's task has ended
	heldAt   time.Duration // when, if it is isolated
	resumeAt time.Duration // not before: the next try to let it go on

	// Owned by the worker's task.
	as        kv.Rev // of the record that this step goes by: what it changes is that one, and no later one
	reported  cluster.Machine
	seen      bool          // reported was read from the state
	again     time.Duration // not before: the next try to start
	stopAsked bool          // the power button was pressed since the machine started
	exit      leaving
	fitAt     time.Duration // not before: the next try to give it a disk, or to take one
	said      string        // why that could not be, for people
	sizes     map[holdfast.VolumeID]*shownSize
	kept      *cluster.Kept              // what is told of the memory that is kept or read back
	keptAt    time.Duration              // when it was whole
	rested    map[holdfast.VolumeID]bool // closed since the machine ended: who opens it then is somebody else
}

// worker makes a worker and its task; a.mu is held.
func (a *Agent) worker(id holdfast.VMID) *worker {
	if w := a.workers[id]; w != nil {
		return w
	}
	w := &worker{a: a, id: id, wake: a.Clock.NewEvent(), alarm: a.Clock.NewEvent()}
	a.workers[id] = w
	a.tasks.Go(w.run)
	a.tasks.Go(w.stand)
	return w
}

// want hands over the VM's record as of the newest state.
func (w *worker) want(vm cluster.Versioned[cluster.VM], present bool, _ kv.Rev) {
	w.mu.Lock()
	changed := !w.known || w.present != present || w.mod != vm.Mod
	w.vm, w.mod, w.known, w.present = vm.Val, vm.Mod, true, present
	w.mu.Unlock()
	if changed {
		w.wake.Set()
		w.alarm.Set()
	}
}

func (w *worker) run() {
	defer func() {
		w.mu.Lock()
		w.over = true
		w.mu.Unlock()
		w.alarm.Set()
	}()
	for !w.a.stopped() {
		if w.step() {
			return
		}
		w.wake.Wait(workEvery)
	}
}

// step brings the machine closer to what is wanted; it reports whether the
// worker is no longer needed.
func (w *worker) step() (over bool) {
	w.mu.Lock()
	vm, known, present, m := w.vm, w.known, w.present, w.machine
	w.as = w.mod
	w.mu.Unlock()
	if !known {
		return false
	}
	w.recall()
	if m != nil && m.State() == hypervisor.Off {
		w.ended(vm)
		w.wake.Set() // what is wanted now is looked at anew
		return false
	}
	mine := present && vm.Host == w.a.Self
	if m != nil && (!mine || vm.Deleted || vm.Power != cluster.On || m.Spec().Generation != vm.Generation) {
		w.end(m, vm, mine)
		m = nil
	}
	if mine && vm.Keeping != nil && (m == nil || vm.Keeping.Generation != vm.Generation) {
		w.keepNot(m, vm, holdfast.Errorf(holdfast.Conflict, "its machine has ended meanwhile"))
		return false
	}
	switch {
	case !mine:
		return w.leave()
	case vm.Deleted:
		w.closeAll(allOf(vm))
		w.forgetVM(vm)
	case vm.Power != cluster.On:
		for _, id := range vm.Volumes() {
			if !w.rested[id] {
				w.rest(id)
			}
		}
		w.report(cluster.Machine{State: string(hypervisor.Off)}, vm)
		w.detach(vm, leavingOf(vm))
	case m == nil && vm.Shutdowns > w.reported.Shutdowns:
		w.powerOff(vm)
	case m == nil && vm.Leaving():
		w.left(vm)
	case m == nil:
		w.start(vm)
	default:
		w.tend(m, vm)
		if vm.Leaving() {
			w.sendOff(m, vm)
		} else {
			w.exit = leaving{}
		}
	}
	return false
}

// recall reads once what an earlier life of this agent had reported, so that
// requests it has served are not served again.
func (w *worker) recall() {
	if w.seen {
		return
	}
	if st := w.a.Control.State(); st != nil {
		w.reported = st.Machines[w.id].Val
		w.kept = w.reported.Kept
		w.seen = true
	}
}

// leave removes the worker of a VM that is not this host's.
func (w *worker) leave() bool {
	w.a.mu.Lock()
	defer w.a.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.machine != nil || w.present && w.vm.Host == w.a.Self {
		return false
	}
	delete(w.a.workers, w.id)
	return true
}

func (w *worker) setMachine(m hypervisor.Machine) {
	w.mu.Lock()
	w.machine, w.starting = m, nil
	if m == nil {
		w.isolated = false
	}
	w.mu.Unlock()
	w.alarm.Set()
}

// isIsolated reports whether the machine stands still because this host is cut
// off.
func (w *worker) isIsolated() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isolated
}

// running returns what the machine was started with, if there is one or one is
// being started.
func (w *worker) running() (hypervisor.Spec, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.machine != nil:
		return w.machine.Spec(), true
	case w.starting != nil:
		return *w.starting, true
	}
	return hypervisor.Spec{}, false
}

// end kills a machine that should not run here: the VM was moved, stopped,
// deleted or assigned anew. What it has not flushed is its own loss.
func (w *worker) end(m hypervisor.Machine, vm cluster.VM, mine bool) {
	w.a.Log.Info("machine ended", "vm", m.Spec().Name, "assigned_here", mine, "power", string(vm.Power))
	if err := m.Kill(); err != nil {
		w.a.Log.Error("a machine could not be ended", "vm", m.Spec().Name, "error", err)
	}
	w.setMachine(nil)
	w.stopAsked = false
	if !mine {
		w.closeAll(volumesOf(m.Spec()))
	}
}

// ended handles a machine whose process is gone by itself: the guest powered
// off as it was asked to, or it crashed and is started again. A power-off that
// cannot be recorded yet leaves the machine as it is, to be seen again.
func (w *worker) ended(vm cluster.VM) {
	switch {
	case w.stopAsked && vm.Power == cluster.On && vm.Host == w.a.Self:
		if !w.powerOff(vm) {
			return
		}
	case vm.Leaving():
		w.a.Log.Info("guest shut down, to be moved", "vm", vm.Name)
	default:
		w.a.Log.Warn("machine ended by itself", "vm", vm.Name)
	}
	w.setMachine(nil)
	w.stopAsked = false
}

// powerOff records that a VM is off because it was asked to shut down, together
// with the request being served: it must not turn off the VM's next machine.
func (w *worker) powerOff(vm cluster.VM) bool {
	vm.Power, vm.Leave = cluster.Stopped, 0
	w.reported.Shutdowns = max(w.reported.Shutdowns, vm.Shutdowns)
	m := w.reported
	m.VM, m.Host, m.Generation, m.State = w.id, w.a.Self, vm.Generation, string(hypervisor.Off)
	m.PID, m.Reason, m.Since = 0, "", w.a.Clock.Wall()
	m.CPUs, m.MemoryMiB, m.Edition = 0, 0, 0
	if err := w.a.Control.PowerOff(vm, m, w.as); err != nil {
		w.a.Log.Info("the power-off could not be recorded yet", "vm", vm.Name, "error", err)
		clock.Sleep(w.a.Clock, workEvery)
		return false
	}
	w.reported = m
	w.mu.Lock()
	if w.mod == w.as { // nothing later was seen
		w.vm.Power = cluster.Stopped
	}
	w.mu.Unlock()
	w.a.Log.Info("guest powered off", "vm", vm.Name)
	return true
}

func (w *worker) forgetVM(vm cluster.VM) {
	if err := w.a.Control.DeleteVM(vm, w.as); err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
		w.a.Log.Info("a deleted VM's record could not be removed yet", "vm", vm.Name, "error", err)
	}
}

// start opens the VM's volumes and starts a machine on them: on all, or on none.
func (w *worker) start(vm cluster.VM) {
	w.rested = nil
	now := w.a.Clock.Now()
	if now < w.again {
		return
	}
	w.again = now + startAgain
	w.reported.Resets = max(w.reported.Resets, vm.Resets) // a machine that starts is as good as reset
	w.report(cluster.Machine{State: "starting"}, vm)
	vols, err := w.openAll(vm.Volumes())
	switch {
	case err != nil:
	case len(vols) == 0:
		err = holdfast.Errorf(holdfast.Invalid, "it has no disk to start from")
	default:
		err = w.launch(vm, vols)
	}
	if err != nil {
		w.a.Log.Warn("VM could not be started yet", "vm", vm.Name, "error", err)
		w.report(cluster.Machine{State: "failed", Reason: err.Error()}, vm)
	}
}

func (w *worker) launch(vm cluster.VM, vols []*volume.Volume) error {
	spec, err := w.spec(vm, vols)
	if err != nil {
		return err
	}
	if !w.current(vm.Generation) {
		return holdfast.Errorf(holdfast.Fenced, "the VM was assigned anew meanwhile")
	}
	if err := w.mayStart(vols); err != nil {
		return err
	}
	w.mu.Lock()
	w.starting = &spec
	w.mu.Unlock()
	m, err := w.begin(spec, vm)
	if err != nil {
		w.setMachine(nil)
		return err
	}
	w.setMachine(m)
	w.a.Log.Info("machine running", "vm", vm.Name, "epoch", uint32(spec.Epoch), "pid", m.PID())
	w.report(observed(m, m.State(), spec.Epoch), vm)
	return nil
}

// observed is what is told of a machine that there is.
func observed(m hypervisor.Machine, state hypervisor.State, epoch holdfast.Epoch) cluster.Machine {
	s := m.Spec()
	out := cluster.Machine{State: string(state), Epoch: epoch, PID: m.PID(), CPUs: s.CPUs, MemoryMiB: s.MemoryMiB, Edition: s.Edition, Disks: volumesOf(s)}
	if s.CD != nil {
		out.CDROM = s.CD.Volume
	}
	return out
}

// current reports whether the VM is still assigned here at generation g.
func (w *worker) current(g int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.present && w.vm.Host == w.a.Self && w.vm.Generation == g && w.vm.Power == cluster.On && !w.vm.Deleted
}

func (w *worker) spec(vm cluster.VM, vols []*volume.Volume) (hypervisor.Spec, error) {
	s := hypervisor.Spec{
		VM: vm.ID, Name: vm.Name, Generation: vm.Generation, Epoch: vols[0].Epoch(),
		CPUs: vm.CPUs, MemoryMiB: vm.MemoryMiB, Append: vm.Append, LeaveOn: vm.Isolation == cluster.IsolationLeave,
		NIC: &hypervisor.NIC{MAC: vm.MAC}, Edition: vm.Edition,
	}
	err := w.disks(vm, vols, &s)
	if err == nil && s.Vars != nil {
		err = w.fillVars(vm)
	}
	if err != nil {
		return s, err
	}
	s.Boot = vm.BootOrder()
	if s.CD, err = w.medium(vm); err != nil {
		w.a.Log.Info("a VM starts with an empty CD-ROM drive", "vm", vm.Name, "error", err)
		s.CD = nil
	}
	if w.a.Seed != nil && (vm.UserData != "" || len(vm.SSHKeys) > 0) {
		if s.Seed, err = w.a.Seed(vm); err != nil {
			return s, err
		}
	}
	if vm.Kernel != "" {
		if w.a.Boot == nil {
			return s, holdfast.Errorf(holdfast.Invalid, "VM %s: this host cannot boot kernels directly", vm.Name)
		}
		s.Kernel, s.Initrd, err = w.a.Boot(vm)
	}
	return s, err
}

// tend looks after a running machine.
func (w *worker) tend(m hypervisor.Machine, vm cluster.VM) {
	w.rested = nil
	spec := m.Spec()
	vols, err := w.openAll(volumesOf(spec))
	if err != nil {
		seen := observed(m, m.State(), spec.Epoch)
		seen.Reason = err.Error()
		w.report(seen, vm)
		return
	}
	if lostCache(spec, vols) {
		// Its unflushed writes are gone: a guest that went on would believe
		// otherwise (invariant 12). It starts again from its disks.
		w.a.Log.Warn("machine restarted: the memory that held its unflushed writes was lost", "vm", vm.Name)
		w.end(m, vm, true)
		return
	}
	if vm.StandsStill(spec.Generation) {
		w.standing(m, vm)
	} else {
		if w.kept != nil && w.kept.Failed == "" {
			w.kept = nil
		}
		w.fitDisks(m, vm)
		w.grow(m)
		w.serveRequests(m, vm)
	}
	epoch := spec.Epoch
	if len(vols) > 0 {
		epoch = vols[0].Epoch()
	}
	seen := observed(m, m.State(), epoch)
	seen.Reason = w.said
	if seen.Reason == "" && vm.Keeping != nil {
		seen.Reason = w.reported.Reason
	}
	w.report(seen, vm)
}

// lostCache reports whether a disk of a machine is of a later cache generation
// than it was when the guest got it.
func lostCache(s hypervisor.Spec, vols []*volume.Volume) bool {
	written := s.Written()
	for i, v := range vols {
		if v.Record().Generation != written[i].Cache {
			return true
		}
	}
	return false
}

// serveRequests presses the power and reset buttons as asked. A press that
// fails is repeated: the machine may be held just now.
func (w *worker) serveRequests(m hypervisor.Machine, vm cluster.VM) {
	reset, shutdown := vm.Resets > w.reported.Resets, vm.Shutdowns > w.reported.Shutdowns
	now := w.a.Clock.Now()
	if !reset && !shutdown || now < w.again {
		return
	}
	if reset {
		if err := m.Reset(); err != nil {
			w.again = now + startAgain
			w.a.Log.Error("a machine could not be reset yet", "vm", vm.Name, "error", err)
		} else {
			w.reported.Resets = vm.Resets
		}
	}
	if shutdown {
		if err := m.Shutdown(); err != nil {
			w.again = now + startAgain
			w.a.Log.Error("the power button could not be pressed yet", "vm", vm.Name, "error", err)
		} else {
			w.reported.Shutdowns, w.stopAsked = vm.Shutdowns, true
		}
	}
}

// report writes the machine's record if it says something new, or says that there is no
// machine: that counts only if it was said since the VM's record was last changed.
func (w *worker) report(m cluster.Machine, vm cluster.VM) {
	m.VM, m.Host, m.Generation = w.id, w.a.Self, vm.Generation
	m.Shutdowns, m.Resets = w.reported.Shutdowns, w.reported.Resets
	m.Since, m.Kept = w.reported.Since, w.kept
	last, mod := w.lastReported()
	if sameReport(m, last) && (m.State != string(hypervisor.Off) || mod >= w.as) {
		return
	}
	if m.State != last.State || m.Host != last.Host || m.Generation != last.Generation {
		m.Since = w.a.Clock.Wall()
	}
	if err := w.a.Control.PutMachine(m, vm.ID, w.as); err != nil {
		if !holdfast.IsKind(err, holdfast.Conflict) {
			w.a.Log.Info("a machine's state could not be recorded yet", "vm", vm.Name, "error", err)
		}
		return
	}
	w.reported = m
	w.seen = true
}

// sameReport compares what two records say, times aside: a time that went
// through JSON is never equal to one that did not.
func sameReport(a, b cluster.Machine) bool {
	a.Since, b.Since = time.Time{}, time.Time{}
	return reflect.DeepEqual(a, b)
}

// lastReported is the machine record as the cluster has it, if it is still
// this host's, so that a report lost to an unknown outcome is written again; and when
// it was written.
func (w *worker) lastReported() (cluster.Machine, kv.Rev) {
	if st := w.a.Control.State(); st != nil {
		return st.Machines[w.id].Val, st.Machines[w.id].Mod
	}
	return w.reported, w.as
}
