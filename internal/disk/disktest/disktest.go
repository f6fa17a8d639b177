// Package disktest is the conformance suite of disk.Device: what the store may
// rely on, checked on every implementation.
package disktest

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// Subject is an implementation under test.
type Subject struct {
	Clock clock.Clock
	// In runs f where it may wait, and returns when f has.
	In func(f func())
	// New makes an empty disk of at least 64 MiB and returns how to open it.
	New func(t *testing.T) (open func() (disk.Device, error))
}

// Run checks everything. Its tests are sequential.
func Run(t *testing.T, s Subject) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Subject, disk.Device, func() (disk.Device, error))
	}{
		{"the geometry is usable", geometry},
		{"what was never written is zero", unwritten},
		{"what was written is read", readBack},
		{"unaligned and outlying calls are refused", refused},
		{"a second opening is refused", exclusive},
		{"a closed disk does nothing", closed},
		{"synced writes are there when it is opened again", reopened},
		{"discard touches nothing else", discarded},
		{"many tasks may use it at once", concurrent},
		{"it keeps what a model keeps", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := s.New(t)
			s.In(func() {
				d, err := open()
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				defer d.Close()
				c.test(t, s, d, open)
			})
		})
	}
}

// fill returns n bytes that depend on the seed.
func fill(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func write(t *testing.T, d disk.Device, p []byte, off int64) {
	t.Helper()
	if err := d.WriteAt(p, off); err != nil {
		t.Errorf("write of %d at %d: %v", len(p), off, err)
	}
}

func expect(t *testing.T, d disk.Device, want []byte, off int64) {
	t.Helper()
	got := fill(99, len(want))
	if err := d.ReadAt(got, off); err != nil {
		t.Errorf("read of %d at %d: %v", len(want), off, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%d bytes at %d are not what was written", len(want), off)
	}
}

func geometry(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	g := d.Geometry()
	if g.Sector < 512 || g.Sector > 4096 || g.Sector&(g.Sector-1) != 0 {
		t.Errorf("sector of %d bytes", g.Sector)
	}
	if g.Size < 64<<20 || g.Size%int64(g.Sector) != 0 {
		t.Errorf("size of %d bytes with sectors of %d", g.Size, g.Sector)
	}
}

func unwritten(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	size := d.Geometry().Size
	for _, off := range []int64{0, 4096, size / 2 &^ 4095, size - 8192} {
		expect(t, d, make([]byte, 8192), off)
	}
	write(t, d, fill(1, 4096), 8192)
	expect(t, d, make([]byte, 4096), 4096)
	expect(t, d, make([]byte, 4096), 12288)
}

func readBack(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	g := d.Geometry()
	big := fill(2, 1<<20)
	write(t, d, big, 1<<20)
	expect(t, d, big, 1<<20)
	expect(t, d, big[8192:12288], 1<<20+8192)
	last := fill(3, g.Sector)
	write(t, d, last, g.Size-int64(g.Sector))
	expect(t, d, last, g.Size-int64(g.Sector))
	// One sector inside what was written.
	one := fill(4, g.Sector)
	write(t, d, one, 1<<20+int64(3*g.Sector))
	copy(big[3*g.Sector:], one)
	expect(t, d, big, 1<<20)
	// The caller's buffer is its own again.
	clear(one)
	expect(t, d, big, 1<<20)
	write(t, d, nil, 0)
	expect(t, d, nil, 0)
}

func refused(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	g := d.Geometry()
	sector := int64(g.Sector)
	write(t, d, fill(5, 4096), 0)
	for _, c := range []struct{ off, n int64 }{
		{-sector, sector}, {g.Size, sector}, {g.Size - sector, 2 * sector}, {g.Size + sector, 0},
		{1 << 62, sector}, {1, sector}, {0, sector - 1}, {sector / 2, sector / 2},
	} {
		p := make([]byte, c.n)
		for op, err := range map[string]error{
			"read": d.ReadAt(p, c.off), "write": d.WriteAt(p, c.off), "discard": d.Discard(c.off, c.n),
		} {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%s of %d at %d of %d: %v, want kind invalid", op, c.n, c.off, g.Size, err)
			}
		}
	}
	if err := d.Discard(0, -sector); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("discard of a negative length: %v", err)
	}
	expect(t, d, fill(5, 4096), 0)
}

