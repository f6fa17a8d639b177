package qemu

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

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

func TestAMachineThatAWatchdogStoppedIsAdoptedAsPaused(t *testing.T) {
	s := newProbeServer(t)
	dir := shortDir(t)
	first := newHypervisor(t, dir)
	m := start(t, first, probeSpec(s))
	awaitFlushed(t, m, 5)
	list, err := Processes(dir)
	if err != nil || len(list) != 1 || list[0].VM != vmID || list[0].What != "qemu" || list[0].PID != m.PID() {
		t.Fatalf("processes %+v, %v", list, err)
	}
	if err := list[0].Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the machine is paused", func() bool { return m.State() == hypervisor.Paused })
	first.Close()

	second := newHypervisor(t, dir)
	found, err := second.Adopt()
	if err != nil || len(found) != 1 || found[0].State() != hypervisor.Paused {
		t.Fatalf("adopted %v, %v", found, err)
	}
	a := found[0]
	if err := a.Reset(); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("resetting what is stopped: %v", err)
	}
	if err := a.Pause(); err != nil {
		t.Fatal(err)
	}
	before := flushed(a)
	if err := a.Resume(); err != nil || a.State() != hypervisor.Running {
		t.Fatalf("resume: %v, %s", err, a.State())
	}
	awaitFlushed(t, a, before+5)
	list[0].Signal(unix.SIGSTOP)
	if err := a.Kill(); err != nil {
		t.Fatalf("killing what is stopped: %v", err)
	}
	if list, err := Processes(dir); err != nil || len(list) != 0 {
		t.Fatalf("processes of a dead machine: %v, %v", list, err)
	}
}

func TestAMachineThatNeverRanIsEndedByTheNextAgent(t *testing.T) {
	s := newProbeServer(t)
	dir := shortDir(t)
	first := newHypervisor(t, dir)
	m := start(t, first, probeSpec(s)).(*Machine)
	// As if the agent had died before it could write down the process.
	rec := m.rec
	rec.QEMU = process{}
	if err := m.dir.writeRecord(rec); err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := newHypervisor(t, dir)
	if found, err := second.Adopt(); err != nil || len(found) != 0 {
		t.Fatalf("adopted %v, %v", found, err)
	}
	if _, err := identify(m.PID()); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Fatalf("the process is still there: %v", err)
	}
	again := start(t, second, probeSpec(s))
	awaitFlushed(t, again, 1)
}

func TestTheJailHidesTheHost(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	if box := h.Sandbox(); box != "full" {
		t.Skip("sandbox: " + box)
	}
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 1)
	root := fmt.Sprintf("/proc/%d/root", m.PID())
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "usr", "lib", "lib64", "dev", "tmp": // tmp leads to the sockets of this test
		default:
			t.Errorf("the machine sees /%s", e.Name())
		}
	}
	for _, path := range []string{"/etc/passwd", "/proc/self", "/sys/kernel", "/usr/bin/sh", "/home", s.image} {
		if _, err := os.Stat(root + path); err == nil {
			t.Errorf("the machine sees %s", path)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
	if err != nil {
		t.Fatal(err)
	}
	uid := fmt.Sprint(h.uid(vmID))
	for _, want := range []string{"Uid:\t" + uid + "\t" + uid, "Gid:\t" + uid, "Groups:\t \n", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status lacks %q:\n%s", want, status)
		}
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		ours, _ := os.Readlink("/proc/self/ns/" + ns)
		its, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", m.PID(), ns))
		if its == "" || ours == its {
			t.Errorf("namespace %s: %q, ours is %q", ns, its, ours)
		}
	}
}

func TestWithoutRightsAMachineRunsReduced(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	h.sandboxOnce.Do(func() { h.sandbox = sandbox{why: "for this test"} })
	if got := h.Sandbox(); got != "reduced (for this test)" {
		t.Fatalf("sandbox: %s", got)
	}
	m := start(t, h, probeSpec(s))
	awaitFlushed(t, m, 5)
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status lacks %q", want)
		}
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
}
