package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// golden is a disk whose content is known.
type golden struct {
	*bed
	v, c *vol
	end  holdfast.LSN // of v, synced
	want map[uint64]uint64
}

// newGolden makes a disk with a checkpoint and a log behind it, as a power cut
// leaves it; clean closes it in order.
func newGolden(t *testing.T, clean bool) *golden {
	b := newBedOf(t, 40, 7<<20, Options{SegmentBytes: testSegment}, memdisk.Options{})
	g := &golden{bed: b, want: make(map[uint64]uint64)}
	g.v = b.create(1, 600)
	for a := uint64(0); a < 520; a += 40 {
		var tags []uint64
		for i := range uint64(40) {
			tags = append(tags, a+i+1)
			g.want[a+i] = a + i + 1
		}
		g.v.write(a, tags...)
	}
	g.v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	g.v.stable()
	g.c = &vol{b, replicaID(2), volumeID(2)}
	b.run(func() error {
		_, err := b.s.Clone(g.c.id, g.c.vid, g.v.r(), snapID(1))
		return err
	})
	b.run(b.s.Checkpoint)
	for a := uint64(100); a < 130; a += 3 {
		g.v.write(a, 1000+a)
		g.want[a] = 1000 + a
		g.v.sync()
	}
	g.v.zero(7, 2)
	delete(g.want, 7)
	delete(g.want, 8)
	g.v.sync()
	g.end = g.v.state().Prefix
	if clean {
		b.run(b.s.Close)
	}
	b.host.Kill()
	b.d.Crash()
	return g
}

// flipped opens a copy of the disk with one bit changed and says what came of
// it; it fails if anything wrong was served or anything was lost in silence.
func (g *golden) flipped(t *testing.T, off int64, bit int) string {
	b := &bed{t: t, w: g.w, opts: g.opts, lives: g.lives, d: g.d.Clone(g.w.Rand(fmt.Sprint("clone", off)))}
	p := make([]byte, blockSize)
	at := off / blockSize * blockSize
	b.d.Peek(p, at)
	p[off-at] ^= 1 << bit
	b.d.Poke(p, at)
	b.boot()
	defer b.host.Kill()
	where := fmt.Sprintf("bit %d of byte %d", bit, off)
	if err := b.tryOpen(); err != nil {
		if !holdfast.IsKind(err, holdfast.Damaged) {
			t.Fatalf("%s: open gives %v", where, err)
		}
		t.Fatalf("%s: one flipped bit keeps the disk from opening: %v", where, err)
	}
	out := "unnoticed"
	for _, x := range []*vol{{b, g.v.id, g.v.vid}, {b, g.c.id, g.c.vid}} {
		r := b.s.Replica(x.id)
		if r == nil {
			t.Fatalf("%s: replica %s is gone", where, x.id)
		}
		st := r.State()
		if st.Damage != "" {
			out = "damage"
			continue
		}
		if x.id == g.v.id && st.Prefix != g.end || len(st.History) == 0 && x.id == g.v.id {
			t.Fatalf("%s: the log was shortened in silence to %v: %+v", where, st.Prefix, st)
		}
		for a := range uint64(600) {
			p, err := x.read(a, 1)
			var bad *CorruptError
			switch {
			case errors.As(err, &bad) && bad.Addr == a:
				out = "bad block"
				continue
			case err != nil:
				t.Fatalf("%s: block %d: %v", where, a, err)
			}
			tag := g.want[a]
			if x.id == g.c.id {
				if tag = a + 1; a >= 520 {
					tag = 0
				}
			}
			x.compare(where, p, a, []uint64{tag})
		}
	}
	b.run(b.s.Close)
	return out
}

func TestAFlippedBitIsFoundWhereverItIs(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprint("clean ", clean), func(t *testing.T) {
			g := newGolden(t, clean)
			rng := rand.New(rand.NewPCG(1, 2))
			seen := make(map[string]int)
			var offs []int64
			for _, blk := range []int64{0, 1, 2, 16, 17, 18, 30} { // superblocks and roots
				offs = append(offs, blk*blockSize, blk*blockSize+8, blk*blockSize+64, blk*blockSize+rng.Int64N(sectorSize))
			}
			for blk := int64(32); blk < 7<<20/blockSize; blk += 1 + rng.Int64N(16) {
				p := make([]byte, blockSize)
				g.d.Peek(p, blk*blockSize)
				if le.Uint64(p) != 0 || le.Uint32(p[8:]) != 0 {
					offs = append(offs, blk*blockSize+rng.Int64N(blockSize), blk*blockSize+rng.Int64N(96))
				}
			}
			for _, off := range offs {
				seen[g.flipped(t, off, rng.IntN(8))]++
			}
			t.Logf("%d flips: %v", len(offs), seen)
			if seen["bad block"] == 0 || !clean && seen["damage"] == 0 {
				t.Fatalf("the flips did not reach blocks and log: %v", seen)
			}
		})
	}
}
