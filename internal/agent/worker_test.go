package agent

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// machine notes what was done to it.
type machine struct {
	hypervisor.Machine // not called
	spec               hypervisor.Spec
	state              hypervisor.State
	done               []string
	fails              int // of the next actions
}

func (m *machine) Spec() hypervisor.Spec   { return m.spec }
func (m *machine) State() hypervisor.State { return m.state }
func (m *machine) PID() int                { return 1 }
func (m *machine) act(what string, s hypervisor.State) error {
	if m.fails > 0 {
		m.fails--
		return holdfast.Errorf(holdfast.Unavailable, "the machine is held")
	}
	m.done = append(m.done, what)
	m.state = s
	return nil
}
func (m *machine) Kill() error     { return m.act("kill", hypervisor.Off) }
func (m *machine) Pause() error    { return m.act("pause", hypervisor.Paused) }
func (m *machine) Resume() error   { return m.act("resume", hypervisor.Running) }
func (m *machine) Reset() error    { return m.act("reset", hypervisor.Running) }
func (m *machine) Shutdown() error { return m.act("shutdown", hypervisor.Running) }

// records are the cluster's, as one worker sees them.
type records struct {
	Control   // not called
	st        *cluster.State
	confirmed time.Duration
	machine   cluster.Machine
	deleted   bool
	put       *cluster.VM
	at        kv.Rev // of the VM's record that was changed last
	meanwhile func() // before a report is written
}

func (r *records) State() *cluster.State    { return r.st }
func (r *records) Confirmed() time.Duration { return r.confirmed }
func (r *records) PutMachine(m cluster.Machine, _ holdfast.VMID, _ kv.Rev) error {
	if f := r.meanwhile; f != nil {
		r.meanwhile = nil
		f()
	}
	r.machine = m
	return nil
}
func (r *records) DetachDisks(v cluster.VM, _ []holdfast.VolumeID, mod kv.Rev) error {
	r.put, r.at = &v, mod
	return nil
}
func (r *records) DeleteVM(cluster.VM, kv.Rev) error { r.deleted = true; return nil }
func (r *records) PowerOff(v cluster.VM, m cluster.Machine, mod kv.Rev) error {
	r.put, r.machine, r.at = &v, m, mod
	return nil
}

// silent is a network on which nothing is said.
type silent struct{ transport.Network }

func (silent) Handle(transport.Kind, transport.Handler) {}

type scene struct {
	w  *worker
	m  *machine
	r  *records
	vm cluster.VM
}

// running is a worker with a machine of generation 3, which is what its VM is
// assigned here at.
func running() *scene {
	self := holdfast.HostID{UUID: holdfast.UUID{1}}
	vm := cluster.VM{ID: holdfast.VMID{UUID: holdfast.UUID{2}}, Name: "db", Host: self, Generation: 3, Power: cluster.On,
		Volume: holdfast.VolumeID{UUID: holdfast.UUID{3}}, Isolation: cluster.IsolationPause}
	s := &scene{vm: vm, r: &records{st: &cluster.State{Machines: map[holdfast.VMID]cluster.Versioned[cluster.Machine]{}}},
		m: &machine{state: hypervisor.Running, spec: hypervisor.Spec{VM: vm.ID, Name: vm.Name, Disks: []hypervisor.Disk{{Volume: vm.Volume}}, Generation: 3}}}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	c := clock.System{}
	a := New(Config{Self: self, Clock: c, Control: s.r, Log: log,
		Volumes: volume.New(volume.Config{Self: self, Clock: c, Net: silent{}, Log: log})})
	s.r.st.VMs = map[holdfast.VMID]cluster.Versioned[cluster.VM]{vm.ID: {Val: vm}}
	s.w = &worker{a: a, id: vm.ID, wake: c.NewEvent(), alarm: c.NewEvent(), machine: s.m}
	a.workers[vm.ID] = s.w
	return s
}

