package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/backup/run"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// lookEvery is how often a host looks whether a schedule of its is due.
const lookEvery = 5 * time.Second

// scheduler runs the backup schedules that name this host. It belongs to one
// goroutine; runs have one each, and the next begins when the last has ended.
type scheduler struct {
	h      *Host
	m      *member
	agenda backup.Agenda
	begun  time.Time // what the agenda counts from
	name   string    // of what is being run; "": nothing
	cancel func()
	ended  chan error // of that run
}

// runSchedules runs them until the host ends. A schedule of a host that is away
// waits for it: its directory is there and nowhere else. Health says so.
func (h *Host) runSchedules(m *member) {
	r := &scheduler{h: h, m: m, begun: time.Now(), ended: make(chan error)}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.done:
			if r.name != "" {
				r.cancel()
				<-r.ended
			}
			return
		case err := <-r.ended:
			r.over(err)
		case <-tick.C:
			if m.node.Lease().Valid() {
				r.look()
			}
		}
	}
}

// mono is the clock that runs forward.
func (r *scheduler) mono() time.Duration { return time.Since(r.begun) }

// look runs what is due, one after the other, and says what is late.
func (r *scheduler) look() {
	mine := []cluster.BackupSchedule{}
	running := false
	for _, s := range r.m.node.Cluster.State().SortedSchedules() {
		if s.Val.Host == r.h.dir.id.Host {
			mine = append(mine, s.Val)
			running = running || s.Val.Name == r.name
		}
	}
	if r.name != "" && !running { // it was ended, or is another host's now
		r.cancel()
	}
	entries := make([]backup.Entry, 0, len(mine))
	for _, s := range mine {
		// One that runs, and not here, was cut off.
		entries = append(entries, backup.Entry{Name: s.Name, Every: s.Every, Began: s.Began, Bad: s.Error != "" || s.Running, Asked: s.Asked})
	}
	for i, d := range r.agenda.Look(entries, r.mono(), time.Now()) {
		if d.Now && r.name == "" {
			r.agenda.Began(entries[i])
			r.start(mine[i])
		} else {
			r.tell(mine[i], d)
		}
	}
}

// tell notes what people see of a schedule: since when it is late, and when its
// turn is, as far as that changed.
func (r *scheduler) tell(s cluster.BackupSchedule, d backup.Due) {
	now := time.Now()
	next := now.Add(d.Wait)
	if r.name == s.Name || d.Wait == 0 {
		next = time.Time{}
	}
	off := next.Sub(s.Next).Abs()
	if (d.Late > 0) == !s.Late.IsZero() && next.IsZero() == s.Next.IsZero() && off < max(time.Minute, s.Every/10) {
		return
	}
	err := r.m.node.Cluster.ChangeSchedule(s.Name, kv.CallTimeout, func(b *cluster.BackupSchedule) error {
		b.Next = next
		if d.Late == 0 {
			b.Late = time.Time{}
		} else if b.Late.IsZero() {
			b.Late = now.Add(-d.Late)
		}
		return nil
	})
	if err != nil {
		r.h.log.Warn("how a backup schedule stands could not be noted", "schedule", s.Name, "error", err)
	}
}

// start begins a run.
func (r *scheduler) start(s cluster.BackupSchedule) {
	ctx, cancel := context.WithCancel(context.Background())
	r.name, r.cancel = s.Name, cancel
	go func() { r.ended <- r.h.runSchedule(ctx, r.m, s) }()
}

// over notes how it ended.
func (r *scheduler) over(err error) {
	r.cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		r.h.log.Warn("a scheduled backup failed", "schedule", r.name, "error", err)
	}
	r.agenda.Ended(r.name, err == nil, r.mono())
	r.name = ""
}

