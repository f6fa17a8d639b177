package kept

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
)

// Shelf is a directory with two places for copies, used in turn: whatever
// becomes of one that is being written, the other is whole. It belongs to one
// task.
type Shelf struct{ Dir string }

// places are the two names on a shelf.
func places() []string { return []string{"0", "1"} }

// KeyFile holds the key of copies that no cluster key seals. It lies beside the
// host's own key: what it protects is a copy that gets away alone.
const KeyFile = "kept.key"

// Put replaces the older copy, durably, or one that cannot be read.
func (s Shelf) Put(b []byte) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "copy of the records: %w", err)
	}
	at, oldest := "", Head{}
	for _, p := range places() {
		h, err := s.head(p)
		if err != nil {
			at = p
			break
		}
		if at == "" || oldest.Newer(&h) {
			at, oldest = p, h
		}
	}
	path := filepath.Join(s.Dir, at)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "copy of the records: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(s.Dir)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "copy of the records: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s Shelf) read(place string) ([]byte, error) {
	f, err := os.Open(filepath.Join(s.Dir, place))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, fixed+maxHead+MaxBody+sumSize+1))
}

func (s Shelf) head(place string) (Head, error) {
	b, err := s.read(place)
	if err != nil {
		return Head{}, err
	}
	return ReadHead(b)
}

// Newest returns the newest copy that is whole, still sealed, and when the host
// last knew that nothing newer was there. Kind NotFound: there is none; else why
// none can be read.
func (s Shelf) Newest() (b []byte, h Head, seen time.Time, err error) {
	var last error
	for _, p := range places() {
		got, err := s.read(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var head Head
		if err == nil {
			head, err = ReadHead(got)
		}
		if err != nil {
			last = err
			continue
		}
		if b == nil || head.Newer(&h) {
			b, h, seen = got, head, head.Made
			if st, err := os.Stat(filepath.Join(s.Dir, p)); err == nil && st.ModTime().After(seen) {
				seen = st.ModTime()
			}
		}
	}
	switch {
	case b != nil:
		return b, h, seen, nil
	case last != nil:
		return nil, h, seen, last
	}
	return nil, h, seen, holdfast.Errorf(holdfast.NotFound, "there is no copy of the cluster's records in %s", s.Dir)
}

// Confirm notes that the copy of a revision is still the newest there is.
func (s Shelf) Confirm(h Head, now time.Time) error {
	for _, p := range places() {
		if have, err := s.head(p); err == nil && have.Incarnation == h.Incarnation && have.Rev == h.Rev {
			return os.Chtimes(filepath.Join(s.Dir, p), now, now)
		}
	}
	return nil
}

// HostKey returns the key in DIR/kept.key, making it if make is set.
func HostKey(dir string, make bool, random io.Reader) (keyring.Key, error) {
	path := filepath.Join(dir, KeyFile)
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == keyring.KeySize:
		return keyring.Key(b), nil
	case err == nil:
		return keyring.Key{}, holdfast.Errorf(holdfast.Corrupt, "%s has %d bytes, not %d", path, len(b), keyring.KeySize)
	case !errors.Is(err, fs.ErrNotExist) || !make:
		return keyring.Key{}, holdfast.Errorf(holdfast.NotFound, "the key of the kept records: %w", err)
	}
	k, err := keyring.NewKey(random)
	if err != nil {
		return k, err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return k, holdfast.Errorf(holdfast.IO, "the key of the kept records: %w", err)
	}
	_, err = f.Write(k[:])
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return k, holdfast.Errorf(holdfast.IO, "the key of the kept records: %w", err)
	}
	return k, nil
}
