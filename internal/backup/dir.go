package backup

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// Suffix ends the names of backup files, PartSuffix that of one that is being
// written or was interrupted.
const (
	Suffix     = ".hfb"
	PartSuffix = ".part"
)

// maxFiles bounds how many files of a directory are looked at.
const maxFiles = 100_000

// File is a backup file in a directory.
type File struct {
	Path   string
	Offset int64 // where it begins in the file: other backups may be before it
	Header Header
	Length int64 // bytes
	Part   bool  // it was interrupted, or is being written
	Whole  bool  // its end is there; whether what is before it is good, Verify tells
	Totals Totals
	Err    error // why it cannot be used; the header is then empty
}

// FileName is what a backup is called in a directory.
func FileName(h *Header) string {
	kind := "incr"
	if h.Full() {
		kind = "full"
	}
	name := "cluster"
	if h.Volume != nil {
		name = h.Volume.Name
	}
	return name + "." + h.Created.UTC().Format("20060102-150405") + "." + kind + Suffix
}

// List looks at the backup files of a directory, those of a volume together, the
// oldest first: by LSN, since clocks may have been wrong. Only the beginnings and ends of files are read.
func List(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, holdfast.Errorf(kindOf(err), "backups in %s: %w", dir, err)
	}
	var out []File
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, Suffix) && !strings.HasSuffix(name, Suffix+PartSuffix) {
			continue
		}
		if len(out) == maxFiles {
			return nil, holdfast.Errorf(holdfast.Invalid, "%s has more than %d backups; keep them in several directories", dir, maxFiles)
		}
		out = append(out, Look(filepath.Join(dir, name))...)
	}
	slices.SortStableFunc(out, func(a, b File) int {
		return cmp.Or(cmp.Compare(volumeOf(&a), volumeOf(&b)), cmp.Compare(a.Header.LSN(), b.Header.LSN()),
			a.Header.Created.Compare(b.Header.Created), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Offset, b.Offset))
	})
	return out, nil
}

func volumeOf(f *File) string {
	if f.Header.Volume == nil {
		return ""
	}
	return f.Header.Volume.Name + "/" + f.Header.Volume.ID
}

// kindOf is the kind of an error of the file system.
func kindOf(err error) holdfast.Kind {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return holdfast.NotFound
	case errors.Is(err, fs.ErrPermission):
		return holdfast.Denied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return holdfast.NoSpace
	}
	return holdfast.IO
}

// Look reads the beginning and the end of a file, and of the backups in it that
// stand behind each other. There is always one at least.
func Look(path string) []File {
	f := File{Path: path, Part: strings.HasSuffix(path, PartSuffix)}
	r, err := os.Open(path)
	if err != nil {
		f.Err = holdfast.Errorf(kindOf(err), "backup: %w", err)
		return []File{f}
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Err = holdfast.Errorf(holdfast.Invalid, "%s is not a file", path)
		return []File{f}
	}
	return f.lookOn(r, st.Size())
}

// lookOn looks at what begins at f.Offset, and what stands behind it.
func (f File) lookOn(r io.ReaderAt, size int64) (out []File) {
	for {
		f.Err = f.look(r, size)
		out = append(out, f)
		if f.Err != nil || !f.Whole || f.Header.more() == 0 {
			return out
		}
		f = File{Path: f.Path, Part: f.Part, Offset: f.Offset + f.Length}
	}
}

// look reads what begins at f.Offset of a file of so many bytes.
func (f *File) look(r io.ReaderAt, size int64) error {
	f.Length = size - f.Offset
	first := make([]byte, prefixSize)
	if _, err := r.ReadAt(first, f.Offset); err != nil {
		return unread(err)
	}
	n, err := headerSize(first)
	if err != nil {
		return err
	}
	b := append(first, make([]byte, n-prefixSize)...)
	if _, err := r.ReadAt(b[prefixSize:], f.Offset+prefixSize); err != nil {
		return unread(err)
	}
	if f.Header, _, err = decodeHeader(b); err != nil {
		f.Header = Header{}
		return err
	}
	if f.Header.more() > 0 {
		f.Length = lengthOf(r, f.Offset, int64(n), size)
	}
	f.Totals, f.Whole = endOf(r, f.Offset, f.Length, f.Header.Sealed)
	return nil
}

// unread is why a header could not be read: it is not there, or the disk fails.
func unread(err error) error {
	if errors.Is(err, io.EOF) {
		return errHeader()
	}
	return holdfast.Errorf(holdfast.IO, "backup: %w", err)
}