// runSchedule makes one run, and tells what became of it.
func (h *Host) runSchedule(ctx context.Context, m *member, s cluster.BackupSchedule) error {
	begun := time.Now()
	err := m.node.Cluster.ChangeSchedule(s.Name, kv.CallTimeout, func(b *cluster.BackupSchedule) error {
		b.Began, b.Running, b.Next = begun, true, time.Time{}
		return nil
	})
	if err != nil {
		return err
	}
	length, rerr := h.backUpScheduled(ctx, m, s)
	if errors.Is(rerr, context.Canceled) {
		return rerr // the host stops: it is gone on with when it starts again
	}
	err = m.node.Cluster.ChangeSchedule(s.Name, kv.CallTimeout, func(b *cluster.BackupSchedule) error {
		if b.Host != s.Host {
			return holdfast.Errorf(holdfast.Conflict, "backup schedule %s is another host's now", s.Name)
		}
		b.Ended, b.Error, b.Running = time.Now(), "", false
		if b.Asked.Equal(s.Asked) {
			b.Asked = time.Time{}
		}
		if rerr != nil {
			b.Error = clipped(rerr.Error())
		} else {
			b.Good, b.Length, b.Late = begun, length, time.Time{}
		}
		return nil
	})
	return errors.Join(rerr, err)
}

// clipped bounds the text of an error in a record.
func clipped(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 500)], "")
}

// backUpScheduled backs the volumes up and removes what is not to be kept.
func (h *Host) backUpScheduled(ctx context.Context, m *member, s cluster.BackupSchedule) (length int64, err error) {
	keep, err := backup.ParseKeep(s.Keep)
	if err != nil {
		return 0, err
	}
	to, err := backup.Recipients(s.Recipients)
	if err != nil {
		return 0, err
	}
	if err := haveDir(s.Dir); err != nil {
		return 0, err
	}
	st := m.node.Cluster.State()
	self, ok := st.Hosts[h.dir.id.Host]
	if !ok {
		return 0, holdfast.Errorf(holdfast.Unavailable, "this host is not a member now")
	}
	c := m.peer(self.Val)
	defer c.Close()
	var volumes []string
	for _, id := range s.Volumes {
		volumes = append(volumes, id.String())
	}
	j := run.Job{Client: c, Volumes: volumes, Dir: s.Dir, FullAfter: s.FullAfter, Recipients: to, Plaintext: s.Plaintext,
		Note: func(text string) { h.log.Info("backup", "schedule", s.Name, "note", text) }}
	made, err := j.Run(ctx)
	if err == nil && len(made) == 0 || len(made) > 0 && made[0].Resumed { // of an earlier point: now this one
		var more []run.Made
		if err == nil {
			more, err = j.Run(ctx)
		}
		made = append(made, more...)
	}
	for _, b := range made {
		length += b.Length
	}
	if err != nil || keep.IsZero() {
		return length, err
	}
	for _, id := range volumes {
		p := run.Pruning{Dir: s.Dir, Volume: id, Keep: keep, Client: c, Note: j.Note}
		if _, err := p.Run(ctx); err != nil {
			return length, fmt.Errorf("old backups could not be removed: %w", err)
		}
	}
	return length, nil
}

// haveDir makes the directory of a schedule, not what it is in: a medium that is
// not mounted must not be taken for an empty one.
func haveDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	return holdfast.Errorf(holdfast.NotFound, "directory %s cannot be used: %w; is what it should be on mounted at %s?", dir, err, filepath.Dir(dir))
}

// CreateSchedule implements httpapi.Schedules.
func (h *Host) CreateSchedule(ctx context.Context, s cluster.BackupSchedule) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return agenda{m.node.Cluster}.CreateSchedule(ctx, s)
}

// SetSchedule implements httpapi.Schedules.
func (h *Host) SetSchedule(ctx context.Context, was, s cluster.BackupSchedule) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return agenda{m.node.Cluster}.SetSchedule(ctx, was, s)
}

// DeleteSchedule implements httpapi.Schedules.
func (h *Host) DeleteSchedule(ctx context.Context, name string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return agenda{m.node.Cluster}.DeleteSchedule(ctx, name)
}

// AskSchedule implements httpapi.Schedules.
func (h *Host) AskSchedule(ctx context.Context, name string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return agenda{m.node.Cluster}.AskSchedule(ctx, name)
}
