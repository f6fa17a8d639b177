package store

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// steady is a volume that fills a share of its disk's usable space and is
// overwritten, block by block, as pick says.
type steady struct {
	*vol
	blocks uint64
	rec    [1]record.Record
	hash   [1]uint64
}

func newSteady(t testing.TB, fill float64) *steady {
	b := newBedOf(t, 71, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 4 << 20}, memdisk.Options{})
	blocks := uint64(float64(b.s.usable()/blockUnit) * fill)
	s := &steady{vol: b.create(1, blocks), blocks: blocks}
	s.rec[0] = record.Record{Kind: record.Write, Count: 1, Data: content(1), Hashes: s.hash[:]}
	return s
}

// overwrite appends n blocks; every 32 the log is written and made stable, and
// what works in the background has its turn.
func (s *steady) overwrite(n int, pick func() uint64) {
	s.b.t.Helper()
	r := s.r()
	next := s.state().Prefix + 1
	for i := 0; i < n; {
		s.b.run(func() error {
			for range 32 {
				x := &s.rec[0]
				x.LSN, x.Addr = next, pick()
				s.hash[0] = checksum.Block(s.vid, x.Addr, next, x.Data)
				if err := r.Append(s.rec[:]); err != nil {
					return err
				}
				next++
				i++
			}
			if err := syncTo(r, next-1); err != nil {
				return err
			}
			r.SetStable(next - 1)
			return nil
		})
		for s.b.s.Full() || !r.MayWrite(func() {}) {
			s.b.w.Run(s.b.w.Now() + time.Millisecond)
		}
	}
}

// uniform picks any block as likely as any other.
func (s *steady) uniform() func() uint64 {
	rng := s.b.w.Rand("addresses")
	return func() uint64 { return rng.Uint64N(s.blocks) }
}

// skewed picks one of the first tenth of the blocks nine times of ten.
func (s *steady) skewed() func() uint64 {
	rng := s.b.w.Rand("addresses")
	return func() uint64 {
		if rng.IntN(10) > 0 {
			return rng.Uint64N(s.blocks / 10)
		}
		return rng.Uint64N(s.blocks)
	}
}

// TestWhatTheCleanerAdds: the cleaner adds to overwrites no more than what the
// share of the disk that is filled makes inevitable; less, if some blocks are
// overwritten more often than others.
func TestWhatTheCleanerAdds(t *testing.T) {
	for _, c := range []struct {
		name          string
		fill, cleaned float64
		pick          func(*steady) func() uint64
	}{
		{"uniform, half full", 0.5, 0.35, (*steady).uniform},
		{"uniform, 80 % full", 0.8, 1.65, (*steady).uniform},
		{"skewed, 80 % full", 0.8, 0.75, (*steady).skewed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSteady(t, c.fill)
			a := uint64(0)
			s.overwrite(int(s.blocks), func() uint64 { a++; return (a - 1) % s.blocks })
			pick := c.pick(s)
			s.overwrite(2*int(s.blocks), pick)
			before := s.b.s.Usage()
			s.overwrite(int(s.blocks), pick)
			u := s.b.s.Usage().Since(before)
			t.Logf("written per byte: log %.3f, cleaner %.3f, catalog %.3f, map %.3f", u.share(u.Log), u.share(u.Cleaned), u.share(u.Catalog), u.MapAmp())
			if x := u.share(u.Cleaned); x > c.cleaned {
				t.Errorf("the cleaner moved %.2f bytes per byte written, the bound is %.2f", x, c.cleaned)
			}
			if err := s.b.s.checkSpace(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
