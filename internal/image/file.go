package image

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// maxDepth is how many files a QCOW2 image may be laid on.
const maxDepth = 8

// QCOW2File is an opened QCOW2 image with what it is laid on. It may be hostile:
// it refers to no file but regular ones below one directory, if any.
type QCOW2File struct {
	*qcow2.File
	files []*os.File // of the backing files
	root  *os.Root
}

// OpenQCOW2 opens the QCOW2 image in f. backing is the directory that the files
// must be in that it is the difference to; "": such an image is refused. Errors:
// Invalid, NotFound, IO. f stays the caller's.
func OpenQCOW2(f *os.File, backing string) (*QCOW2File, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "%w", err)
	}
	q := &QCOW2File{}
	opt := qcow2.Options{}
	if backing != "" {
		if backing, err = filepath.Abs(backing); err == nil {
			q.root, err = os.OpenRoot(backing)
		}
		if err != nil {
			return nil, fileError(err)
		}
		opt.Backing = q.opener(".", 1)
	}
	if q.File, err = qcow2.Open(f, st.Size(), opt); err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

// Close closes the backing files.
func (q *QCOW2File) Close() error {
	var errs []error
	for _, f := range q.files {
		errs = append(errs, f.Close())
	}
	if q.root != nil {
		errs = append(errs, q.root.Close())
	}
	return errors.Join(errs...)
}

func fileError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return holdfast.Errorf(holdfast.NotFound, "%w", err)
	}
	return holdfast.Errorf(holdfast.IO, "%w", err)
}

// scheme is what a name begins with that is none of a file.
var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// inRoot makes a name that an image in dir, a directory below root, gives for
// its backing file one below root.
func inRoot(root, dir, name string) (string, error) {
	if scheme.MatchString(name) {
		return "", holdfast.Errorf(holdfast.Invalid, "the image is the difference to %q, which is not the name of a file: flatten it first: qemu-img convert -O qcow2 FILE flat.qcow2", name)
	}
	below := path.Join(dir, name)
	if path.IsAbs(name) {
		var ok bool
		if below, ok = strings.CutPrefix(path.Clean(name), strings.TrimSuffix(root, "/")+"/"); !ok {
			below = ".."
		}
	}
	if !filepath.IsLocal(below) {
		return "", holdfast.Errorf(holdfast.Invalid, "the image is the difference to %q, which is not below %s: give --backing the directory that all its files are in, or flatten it first: qemu-img convert -O qcow2 FILE flat.qcow2", name, root)
	}
	return below, nil
}

// opener opens what an image in dir is the difference to.
func (q *QCOW2File) opener(dir string, depth int) func(name, format string) (qcow2.Disk, error) {
	return func(name, format string) (qcow2.Disk, error) {
		if depth > maxDepth {
			return nil, holdfast.Errorf(holdfast.Invalid, "the image is laid on more than %d files, or on itself: flatten it first: qemu-img convert -O qcow2 FILE flat.qcow2", maxDepth)
		}
		below, err := inRoot(q.root.Name(), dir, name)
		if err != nil {
			return nil, err
		}
		f, err := q.root.OpenFile(below, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not be waited for
		if err != nil {
			return nil, holdfast.Errorf(holdfast.KindOf(fileError(err)), "the file that the image is the difference to: %w", err)
		}
		q.files = append(q.files, f)
		return q.openBelow(f, below, format, depth)
	}
}

func (q *QCOW2File) openBelow(f *os.File, name, format string, depth int) (qcow2.Disk, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fileError(err)
	}
	if !st.Mode().IsRegular() {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s, which the image is the difference to, is not a file", name)
	}
	if format == "" { // older images do not say it
		head := make([]byte, SniffLen)
		n, _ := f.ReadAt(head, 0)
		if format = "raw"; Sniff(head[:n]) == QCOW2 {
			format = "qcow2"
		}
	}
	switch format {
	case "raw":
		return rawFile{f, st.Size()}, nil
	case "qcow2":
		return qcow2.Open(f, st.Size(), qcow2.Options{Backing: q.opener(path.Dir(name), depth+1)})
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "the image is the difference to a file of format %q, and only raw and qcow2 are read here: flatten it first: qemu-img convert -O qcow2 FILE flat.qcow2", format)
}

// rawFile is a raw disk in a file, with holes where the file has them.
type rawFile struct {
	*os.File
	size int64
}

// Size implements qcow2.Disk.
func (r rawFile) Size() int64 { return r.size }

// NextData implements qcow2.Disk.
func (r rawFile) NextData(off int64) (from, to int64, err error) {
	if off >= r.size {
		return r.size, r.size, nil
	}
	from, err = unix.Seek(int(r.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return r.size, r.size, nil
	}
	if err == nil {
		to, err = unix.Seek(int(r.Fd()), from, unix.SEEK_HOLE)
	}
	if err != nil || from < off || to <= from { // a file system that does not tell
		return off, r.size, nil
	}
	return min(from, r.size), min(to, r.size), nil
}

// Stream gives the file front to back as the API takes it, and its length. It is
// to be closed.
func (q *QCOW2File) Stream() (io.ReadCloser, int64, error) {
	m, err := qcow2.MapOf(q)
	if err != nil {
		return nil, 0, err
	}
	r, w := io.Pipe()
	go func() { // ends with the writing, or when r is closed
		w.CloseWithError(m.Write(w, q))
	}()
	return r, m.FileSize(), nil
}
