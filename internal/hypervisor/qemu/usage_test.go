package qemu

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestAMachineTellsWhatItUses(t *testing.T) {
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, probeSpec(newProbeServer(t))).(*Machine)
	awaitFlushed(t, m, 5)
	u, err := m.Usage()
	if err != nil || len(u.Disks) != 1 {
		t.Fatalf("%+v, %v", u, err)
	}
	d := u.Disks[0]
	if u.Memory < 1<<20 || d.Volume != m.Spec().Disks[0].Volume || d.Writes < 5 || d.WrittenBytes < d.Writes || d.Flushes < 5 || d.WriteTime <= 0 || d.FlushTime <= 0 {
		t.Errorf("%+v", u)
	}
	if m.Spec().NIC == nil && u.Net != nil {
		t.Error("a machine without a network has received something")
	}
	awaitFlushed(t, m, flushed(m)+5)
	if later, err := m.Usage(); err != nil || later.Disks[0].Writes <= d.Writes || later.CPU < u.CPU {
		t.Errorf("later %+v, %v", later, err)
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Usage(); err == nil {
		t.Error("a machine that is off uses something")
	}
}

func TestWhatTheKernelTellsOfAProcess(t *testing.T) {
	cpu, memory, err := parseUsage([]byte("7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 19 20 3 22"))
	if err != nil || cpu != 3*time.Second || memory != int64(3*os.Getpagesize()) {
		t.Errorf("%v, %d, %v", cpu, memory, err)
	}
	for _, bad := range []string{"", "7 (x) S", "7 (x) " + strings.Repeat("x ", 30)} {
		if _, _, err := parseUsage([]byte(bad)); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
	if _, _, err := usageOf(os.Getpid()); err != nil {
		t.Error(err)
	}
}
