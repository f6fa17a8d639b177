package lab

import (
	"os"
	"path/filepath"
	"testing"
)

// What was synced is there after a loss of power, and nothing else: not the rest of
// the same file, and not the name of another.
func TestAVolatileHostForgetsWhatItHasNotSynced(t *testing.T) {
	if err := CanVolatile(); err != nil {
		t.Skipf("not tested: %v", err)
	}
	h := Host{Name: "a1", Dir: filepath.Join(t.TempDir(), "a1"), Volatile: true}
	for _, err := range []error{os.MkdirAll(h.Dir, 0o700), h.mount(), h.mount()} {
		if err != nil {
			t.Skipf("not tested: nothing can be mounted here: %v", err)
		}
	}
	t.Cleanup(func() { _ = h.data().unmount() })
	log := filepath.Join(h.Data(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"synced", " and not"} {
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
		if part == "synced" {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(h.Data(), "new"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := Kill([]Host{h}); err != nil {
		t.Fatal(err)
	}
	if is, err := h.data().mounted(); is || err != nil {
		t.Fatalf("still mounted: %v %v", is, err)
	}
	if err := h.mount(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(log); string(b) != "synced" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(h.Data(), "new")); !os.IsNotExist(err) {
		t.Errorf("a file that nobody synced: %v", err)
	}
	if err := Kill([]Host{h}); err != nil { // a dead host's power may be cut again
		t.Fatal(err)
	}
}
