package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image"
)

// imageSource is an image on its way to a host.
type imageSource struct {
	io.Reader
	size   int64 // of what is sent, in bytes; -1: as long as it is
	closes []func() error
}

// Close closes everything, the last first.
func (s *imageSource) Close() {
	for i := len(s.closes) - 1; i >= 0; i-- {
		s.closes[i]()
	}
}

// wanted says how an image is to be taken.
type wanted struct {
	size    int64 // of what comes from standard input; 0: not known
	asIs    bool
	backing string // directory
}

// openImage opens what is to be imported.
func (a *app) openImage(path string, w wanted) (*imageSource, error) {
	if path == "-" {
		return a.openPipe(a.Stdin, w)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "image: %w", err)
	}
	s, err := a.openFile(f, path, w)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.closes = append([]func() error{f.Close}, s.closes...)
	return s, nil
}

func (a *app) openFile(f *os.File, path string, w wanted) (*imageSource, error) {
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = holdfast.Errorf(holdfast.Invalid, "image: %s is a directory; give the image file in it", path)
	}
	if err != nil {
		return nil, err
	}
	end, err := f.Seek(0, io.SeekEnd) // right for block devices, too
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return a.openPipe(f, wanted{asIs: w.asIs, backing: w.backing})
	}
	if end == 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "image: %s is empty; there is nothing to import", path)
	}
	head := make([]byte, image.SniffLen)
	k, _ := f.ReadAt(head, 0) // what cannot be read here fails when it is imported
	if w.asIs || image.Sniff(head[:k]) != image.QCOW2 {
		return &imageSource{Reader: f, size: end}, nil
	}
	return a.openQCOW2(f, w.backing)
}

// openPipe takes what cannot be read in any order. A QCOW2 image has to be, so
// it is kept in a temporary file.
func (a *app) openPipe(in io.Reader, w wanted) (*imageSource, error) {
	r := bufio.NewReaderSize(in, image.SniffLen)
	head, _ := r.Peek(image.SniffLen) // what cannot be read here fails below
	if w.asIs || image.Sniff(head) != image.QCOW2 {
		n := w.size
		if n == 0 {
			n = -1
		}
		return &imageSource{Reader: r, size: n}, nil
	}
	f, err := os.CreateTemp("", "holdfast-import")
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "a place to keep the QCOW2 image: %w", err)
	}
	s, err := a.openKept(f, r, w)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.closes = append([]func() error{f.Close}, s.closes...)
	return s, nil
}

func (a *app) openKept(f *os.File, r io.Reader, w wanted) (*imageSource, error) {
	if err := os.Remove(f.Name()); err != nil { // it goes with this process
		return nil, holdfast.Errorf(holdfast.IO, "a place to keep the QCOW2 image: %w", err)
	}
	total := int64(-1)
	if w.size > 0 {
		total = w.size
	}
	bar := a.progress("receiving the image", total)
	n, err := io.Copy(f, bar.reader(r))
	bar.done(err)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return nil, holdfast.Errorf(holdfast.NoSpace, "the QCOW2 image does not fit into %s, where it is kept first: set TMPDIR to a directory with more space, or save it and give the file", os.TempDir())
	case err != nil:
		return nil, holdfast.Errorf(holdfast.IO, "receive the image: %w", err)
	case w.size > 0 && n != w.size:
		return nil, holdfast.Errorf(holdfast.Invalid, "image: %d bytes came, and %d were announced", n, w.size)
	}
	return a.openQCOW2(f, w.backing)
}

// openQCOW2 lays a QCOW2 image out anew, as a host takes it.
func (a *app) openQCOW2(f *os.File, backing string) (*imageSource, error) {
	q, err := image.OpenQCOW2(f, backing)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	r, n, err := q.Stream()
	if err != nil {
		q.Close()
		return nil, fmt.Errorf("image: %w", err)
	}
	if q.Dirty() {
		fmt.Fprintln(a.Stderr, "Note: the image was not closed properly, or is in use. If a VM runs on it, shut it down and import it again.")
	}
	if names, k := q.Snapshots(); k > 0 {
		fmt.Fprintf(a.Stderr, "Note: %s not imported: %s. The image is as the disk was last.\n", snapshotsIn(k), plain(listed(names, k)))
	}
	return &imageSource{Reader: r, size: n, closes: []func() error{q.Close, r.Close}}, nil
}

func snapshotsIn(n int) string {
	if n == 1 {
		return "a snapshot in it is"
	}
	return fmt.Sprintf("%d snapshots in it are", n)
}

// listed names what is there, as far as the names are known.
func listed(names []string, n int) string {
	text := strings.Join(names, ", ")
	if len(names) < n {
		text += ", …"
	}
	return text
}
