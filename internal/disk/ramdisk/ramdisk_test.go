package ramdisk

import (
	"runtime"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/disktest"
)

func memory(t *testing.T) *Memory {
	m, err := New(MinSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Free(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestConformance(t *testing.T) {
	disktest.Run(t, disktest.Subject{
		Clock: clock.System{},
		In:    func(f func()) { f() },
		New: func(t *testing.T) func() (disk.Device, error) {
			return memory(t).Open
		},
	})
}

func TestItStandsOutsideOfTheHeap(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d, err := memory(t).Open()
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 1<<20)
	for off := int64(0); off < MinSize; off += int64(len(page)) {
		if err := d.WriteAt(page, off); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > MinSize/2 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func TestAFreedDiskIsClosed(t *testing.T) {
	m := memory(t)
	d, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Free(); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(make([]byte, 512), 0); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("read: %v", err)
	}
	if _, err := m.Open(); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("open: %v", err)
	}
	if err := m.Free(); err != nil {
		t.Errorf("free again: %v", err)
	}
}

func TestSizesThatAreNoDisk(t *testing.T) {
	for _, n := range []int64{0, -4096, MinSize - 4096, MinSize + 1} {
		if _, err := New(n); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
