// Package run backs volumes up, restores and prunes them through the API of a
// host: the command line does it for people, and hosts do it for schedules. It
// makes the snapshots that backups are of, chooses what a backup is the
// difference to, goes on after interruptions, and lets go of snapshots that no
// later backup needs.
package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

// Prefix begins the names of snapshots that are made for backups.
const Prefix = "backup-"

// Job is a backup of volumes, to a directory, a file or a pipe: one of Dir, File
// and Pipe is set.
type Job struct {
	Client   *client.Client
	Volumes  []string // names or identities; several are backed up at one point
	Snapshot string   // of the only volume; "": one is made
	Dir      string
	File     string
	Pipe     io.Writer
	Replace  bool // File may be there already

	Full        bool   // not the difference to anything
	Incremental bool   // the difference, or nothing
	Base        string // to a File or Pipe: the snapshot, of each volume, that it is the difference to
	FullAfter   int    // in Dir: a full one after so many differences; 0: never
	Keep        bool   // to a File or Pipe: the snapshots that are made stay, to be a Base

	Task       string // by which it can be canceled; "": one is chosen
	Recipients []age.Recipient
	Plaintext  bool // an encrypted volume may be backed up without them

	// Progress, if not nil, is told how many bytes of a volume's data are written,
	// and Note what people may want to know.
	Progress func(volume string, done, total int64)
	Note     func(text string)
}

// Made is a backup that was made.
type Made struct {
	Volume   string    `json:"volume"`
	File     string    `json:"file"`
	Kind     string    `json:"kind"` // full or incremental
	Point    time.Time `json:"point"`
	Snapshot string    `json:"snapshot"`
	Size     int64     `json:"size"`   // of the volume
	Data     int64     `json:"data"`   // bytes of it that were backed up
	Zero     int64     `json:"zero"`   // bytes that are zero now
	Length   int64     `json:"length"` // of the file
	Seconds  float64   `json:"seconds"`
	Resumed  bool      `json:"resumed"` // it had been interrupted
}

// task is one volume's part of a job.
type task struct {
	vol  v1.Volume
	snap v1.Snapshot
	own  bool         // the snapshot was made for this
	base string       // identity of the snapshot; "": full
	part *backup.File // interrupted
	done bool         // was already
}

// Run makes the backups. What was made is returned with an error, too.
func (j *Job) Run(ctx context.Context) (made []Made, err error) {
	if j.Task == "" {
		if j.Task, err = randomHex(4); err != nil {
			return nil, err
		}
	}
	tasks, err := j.volumes(ctx)
	if err != nil {
		return nil, err
	}
	if j.Dir == "" {
		return j.bundle(ctx, tasks)
	}
	unlock, err := lock(j.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return j.intoDir(ctx, tasks)
}

// volumes looks whether the volumes may be backed up so.
func (j *Job) volumes(ctx context.Context) (out []task, err error) {
	for _, name := range j.Volumes {
		v, err := j.Client.Volume(ctx, name)
		if err != nil {
			return nil, err
		}
		if v.Encrypted && len(j.Recipients) == 0 && !j.Plaintext {
			return nil, holdfast.Errorf(holdfast.Denied, "volume %s is encrypted, and the backup would not be: seal it with --recipient age1…, or say --plaintext", v.Name)
		}
		if slices.ContainsFunc(out, func(t task) bool { return t.vol.ID == v.ID }) {
			return nil, holdfast.Errorf(holdfast.Invalid, "volume %s is named twice", v.Name)
		}
		out = append(out, task{vol: v})
	}
	return out, nil
}

// lock keeps others from writing to a directory meanwhile.
func lock(dir string) (func(), error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "backups: %w", err)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		d.Close()
		return nil, holdfast.Errorf(holdfast.Busy, "another backup is being written to %s, or old ones are removed; try again when that is done", dir)
	} // a file system without locks: names and renames still keep two apart
	return func() { d.Close() }, nil
}

// snapshotName is that of a snapshot that is made for a backup.
func snapshotName(now time.Time) (string, error) {
	tail, err := randomHex(3)
	return Prefix + now.UTC().Format("20060102-150405") + "-" + tail, err
}

