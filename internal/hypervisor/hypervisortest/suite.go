// Package hypervisortest is the conformance suite of the hypervisor seam. It
// runs the probe guest on an implementation and checks what the seam promises:
// one machine per VM, states, adoption after the agent's death, disks that go
// away and come back, and that a guest never loses what it flushed.
package hypervisortest

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// Lab is one host with an implementation to test.
type Lab interface {
	// Run executes body as a task of the agent's and returns when it has ended.
	Run(body func())
	// Hypervisor is the living agent's.
	Hypervisor() hypervisor.Hypervisor
	// RestartAgent ends the agent and starts another one.
	RestartAgent()
	// Spec describes the i-th VM (from 0), which boots a fresh probe image.
	Spec(i int) hypervisor.Spec
	// Second is a disk for the i-th VM's slot 1, empty at first and always the
	// same.
	Second(i int) hypervisor.Disk
	// DiskAway takes the server of all disks away, DiskBack brings it back
	// with the same content.
	DiskAway()
	DiskBack()
	// Crash ends a machine's process from outside.
	Crash(m hypervisor.Machine)
	// Await lets time pass until cond holds; false: it gave up.
	Await(cond func() bool) bool
}

// situation is one case of the suite.
type situation struct {
	t *testing.T
	Lab
}

// Run runs the suite; newLab makes a fresh host for each case.
func Run(t *testing.T, newLab func(t *testing.T) Lab) {
	for name, body := range map[string]func(situation){
		"a guest boots, writes and reports":             situation.boots,
		"a VM has one machine":                          situation.oneMachine,
		"a paused machine stands still":                 situation.pauses,
		"a killed machine is gone, its flushes are not": situation.killed,
		"reset starts the guest over":                   situation.reset,
		"machines outlive the agent":                    situation.adopted,
		"a machine that dies is told":                   situation.dies,
		"the guest waits for its disk":                  situation.diskAway,
		"two consoles see the same":                     situation.consoles,
		"a disk comes and goes":                         situation.plugs,
		"what lies in the drive is changed":             situation.loads,
		"a memory is saved and given back":              situation.remembers,
		"nonsense is refused":                           situation.nonsense,
	} {
		t.Run(name, func(t *testing.T) {
			s := situation{t: t, Lab: newLab(t)}
			s.Run(func() { body(s) })
		})
	}
}

