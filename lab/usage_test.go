package lab

import (
	"os"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func TestAHostsProcessesAreAddedUp(t *testing.T) {
	l, _ := running(t, 1, 1)
	u, err := l.Hosts[0].Usage()
	if err != nil || u.Processes != 3 || u.Resident < int64(3*os.Getpagesize()) {
		t.Fatalf("%+v, %v", u, err)
	}
}

func TestAStatLineIsReadWhateverTheName(t *testing.T) {
	line := "7 (a) 1 2 (b) S 1 7 7 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 5 0 123456 99999744 1234 18446744073709551615 1 1"
	cpu, pages, err := parseUsage([]byte(line))
	if err != nil || cpu != 3*time.Second || pages != 1234 {
		t.Fatalf("%v, %d pages, %v", cpu, pages, err)
	}
	if _, _, err := parseUsage([]byte("7 (a) S 1 2")); err == nil {
		t.Fatal("a short line was read")
	}
}

func FuzzParseUsage(f *testing.F) {
	f.Add([]byte("1 (x) S 2 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0 0"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _ = parseUsage(b) })
}

// An agent that is stopped in order and started again leaves its machines be.
func TestARestartLeavesMachinesRunning(t *testing.T) {
	l, binary := running(t, 1, 1)
	before, err := processes(l.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Restart(t.Context(), binary, l.Hosts); err != nil {
		t.Fatal(err)
	}
	after, err := processes(l.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	have := map[proc]bool{}
	for _, p := range after {
		p.state, p.parent = 0, 0
		have[p] = true
	}
	for _, p := range before {
		is := l.Hosts[0].isServe(p)
		p.state, p.parent = 0, 0
		if !is && p.name == "sleep" && !have[p] {
			t.Errorf("process %d (%s) was ended by the restart", p.pid, p.name)
		}
	}
}

// Nothing can be placed on a host that has not said yet that its disk is in
// use, though it is alive and the cluster knows the disk.
func TestALabIsUpOnceAllItsDisksAreInUse(t *testing.T) {
	l := &Lab{Hosts: []Host{{Name: "a1"}, {Name: "b1"}}}
	for state, want := range map[string]bool{"in use": true, "starting": false, "away": false} {
		if got := l.disksInUse([]v1.Disk{{Host: "a1", State: "in use"}, {Host: "b1", State: state}}); got != want {
			t.Errorf("one is %s: %v", state, got)
		}
	}
	if l.disksInUse([]v1.Disk{{Host: "a1", State: "in use"}, {Host: "a1", State: "in use"}}) {
		t.Error("a host without a disk was passed over")
	}
}
