// Package task remembers in the cluster's map what takes long: who wanted it, how far
// it is, what was said of it, and how it ended. What a host does itself hangs on a
// lease of that host's: when it is lost, its tasks are seen to be interrupted. What
// the cluster does as a whole, a drain say, goes on whoever is lost
// (docs/adr/0097-what-takes-long-is-a-task.md, docs/format/task.md).
package task

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Bounds.
const (
	Kept     = 24 * time.Hour // of a task that has ended: the longest lease there is
	MaxTasks = 500            // the one that ended first goes for another
	maxLines = 32             // of its log; the oldest goes
	maxText  = 400            // bytes of a line, or of a name
	maxError = 2000           // bytes
	idLen    = 8
)

// State is how it is with a task.
type State string

// The states. All but Running are final.
const (
	Running     State = "running"
	Done        State = "done"
	Failed      State = "failed"
	Canceled    State = "canceled"
	Interrupted State = "interrupted" // its host is lost, or was stopped
)

// Task is one of them.
type Task struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`             // such as "import", "drain"
	Subject string          `json:"subject"`          // what it is about, for people
	Ref     string          `json:"ref,omitempty"`    // what it is about, by its identity
	Detail  string          `json:"detail,omitempty"` // what else was asked for
	Who     string          `json:"who"`              // wanted it
	Host    holdfast.HostID `json:"host,omitzero"`    // does it; none: the cluster
	State   State           `json:"state"`
	Part    float64         `json:"part"`            // that is done, 0 to 1
	Done    int64           `json:"done,omitempty"`  // bytes, where it goes by bytes
	Total   int64           `json:"total,omitempty"` // likewise; 0: not known
	Most    int             `json:"most,omitempty"`  // things there were to do, where it goes by things
	Log     []Line          `json:"log,omitempty"`   // the oldest first
	Error   string          `json:"error,omitempty"` // of one that failed
	Started time.Time       `json:"started"`
	Ended   time.Time       `json:"ended,omitzero"`
	Lease   kv.LeaseID      `json:"lease"`

	Asked string `json:"-"` // who wants it to end, where somebody does
}

// Line is one of a task's log.
type Line struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Over reports whether a task has ended.
func (t *Task) Over() bool { return t.State != Running }

// Say adds to the log.
func (t *Task) Say(at time.Time, text string) {
	if n := len(t.Log); n > 0 && t.Log[n-1].Text == clip(text, maxText) {
		t.Log[n-1].At = at
		return
	}
	t.Log = append(t.Log, Line{at.UTC(), clip(text, maxText)})
	t.Log = t.Log[max(0, len(t.Log)-maxLines):]
}

// SayOnce adds to the log what it does not say yet.
func (t *Task) SayOnce(at time.Time, text string) {
	text = clip(text, maxText)
	for _, l := range t.Log {
		if l.Text == text {
			return
		}
	}
	t.Say(at, text)
}

// end says how it ended.
func (t *Task) end(s State, at time.Time, why string) {
	t.State, t.Ended, t.Error = s, at.UTC(), clip(why, maxError)
	if s == Done {
		t.Part = 1
		t.Total = max(t.Total, t.Done)
	}
}

// clip bounds a text, between two characters.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= n {
		return s
	}
	for n -= len("…"); !utf8.RuneStart(s[n]); n-- {
	}
	return s[:n] + "…"
}

// Where the records stand. Beside that of a task: that its host lives, and that
// somebody wants it to end.
const (
	root      = "holdfast/2/task/"
	runSuffix = "/run"
	endSuffix = "/end"
)

func encode(t *Task) []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // it is made of texts, numbers and times
	}
	return b
}

// decode reads a record. Kind Corrupt.
func decode(key string, b []byte) (*Task, error) {
	t := &Task{}
	if err := json.Unmarshal(b, t); err != nil {
		return nil, holdfast.Errorf(holdfast.Corrupt, "task: %w", err)
	}
	switch {
	case key != root+t.ID || len(t.ID) != idLen || strings.Trim(t.ID, "0123456789abcdef") != "":
		return nil, holdfast.Errorf(holdfast.Corrupt, "task: it stands in another's place")
	case t.State != Running && t.State != Done && t.State != Failed && t.State != Canceled && t.State != Interrupted:
		return nil, holdfast.Errorf(holdfast.Corrupt, "task: there is no state %.20q", t.State)
	case t.Over() == t.Ended.IsZero(), !(t.Part >= 0 && t.Part <= 1), len(t.Log) > maxLines, t.Done < 0, t.Total < 0:
		return nil, holdfast.Errorf(holdfast.Corrupt, "task: it contradicts itself")
	}
	return t, nil
}
