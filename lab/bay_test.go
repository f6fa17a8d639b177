package lab

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A bay that is full takes nothing more, one that is pulled answers nothing, and one
// that is back has what was written.
func TestABayFailsByItself(t *testing.T) {
	if err := CanBays(); err != nil {
		t.Skipf("not tested: %v", err)
	}
	h := Host{Name: "a1", Dir: filepath.Join(t.TempDir(), "a1"), Bay: true}
	for _, err := range []error{os.MkdirAll(h.Dir, 0o700), h.mount(), h.mount()} {
		if err != nil {
			t.Skipf("not tested: nothing can be mounted here: %v", err)
		}
	}
	t.Cleanup(func() {
		if err := h.bay().unmount(); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Create(h.Disk())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(bayDisk); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	write := func(at int64) error {
		_, err := f.WriteAt(block, at)
		return errors.Join(err, f.Sync())
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	if err := h.FillBay(); err != nil {
		t.Fatal(err)
	}
	if err := write(64 << 20); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write to a full bay: %v", err)
	}
	if err := h.FreeBay(); err != nil {
		t.Fatal(err)
	}
	block[0] = 7
	if err := write(128 << 20); err != nil {
		t.Errorf("a write when there is room again: %v", err)
	}
	if err := h.PullBay(); err != nil {
		t.Fatal(err)
	}
	if err := write(0); !errors.Is(err, unix.EIO) {
		t.Errorf("a write to a bay that was pulled: %v", err)
	}
	if err := h.PushBay(); err != nil {
		t.Fatal(err)
	}
	if err := write(0); !errors.Is(err, unix.EIO) {
		t.Errorf("a write by who has it open from before: %v", err)
	}
	f.Close()
	var b [1]byte
	if f, err = os.Open(h.Disk()); err == nil {
		_, err = f.ReadAt(b[:], 128<<20)
	}
	if err != nil || b[0] != 7 {
		t.Errorf("what was written is %d, %v", b[0], err)
	}
	if err := (Host{Name: "b1"}).FillBay(); err == nil {
		t.Error("a host without a bay has one")
	}
}