// randomHex is n random bytes as text.
func randomHex(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "a name: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// point gives every task its snapshot: the one that is there, or new ones of one
// point.
func (j *Job) point(ctx context.Context, tasks []task) error {
	if j.Snapshot != "" {
		if len(tasks) > 1 {
			return holdfast.Errorf(holdfast.Invalid, "a snapshot can be named of one volume only; several are backed up as they are now")
		}
		s, err := j.Client.SnapshotOf(ctx, tasks[0].vol.ID, j.Snapshot)
		tasks[0].snap = s
		return err
	}
	name, err := snapshotName(time.Now())
	if err != nil {
		return err
	}
	if err := j.newPoint(ctx, tasks, name); err != nil {
		for _, t := range tasks { // some may have been made, even by what was not answered
			j.letGo(t.vol, name, name)
		}
		return err
	}
	return nil
}

// newPoint makes a snapshot of every volume.
func (j *Job) newPoint(ctx context.Context, tasks []task, name string) error {
	if len(tasks) == 1 {
		s, err := j.Client.Snapshot(ctx, tasks[0].vol.ID, v1.SnapshotSpec{Name: name})
		tasks[0].snap, tasks[0].own = s, true
		return err
	}
	var ids []string
	for _, t := range tasks {
		ids = append(ids, t.vol.ID)
	}
	if _, err := j.Client.SnapshotGroup(ctx, v1.SnapshotGroupSpec{Name: name, Volumes: ids}); err != nil {
		return err
	}
	for i := range tasks {
		s, err := j.Client.SnapshotOf(ctx, tasks[i].vol.ID, name)
		if err != nil {
			return err
		}
		tasks[i].snap, tasks[i].own = s, true
	}
	return nil
}

// letGo deletes a snapshot that was made for a backup. It does not follow the
// context: what was interrupted tidies up.
func (j *Job) letGo(v v1.Volume, id, name string) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := j.Client.DeleteSnapshot(ctx, v.ID, id); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
		j.note("snapshot %s of volume %s is not needed any more and could not be deleted (%v); delete it with 'holdfast volume unsnapshot %[2]s %[1]s'", name, v.Name, err)
	}
}

func (j *Job) note(format string, args ...any) {
	if j.Note != nil {
		j.Note(fmt.Sprintf(format, args...))
	}
}

// intoDir backs volumes up to a directory.
func (j *Job) intoDir(ctx context.Context, tasks []task) (made []Made, err error) {
	files, err := backup.List(j.Dir)
	if err != nil {
		return nil, err
	}
	group, err := j.goOn(ctx, tasks, files)
	if err != nil {
		return nil, err
	}
	if group == nil {
		if err := j.bases(ctx, tasks, files); err != nil {
			return nil, err
		}
		if err := j.point(ctx, tasks); err != nil {
			return nil, err
		}
		group = groupOf(tasks)
	}
	for i := range tasks {
		t := &tasks[i]
		if t.done {
			continue
		}
		to := &target{job: j, task: t, group: group, dir: j.Dir}
		m, err := to.fill(ctx)
		if err != nil {
			if to.f == nil && t.part == nil && t.own { // nothing to go on with
				for _, t := range tasks[i:] {
					j.letGo(t.vol, t.snap.ID, t.snap.Name)
				}
			}
			return made, err
		}
		made = append(made, m)
		j.letOldGo(ctx, t, files)
	}
	return made, nil
}

func groupOf(tasks []task) *backup.GroupRef {
	g := &backup.GroupRef{ID: tasks[0].snap.Group}
	for _, t := range tasks {
		g.Volumes = append(g.Volumes, t.vol.Name)
	}
	return g
}

// bases finds what each backup is the difference to: the newest whole backup in
// the directory whose snapshot the volume still has.
func (j *Job) bases(ctx context.Context, tasks []task, files []backup.File) error {
	for i := range tasks {
		t := &tasks[i]
		if j.Full {
			continue
		}
		mine, err := backup.Of(files, t.vol.ID)
		if err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return err
		}
		have, err := j.Client.Snapshots(ctx, t.vol.ID)
		if err != nil {
			return err
		}
		why := "there is no backup of it"
		for k := len(mine) - 1; k >= 0 && t.base == ""; k-- {
			h := &mine[k].Header
			chain, err := backup.Chain(mine, mine[k])
			switch {
			case err != nil:
				why = err.Error()
			case j.FullAfter > 0 && len(chain) > j.FullAfter:
				why = fmt.Sprintf("there are %d differences since the last full one", len(chain)-1)
				k = 0
			case j.Snapshot != "" && h.Snapshot.Name == j.Snapshot:
				return holdfast.Errorf(holdfast.Exists, "snapshot %s of volume %s is backed up already: %s", j.Snapshot, t.vol.Name, mine[k].Path)
			case slices.ContainsFunc(have, func(s v1.Snapshot) bool { return s.ID == h.Snapshot.ID }):
				t.base = h.Snapshot.ID
			default:
				why = "snapshots of the backups there are not there any more"
			}
		}
		if t.base == "" && j.Incremental {
			return holdfast.Errorf(holdfast.NotFound, "volume %s: nothing in %s can be the base of an incremental backup: %s; make a full one with --full", t.vol.Name, j.Dir, why)
		}
	}
	return nil
}

// emptyPart is less than a file has that holds anything.
const emptyPart = 4096

