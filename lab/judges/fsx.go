package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// exerciser does random operations on a file and remembers what it must hold,
// in the manner of fsx: every read is compared.
type exerciser struct {
	f    *os.File
	rng  *rand.Rand
	max  int64
	want []byte
	did  map[string]int
	tag  byte
}

// exercise does n operations on a new file of at most max bytes, and verifies
// all of it at the end.
func exercise(path string, seed uint64, n int, max int64) (*exerciser, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	x := &exerciser{f: f, rng: rand.New(rand.NewPCG(seed, 3)), max: max, did: map[string]int{}}
	defer func() { x.f.Close() }()
	for i := range n {
		if err := x.step(path); err != nil {
			return x, fmt.Errorf("operation %d of seed %d on %s: %w", i, seed, path, err)
		}
	}
	if err := x.f.Sync(); err != nil {
		return x, err
	}
	return x, x.verify(0, int64(len(x.want)))
}

// extent draws a range; it may reach beyond the end of the file.
func (x *exerciser) extent() (off, n int64) {
	off = x.rng.Int64N(x.max)
	if x.rng.IntN(4) == 0 {
		off &^= 4095
	}
	return off, min(1+x.rng.Int64N(64*kib), x.max-off)
}

func (x *exerciser) step(path string) error {
	off, n := x.extent()
	size := int64(len(x.want))
	op, err := "", error(nil)
	switch k := x.rng.IntN(100); {
	case k < 30:
		op, err = "write", x.write(off, n)
	case k < 40:
		op, err = "mapped write", x.mapped(off, n)
	case k < 65:
		if op = "read"; off < size {
			err = x.verify(off, min(n, size-off))
		}
	case k < 70:
		op, err = "truncate", x.truncate(off)
	case k < 78:
		op, err = "punch", x.clear(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	case k < 84:
		op, err = "zero", x.clear(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	case k < 88:
		op, err = "sync", x.f.Sync()
	case k < 96:
		op, err = "reread", x.reread()
	default:
		op, err = "reopen", x.reopen(path)
	}
	x.did[op]++
	if err != nil {
		return fmt.Errorf("%s of %d bytes at %d: %w", op, n, off, err)
	}
	return nil
}

// fresh returns n bytes that no write had before.
func (x *exerciser) fresh(n int64) []byte {
	b := make([]byte, n)
	x.tag++
	for i := range b {
		b[i] = byte(x.rng.Uint32())&0x3f + x.tag
	}
	return b
}

func (x *exerciser) grow(to int64) {
	if more := to - int64(len(x.want)); more > 0 {
		x.want = append(x.want, make([]byte, more)...)
	}
}

func (x *exerciser) write(off, n int64) error {
	b := x.fresh(n)
	_, err := x.f.WriteAt(b, off)
	x.grow(off + n)
	copy(x.want[off:], b)
	return err
}

// mapped writes through a mapping of the file.
func (x *exerciser) mapped(off, n int64) error {
	if off+n > int64(len(x.want)) {
		if err := x.truncate(off + n); err != nil {
			return err
		}
	}
	start := off &^ 4095
	m, err := unix.Mmap(int(x.f.Fd()), start, int(off-start+n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	b := x.fresh(n)
	copy(m[off-start:], b)
	copy(x.want[off:], b)
	if x.rng.IntN(2) == 0 {
		err = unix.Msync(m, unix.MS_SYNC)
	}
	if uerr := unix.Munmap(m); err == nil {
		err = uerr
	}
	return err
}

func (x *exerciser) truncate(to int64) error {
	if err := x.f.Truncate(to); err != nil {
		return err
	}
	x.grow(to)
	clear(x.want[to:])
	x.want = x.want[:to]
	return nil
}

func (x *exerciser) clear(mode uint32, off, n int64) error {
	if off >= int64(len(x.want)) {
		return nil
	}
	err := unix.Fallocate(int(x.f.Fd()), mode, off, n)
	clear(x.want[off:min(off+n, int64(len(x.want)))])
	return err
}

// reread verifies a part after the pages of it were dropped from memory.
func (x *exerciser) reread() error {
	if err := x.f.Sync(); err != nil {
		return err
	}
	if err := unix.Fadvise(int(x.f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	size := int64(len(x.want))
	off := x.rng.Int64N(size + 1)
	return x.verify(off, min(256*kib, size-off))
}

func (x *exerciser) reopen(path string) error {
	if err := x.f.Close(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		x.f = f
	}
	return err
}

func (x *exerciser) verify(off, n int64) error {
	st, err := x.f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != int64(len(x.want)) {
		return fmt.Errorf("the file has %d bytes, not %d", st.Size(), len(x.want))
	}
	got := make([]byte, n)
	if k, err := x.f.ReadAt(got, off); err != nil && (err != io.EOF || int64(k) != n) {
		return err
	}
	if want := x.want[off : off+n]; !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				return fmt.Errorf("the byte at %d is %#x, not %#x", off+int64(i), got[i], want[i])
			}
		}
	}
	return nil
}
