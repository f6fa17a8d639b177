package qemu

import (
	"os"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// TestAGrownDiskIsSeen by a guest that runs and writes, once its session has
// been begun anew.
func TestAGrownDiskIsSeen(t *testing.T) {
	s := newProbeServer(t)
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, probeSpec(s)).(*Machine)
	awaitFlushed(t, m, 3)
	if n, err := m.DiskSize(0); err != nil || n != imageSize {
		t.Fatalf("the guest sees %d bytes, %v", n, err)
	}
	if err := os.Truncate(s.image, 2*imageSize); err != nil {
		t.Fatal(err)
	}
	if err := m.Grow(0, 2*imageSize); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("grown before QEMU could know: %v", err)
	}
	s.stop()
	s.start()
	if err := m.Grow(0, 2*imageSize); err != nil {
		t.Fatal(err)
	}
	if n, err := m.DiskSize(0); err != nil || n != 2*imageSize {
		t.Fatalf("the guest sees %d bytes, %v", n, err)
	}
	awaitFlushed(t, m, flushed(m)+3)
	if _, err := m.DiskSize(1); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("the size of a disk that is not there: %v", err)
	}
}
