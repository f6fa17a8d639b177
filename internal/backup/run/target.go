package run

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

// How long a backup waits for a volume that cannot be read now: a rack may be
// lost meanwhile, and its volumes are opened elsewhere.
const (
	patience  = 3 * time.Minute // without anything new
	tryAgain  = time.Second
	slowTries = 5 * time.Second
)

// bufferSize is what is written to a file at once, in bytes.
const bufferSize = 256 << 10

// target is what one backup is written to: a file in a directory, or a place in
// what several are written to.
type target struct {
	job    *Job
	task   *task
	group  *backup.GroupRef
	dir    string            // or
	bundle *backup.BundleRef // its place
	path   string

	f      *os.File // nil of a pipe
	buf    *bufio.Writer
	w      *backup.Writer
	header backup.Header
}

// fill makes the backup.
func (o *target) fill(ctx context.Context) (m Made, err error) {
	begun := time.Now()
	whole := false
	if o.task.part != nil {
		if whole, err = o.reopen(); err != nil {
			return m, err
		}
	}
	if !whole {
		if err := o.copy(ctx); err != nil {
			o.giveUp()
			return m, err
		}
		if err := o.w.Close(); err != nil {
			o.giveUp()
			return m, o.failed(err)
		}
	}
	if err := o.finish(); err != nil {
		return m, err
	}
	t := o.w.Totals()
	m = Made{Volume: o.task.vol.Name, File: o.path, Kind: kindOf(&o.header), Point: o.header.Created, Snapshot: o.task.snap.Name, Size: o.header.Volume.Size,
		Data: int64(t.Data) * holdfast.BlockSize, Zero: int64(t.Zero) * holdfast.BlockSize, Length: o.w.Length(),
		Seconds: time.Since(begun).Seconds(), Resumed: o.task.part != nil}
	return m, nil
}

func kindOf(h *backup.Header) string {
	if h.Full() {
		return "full"
	}
	return "incremental"
}

// copy writes what hosts send. A host that breaks off is asked again for the
// rest, for the volume may have moved.
func (o *target) copy(ctx context.Context) error {
	last, since := uint64(0), time.Now()
	said := ""
	for {
		err := o.once(ctx)
		if err == nil {
			return nil
		}
		if o.w != nil && o.w.Next() > last {
			last, since = o.w.Next(), time.Now()
		}
		var src *fromHost
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.As(err, &src) {
			return err
		}
		if !src.again() || time.Since(since) > patience || o.w == nil && holdfast.IsKind(err, holdfast.Unavailable) && time.Since(since) > slowTries {
			return src.error
		}
		if text := src.Error(); text != said { // not every second
			o.job.note("volume %s: %s; going on in a moment", o.task.vol.Name, text)
			said = text
		}
		wait := time.NewTimer(tryAgain)
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
	}
}

// fromHost is an error of what hosts send, not of where it is written to.
type fromHost struct{ error }

func (e *fromHost) Unwrap() error { return e.error }

// again reports whether the same may go well later.
func (e *fromHost) again() bool {
	switch holdfast.KindOf(e.error) {
	case holdfast.Invalid, holdfast.NotFound, holdfast.Denied, holdfast.Exists, holdfast.NoSpace:
		return false
	}
	return true
}

// once asks for what is left, and writes it.
func (o *target) once(ctx context.Context) error {
	ask := client.BackupAsk{Task: o.job.Task, Snapshot: o.task.snap.ID, Base: o.task.base}
	if o.w != nil {
		ask.Offset = int64(o.w.Next()) * holdfast.BlockSize
	}
	body, err := o.job.Client.BackupVolume(ctx, o.task.vol.ID, ask)
	if err != nil {
		return &fromHost{err}
	}
	defer body.Close()
	r, err := backup.NewReader(body, nil)
	if err != nil {
		return &fromHost{err}
	}
	if o.w == nil {
		if err := o.begin(r.Header()); err != nil {
			return o.failed(err)
		}
	}
	for {
		p, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if holdfast.IsKind(err, holdfast.Corrupt) {
			err = holdfast.Errorf(holdfast.Unavailable, "what the host sends broke off")
		}
		if err != nil {
			return &fromHost{err}
		}
		if err := o.w.Put(p); err != nil {
			return o.failed(err)
		}
		o.told()
	}
}

func (o *target) told() {
	if o.job.Progress != nil {
		o.job.Progress(o.task.vol.Name, int64(o.w.Totals().Data)*holdfast.BlockSize, o.header.Expect)
	}
}

// begin opens what is written to, and writes the header.
func (o *target) begin(h backup.Header) error {
	h.Snapshot.Kept = o.task.own
	h.Bundle = o.bundle
	if o.group != nil {
		h.Group = o.group
	}
	h.Sealed = len(o.job.Recipients) > 0
	o.header = h
	if o.dir != "" {
		o.path = freeName(filepath.Join(o.dir, backup.FileName(&h)))
		f, err := os.OpenFile(o.path+backup.PartSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		o.f, o.buf = f, bufio.NewWriterSize(f, bufferSize)
		if err := backup.SyncDir(o.dir); err != nil {
			return err
		}
	}
	var err error
	o.w, err = backup.NewWriter(o.buf, h, o.job.Recipients)
	return err
}

// freeName is a name beside one that is taken: two snapshots of a second.
func freeName(path string) string {
	free := path
	for n := 2; ; n++ {
		if _, err := os.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return free
		}
		free = strings.TrimSuffix(path, backup.Suffix) + "." + strconv.Itoa(n) + backup.Suffix
	}
}

// reopen goes on with what was interrupted, behind its last good part. What is
// behind that in the file goes.
func (o *target) reopen() (whole bool, err error) {
	if o.dir != "" {
		if o.f, err = os.OpenFile(o.task.part.Path, os.O_RDWR, 0); err != nil {
			return false, o.failed(err)
		}
		o.path = strings.TrimSuffix(o.task.part.Path, backup.PartSuffix)
	}
	from := o.task.part.Offset
	r, whole, err := backup.Salvage(io.NewSectionReader(o.f, from, math.MaxInt64-from), nil)
	if err == nil && !whole {
		err = o.f.Truncate(from + r.Offset())
	}
	if err == nil {
		_, err = o.f.Seek(from+r.Offset(), io.SeekStart)
	}
	if err != nil {
		if o.dir != "" {
			o.f.Close()
		}
		return false, o.failed(err)
	}
	o.header = r.Header()
	if o.dir != "" {
		o.buf = bufio.NewWriterSize(o.f, bufferSize)
	}
	if whole {
		o.w = backup.Finished(r)
		return true, nil
	}
	o.w, err = backup.Resume(o.buf, r, o.job.Recipients)
	return false, err
}

// finish makes what was written last, and gives a file of a directory its name.
func (o *target) finish() error {
	if err := o.buf.Flush(); err != nil {
		return o.failed(err)
	}
	if o.dir == "" {
		return nil
	}
	return backup.Place(o.f, o.path, o.job.Replace)
}

// giveUp closes what was not finished: it is gone on with later.
func (o *target) giveUp() {
	if o.buf != nil {
		_ = o.buf.Flush() // what it lacks is found out when it is gone on with
	}
	if o.dir != "" && o.f != nil {
		o.f.Close()
	}
}

// failed names what could not be written.
func (o *target) failed(err error) error {
	var known *holdfast.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	kind := holdfast.IO
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		kind = holdfast.NoSpace
	case errors.Is(err, fs.ErrPermission):
		kind = holdfast.Denied
	}
	return holdfast.Errorf(kind, "the backup of volume %s cannot be written: %w", o.task.vol.Name, err)
}
