package baddays

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestAnInstallerStartsFromItsCD starts Debian's own installer from a CD-ROM, once by
// a BIOS and once by UEFI, beside an empty disk, until it asks its first question,
// with so little memory that of it: `make judge-installer`. HOLDFAST_INSTALLER names the disc. Without hardware
// virtualization it takes minutes.
func TestAnInstallerStartsFromItsCD(t *testing.T) {
	disc := os.Getenv("HOLDFAST_INSTALLER")
	if disc == "" {
		t.Skip("not tested: HOLDFAST_INSTALLER names no disc ('make judge-installer' makes one and runs this)")
	}
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 1, lab.DefaultDiskSize)
	h := s.l.Hosts[0]
	s.done(h, nil, "image", "import", disc, "--name", "installer", "--as-is")
	for _, firmware := range []string{"bios", "uefi"} {
		s.done(h, nil, "vm", "create", firmware, "--size", "1GiB", "--cdrom", "installer", "--memory", "640MiB", "--firmware", firmware)
	}
	begin := time.Now()
	for _, vm := range []string{"bios", "uefi"} {
		said := s.listenTo(vm)
		for !strings.Contains(said.String(), "Entering low memory mode") {
			if time.Since(begin) > 8*time.Minute {
				t.Fatalf("waited eight minutes for the first question of the installer by %s; it said last:\n%s", vm, said.end())
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("by %s: its first question after %v", vm, time.Since(begin).Round(time.Second))
	}
}
