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

// ran is what a host remembers of a schedule's last run in this life.
type ran struct {
	seen time.Time // monotonic: when it was first heard of, or last run
	here bool      // it was run
	bad  bool
	ask  time.Time // the last wish that was followed
}

// runSchedules runs the backup schedules that name this host, one at a time,
// until the host ends. A schedule of a host that is away waits for it: its
// directory is there and nowhere else. Health says so.
func (h *Host) runSchedules(m *member) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		select {
		case <-m.done:
			stop()
		case <-ctx.Done():
		}
	}()
	known := map[string]*ran{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !m.node.Lease().Valid() {
			continue
		}
		h.turnSchedules(ctx, m, known)
	}
}

// turnSchedules runs what is due.
func (h *Host) turnSchedules(ctx context.Context, m *member, known map[string]*ran) {
	st := m.node.Cluster.State()
	for name := range known {
		if s, ok := st.Schedules[name]; !ok || s.Val.Host != h.dir.id.Host {
			delete(known, name)
		}
	}
	for _, s := range st.SortedSchedules() {
		if s.Val.Host != h.dir.id.Host || ctx.Err() != nil {
			continue
		}
		k := known[s.Val.Name]
		if k == nil {
			k = &ran{seen: time.Now()}
			known[s.Val.Name] = k
		}
		// Began after Ended: it was cut off.
		turn := backup.Turn{Every: s.Val.Every, Began: s.Val.Began, Since: time.Since(k.seen), Ran: k.here,
			Bad: s.Val.Error != "" || s.Val.Began.After(s.Val.Ended) || k.bad}
		wanted := !s.Val.Asked.IsZero() && !s.Val.Asked.Equal(k.ask)
		if turn.Wait(time.Now()) > 0 && !wanted {
			continue
		}
		k.ask = s.Val.Asked
		err := h.runSchedule(ctx, m, s.Val)
		k.seen, k.here, k.bad = time.Now(), true, err != nil
		if err != nil {
			h.log.Warn("a scheduled backup failed", "schedule", s.Val.Name, "error", err)
		}
	}
}

// runSchedule makes one run, and tells what became of it.
func (h *Host) runSchedule(ctx context.Context, m *member, s cluster.BackupSchedule) error {
	begun := time.Now()
	err := m.node.Cluster.ChangeSchedule(s.Name, kv.CallTimeout, func(b *cluster.BackupSchedule) error {
		b.Began = begun
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
		b.Ended, b.Error = time.Now(), ""
		if b.Asked.Equal(s.Asked) {
			b.Asked = time.Time{}
		}
		if rerr != nil {
			b.Error = clipped(rerr.Error())
		} else {
			b.Good, b.Length = begun, length
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
		if _, err := p.Run(ctx, time.Now()); err != nil {
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
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	if len(st.Schedules) >= cluster.MaxSchedules {
		return holdfast.Errorf(holdfast.NoSpace, "there are %d backup schedules; delete one first", len(st.Schedules))
	}
	if _, ok := st.Schedules[s.Name]; ok {
		return holdfast.Errorf(holdfast.Exists, "there is a backup schedule %s; choose another name, or delete that first", s.Name)
	}
	s.Created = time.Now()
	tx := m.node.Cluster.Begin()
	tx.PutSchedule(s, 0)
	return h.settled(m, tx)
}

// settled commits and waits until the picture shows it.
func (h *Host) settled(m *member, tx *cluster.Txn) error {
	rev, err := tx.Settle(kv.CallTimeout)
	if err == nil {
		m.node.Cluster.WaitRev(rev, kv.CallTimeout)
	}
	return err
}

// DeleteSchedule implements httpapi.Schedules.
func (h *Host) DeleteSchedule(ctx context.Context, name string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	s, ok := st.Schedules[name]
	if !ok {
		return nil
	}
	tx := m.node.Cluster.Begin()
	tx.DeleteSchedule(name, s.Mod)
	return h.settled(m, tx)
}

// AskSchedule implements httpapi.Schedules.
func (h *Host) AskSchedule(ctx context.Context, name string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Cluster.ChangeSchedule(name, kv.CallTimeout, func(s *cluster.BackupSchedule) error {
		s.Asked = time.Now()
		return nil
	})
}
