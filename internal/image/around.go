package image

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Around writes a large file past the page cache, where what is written lies on
// whole pages of the file and of memory and the file system can: nothing is
// copied, and there is nothing left to be written back when the file is synced,
// nor are writers made to wait while others' data is. What does not lie so goes
// the usual way. It may be used by several goroutines.
type Around struct {
	f      *os.File // the usual way
	direct *os.File // nil: there is no other
}

// aroundAlign is that of what is written past the page cache; no device asks for
// more.
const aroundAlign = 4096

// WriteAround begins to write a file that was opened for writing, and will have
// so many bytes, for which room is made. f stays the caller's, and is to be
// synced.
func WriteAround(f *os.File, size int64) *Around {
	a := &Around{f: f}
	// Without room, or where it cannot be made ahead, a write tells.
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if d, err := os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0); err == nil {
		a.direct = d
		if !sameFile(f, d) { // it was renamed meanwhile
			d.Close()
			a.direct = nil
		}
	}
	return a
}

func sameFile(f, g *os.File) bool {
	a, err := f.Stat()
	b, berr := g.Stat()
	return err == nil && berr == nil && os.SameFile(a, b)
}

// WriteAt implements io.WriterAt.
func (a *Around) WriteAt(b []byte, off int64) (int, error) {
	if a.direct == nil || len(b) == 0 || off%aroundAlign != 0 || len(b)%aroundAlign != 0 ||
		uintptr(unsafe.Pointer(unsafe.SliceData(b)))%aroundAlign != 0 {
		return a.f.WriteAt(b, off)
	}
	n, err := a.direct.WriteAt(b, off)
	if errors.Is(err, unix.EINVAL) { // it can be opened so, and not written to
		k, err := a.f.WriteAt(b[n:], off+int64(n))
		return n + k, err
	}
	return n, err
}

// Close ends the other way to the file.
func (a *Around) Close() error {
	if a.direct == nil {
		return nil
	}
	return a.direct.Close()
}
