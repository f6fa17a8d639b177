package lab

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestRotFlipsABitInMarkedBlocksOnly(t *testing.T) {
	h := Host{Name: "a1", Dir: t.TempDir()}
	const blocks, size = 64, 4096
	before := make([]byte, blocks*size)
	for i := range blocks {
		if i%2 == 0 {
			copy(before[i*size:], "MARK")
		} else {
			copy(before[i*size+1:], "MARK")
		}
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "disk"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := h.Rot(10, rand.New(rand.NewPCG(1, 2)), "NONE", "MARK")
	if err != nil || n != 10 {
		t.Fatalf("%d blocks, %v", n, err)
	}
	after, err := os.ReadFile(h.Disk())
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	for i := range blocks {
		if bytes.Equal(before[i*size:(i+1)*size], after[i*size:(i+1)*size]) {
			continue
		}
		if bad++; i%2 == 1 || !bytes.HasPrefix(after[i*size:], []byte("MARK")) {
			t.Errorf("block %d was damaged", i)
		}
	}
	if bad != 10 {
		t.Errorf("%d blocks were damaged, want 10", bad)
	}
	if n, err := h.Rot(1000, rand.New(rand.NewPCG(1, 2)), "MARK"); err != nil || n != blocks/2 {
		t.Errorf("%d blocks of all, %v", n, err)
	}
}
