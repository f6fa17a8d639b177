package qemu

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

func TestUEFIKeepsItsVariables(t *testing.T) {
	h := newHypervisor(t, shortDir(t))
	first, err := h.UEFIVars()
	if err != nil {
		t.Skip("no UEFI firmware: apt install ovmf")
	}
	if !h.UEFI() || len(first) != cluster.VarsBlocks*holdfast.BlockSize {
		t.Fatalf("UEFI %v, variables of %d bytes", h.UEFI(), len(first))
	}
	vars := newServer(t, first)
	if err := os.Truncate(vars.image, int64(len(first))); err != nil {
		t.Fatal(err)
	}
	vars.stop()
	vars.start()
	spec := probeSpec(newProbeServer(t))
	spec.MemoryMiB = 128
	spec.Vars = &hypervisor.Disk{Slot: hypervisor.SlotVars, Volume: holdfast.VolumeID{UUID: holdfast.UUID{8}}, Socket: vars.socket()}
	m, err := h.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	awaitSaid(t, m, "UEFI Interactive Shell") // the probe guest is for a BIOS
	now, err := os.ReadFile(vars.image)
	if err != nil || bytes.Equal(now, first) {
		t.Errorf("its variables are as they were at first (%v)", err)
	}
	mon, err := m.(*Machine).talking()
	if err != nil {
		t.Fatal(err)
	}
	var said string
	for _, line := range []string{"o /w 0xcf8 0x80000940", "i /w 0xcfc"} {
		if err := mon.execute("human-monitor-command", map[string]any{"command-line": line}, &said, commandTimeout); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(said, "80008000") {
		t.Errorf("its IDE controller does not listen, so that guests see no CD-ROM drive: %q", said)
	}
	if written := m.Spec(); len(written.Written()) != 2 {
		t.Errorf("it writes %+v", written.Written())
	}
}

func TestAHostWithoutFirmwareSaysWhatToInstall(t *testing.T) {
	h, err := New(Config{Dir: shortDir(t), Firmware: t.TempDir()})
	if err != nil {
		t.Skip(err)
	}
	defer h.Close()
	if _, err := h.UEFIVars(); h.UEFI() || !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("%v, %v", h.UEFI(), err)
	}
}
