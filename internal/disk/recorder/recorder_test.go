package recorder

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/ramdisk"
)

const size = 64 << 20

func block(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// What a sync that began after a write had ended covers is there; what came later
// may be there or not, whole or in part.
func TestACrashKeepsWhatWasSynced(t *testing.T) {
	ram, err := ramdisk.New(size)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Free()
	dev, err := ram.Open()
	if err != nil {
		t.Fatal(err)
	}
	d := New(dev, clock.System{}, Lag{})
	for _, f := range []func() error{
		func() error { return d.WriteAt(block(1, 8192), 0) },
		d.Sync,
		func() error { return d.WriteAt(block(2, 8192), 0) },
		func() error { return d.WriteSync(block(3, 512), 512) },
		func() error { return d.WriteAt(block(4, 4096), 16384) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	p := NewPlayer(d.Log(), make([]byte, size))
	boundaries := 0
	for e, ok := p.Event(); ok; e, ok = p.Event() {
		if p.Boundary(e) {
			boundaries++
		}
		p.Step()
	}
	if boundaries != 2 || p.Pending() != 2 {
		t.Errorf("%d flushes, %d writes pending", boundaries, p.Pending())
	}
	if p.Base[0] != 1 || p.Base[512] != 3 || p.Base[1024] != 1 || p.Base[16384] != 0 {
		t.Errorf("on the medium: %d %d %d %d", p.Base[0], p.Base[512], p.Base[1024], p.Base[16384])
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if left := p.Crash(Lost, rng); len(left) != 0 {
		t.Errorf("lost writes left %d units", len(left))
	}
	all := p.Crash(Kept, rng)
	if len(all) != 15+8 || all[0][0] != 2 || all[1] != nil || all[32][0] != 4 {
		t.Errorf("kept writes left %d units", len(all))
	}
	for f := Some; f < Fates; f++ {
		seen := map[int]bool{}
		for range 50 {
			left := p.Crash(f, rng)
			seen[len(left)] = true
			if _, ok := left[1]; ok {
				t.Fatal("an older write came back over one that was durable")
			}
			if n := len(left); f == Some && n != 0 && n != 8 && n != 15 && n != 23 {
				t.Fatalf("whole writes left %d units", n)
			}
		}
		if len(seen) < 3 {
			t.Errorf("fate %d leaves only %v", f, seen)
		}
	}
}
