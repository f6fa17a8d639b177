package qemu

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

func TestAMachineStartsFromItsCDROM(t *testing.T) {
	h := newHypervisor(t, shortDir(t))
	medium := newServer(t, probe.CD("started from the medium"))
	spec := probeSpec(newProbeServer(t))
	spec.Boot = []string{hypervisor.BootCD, hypervisor.BootDisk}
	spec.CD = &hypervisor.Disk{Slot: hypervisor.SlotCD, Volume: holdfast.VolumeID{UUID: holdfast.UUID{9}}, Socket: medium.socket(), ReadOnly: true}
	m, err := h.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	awaitSaid(t, m, "started from the medium")
	if err := m.Load(nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	awaitSaid(t, m, "flushed 3")
}

func TestAMediumThatIsAwayKeepsNoMachineFromStarting(t *testing.T) {
	h := newHypervisor(t, shortDir(t))
	medium := newServer(t, nil)
	socket := medium.socket()
	medium.stop()
	spec := probeSpec(newProbeServer(t))
	spec.CD = &hypervisor.Disk{Slot: hypervisor.SlotCD, Volume: holdfast.VolumeID{UUID: holdfast.UUID{9}}, Socket: socket, ReadOnly: true}
	m, err := h.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if now := m.Spec().CD; now != nil {
		t.Errorf("it says that it has %+v", now)
	}
	awaitSaid(t, m, "flushed 3")
	medium.start()
	if err := m.Load(spec.CD); err != nil || m.Spec().CD == nil {
		t.Errorf("later: %v", err)
	}
}

func awaitSaid(t *testing.T, m hypervisor.Machine, want string) {
	t.Helper()
	for limit := time.Now().Add(patience); !strings.Contains(string(m.History()), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("it did not say %q; it said:\n%s", want, m.History())
		}
	}
}