func (s *scene) want(present bool) (over bool) {
	s.w.want(cluster.Versioned[cluster.VM]{Val: s.vm, Mod: 7}, present, 7)
	return s.w.step()
}

func (s *scene) expect(t *testing.T, done ...string) {
	t.Helper()
	if len(s.m.done) != len(done) {
		t.Fatalf("done to the machine: %v, want %v", s.m.done, done)
	}
	for i := range done {
		if s.m.done[i] != done[i] {
			t.Fatalf("done to the machine: %v, want %v", s.m.done, done)
		}
	}
}

func TestAMachineEndsWhenItsVMIsElsewhere(t *testing.T) {
	s := running()
	s.vm.Host = holdfast.HostID{UUID: holdfast.UUID{9}}
	if over := s.want(true); !over {
		t.Error("the worker goes on")
	}
	s.expect(t, "kill")
}

func TestAMachineEndsWhenItsVMIsGone(t *testing.T) {
	s := running()
	if over := s.want(false); !over {
		t.Error("the worker goes on")
	}
	s.expect(t, "kill")
}

func TestAMachineOfAnOlderAssignmentEnds(t *testing.T) {
	s := running()
	s.vm.Generation = 4
	s.w.again = time.Duration(1<<62 - 1)
	s.want(true)
	s.expect(t, "kill")
}

func TestAStoppedVMIsReportedOff(t *testing.T) {
	s := running()
	s.vm.Power = cluster.Stopped
	s.want(true)
	s.expect(t, "kill")
	if s.r.machine.State != string(hypervisor.Off) {
		t.Errorf("reported %q", s.r.machine.State)
	}
}

func TestADeletedVMIsForgotten(t *testing.T) {
	s := running()
	s.vm.Deleted, s.vm.Power = true, cluster.Stopped
	s.want(true)
	s.expect(t, "kill")
	if !s.r.deleted {
		t.Error("its record is still there")
	}
}

func TestAGuestThatPowersOffWhenAskedStaysOff(t *testing.T) {
	s := running()
	s.w.stopAsked, s.m.state = true, hypervisor.Off
	s.w.again = time.Duration(1<<62 - 1)
	s.want(true)
	s.expect(t)
	if s.r.put == nil || s.r.put.Power != cluster.Stopped {
		t.Errorf("recorded %v", s.r.put)
	}
}

// Before the cluster's state has been seen nothing is known to be wrong with a
// machine that outlived its agent.
func TestAHostThatHasJustStartedLeavesItsMachines(t *testing.T) {
	s := running()
	s.r.confirmed = time.Second
	if s.w.step() {
		t.Error("the worker is over")
	}
	s.expect(t)
}

func TestButtonsArePressedOnce(t *testing.T) {
	s := running()
	s.vm.Resets, s.vm.Shutdowns = 1, 1
	s.w.serveRequests(s.m, s.vm)
	s.w.serveRequests(s.m, s.vm)
	s.expect(t, "reset", "shutdown")
	if !s.w.stopAsked {
		t.Error("the machine is not expected to end")
	}
}

func TestAPressThatFailsIsRepeated(t *testing.T) {
	s := running()
	s.m.fails = 2
	s.vm.Resets, s.vm.Shutdowns = 1, 1
	s.w.serveRequests(s.m, s.vm)
	s.expect(t)
	s.w.again = 0 // later
	s.w.serveRequests(s.m, s.vm)
	s.expect(t, "reset", "shutdown")
}

// A VM that was told to shut down and lost its machine before it could is off,
// and the next start is not undone by the old press.
func TestAVMThatWasToShutDownIsNotStartedForIt(t *testing.T) {
	s := running()
	s.w.machine = nil
	s.vm.Shutdowns = 4
	s.want(true)
	s.expect(t)
	if s.r.put == nil || s.r.put.Power != cluster.Stopped || s.r.machine.Shutdowns != 4 || s.r.machine.State != "off" {
		t.Errorf("recorded %+v, %+v", s.r.put, s.r.machine)
	}
}

