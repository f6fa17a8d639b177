package cluster

import (
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// BackupSchedule has one host back volumes up to a directory of it, again and
// again. What people chose comes first, what became of it last; the host writes
// only that.
type BackupSchedule struct {
	Name       string              `json:"name"`
	Volumes    []holdfast.VolumeID `json:"volumes"` // at one point
	Host       holdfast.HostID     `json:"host"`
	Dir        string              `json:"dir"`   // absolute, on that host
	Every      time.Duration       `json:"every"` // nanoseconds, at least a minute
	Keep       string              `json:"keep,omitempty"`
	FullAfter  int                 `json:"full_after,omitempty"` // a full backup after so many differences; 0: never
	Recipients []string            `json:"recipients,omitempty"` // age's public keys
	Plaintext  bool                `json:"plaintext,omitempty"`  // an encrypted volume may be backed up in the clear
	Created    time.Time           `json:"created"`
	Asked      time.Time           `json:"asked,omitzero"` // somebody wants it run now, since then

	Began   time.Time `json:"began,omitzero"`    // the last run
	Running bool      `json:"running,omitempty"` // it has not ended, or was cut off: calendars do not tell
	Good    time.Time `json:"good,omitzero"`     // when the last run that went well began
	Ended   time.Time `json:"ended,omitzero"`    // the last run
	Next    time.Time `json:"next,omitzero"`     // its turn, by the calendar of the host
	Late    time.Time `json:"late,omitzero"`     // it should have been run, or run well, since then
	Error   string    `json:"error,omitempty"`
	Length  int64     `json:"length,omitempty"` // bytes that the last good run wrote
}

// Choose takes what people chose from s, and leaves what became of it. What was
// said of another host's runs is not said of this one's.
func (b *BackupSchedule) Choose(s BackupSchedule) {
	if b.Host != s.Host || b.Dir != s.Dir {
		b.Error, b.Running = "", false
	}
	if b.Every != s.Every || b.Host != s.Host {
		b.Next, b.Late = time.Time{}, time.Time{}
	}
	b.Volumes, b.Host, b.Dir, b.Every, b.Keep = s.Volumes, s.Host, s.Dir, s.Every, s.Keep
	b.FullAfter, b.Recipients, b.Plaintext = s.FullAfter, s.Recipients, s.Plaintext
}

// Bounds of schedules.
const (
	MaxSchedules  = 256
	MinEvery      = time.Minute
	maxEvery      = 366 * 24 * time.Hour
	maxRecipients = 32
	maxDir        = 1024 // bytes
)

func scheduleKind() kind[BackupSchedule] {
	return kind[BackupSchedule]{what: "backup schedule", dir: dirSchedule, check: checkSchedule,
		id: func(b *BackupSchedule) string { return b.Name }}
}

func checkSchedule(b *BackupSchedule) error {
	const what = "backup schedule"
	if err := holdfast.CheckName(what, b.Name); err != nil {
		return err
	}
	switch {
	case len(b.Volumes) == 0 || len(b.Volumes) > MaxGroup:
		return bad(what, b.Name, "%d volumes: 1 to %d are allowed", len(b.Volumes), MaxGroup)
	case b.Host.IsZero():
		return bad(what, b.Name, "it has no host")
	case !strings.HasPrefix(b.Dir, "/") || len(b.Dir) > maxDir || strings.ContainsRune(b.Dir, 0):
		return bad(what, b.Name, "directory %.40q: it is absolute and has at most %d bytes", b.Dir, maxDir)
	case b.Every < MinEvery || b.Every > maxEvery:
		return bad(what, b.Name, "every %v: %v to %v are allowed", b.Every, MinEvery, maxEvery)
	case b.FullAfter < 0 || len(b.Recipients) > maxRecipients || len(b.Keep) > 200:
		return bad(what, b.Name, "it has more than it may have")
	}
	return nil
}

// SortedSchedules returns the schedules by name.
func (s *State) SortedSchedules() []Versioned[BackupSchedule] {
	return sorted(s.Schedules, func(a, b *BackupSchedule) int { return strings.Compare(a.Name, b.Name) })
}

// ChangeSchedule has f change the newest record of a schedule, again if somebody
// else was quicker. f may refuse.
func (c *Client) ChangeSchedule(name string, settle time.Duration, f func(*BackupSchedule) error) error {
	for range 5 {
		st, err := c.Refresh()
		if err != nil {
			return err
		}
		rec, ok := st.Schedules[name]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "there is no backup schedule %s", name)
		}
		if err := f(&rec.Val); err != nil {
			return err
		}
		tx := c.Begin()
		tx.PutSchedule(rec.Val, rec.Mod)
		rev, err := tx.Settle(settle)
		if err == nil {
			c.WaitRev(rev, settle)
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "backup schedule %s kept changing; try again", name)
}

// PutSchedule makes or changes a schedule; mod zero: there is none of that name.
func (t *Txn) PutSchedule(b BackupSchedule, mod kv.Rev) { putRecord(t, scheduleKind(), b, mod, 0) }

// DeleteSchedule ends a schedule.
func (t *Txn) DeleteSchedule(name string, mod kv.Rev) { deleteRecord(t, scheduleKind(), name, mod) }