// lengthOf walks over the parts of a backup that others stand behind, by their
// heads. What is damaged or cut off has what is left.
func lengthOf(r io.ReaderAt, off, header, size int64) int64 {
	b := make([]byte, headSize)
	for at := off + header; at <= size-headSize; {
		if _, err := r.ReadAt(b, at); err != nil {
			break
		}
		h, ok := decodeHead(b)
		if !ok {
			break
		}
		if at += int64(h.size()); h.kind == endPart && at <= size {
			return at - off
		}
	}
	return size - off
}

// endOf reads the end of what is at off; of what is sealed the totals stay
// unknown.
func endOf(r io.ReaderAt, off, length int64, sealed bool) (t Totals, ok bool) {
	n := int64(headSize + totalsSize)
	if sealed {
		n += sealTag
	}
	b := make([]byte, n)
	if length < n {
		return t, false
	}
	if _, err := r.ReadAt(b, off+length-n); err != nil {
		return t, false
	}
	h, ok := decodeHead(b)
	if !ok || h.kind != endPart || h.size() != len(b) || h.sealed != sealed || sumOf(b) != h.hash {
		return t, false
	}
	if !sealed {
		t, ok = decodeTotals(b[headSize:])
	}
	return t, ok
}

// Of are the files of a volume, by name or identity, that can be used: the
// oldest first. None: of all volumes, if they are of one.
func Of(files []File, volume string) ([]File, error) {
	var out []File
	names := map[string]bool{}
	var list []string
	for _, f := range files {
		if f.Err != nil || f.Part || !f.Whole || f.Header.Volume == nil {
			continue
		}
		v := f.Header.Volume
		if volume != "" && volume != v.Name && volume != v.ID {
			continue
		}
		out = append(out, f)
		if !names[v.ID] {
			names[v.ID] = true
			list = append(list, v.Name)
		}
	}
	switch {
	case len(out) == 0 && volume != "":
		return nil, holdfast.Errorf(holdfast.NotFound, "there is no whole backup of volume %s", volume)
	case len(out) == 0:
		return nil, holdfast.Errorf(holdfast.NotFound, "there is no whole backup of a volume")
	case len(list) > 1:
		return nil, holdfast.Errorf(holdfast.Invalid, "there are backups of several volumes (%s): say which with --volume", strings.Join(list[:min(len(list), 10)], ", "))
	}
	return out, nil
}

// At chooses the newest file of one volume that is not newer than at.
func At(files []File, at time.Time) (File, error) {
	for i := len(files) - 1; i >= 0; i-- {
		if !files[i].Header.Created.After(at) {
			return files[i], nil
		}
	}
	return File{}, holdfast.Errorf(holdfast.NotFound, "there is no backup of %s or before; see 'holdfast backup list'", at.UTC().Format(time.RFC3339))
}

// Chain is what has to be laid one over the other to get what f holds: a full
// file first, f last. NotFound: a file of it is missing.
func Chain(files []File, f File) ([]File, error) {
	out := []File{f}
	for out[0].Header.Base != nil {
		base, ok := baseOf(files, &out[0].Header)
		if !ok || len(out) > maxFiles {
			return nil, holdfast.Errorf(holdfast.NotFound, "%s is the difference to snapshot %s of volume %s, and no whole backup of that is there: without it %s cannot be restored",
				filepath.Base(out[0].Path), out[0].Header.Base.Name, out[0].Header.Volume.Name, filepath.Base(f.Path))
		}
		out = append([]File{base}, out...)
	}
	return out, nil
}

// baseOf finds the file that h goes over.
func baseOf(files []File, h *Header) (File, bool) {
	for i := len(files) - 1; i >= 0; i-- {
		g := &files[i]
		if g.Err == nil && !g.Part && g.Whole && g.Header.Volume != nil && g.Header.ID != h.ID &&
			g.Header.Volume.ID == h.Volume.ID && g.Header.Snapshot.ID == h.Base.ID {
			return *g, true
		}
	}
	return File{}, false
}

// Place gives a file that is whole its name, and makes that last: by renaming,
// after its content is on disk. It replaces nothing unless force is set.
func Place(f *os.File, path string, force bool) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return holdfast.Errorf(kindOf(err), "%s: %w", path, err)
	}
	how := uint(unix.RENAME_NOREPLACE)
	if force {
		how = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, how)
	if !force && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) { // a file system without that
		if _, err = os.Lstat(path); err == nil {
			err = fs.ErrExist
		} else {
			err = os.Rename(f.Name(), path)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return holdfast.Errorf(holdfast.Exists, "%s is there already: choose another name, or replace it with --force", path)
	}
	if err != nil {
		return holdfast.Errorf(kindOf(err), "%s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = d.Sync()
		d.Close()
	}
	if err != nil && !errors.Is(err, unix.EINVAL) { // some network file systems cannot
		return holdfast.Errorf(kindOf(err), "%s: %w", dir, err)
	}
	return nil
}