// leave is a VM that is to leave its host, with guests that may take a minute.
func leave() *scene {
	s := running()
	s.vm.Leave = s.vm.Generation
	s.w.known, s.w.present, s.w.vm = true, true, s.vm
	return s
}

func TestAGuestThatIsMovedShutsDown(t *testing.T) {
	s := leave()
	s.w.sendOff(s.m, s.vm)
	s.w.sendOff(s.m, s.vm) // not pressed again at once
	s.expect(t, "shutdown")
	s.m.state = hypervisor.Off
	s.want(true)
	if s.r.put != nil {
		t.Fatalf("it was taken for a power-off: %+v", s.r.put)
	}
	s.want(true)
	if m := s.r.machine; m.State != string(hypervisor.Off) || m.Generation != s.vm.Generation || m.Reason != "" {
		t.Fatalf("reported %+v", m)
	}
	s.expect(t, "shutdown")
}

func TestAGuestThatDoesNotShutDownIsEndedAndItIsSaid(t *testing.T) {
	s := leave()
	s.w.sendOff(s.m, s.vm)
	s.w.exit.press = 0
	s.w.sendOff(s.m, s.vm) // it may have been deaf
	s.w.isolated, s.w.exit.by = true, 0
	s.w.sendOff(s.m, s.vm)
	s.expect(t, "shutdown", "shutdown")
	s.w.isolated = false
	s.w.sendOff(s.m, s.vm)
	s.expect(t, "shutdown", "shutdown", "kill")
	s.want(true)
	if m := s.r.machine; m.State != string(hypervisor.Off) || !strings.Contains(m.Reason, "did not shut down within 1m0s") {
		t.Fatalf("reported %+v", m)
	}
}

func TestAVMThatIsToLeaveIsNotStarted(t *testing.T) {
	s := leave()
	s.w.machine = nil
	s.want(true)
	if m := s.r.machine; m.State != string(hypervisor.Off) || m.Generation != s.vm.Generation {
		t.Fatalf("reported %+v", m)
	}
}

func TestAPowerOffWhileBeingMovedIsAPowerOff(t *testing.T) {
	s := leave()
	s.w.stopAsked, s.m.state = true, hypervisor.Off
	s.want(true)
	if s.r.put == nil || s.r.put.Power != cluster.Stopped || s.r.put.Leave != 0 {
		t.Errorf("recorded %+v", s.r.put)
	}
}

// A record may say anything: a VM without a disk has nothing to start from.
func TestAVMWithoutADiskIsReportedFailed(t *testing.T) {
	s := running()
	s.w.machine, s.vm.Volume = nil, holdfast.VolumeID{}
	s.want(true)
	if s.r.machine.State != "failed" || s.r.machine.Reason == "" {
		t.Errorf("reported %+v", s.r.machine)
	}
}

// TestALaterRecordIsNotOverwritten: a VM is started, or is moved, in the midst of a
// step that goes by its older record. What the step writes is for that one only.
func TestALaterRecordIsNotOverwritten(t *testing.T) {
	s := running()
	s.w.machine = nil
	s.vm.Power = cluster.Stopped
	s.vm.Disks = []cluster.VMDisk{{Volume: holdfast.VolumeID{UUID: holdfast.UUID{4}}, Leaving: true}}
	later := s.vm
	later.Power, later.Generation = cluster.On, 4
	s.r.meanwhile = func() { s.w.want(cluster.Versioned[cluster.VM]{Val: later, Mod: 8}, true, 8) }
	s.want(true)
	if s.r.put == nil || s.r.put.Power != cluster.Stopped || s.r.at != 7 {
		t.Errorf("written %+v in the place of the record of revision %d; want the one of 7", s.r.put, s.r.at)
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.vm.Power != cluster.On {
		t.Error("it goes by the older record again")
	}
}
