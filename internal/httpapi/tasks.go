package httpapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// tasks are those of the cluster.
func (s *Server) tasks() (*task.Store, error) {
	if s.o.Tasks == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host keeps no tasks")
	}
	return s.o.Tasks()
}

// tracked has something done that takes as long as its request, as a task if that can
// be noted: it is done all the same where it cannot.
func (s *Server) tracked(ctx context.Context, t task.Task, do func(ctx context.Context, w *task.Work) error) error {
	who := principal(ctx)
	store, err := s.tasks()
	if err != nil || who != nil && who.Kind == string(auth.Host) { // which has noted what it hands on
		return do(ctx, nil)
	}
	t.Who = who.String()
	within, w, err := store.Begin(ctx, t)
	if err != nil {
		s.o.Log.Warn("a task could not be noted", "kind", t.Kind, "error", err)
		return do(ctx, nil)
	}
	over := false
	defer func() {
		if !over { // a panic
			_ = w.End(holdfast.Errorf(holdfast.Other, "the host made a mistake"))
		}
	}()
	err = do(within, w)
	over = true
	return w.End(err)
}

// metered tells a task how much of a stream has come, and breaks off when nobody
// wants it any more.
type metered struct {
	io.Reader
	ctx  context.Context
	tell func(at int64)
	at   int64
}

func (m *metered) Read(b []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.Reader.Read(b)
	m.at += int64(n)
	m.tell(m.at)
	if m.ctx.Err() != nil && err != nil {
		err = m.ctx.Err() // that is why
	}
	return n, err
}

// part is how much of something is done; what is not known is nothing.
func part(done, total int64) float64 {
	if total <= 0 {
		return 0
	}
	return min(1, float64(done)/float64(total))
}

func (p picture) renderTask(t task.Task) v1.Task {
	out := v1.Task{ID: t.ID, Kind: t.Kind, Subject: t.Subject, Detail: t.Detail, Who: t.Who, State: string(t.State), Progress: t.Part,
		Done: t.Done, Total: t.Total, Error: t.Error, Started: &t.Started, Cancel: !t.Over(), Asked: t.Asked}
	if !t.Host.IsZero() {
		out.Host = p.hostName(t.Host)
	}
	if t.Over() {
		out.Asked = ""
	}
	if !t.Ended.IsZero() {
		out.Ended = &t.Ended
	}
	for _, l := range t.Log {
		out.Log = append(out.Log, v1.TaskLine{At: l.At, Text: l.Text})
	}
	return out
}

// withPace adds how quickly a task that goes by bytes gets on, by the clock of this host.
func withPace(t v1.Task, now time.Time) v1.Task {
	if t.Over() || t.Started == nil || t.Done == 0 {
		return t
	}
	if secs := now.Sub(*t.Started).Seconds(); secs >= 1 {
		t.Rate = int64(float64(t.Done) / secs)
	}
	if t.Rate > 0 && t.Total > t.Done {
		t.LeftSecs = (t.Total - t.Done) / t.Rate
	}
	return t
}

// taskOfWork shows what nobody noted as a task: what hosts do by themselves, and
// streams to clients.
func taskOfWork(w v1.Work) v1.Task {
	t := v1.Task{ID: w.ID, Kind: w.Kind, Subject: cmp.Or(w.Volume, w.Disk), Host: w.Host, State: "running", Progress: min(1, max(0, w.Done)),
		Total: w.Total, Done: int64(w.Done * float64(w.Total)), Rate: w.Rate, LeftSecs: w.LeftSecs, Cancel: w.ID != ""}
	if w.ID == "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s", w.Kind, w.VolumeID, w.Host, w.Disk))
		t.ID = hex.EncodeToString(sum[:4])
	}
	if w.Waits {
		t.Detail = "waits for its turn"
	}
	return t
}

// taskKey orders tasks, the highest first: what nobody noted, then the newest.
func taskKey(t v1.Task) string {
	if t.Started == nil {
		return keyOf("~", t.Kind, t.ID)
	}
	return keyOf(t.Started.UTC().Format("2006-01-02T15:04:05.000000000"), t.ID)
}

// allTasks are those that were noted, and what else takes long now.
func (s *Server) allTasks(ctx context.Context, p picture) ([]v1.Task, error) {
	var out []v1.Task
	store, err := s.tasks()
	if err != nil {
		return nil, err
	}
	noted := map[string]bool{} // under way, by what they do to what
	for _, t := range store.All() {
		x := withPace(p.renderTask(t), time.Now())
		x.Log = nil
		out = append(out, x)
		noted[t.Kind+" "+t.Subject] = noted[t.Kind+" "+t.Subject] || !t.Over()
	}
	work, err := s.o.Backend.Work(ctx, false)
	if err != nil {
		return out, nil // what was noted is told all the same
	}
	for _, w := range work.Work {
		t := taskOfWork(w)
		if noted[t.Kind+" "+t.Subject] {
			continue
		}
		i := slices.IndexFunc(out, func(x v1.Task) bool { return x.ID == t.ID && x.Started == nil })
		if i < 0 {
			out = append(out, t)
			continue
		}
		with := &out[i] // several volumes that are backed up at once are one task
		with.Subject += ", " + t.Subject
		with.Done, with.Total, with.Rate = with.Done+t.Done, with.Total+t.Total, with.Rate+t.Rate
		with.Progress, with.LeftSecs = part(with.Done, with.Total), max(with.LeftSecs, t.LeftSecs)
	}
	slices.SortFunc(out, func(a, b v1.Task) int { return strings.Compare(taskKey(b), taskKey(a)) })
	return out, nil
}
