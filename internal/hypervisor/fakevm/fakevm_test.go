package fakevm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/hypervisortest"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const diskSize = (probe.FirstBlock + 64) * probe.BlockSize

// world is one simulated computer whose disks lie in memory.
type world struct {
	t       *testing.T
	w       *simclock.World
	power   *simclock.Host
	agent   *simclock.Host
	agents  int
	host    *Host
	hyper   *Hypervisor
	targets map[string]export.Target
	faults  *memexport.Faults
	said    []string
}

func newWorld(t *testing.T, seed uint64) *world {
	x := &world{t: t, w: simclock.NewWorld(seed), targets: map[string]export.Target{}, faults: &memexport.Faults{}}
	x.power = x.w.Host("computer", simclock.Skew{})
	x.host = NewHost(Config{Clock: x.power, Report: func(vm holdfast.VMID, l probe.Line) {
		x.said = append(x.said, fmt.Sprintf("%v %s %s", x.w.Now(), vm.Short(), l))
	}})
	x.newAgent()
	t.Cleanup(func() { x.w.Close(x.power, x.agent) })
	return x
}

func (x *world) newAgent() {
	x.agents++
	x.agent = x.w.Host(fmt.Sprintf("agent %d", x.agents), simclock.Skew{})
	agent := x.agent
	x.hyper = x.host.Hypervisor(agent, func(socket, name string) (export.Disk, error) {
		t, ok := x.targets[socket]
		if !ok {
			return nil, holdfast.Errorf(holdfast.NotFound, "no export at %s", socket)
		}
		clock.Sleep(agent, time.Millisecond)
		return t.Open(false)
	})
}

func (x *world) Hypervisor() hypervisor.Hypervisor { return x.hyper }

// Run runs body on the world's own clock: a test of agents that die cannot be
// a task of one of them. What waits inside body waits there.
func (x *world) Run(body func()) {
	done := false
	x.w.Clock().Go(func() {
		defer func() { done = true }()
		body()
	})
	if !x.w.RunUntil(func() bool { return done }, time.Hour) {
		x.t.Fatalf("%v: the situation did not end", x.w)
	}
}

func (x *world) RestartAgent() {
	x.agent.Kill()
	x.host.AgentDied()
	for s, tgt := range x.targets { // its sessions die with it, its data does not
		x.targets[s] = &reopened{tgt}
	}
	x.newAgent()
}

// reopened lets a new agent open what the dead one held open.
type reopened struct{ export.Target }

func (r *reopened) Open(bool) (export.Disk, error) {
	d, err := r.Target.Open(false)
	if holdfast.IsKind(err, holdfast.Busy) {
		return r.Target.(interface {
			Steal() (export.Disk, error)
		}).Steal()
	}
	return d, err
}

// serve serves an empty disk, once.
func (x *world) serve(socket string) {
	if x.targets[socket] != nil {
		return
	}
	mem, err := memexport.New(diskSize, false)
	if err != nil {
		x.t.Fatal(err)
	}
	x.targets[socket] = &stealable{target: memexport.Faulty(mem, x.faults, x.w.Clock())}
}

func (x *world) Second(i int) hypervisor.Disk {
	socket := fmt.Sprintf("/second%d", i)
	x.serve(socket)
	return hypervisor.Disk{Slot: 1, Volume: holdfast.VolumeID{UUID: holdfast.UUID{byte(i + 1)}}, Socket: socket}
}

func (x *world) Spec(i int) hypervisor.Spec {
	socket := fmt.Sprintf("/disk%d", i)
	x.serve(socket)
	return hypervisor.Spec{VM: holdfast.VMID{UUID: holdfast.UUID{byte(i + 1)}}, Name: fmt.Sprint("vm", i), Generation: 4, Epoch: 2,
		CPUs: 1, MemoryMiB: 16, Disks: []hypervisor.Disk{{Socket: socket}}}
}

// stealable closes the session before when it is opened by force.
type stealable struct {
	target export.Target
	open   export.Disk
}

func (s *stealable) Size() int64    { return s.target.Size() }
func (s *stealable) ReadOnly() bool { return false }
func (s *stealable) Open(bool) (d export.Disk, err error) {
	d, err = s.target.Open(false)
	if err == nil {
		s.open = d
	}
	return d, err
}
func (s *stealable) Steal() (export.Disk, error) {
	s.open.Close()
	return s.Open(false)
}

func (x *world) DiskAway() {
	x.faults.FailOpen(holdfast.Errorf(holdfast.Unavailable, "away"))
	x.faults.End(holdfast.Errorf(holdfast.Closed, "the server stops"))
	clock.Sleep(x.w.Clock(), 3*time.Second)
}

func (x *world) DiskBack() {
	x.faults.FailOpen(nil)
	x.faults.End(nil)
}

func (x *world) Crash(m hypervisor.Machine) { m.(*Machine).Die() }