// goOn finds backups of these volumes that were interrupted, and takes them up at
// the same point, if what they are of is still there. Others it removes.
func (j *Job) goOn(ctx context.Context, tasks []task, files []backup.File) (_ *backup.GroupRef, err error) {
	var parts []*backup.File
	for i := range files {
		f := &files[i]
		if f.Part && f.Err != nil && (f.Length < emptyPart || holdfast.IsKind(f.Err, holdfast.Corrupt)) && slices.ContainsFunc(tasks, func(t task) bool { return inDirOf(f.Path, t.vol.Name) }) {
			os.Remove(f.Path) // it has not even a header; if it stays it is in nobody's way
			continue
		}
		if f.Part && f.Err == nil && f.Header.Bundle == nil && f.Header.Volume != nil && slices.ContainsFunc(tasks, func(t task) bool { return t.vol.ID == f.Header.Volume.ID }) {
			parts = append(parts, f)
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	first := parts[len(parts)-1].Header
	usable := first.Group != nil && len(first.Group.Volumes) == len(tasks) && first.Sealed == (len(j.Recipients) > 0) &&
		!(j.Full && !first.Full()) && !(j.Incremental && first.Full()) && (j.Snapshot == "" || j.Snapshot == first.Snapshot.Name)
	for i := range tasks {
		if !usable {
			break
		}
		if usable, err = j.takeUp(ctx, &tasks[i], &first, parts, files); err != nil {
			return nil, err // it stays as it is until somebody answers
		}
	}
	if usable {
		j.note("going on with the backup of %s that was interrupted", first.Created.Local().Format("2006-01-02 15:04:05"))
		return first.Group, nil
	}
	for i := range tasks {
		tasks[i] = task{vol: tasks[i].vol}
	}
	for _, f := range parts {
		j.note("%s was interrupted and cannot be gone on with; it is removed", f.Path)
		if err := os.Remove(f.Path); err != nil {
			return nil, holdfast.Errorf(holdfast.IO, "an interrupted backup: %w", err)
		}
		if err := letKeptGo(ctx, j.Client, &f.Header); err != nil {
			j.note("the snapshot of %s could not be deleted: %v", filepath.Base(f.Path), err)
		}
	}
	return nil, nil
}

// inDirOf reports whether a file is called as backups of a volume are that are
// made to a directory.
func inDirOf(path, volume string) bool {
	name, ok := strings.CutPrefix(filepath.Base(path), volume+".")
	return ok && (strings.Contains(name, ".full.") || strings.Contains(name, ".incr."))
}

// letKeptGo deletes the snapshot that a backup says was made for it. Whoever can
// write to a directory can have its files say that of any snapshot: so it goes
// only if it has, in the cluster, a name of those.
func letKeptGo(ctx context.Context, c *client.Client, h *backup.Header) error {
	if !h.Snapshot.Kept {
		return nil
	}
	s, err := c.SnapshotOf(ctx, h.Volume.ID, h.Snapshot.ID)
	if err == nil && s.ID == h.Snapshot.ID && strings.HasPrefix(s.Name, Prefix) {
		err = c.DeleteSnapshot(ctx, h.Volume.ID, s.ID)
	}
	if holdfast.IsKind(err, holdfast.NotFound) {
		return nil
	}
	return err
}

// takeUp finds how far one volume is at the point of an interrupted backup. An
// error says nothing about that: ok false does, that it cannot be gone on with.
func (j *Job) takeUp(ctx context.Context, t *task, first *backup.Header, parts []*backup.File, files []backup.File) (ok bool, err error) {
	s, err := j.Client.SnapshotOf(ctx, t.vol.ID, first.Snapshot.Name)
	if err != nil {
		return false, unlessGone(err)
	}
	t.snap, t.own = s, first.Snapshot.Kept && strings.HasPrefix(s.Name, Prefix)
	for _, f := range parts {
		if f.Header.Snapshot.ID != s.ID {
			continue
		}
		t.part = f
		if f.Header.Base != nil {
			t.base = f.Header.Base.ID
			if _, err := j.Client.SnapshotOf(ctx, t.vol.ID, t.base); err != nil {
				return false, unlessGone(err)
			}
		}
		return true, nil
	}
	for i := range files {
		if h := &files[i].Header; files[i].Err == nil && files[i].Whole && h.Snapshot != nil && h.Snapshot.ID == s.ID {
			t.done = true
			return true, nil
		}
	}
	list := []task{*t} // it was not begun
	if err := j.bases(ctx, list, files); err != nil {
		return false, unlessGone(err)
	}
	t.base = list[0].base
	return true, nil
}

// unlessGone is no error if what was looked for is not there.
func unlessGone(err error) error {
	if holdfast.IsKind(err, holdfast.NotFound) {
		return nil
	}
	return err
}

// letOldGo deletes the snapshots of this directory's earlier backups of a volume:
// the next difference is to the one that was just made.
func (j *Job) letOldGo(ctx context.Context, t *task, files []backup.File) {
	have, err := j.Client.Snapshots(ctx, t.vol.ID)
	if err != nil {
		return // the next backup does it
	}
	for i := range files {
		h := &files[i].Header
		if files[i].Err != nil || files[i].Part || h.Bundle != nil || h.Volume == nil || h.Volume.ID != t.vol.ID || !h.Snapshot.Kept || h.Snapshot.ID == t.snap.ID {
			continue
		}
		if slices.ContainsFunc(have, func(s v1.Snapshot) bool { return s.ID == h.Snapshot.ID && strings.HasPrefix(s.Name, Prefix) }) {
			j.letGo(t.vol, h.Snapshot.ID, h.Snapshot.Name)
		}
	}
}
