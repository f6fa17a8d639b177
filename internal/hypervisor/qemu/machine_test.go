package qemu

import (
	"bufio"
	"os"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

func TestAMachineRunsPausesAndDies(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	t.Log("sandbox:", h.Sandbox())
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 10)
	if m.State() != hypervisor.Running || m.PID() == 0 {
		t.Fatalf("state %s, pid %d", m.State(), m.PID())
	}
	if _, err := h.Start(probeSpec(s)); !holdfast.IsKind(err, holdfast.Busy) {
		t.Fatalf("a second machine of the same VM: %v", err)
	}
	if err := m.Pause(); err != nil || m.State() != hypervisor.Paused {
		t.Fatalf("pause: %v, %s", err, m.State())
	}
	stopped := flushed(m)
	if err := m.Resume(); err != nil || m.State() != hypervisor.Running {
		t.Fatalf("resume: %v, %s", err, m.State())
	}
	awaitFlushed(t, m, stopped+10)
	if err := m.Kill(); err != nil || m.State() != hypervisor.Off {
		t.Fatalf("kill: %v, %s", err, m.State())
	}
	if err := m.Kill(); err != nil {
		t.Fatalf("kill again: %v", err)
	}
	last := flushed(m)
	if _, err := os.Stat(string(h.dir(vmID))); !os.IsNotExist(err) {
		t.Fatalf("the machine's directory is still there: %v", err)
	}
	again := start(t, h, probeSpec(s))
	awaitFlushed(t, again, last+1)
	if v := lines(again)[1]; v.What != probe.Verified || v.Counter < last {
		t.Fatalf("after %d was reported, the guest says %q", last, v.Text)
	}
}

func TestAMachineOutlivesItsAgentAndIsAdopted(t *testing.T) {
	s := newProbeServer(t)
	dir := shortDir(t)
	first := newHypervisor(t, dir)
	m := start(t, first, probeSpec(s))
	awaitFlushed(t, m, 5)
	pid := m.PID()
	first.Close()

	second := newHypervisor(t, dir)
	var off []holdfast.VMID
	told := make(chan struct{})
	second.Notify(func(vm holdfast.VMID, s hypervisor.State) {
		if s == hypervisor.Off {
			off = append(off, vm)
			close(told)
		}
	})
	found, err := second.Adopt()
	if err != nil || len(found) != 1 {
		t.Fatalf("adopted %d machines, %v", len(found), err)
	}
	a := found[0]
	if a.PID() != pid || a.State() != hypervisor.Running || a.Spec().Generation != 3 || a.Spec().Epoch != 7 {
		t.Fatalf("adopted pid %d (was %d), %s, %+v", a.PID(), pid, a.State(), a.Spec())
	}
	if all := lines(a); len(all) < 4 || all[0].What != probe.Start {
		t.Fatalf("the history after adoption starts with %v", all[:min(len(all), 4)])
	}
	awaitFlushed(t, a, flushed(a)+5)
	if again, err := second.Adopt(); err != nil || len(again) != 1 || again[0] != a {
		t.Fatalf("adopting twice: %v, %v", again, err)
	}
	p, err := identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	hd, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	hd.signal(9)
	hd.close()
	<-told
	if off[0] != vmID || a.State() != hypervisor.Off {
		t.Fatalf("told %v, state %s", off, a.State())
	}
	if found, err := second.Adopt(); err != nil || len(found) != 0 {
		t.Fatalf("after its death: %v, %v", found, err)
	}
}

func TestAMachineWaitsForItsDiskServer(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 5)
	s.stop()
	before := flushed(m)
	s.start()
	awaitFlushed(t, m, before+20)
	for _, l := range lines(m) {
		if l.What == probe.Failed || l.What == probe.Corrupt {
			t.Fatalf("the guest noticed: %s", l.Text)
		}
	}
}

func TestAMachineStopsAtAFailedWriteAndRetriesIt(t *testing.T) {
	s := newProbeServer(t)
	trigger := s.dir + "/fail"
	s.stop()
	s.plugin = []string{"--filter=error", "file", s.image, "error-pwrite=ENOSPC", "error-pwrite-rate=100%", "error-pwrite-file=" + trigger}
	s.start()
	h := newHypervisor(t, shortDir(t))
	states := make(chan hypervisor.State, 100)
	h.Notify(func(_ holdfast.VMID, s hypervisor.State) { states <- s })
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 5)
	if err := os.WriteFile(trigger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-states; got != hypervisor.Paused {
		t.Fatalf("after a failed write the machine is %s", got)
	}
	before := flushed(m)
	os.Remove(trigger)
	awaitFlushed(t, m, before+10)
	for _, l := range lines(m) {
		if l.What == probe.Failed {
			t.Fatalf("the guest was told: %s", l.Text)
		}
	}
}

func TestResetRestartsTheGuestInTheSameProcess(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 5)
	pid := m.PID()
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	boots := func() (n int) {
		for _, l := range lines(m) {
			if l.What == probe.Ready {
				n++
			}
		}
		return n
	}
	eventually(t, "the guest boots again", func() bool { return boots() == 2 })
	if m.PID() != pid || m.State() != hypervisor.Running {
		t.Fatalf("pid %d was %d, %s", m.PID(), pid, m.State())
	}
	if err := m.Shutdown(); err != nil { // which this guest ignores
		t.Fatal(err)
	}
}

func TestTwoConsolesSeeHistoryAndWhatFollowsWithoutAGap(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 5)
	for range 2 {
		c, err := m.Console()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := uint32(1)
		for sc := bufio.NewScanner(c); want <= 50 && sc.Scan(); {
			l, err := probe.ParseLine(sc.Text())
			if err != nil {
				t.Fatal(err)
			}
			if l.What == probe.Flushed {
				if l.Counter != want {
					t.Fatalf("flushed %d follows %d", l.Counter, want-1)
				}
				want++
			}
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	c, err := m.Console()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 64<<10); ; {
		if _, err := c.Read(buf); err != nil {
			break
		}
	}
	if _, err := m.Console(); !holdfast.IsKind(err, holdfast.Closed) {
		t.Fatalf("a console of a dead machine: %v", err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	spec := probeSpec(s)
	spec.Disks[0].Export = "nothing"
	spec.Disks[0].Socket = s.dir + "/s/nobody"
	_, err := h.Start(spec)
	if err == nil {
		t.Fatal("started without a disk server")
	}
	t.Log(err)
	if _, err := os.Stat(h.dir(vmID).recordPath()); err == nil && h.dir(vmID).alive() {
		t.Fatal("a process was left behind")
	}
	spec = probeSpec(s)
	m := start(t, h, spec)
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
}
