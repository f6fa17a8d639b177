package store

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// FuzzOverlayIndex plays writes and merges against a map of Go's.
func FuzzOverlayIndex(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 0, 2, 3, 1, 0, 9, 1, 200, 0, 255, 2, 0})
	f.Add(uint64(1<<63), []byte{0, 0, 0, 64, 0, 128, 0, 192, 3, 0, 1, 64})
	f.Fuzz(func(t *testing.T, secret uint64, steps []byte) { playIndex(t, secret, steps) })
}

func playIndex(t *testing.T, secret uint64, steps []byte) {
	x := overlayIndex{secret: secret}
	want := map[uint64]holdfast.LSN{}
	lsn := holdfast.LSN(0)
	for ; len(steps) >= 2; steps = steps[2:] {
		addr := uint64(steps[1]) * uint64(steps[0]>>2+1)
		switch steps[0] & 3 {
		case 0, 1:
			lsn++
			x.set(addr, lsn)
			want[addr] = lsn
		case 2:
			x.merged(addr, want[addr])
			delete(want, addr)
		case 3:
			x.merged(addr, lsn+1) // a later write has its place
		}
		if got, ok := x.get(addr); got != want[addr] || ok != (want[addr] != 0) {
			t.Fatalf("block %d: LSN %d, %v; want %d", addr, got, ok, want[addr])
		}
	}
	if got := maps.Collect(x.all()); !maps.Equal(got, want) {
		t.Fatalf("it holds\n%v\nwant\n%v", got, want)
	}
	c := x.clone()
	x.clear()
	if !slices.Equal(c.sorted(), slices.Sorted(maps.Keys(want))) || c.len() != len(want) || x.len() != 0 {
		t.Fatalf("its copy holds %v, want the blocks of %v", c.sorted(), want)
	}
}

func TestAnOverlayIndexThroughManyCycles(t *testing.T) {
	steps := make([]byte, 1<<16)
	for i := 0; i < len(steps); i += 8 {
		binary.LittleEndian.PutUint64(steps[i:], uint64(i+1)*0x9e3779b97f4a7c15)
	}
	for secret := range uint64(16) {
		playIndex(t, secret<<60+secret, steps)
	}
}

// TestAnEmptyOverlayIndexIsSmall fills and empties a large one.
func TestAnEmptyOverlayIndexIsSmall(t *testing.T) {
	x := newOverlayIndex()
	for addr := range uint64(100000) {
		x.set(addr, holdfast.LSN(addr+1))
	}
	for addr := range uint64(100000) {
		x.merged(addr, holdfast.LSN(addr+1))
	}
	if x.len() != 0 || len(x.slots) > keptIndex {
		t.Errorf("%d blocks in %d slots are left of it", x.len(), len(x.slots))
	}
}