func (x *world) Await(cond func() bool) bool {
	for range 10000 {
		if cond() {
			return true
		}
		clock.Sleep(x.w.Clock(), 10*time.Millisecond)
	}
	return false
}

func TestConformance(t *testing.T) {
	hypervisortest.Run(t, func(t *testing.T) hypervisortest.Lab { return newWorld(t, 1) })
}

func TestTheSameSeedTellsTheSameStory(t *testing.T) {
	story := func() string {
		x := newWorld(t, 7)
		x.Run(func() {
			for i := range 3 {
				if _, err := x.hyper.Start(x.Spec(i)); err != nil {
					t.Error(err)
				}
			}
			clock.Sleep(x.w.Clock(), time.Second)
			x.RestartAgent()
			clock.Sleep(x.w.Clock(), time.Second)
		})
		return strings.Join(x.said, "\n")
	}
	first, second := story(), story()
	if first != second || !strings.Contains(first, "flushed 20") {
		t.Fatalf("two runs differ, or too little happened:\n%s\n--- and ---\n%s", first, second)
	}
}

func TestALostCacheResetsTheMachine(t *testing.T) {
	x := newWorld(t, 1)
	x.Run(func() {
		hm, err := x.hyper.Start(x.Spec(0))
		if err != nil {
			t.Fatal(err)
		}
		m := hm.(*Machine)
		if !x.Await(func() bool { return m.Flushed() >= 5 }) {
			t.Fatal("no progress")
		}
		x.faults.Fail(export.Flush, 0, holdfast.Errorf(holdfast.LostCache, "all memory was lost"))
		boots := func() int { return strings.Count(string(m.History()), "probe ready") }
		if !x.Await(func() bool { return boots() == 2 }) {
			t.Fatalf("the machine was not reset:\n%s", m.History())
		}
		if m.Corrupt() != 0 || m.State() != hypervisor.Running {
			t.Fatalf("%d corrupt, %s", m.Corrupt(), m.State())
		}
	})
}

func TestAFailedWriteStopsTheMachineUntilItSucceeds(t *testing.T) {
	x := newWorld(t, 1)
	var told []hypervisor.State
	x.hyper.Notify(func(_ holdfast.VMID, s hypervisor.State) { told = append(told, s) })
	x.Run(func() {
		hm, _ := x.hyper.Start(x.Spec(0))
		m := hm.(*Machine)
		x.Await(func() bool { return m.Flushed() >= 5 })
		x.faults.Fail(export.Write, 0, holdfast.Errorf(holdfast.NoSpace, "full"))
		if !x.Await(func() bool { return len(told) == 2 }) || told[0] != hypervisor.Paused || told[1] != hypervisor.Running {
			t.Fatalf("told %v", told)
		}
		at := m.Flushed()
		x.Await(func() bool { return m.Flushed() > at })
		if strings.Contains(string(m.History()), "ERROR") {
			t.Fatalf("the guest was told:\n%s", m.History())
		}
	})
}

func TestPowerOffTakesEverything(t *testing.T) {
	x := newWorld(t, 1)
	x.Run(func() {
		m, _ := x.hyper.Start(x.Spec(0))
		x.Await(func() bool { return m.(*Machine).Flushed() >= 5 })
		x.host.PowerOff()
		x.power.Kill()
		if m.State() != hypervisor.Off || len(x.host.Machines()) != 0 {
			t.Fatalf("after the power cut: %s, %d machines", m.State(), len(x.host.Machines()))
		}
		if _, err := x.hyper.Start(x.Spec(0)); !holdfast.IsKind(err, holdfast.Unavailable) {
			t.Fatalf("starting on a dead computer: %v", err)
		}
	})
}

func TestDamageIsFoundByTheGuest(t *testing.T) {
	x := newWorld(t, 1)
	x.Run(func() {
		spec := x.Spec(0)
		hm, _ := x.hyper.Start(spec)
		m := hm.(*Machine)
		x.Await(func() bool { return m.Flushed() >= 70 })
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
		d, err := x.targets[spec.Disks[0].Socket].Open(false)
		for err != nil { // the dead machine's session is being closed
			clock.Sleep(x.w.Clock(), time.Millisecond)
			d, err = x.targets[spec.Disks[0].Socket].Open(false)
		}
		slot := probe.SlotOf(m.Flushed()-3, 64)
		stale := make([]byte, probe.BlockSize)
		probe.FillBlock(stale, m.Flushed()-3-64, slot)
		d.Submit(&export.Request{Op: export.Write, Off: offset(slot), Length: probe.BlockSize, Data: stale, Done: func(*export.Request, error) {}})
		d.Close()
		hm, err = x.hyper.Start(spec)
		if err != nil {
			t.Fatal(err)
		}
		again := hm.(*Machine)
		if !x.Await(func() bool { return again.Corrupt() > 0 }) || strings.Contains(string(again.History()), "ready") {
			t.Fatalf("a stale block was not found:\n%s", again.History())
		}
	})
}
