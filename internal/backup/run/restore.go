package run

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

// Source is where a volume is restored from.
type Source struct {
	Path   string    // a directory, or a file: what it goes over is found beside it
	Pipe   io.Reader // or a stream of backups, the oldest first
	Volume string    // where there are several: name or identity; "": the only one
	At     string    // in a directory: a time, or the number that a list shows; "": the newest

	Identities []age.Identity
	// Progress, if not nil, is told how many bytes were read, of how many there
	// are (0: not known).
	Progress func(done, total int64)
}

// chain finds the files that are laid over each other.
func (s *Source) chain() ([]backup.File, error) {
	st, err := os.Stat(s.Path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "backup: %w", err)
	}
	dir := s.Path
	if !st.IsDir() {
		if s.At != "" {
			return nil, holdfast.Errorf(holdfast.Invalid, "%s is no directory; --at chooses one of the backups in one", s.Path)
		}
		dir = filepath.Dir(s.Path)
	}
	files, err := backup.List(dir)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		f, err := s.inFile()
		if err != nil {
			return nil, err
		}
		return backup.Chain(files, f)
	}
	mine, err := backup.Of(files, s.Volume)
	if err != nil {
		return nil, err
	}
	f := mine[len(mine)-1]
	if s.At != "" {
		if f, err = at(mine, s.At); err != nil {
			return nil, err
		}
	}
	return backup.Chain(files, f)
}

// inFile chooses a backup of those in a file.
func (s *Source) inFile() (backup.File, error) {
	list := backup.Look(s.Path)
	for _, f := range list {
		switch {
		case f.Err != nil:
			return f, f.Err
		case !f.Whole:
			return f, holdfast.Errorf(holdfast.Corrupt, "%s is not whole: its end is missing; use another backup", s.Path)
		case f.Header.Kind != backup.Volume:
			return f, holdfast.Errorf(holdfast.Invalid, "%s is a backup of the cluster's records, not of a volume", s.Path)
		}
	}
	for i := range list { // it may be restored while it still is called so
		list[i].Part = false
	}
	mine, err := backup.Of(list, s.Volume)
	if err != nil {
		return backup.File{}, err
	}
	return mine[0], nil
}

// at chooses a backup by its number from 1, the oldest, or by a time.
func at(mine []backup.File, when string) (backup.File, error) {
	if n, err := strconv.Atoi(when); err == nil {
		if n < 1 || n > len(mine) {
			return backup.File{}, holdfast.Errorf(holdfast.NotFound, "there is no backup %d: they are numbered 1, the oldest, to %d", n, len(mine))
		}
		return mine[n-1], nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, when, time.Local); err == nil {
			if layout == "2006-01-02" {
				t = t.AddDate(0, 0, 1).Add(-time.Nanosecond) // all of that day
			}
			return backup.At(mine, t)
		}
	}
	return backup.File{}, holdfast.Errorf(holdfast.Invalid, "point %.40q: give a number that 'holdfast backup list' shows, or a time like 2026-11-22 or 2026-11-22T15:04", when)
}

// Restore makes a new volume of backups. Every part is verified here, and again
// by the host, before anything of it is written. What fails leaves no volume.
func (s *Source) Restore(ctx context.Context, c *client.Client, n client.NewRestore) (v1.Volume, error) {
	r, w := io.Pipe()
	var feed func(io.Writer) error
	if s.Pipe != nil {
		feed = func(w io.Writer) error { return s.fromPipe(w) }
	} else {
		chain, err := s.chain()
		if err != nil {
			return v1.Volume{}, err
		}
		if n.Size == 0 {
			n.Size = chain[len(chain)-1].Header.Volume.Size
		}
		feed = func(w io.Writer) error { return s.fromFiles(w, chain) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(feed(w))
	}()
	v, err := c.RestoreVolume(ctx, n, r)
	r.Close()
	<-done
	return v, err
}

func (s *Source) fromFiles(w io.Writer, chain []backup.File) error {
	p := progress{tell: s.Progress}
	for _, f := range chain {
		p.total += f.Length
	}
	for _, f := range chain {
		in, err := os.Open(f.Path)
		if err != nil {
			return holdfast.Errorf(holdfast.IO, "backup: %w", err)
		}
		p.in = io.NewSectionReader(in, f.Offset, f.Length)
		r, err := backup.NewReader(&p, s.Identities)
		if err == nil {
			err = s.send(w, r)
		}
		in.Close()
		if err != nil {
			return holdfast.Errorf(holdfast.KindOf(err), "%s: %w", f.Path, err)
		}
	}
	return nil
}

func (s *Source) fromPipe(w io.Writer) error {
	in := bufio.NewReader(&progress{in: s.Pipe, tell: s.Progress})
	r, err := backup.NewReader(in, s.Identities)
	if err == io.EOF {
		return holdfast.Errorf(holdfast.Invalid, "nothing came from standard input; there is nothing to restore")
	}
	taken := ""
	for err == nil {
		if err = s.fromStream(w, r, &taken); err == nil {
			r, err = backup.NewReader(r.After(), s.Identities)
		}
	}
	if errors.Is(err, io.EOF) && taken == "" {
		return holdfast.Errorf(holdfast.NotFound, "no backup of volume %s came from standard input", s.Volume)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// fromStream passes the next backup on, or over it if it is of another volume than
// that which is restored.
func (s *Source) fromStream(w io.Writer, r *backup.Reader, taken *string) error {
	v := r.Header().Volume
	if v == nil {
		return holdfast.Errorf(holdfast.Invalid, "this is a backup of the cluster's records, not of a volume")
	}
	if s.Volume != "" && s.Volume != v.Name && s.Volume != v.ID {
		for {
			if _, err := r.Next(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	if b := r.Header().Bundle; *taken != "" && *taken != v.ID || s.Volume == "" && b != nil && b.Of > 1 {
		return holdfast.Errorf(holdfast.Invalid, "there are backups of several volumes: say which with --volume")
	}
	*taken = v.ID
	return s.send(w, r)
}

// send passes a backup on, unsealed.
func (s *Source) send(w io.Writer, r *backup.Reader) error {
	h := r.Header()
	if h.Sealed && len(s.Identities) == 0 {
		return holdfast.Errorf(holdfast.Denied, "the backup is sealed: give the identity that opens it with --identity FILE")
	}
	out, err := backup.NewWriter(w, h, nil)
	for err == nil {
		var p backup.Part
		if p, err = r.Next(); err == nil {
			err = out.Put(p)
		}
	}
	if err == io.EOF {
		return out.Close()
	}
	return err
}

// progress counts what is read.
type progress struct {
	in          io.Reader
	done, total int64
	tell        func(done, total int64)
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	p.done += int64(n)
	if p.tell != nil {
		p.tell(p.done, p.total)
	}
	return n, err
}
