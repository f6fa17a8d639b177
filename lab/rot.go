package lab

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// Rot flips one bit in each of at most n blocks of the host's disk that begin
// with one of the marks, chosen by chance, under whoever uses them. It returns
// how many it found to spoil. Other blocks are let alone: they may be what only
// the next start looks at.
func (h Host) Rot(n int, rng *rand.Rand, marks ...string) (int, error) {
	f, err := os.OpenFile(h.Disk(), os.O_RDWR, 0)
	if err != nil {
		return 0, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer f.Close()
	where, err := marked(f, marks)
	if err != nil {
		return 0, holdfast.Errorf(holdfast.IO, "look for blocks on the disk of host %s: %w", h.Name, err)
	}
	rng.Shuffle(len(where), func(i, j int) { where[i], where[j] = where[j], where[i] })
	where = where[:min(n, len(where))]
	for _, at := range where {
		var b [1]byte
		place := at + 64 + rng.Int64N(holdfast.BlockSize-64) // behind the mark, so that it can be found again
		if _, err := f.ReadAt(b[:], place); err != nil {
			return 0, holdfast.Errorf(holdfast.IO, "lab: %w", err)
		}
		b[0] ^= 1 << rng.IntN(8)
		if _, err := f.WriteAt(b[:], place); err != nil {
			return 0, holdfast.Errorf(holdfast.IO, "lab: %w", err)
		}
	}
	return len(where), nil
}

// marked finds the blocks of a file, which is mostly holes, that begin so.
func marked(f *os.File, marks []string) (where []int64, err error) {
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return where, nil
		}
		if err != nil {
			return nil, err
		}
		at = next &^ (holdfast.BlockSize - 1)
		k, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return nil, err
		}
		for o := 0; o+holdfast.BlockSize <= k; o += holdfast.BlockSize {
			for _, m := range marks {
				if bytes.HasPrefix(buf[o:], []byte(m)) {
					where = append(where, at+int64(o))
				}
			}
		}
		at += int64(max(k, holdfast.BlockSize))
	}
}