func (s situation) start(i int) hypervisor.Machine {
	m, err := s.Hypervisor().Start(s.Spec(i))
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s situation) must(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// lines are the whole lines of the guest so far: of one that is still being
// said, "flushed 12" of 123, nothing is known yet.
func lines(m hypervisor.Machine) []probe.Line {
	var all []probe.Line
	said := m.History()
	said = said[:bytes.LastIndexByte(said, '\n')+1]
	for sc := bufio.NewScanner(bytes.NewReader(said)); sc.Scan(); {
		if l, err := probe.ParseLine(sc.Text()); err == nil {
			all = append(all, l)
		}
	}
	return all
}

func last(m hypervisor.Machine, w probe.What) (l probe.Line, n int) {
	for _, x := range lines(m) {
		if x.What == w {
			l = x
			n++
		}
	}
	return l, n
}

func flushed(m hypervisor.Machine) uint32 {
	l, _ := last(m, probe.Flushed)
	return l.Counter
}

// reach waits until the guest has reported n.
func (s situation) reach(m hypervisor.Machine, n uint32) {
	s.t.Helper()
	if !s.Await(func() bool { return flushed(m) >= n }) {
		s.t.Fatalf("the guest did not reach %d; it said:\n%s", n, m.History())
	}
}

// clean: the guest complained about nothing.
func (s situation) clean(m hypervisor.Machine) {
	s.t.Helper()
	for _, l := range lines(m) {
		if l.What == probe.Corrupt || l.What == probe.Failed || l.What == probe.Halted {
			s.t.Fatalf("the guest said: %s", l.Text)
		}
	}
}

func (s situation) boots() {
	m := s.start(0)
	s.reach(m, 10)
	s.clean(m)
	if m.State() != hypervisor.Running || m.Spec().VM != s.Spec(0).VM || m.Started().IsZero() {
		s.t.Fatalf("state %s, VM %s, started %v", m.State(), m.Spec().VM, m.Started())
	}
	if v, n := last(m, probe.Verified); n != 1 || v.Counter != 0 {
		s.t.Fatalf("a fresh disk: %q, %d times", v.Text, n)
	}
	s.must("kill", m.Kill())
}

func (s situation) oneMachine() {
	m := s.start(0)
	if _, err := s.Hypervisor().Start(s.Spec(0)); !holdfast.IsKind(err, holdfast.Busy) {
		s.t.Fatalf("a second machine: %v", err)
	}
	other := s.start(1)
	s.reach(other, 3)
	s.reach(m, 3)
	s.must("kill", m.Kill())
	s.must("kill", other.Kill())
}

func (s situation) pauses() {
	m := s.start(0)
	s.reach(m, 3)
	s.must("pause", m.Pause())
	if m.State() != hypervisor.Paused {
		s.t.Fatalf("after Pause: %s", m.State())
	}
	other := s.start(1) // a measure of time: it goes on, the paused one does not
	s.reach(other, 10)  // what was said before the pause has come through meanwhile
	at := flushed(m)
	s.reach(other, 30)
	if now := flushed(m); now > at+1 { // one report may have been under way
		s.t.Fatalf("paused at %d, now at %d", at, now)
	}
	s.must("resume", m.Resume())
	s.reach(m, at+5)
	s.clean(m)
	s.must("kill", m.Kill())
	s.must("kill", other.Kill())
}

func (s situation) killed() {
	m := s.start(0)
	s.reach(m, 20)
	s.must("kill", m.Kill())
	if m.State() != hypervisor.Off {
		s.t.Fatalf("after Kill: %s", m.State())
	}
	s.must("kill again", m.Kill())
	if err := m.Pause(); !holdfast.IsKind(err, holdfast.Closed) {
		s.t.Fatalf("pausing a dead machine: %v", err)
	}
	reported := flushed(m)
	again := s.start(0)
	s.reach(again, reported+1)
	if v, _ := last(again, probe.Verified); v.Counter < reported {
		s.t.Fatalf("%d was reported as flushed, after the kill: %q", reported, v.Text)
	}
	s.clean(again)
	s.must("kill", again.Kill())
}

func (s situation) reset() {
	m := s.start(0)
	s.reach(m, 5)
	reported := flushed(m)
	s.must("reset", m.Reset())
	if !s.Await(func() bool { _, n := last(m, probe.Ready); return n == 2 }) {
		s.t.Fatalf("no second boot; the guest said:\n%s", m.History())
	}
	if v, _ := last(m, probe.Verified); v.Counter < reported {
		s.t.Fatalf("%d was reported as flushed, after the reset: %q", reported, v.Text)
	}
	s.must("the power button", m.Shutdown())
	s.must("kill", m.Kill())
}

func (s situation) adopted() {
	m, dead := s.start(0), s.start(1)
	s.reach(m, 5)
	s.must("kill", dead.Kill())
	before := flushed(m)
	s.RestartAgent()
	found, err := s.Hypervisor().Adopt()
	if err != nil || len(found) != 1 || found[0].Spec().VM != m.Spec().VM {
		s.t.Fatalf("adopted %v, %v", found, err)
	}
	a := found[0]
	if a.State() != hypervisor.Running || a.Spec().Generation != s.Spec(0).Generation || a.Spec().Epoch != s.Spec(0).Epoch {
		s.t.Fatalf("adopted %s with %+v", a.State(), a.Spec())
	}
	s.reach(a, before+20)
	s.clean(a)
	if _, n := last(a, probe.Start); n != 1 {
		s.t.Fatalf("the guest booted %d times", n)
	}
	if _, err := s.Hypervisor().Start(s.Spec(0)); !holdfast.IsKind(err, holdfast.Busy) {
		s.t.Fatalf("a second machine beside the adopted one: %v", err)
	}
	s.must("kill", a.Kill())
}

func (s situation) dies() {
	told := make(chan hypervisor.State, 10)
	s.Hypervisor().Notify(func(vm holdfast.VMID, state hypervisor.State) {
		if vm == s.Spec(0).VM && state == hypervisor.Off {
			told <- state
		}
	})
	m := s.start(0)
	s.reach(m, 3)
	s.Crash(m)
	if !s.Await(func() bool { return len(told) == 1 }) {
		s.t.Fatal("nobody was told")
	}
	if m.State() != hypervisor.Off {
		s.t.Fatalf("a crashed machine is %s", m.State())
	}
	if found, err := s.Hypervisor().Adopt(); err != nil || len(found) != 0 {
		s.t.Fatalf("adopted %v, %v", found, err)
	}
	again := s.start(0)
	s.reach(again, 3)
	s.must("kill", again.Kill())
}

func (s situation) diskAway() {
	m := s.start(0)
	s.reach(m, 5)
	s.DiskAway()
	before := flushed(m)
	s.DiskBack()
	s.reach(m, before+10)
	s.clean(m)
	s.must("kill", m.Kill())
}

// plugs: this guest looks for a second disk when it boots, and lets it go when it
// is reset.
func (s situation) plugs() {
	m := s.start(0)
	s.reach(m, 3)
	d := s.Second(0)
	s.must("plug", m.Plug(d))
	s.must("plug what is there", m.Plug(d))
	other := d
	other.Volume = holdfast.VolumeID{UUID: holdfast.UUID{99}}
	if err := m.Plug(other); !holdfast.IsKind(err, holdfast.Busy) {
		s.t.Fatalf("another disk at the same slot: %v", err)
	}
	if spec := m.Spec(); len(spec.Disks) != 2 || spec.Disks[1] != d {
		s.t.Fatalf("it has %+v", m.Spec().Disks)
	}
	s.must("reset", m.Reset())
	s.reachSecond(m, 5)

	s.RestartAgent()
	found, err := s.Hypervisor().Adopt()
	if err != nil || len(found) != 1 {
		s.t.Fatalf("adopted %v, %v", found, err)
	}
	m = found[0]
	if spec := m.Spec(); len(spec.Disks) != 2 || spec.Disks[1] != d {
		s.t.Fatalf("adopted, it has %+v", spec.Disks)
	}
	s.DiskAway()
	s.DiskBack()
	s.must("plug what has moved", m.Plug(d))
	said, _ := last(m, probe.SecondFlushed)
	s.reachSecond(m, said.Counter+5)

	if err := m.Unplug(1); !holdfast.IsKind(err, holdfast.Busy) {
		s.t.Fatalf("a disk that its guest uses: %v", err)
	}
	s.must("reset", m.Reset())
	if !s.Await(func() bool { return m.Unplug(1) == nil }) || len(m.Spec().Disks) != 1 {
		s.t.Fatalf("it was not let go: %v, %+v", m.Unplug(1), m.Spec().Disks)
	}
	s.must("unplug what is not there", m.Unplug(1))
	at := flushed(m)
	s.reach(m, at+5)
	s.clean(m)
	s.must("kill", m.Kill())
	if err := m.Plug(d); !holdfast.IsKind(err, holdfast.Closed) {
		s.t.Fatalf("a disk for a dead machine: %v", err)
	}

	both := s.Spec(0)
	both.Disks = append(both.Disks, d)
	again, err := s.Hypervisor().Start(both)
	s.must("start with both", err)
	s.reachSecond(again, said.Counter+6)
	if v, n := last(again, probe.SecondVerified); n != 1 || v.Counter < said.Counter+5 {
		s.t.Fatalf("%d was reported as flushed, after the kill: %q", said.Counter+5, v.Text)
	}
	s.clean(again)
	s.must("kill", again.Kill())
}

// reachSecond waits until the guest has reported n of its second disk.
func (s situation) reachSecond(m hypervisor.Machine, n uint32) {
	s.t.Helper()
	if !s.Await(func() bool { l, _ := last(m, probe.SecondFlushed); return l.Counter >= n }) {
		s.t.Fatalf("the guest did not reach %d on its second disk; it said:\n%s", n, m.History())
	}
}

func (s situation) consoles() {
	m := s.start(0)
	s.reach(m, 5)
	for range 2 {
		c, err := m.Console()
		s.must("console", err)
		next := uint32(1)
		for sc := bufio.NewScanner(c); next <= 20 && sc.Scan(); {
			l, err := probe.ParseLine(sc.Text())
			s.must("a line", err)
			if l.What != probe.Flushed {
				continue
			}
			if l.Counter != next {
				s.t.Fatalf("flushed %d where %d is due", l.Counter, next)
			}
			next++
		}
		if next != 21 {
			s.t.Fatalf("the console ended before %d", next)
		}
		s.must("close", c.Close())
	}
	s.must("kill", m.Kill())
	if _, err := m.Console(); !holdfast.IsKind(err, holdfast.Closed) {
		s.t.Fatalf("a console of a dead machine: %v", err)
	}
}

func (s situation) nonsense() {
	if _, err := s.Hypervisor().Start(hypervisor.Spec{}); !holdfast.IsKind(err, holdfast.Invalid) {
		s.t.Fatalf("an empty spec: %v", err)
	}
	spec := s.Spec(0)
	spec.Disks[0].Export = "no-such-export"
	spec.Disks[0].Socket += "-no"
	if _, err := s.Hypervisor().Start(spec); err == nil {
		s.t.Fatal("started without its disk")
	}
	m := s.start(0) // and the failure left nothing behind
	if _, err := m.Dial(80); !holdfast.IsKind(err, holdfast.Unavailable) {
		s.t.Fatalf("dialling a VM without a network: %v", err)
	}
	s.must("kill", m.Kill())
	if name, why := s.Hypervisor().Accelerator(); name != "kvm" && name != "tcg" || why == "" {
		s.t.Fatalf("accelerator %q, %q", name, why)
	}
}
