package run

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

// bundle backs volumes up to a file or pipe, one behind the other and all at one
// point. A file is gone on with after an interruption, as those of a directory
// are; of a pipe nothing is left.
func (j *Job) bundle(ctx context.Context, tasks []task) (made []Made, err error) {
	if err := j.checkBundle(ctx, tasks); err != nil {
		return nil, err
	}
	var f *os.File
	if j.Pipe == nil {
		if f, err = openPart(j.File); err != nil {
			return nil, err
		}
		defer f.Close() // if it was not placed; it is locked until then
	}
	resumed := false
	if f != nil {
		if resumed, err = j.goOnBundle(ctx, tasks, f); err != nil {
			return nil, err
		}
	}
	if !resumed {
		if err := j.point(ctx, tasks); err != nil {
			j.dropPart(f)
			return nil, err
		}
	}
	made, err = j.fillBundle(ctx, tasks, f)
	if err == nil && f != nil {
		err = backup.Place(f, j.File, j.Replace)
	}
	if err != nil && j.canGoOn(f) {
		j.note("what was written is kept in %s, with snapshot %s: the same command goes on with it. To give it up, remove that file and the snapshot ('holdfast volume unsnapshot')", f.Name(), tasks[0].snap.Name)
		return nil, err
	}
	if err != nil {
		j.dropPart(f)
	}
	for _, t := range tasks {
		if t.own && (err != nil || !j.Keep) {
			j.letGo(t.vol, t.snap.ID, t.snap.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	return made, nil
}

// checkBundle looks whether what is asked for can be, and finds the bases.
func (j *Job) checkBundle(ctx context.Context, tasks []task) error {
	if j.Full && j.Base != "" {
		return holdfast.Errorf(holdfast.Invalid, "a full backup has no base")
	}
	if j.Incremental && j.Base == "" {
		return holdfast.Errorf(holdfast.Invalid, "to a file or pipe the difference is to a snapshot that you name: --base SNAPSHOT; in a directory it is found")
	}
	for i := range tasks {
		if j.Base == "" {
			break
		}
		s, err := j.Client.SnapshotOf(ctx, tasks[i].vol.ID, j.Base)
		if err != nil {
			return err
		}
		tasks[i].base = s.ID
	}
	if _, err := os.Lstat(j.File); err == nil && j.Pipe == nil && !j.Replace {
		return holdfast.Errorf(holdfast.Exists, "%s is there already: choose another name, or replace it with --force", j.File)
	}
	return nil
}

// openPart opens what a file is called until it is whole, and keeps others from
// writing to it meanwhile.
func openPart(path string) (*os.File, error) {
	for range 3 {
		f, err := os.OpenFile(path+backup.PartSuffix, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.IO, "%s cannot be made: %w", path, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
			f.Close()
			return nil, holdfast.Errorf(holdfast.Busy, "another backup is being written to %s; try again when that is done", path)
		} // a file system without locks: whoever is last wins, and nothing is lost but time
		st, err := f.Stat()
		at, aerr := os.Stat(f.Name())
		if err == nil && aerr == nil && os.SameFile(st, at) {
			return f, nil
		}
		f.Close() // it was given its name before it was locked
	}
	return nil, holdfast.Errorf(holdfast.Busy, "%s%s keeps changing; try again when nobody else writes there", path, backup.PartSuffix)
}

// goOnBundle finds what of an interrupted backup of the same is there. What cannot
// be gone on with is emptied, and its snapshots are let go.
func (j *Job) goOnBundle(ctx context.Context, tasks []task, f *os.File) (resumed bool, err error) {
	st, err := f.Stat()
	if err != nil {
		return false, holdfast.Errorf(holdfast.IO, "an interrupted backup: %w", err)
	}
	if st.Size() == 0 {
		return false, nil
	}
	parts := backup.Look(f.Name())
	if holdfast.IsKind(parts[0].Err, holdfast.IO) {
		return false, parts[0].Err
	}
	again := append([]task(nil), tasks...)
	if j.sameBundle(again, parts) {
		if resumed, err = j.takeBundleUp(ctx, again, parts); err != nil {
			return false, err
		}
	}
	if resumed {
		copy(tasks, again)
		j.note("going on with the backup of %s that was interrupted", parts[0].Header.Created.Local().Format("2006-01-02 15:04:05"))
		return true, nil
	}
	j.note("%s was interrupted and cannot be gone on with; it is begun anew", f.Name())
	for i := range parts {
		if h := &parts[i].Header; parts[i].Err == nil && h.Volume != nil && h.Bundle != nil {
			if err := letKeptGo(ctx, j.Client, h); err != nil {
				j.note("the snapshot of %s could not be deleted: %v", f.Name(), err)
			}
		}
	}
	if err := f.Truncate(0); err != nil {
		return false, holdfast.Errorf(holdfast.IO, "an interrupted backup: %w", err)
	}
	return false, nil
}

// sameBundle reports whether parts of a file are of what is asked for.
func (j *Job) sameBundle(tasks []task, parts []backup.File) bool {
	for i, p := range parts {
		h := &p.Header
		if i > 0 && p.Err != nil { // it was being begun
			return true
		}
		if p.Err != nil || h.Volume == nil || h.Bundle == nil || h.Bundle.Of != len(tasks) || h.Bundle.N != i+1 ||
			h.Volume.ID != tasks[i].vol.ID || h.Snapshot.Name != parts[0].Header.Snapshot.Name ||
			h.Sealed != (len(j.Recipients) > 0) || h.Full() != (j.Base == "") || !h.Full() && h.Base.ID != tasks[i].base ||
			(j.Snapshot == "" && !h.Snapshot.Kept) || j.Snapshot != "" && j.Snapshot != h.Snapshot.Name {
			return false
		}
	}
	return true
}

// takeBundleUp gives every task its snapshot, and what of it is there. ok is
// false if a snapshot is gone.
func (j *Job) takeBundleUp(ctx context.Context, tasks []task, parts []backup.File) (ok bool, err error) {
	first := parts[0].Header.Snapshot
	for i := range tasks {
		s, err := j.Client.SnapshotOf(ctx, tasks[i].vol.ID, first.Name)
		if err != nil {
			return false, unlessGone(err)
		}
		tasks[i].snap, tasks[i].own = s, first.Kept && strings.HasPrefix(s.Name, Prefix)
		if i < len(parts) && parts[i].Err == nil {
			if parts[i].Header.Snapshot.ID != s.ID {
				return false, nil
			}
			tasks[i].part = &parts[i]
		}
	}
	return true, nil
}

// fillBundle makes the backups, one behind the other.
func (j *Job) fillBundle(ctx context.Context, tasks []task, f *os.File) (made []Made, err error) {
	buf := bufio.NewWriterSize(j.Pipe, bufferSize)
	if f != nil {
		buf.Reset(f)
	}
	for i := range tasks {
		to := &target{job: j, task: &tasks[i], group: groupOf(tasks), bundle: &backup.BundleRef{N: i + 1, Of: len(tasks)}, path: j.File, f: f, buf: buf}
		if f != nil {
			if err := goesOnHere(f, &tasks[i]); err != nil {
				return nil, to.failed(err)
			}
		}
		m, err := to.fill(ctx)
		if err != nil {
			return nil, err
		}
		made = append(made, m)
	}
	return made, nil
}

// goesOnHere has nothing stand where the next backup begins but what was there of
// it: what is before it may have become longer.
func goesOnHere(f *os.File, t *task) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err == nil && (t.part == nil || t.part.Offset != at) {
		t.part = nil
		err = f.Truncate(at)
	}
	return err
}

// canGoOn reports whether there is anything to go on with.
func (j *Job) canGoOn(f *os.File) bool {
	if f == nil {
		return false
	}
	parts := backup.Look(f.Name())
	return parts[0].Err == nil
}

// dropPart removes a file that nothing is to be gone on with of.
func (j *Job) dropPart(f *os.File) {
	if f != nil {
		os.Remove(f.Name())
	}
}