func exclusive(t *testing.T, _ Subject, d disk.Device, open func() (disk.Device, error)) {
	if second, err := open(); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("opened twice: %v, want kind busy", err)
		if err == nil {
			second.Close()
		}
	}
	write(t, d, fill(6, 4096), 0)
	expect(t, d, fill(6, 4096), 0)
}

func closed(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	p := make([]byte, 4096)
	for op, err := range map[string]error{
		"read": d.ReadAt(p, 0), "write": d.WriteAt(p, 0), "sync": d.Sync(), "discard": d.Discard(0, 4096), "close": d.Close(),
	} {
		if !holdfast.IsKind(err, holdfast.Closed) {
			t.Errorf("%s after close: %v, want kind closed", op, err)
		}
	}
}

func reopened(t *testing.T, _ Subject, d disk.Device, open func() (disk.Device, error)) {
	write(t, d, fill(7, 64<<10), 32<<20)
	if err := d.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
	size := d.Geometry()
	d.Close()
	again, err := open()
	if err != nil {
		t.Errorf("open again: %v", err)
		return
	}
	defer again.Close()
	if again.Geometry() != size {
		t.Errorf("geometry %+v became %+v", size, again.Geometry())
	}
	expect(t, again, fill(7, 64<<10), 32<<20)
}

func discarded(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	write(t, d, fill(8, 3<<20), 0)
	if err := d.Discard(1<<20, 1<<20); err != nil {
		t.Errorf("discard: %v", err)
	}
	all := fill(8, 3<<20)
	expect(t, d, all[:1<<20], 0)
	expect(t, d, all[2<<20:], 2<<20)
	write(t, d, fill(9, 8192), 1<<20)
	expect(t, d, fill(9, 8192), 1<<20)
	if err := d.Discard(0, 0); err != nil {
		t.Errorf("discard of nothing: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
	expect(t, d, fill(9, 8192), 1<<20)
}

func concurrent(t *testing.T, s Subject, d disk.Device, _ func() (disk.Device, error)) {
	g := clock.NewGroup(s.Clock)
	for task := range 8 {
		g.Go(func() {
			base := int64(task) << 20
			for i := range 20 {
				p := fill(uint64(task*100+i), 16<<10)
				off := base + int64(i)*(16<<10)
				write(t, d, p, off)
				if i%7 == 0 {
					if err := d.Sync(); err != nil {
						t.Errorf("sync: %v", err)
					}
				}
				expect(t, d, p, off)
			}
		})
	}
	g.Wait()
	for task := range 8 {
		for i := range 20 {
			expect(t, d, fill(uint64(task*100+i), 16<<10), int64(task)<<20+int64(i)*(16<<10))
		}
	}
}

// model compares random calls with a plain slice.
func model(t *testing.T, _ Subject, d disk.Device, _ func() (disk.Device, error)) {
	const area = 1 << 20
	want := make([]byte, area)
	sector := d.Geometry().Sector
	rng := rand.New(rand.NewPCG(11, 0))
	for i := range 400 {
		n := sector * (1 + rng.IntN(20))
		off := sector * rng.IntN((area-n)/sector+1)
		switch rng.IntN(5) {
		case 0:
			expect(t, d, want[off:off+n], int64(off))
		case 1:
			if err := d.Sync(); err != nil {
				t.Errorf("sync: %v", err)
			}
			if m, ok := d.(disk.Medium); ok {
				p := make([]byte, area)
				if err := m.ReadMedium(p, 0); err != nil || !bytes.Equal(p, want) {
					t.Errorf("the medium does not have what was synced: %v", err)
				}
			}
		default:
			p := fill(uint64(i), n)
			write(t, d, p, int64(off))
			copy(want[off:], p)
		}
	}
	expect(t, d, want, 0)
}
