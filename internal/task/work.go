package task

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	running   = 30 * time.Second // how long a task counts as under way after its host was lost
	tellEvery = 2 * time.Second  // how far it is, if that is news
	renewEach = 4                // of these times the lease is renewed
)

// Work is a task of this host's. End is called once; the other methods may be called
// from any goroutine until then.
type Work struct {
	s    *Store
	run  kv.LeaseID
	stop context.CancelFunc
	over clock.Event
	gone clock.Event // the teller is

	mu    sync.Mutex
	t     Task
	news  bool
	ended bool
	asked string
}

// Begin makes a task that this host does, of which Kind, Subject, Ref, Detail and Who
// are given. The context ends when somebody wants the task to end. Kinds: NoSpace, too
// many are under way; those of kv.Store.
func (s *Store) Begin(ctx context.Context, t Task) (context.Context, *Work, error) {
	t.Host = s.cfg.Host
	w := &Work{s: s, over: s.cfg.Clock.NewEvent(), gone: s.cfg.Clock.NewEvent()}
	var err error
	if w.run, err = s.cfg.KV.Grant(running); err != nil {
		return nil, nil, err
	}
	if w.t, err = s.add(t, w.run); err != nil {
		_ = s.cfg.KV.Revoke(w.run) // or it ends by itself
		return nil, nil, err
	}
	ctx, w.stop = context.WithCancel(ctx)
	s.mu.Lock()
	s.own[w.t.ID] = w
	who := s.p.asked[w.t.ID]
	s.mu.Unlock()
	if who != "" { // already
		w.cancel(who)
	}
	s.cfg.Clock.Go(w.tell)
	return ctx, w, nil
}

// Note makes a task that the cluster does, unless such a one is under way: of the
// same kind and about the same thing.
func (s *Store) Note(t Task) (Task, error) {
	for _, x := range s.All() {
		if x.Kind == t.Kind && x.Ref == t.Ref && !x.Over() {
			return x, nil
		}
	}
	return s.add(t, 0)
}

// add writes a new task down. run is the lease of its host, if one does it.
func (s *Store) add(t Task, run kv.LeaseID) (Task, error) {
	var id [idLen / 2]byte
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		return t, holdfast.Errorf(holdfast.IO, "an identity: %w", err)
	}
	t.ID, t.State, t.Started = hex.EncodeToString(id[:]), Running, s.cfg.Clock.Wall().UTC()
	t.Subject, t.Who, t.Detail = clip(t.Subject, maxText), clip(t.Who, maxText), clip(t.Detail, maxText)
	var err error
	if t.Lease, err = s.cfg.KV.Grant(Kept); err != nil {
		return t, err
	}
	for range attempts {
		var p *picture
		var goes []kv.Op
		if p, err = s.refresh(); err == nil {
			goes, err = p.room()
		}
		if err != nil {
			break
		}
		conds := []kv.Cond{{Key: root + t.ID}}
		ops := append(goes, kv.Op{Key: root + t.ID, Value: encode(&t), Lease: t.Lease})
		if run != 0 {
			ops = append(ops, kv.Op{Key: root + t.ID + runSuffix, Value: []byte("1"), Lease: run})
		}
		var rev kv.Rev
		if rev, err = s.cfg.KV.Commit(conds, ops); err == nil {
			s.until(context.Background(), kv.CallTimeout, func() bool { return s.Rev() >= rev })
			return t, nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			break
		}
	}
	_ = s.cfg.KV.Revoke(t.Lease)
	return t, err
}

// room makes room for another one.
func (p *picture) room() ([]kv.Op, error) {
	if len(p.tasks) < MaxTasks {
		return nil, nil
	}
	var over []Task
	for id := range p.tasks {
		if t := p.show(id); t.Over() {
			over = append(over, t)
		}
	}
	if len(over) == 0 {
		return nil, holdfast.Errorf(holdfast.NoSpace, "%d tasks are under way; wait for one to end, or cancel one", len(p.tasks))
	}
	first := slices.MinFunc(over, func(a, b Task) int { return cmp.Or(a.Ended.Compare(b.Ended), a.Started.Compare(b.Started)) })
	return []kv.Op{{Key: root + first.ID, Delete: true}}, nil
}

// ID is the task's.
func (w *Work) ID() string { return w.t.ID }

// Task is the task as it is now.
func (w *Work) Task() Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.t
	t.Log = slices.Clone(t.Log)
	return t
}

// At says how far it is: part of it, 0 to 1, and in bytes where it goes by bytes.
func (w *Work) At(part float64, done, total int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !(part >= 0 && part <= 1) {
		part = w.t.Part
	}
	w.t.Part, w.t.Done, w.t.Total, w.news = part, max(0, done), max(0, total), true
}

// Say adds to its log.
func (w *Work) Say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Say(w.s.cfg.Clock.Wall(), text)
	w.news = true
}

// cancel ends the work, for somebody.
func (w *Work) cancel(who string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked == "" {
		w.asked = who
		w.t.Say(w.s.cfg.Clock.Wall(), "canceled by "+who)
		w.news = true
	}
	w.stop()
}

// End notes what came of it, and returns that as it is to be told. An error that is
// context.Canceled, with nobody having wanted that, is the end of this process.
func (w *Work) End(err error) error {
	w.mu.Lock()
	s, why := Done, ""
	switch {
	case err == nil:
	case w.asked != "":
		s, why = Canceled, "canceled by "+w.asked
		err = holdfast.Errorf(holdfast.Denied, "task %s was canceled by %s", w.t.ID, w.asked)
	case errors.Is(err, context.Canceled):
		s, why = Interrupted, "the host that was at it was stopped"
	default:
		s, why = Failed, err.Error()
	}
	w.t.end(s, w.s.cfg.Clock.Wall(), why)
	w.ended = true
	w.mu.Unlock()
	w.over.Set()
	w.gone.Wait(clock.Forever)
	w.stop()
	w.s.mu.Lock()
	delete(w.s.own, w.t.ID)
	w.s.mu.Unlock()
	return err
}

// tell writes down how far it is, and in the end what came of it.
func (w *Work) tell() {
	defer w.gone.Set()
	for n := 1; !w.over.Wait(tellEvery); n++ {
		if n%renewEach == 0 {
			w.renew()
		}
		_ = w.write(false) // it is tried again
	}
	if w.write(true) == nil {
		_ = w.s.cfg.KV.Revoke(w.run) // or it ends by itself
	}
}

// renew keeps the task alive. A lease that ended while the control plane was away is
// followed by another.
func (w *Work) renew() {
	_ = w.s.cfg.KV.Renew(w.t.Lease) // a day is long
	if err := w.s.cfg.KV.Renew(w.run); holdfast.IsKind(err, holdfast.NotFound) {
		if run, err := w.s.cfg.KV.Grant(running); err == nil {
			w.run = run
			_, _ = w.s.cfg.KV.Commit(nil, []kv.Op{{Key: root + w.t.ID + runSuffix, Value: []byte("1"), Lease: run}}) // or it is tried again
		}
	}
}

// write writes the task down, if there is news. It alone writes it.
func (w *Work) write(last bool) error {
	w.mu.Lock()
	t, news := w.t, w.news || last
	t.Log = slices.Clone(t.Log)
	w.news = false
	w.mu.Unlock()
	if !news {
		return nil
	}
	ops := []kv.Op{{Key: root + t.ID, Value: encode(&t), Lease: t.Lease}}
	if last {
		_ = w.s.cfg.KV.Renew(t.Lease)
		ops = append(ops, kv.Op{Key: root + t.ID + endSuffix, Delete: true})
	}
	rev, err := w.s.cfg.KV.Commit(nil, ops)
	switch {
	case err == nil && last:
		w.s.until(context.Background(), kv.CallTimeout, func() bool { return w.s.Rev() >= rev })
	case err != nil && last:
		w.s.cfg.Log.Warn("what came of a task could not be noted; it will be seen as interrupted", "task", t.ID, "state", string(t.State), "error", err)
	case err != nil:
		w.mu.Lock()
		w.news = true
		w.mu.Unlock()
	}
	return err
}

// Cancel has a task end that a host does. Kinds: NotFound; Conflict, it has ended
// already or the cluster does it; those of kv.Store.
func (s *Store) Cancel(id, who string) error {
	t, ok := s.Find(id)
	switch {
	case !ok:
		return ErrNone(id)
	case t.Over():
		return holdfast.Errorf(holdfast.Conflict, "task %s has ended already: %s", id, t.State)
	case t.Host.IsZero():
		return holdfast.Errorf(holdfast.Conflict, "task %s is the cluster's", id)
	case t.Asked != "":
		return nil
	}
	_, err := s.cfg.KV.Commit(nil, []kv.Op{{Key: root + id + endSuffix, Value: []byte(clip(who, maxText)), Lease: t.Lease}})
	return err
}

// ErrNone says that there is no task of that identity.
func ErrNone(id string) error {
	return holdfast.Errorf(holdfast.NotFound, "there is no task %s; see 'holdfast task list'", clip(id, 40))
}

// Renew has a task that the cluster does remembered for a day more.
func (s *Store) Renew(id string) {
	if t, ok := s.Find(id); ok && !t.Over() {
		_ = s.cfg.KV.Renew(t.Lease) // a day is long
	}
}

// Change changes a task that the cluster does: f says how far it is or, with a state,
// how it ended. Nothing is written if it is told nothing new.
func (s *Store) Change(id string, f func(t *Task) (State, string)) error {
	for range attempts {
		was, ok := s.picture().tasks[id]
		if !ok || was.Over() || !was.Host.IsZero() {
			return nil
		}
		t := *was.Task
		t.Log = slices.Clone(t.Log)
		if state, why := f(&t); state != Running {
			t.end(state, s.cfg.Clock.Wall(), why)
		}
		b := encode(&t)
		if string(b) == string(encode(was.Task)) {
			return nil
		}
		_ = s.cfg.KV.Renew(t.Lease)
		rev, err := s.cfg.KV.Commit([]kv.Cond{{Key: root + id, Mod: was.mod}}, []kv.Op{{Key: root + id, Value: b, Lease: t.Lease}})
		if err == nil {
			s.until(context.Background(), kv.CallTimeout, func() bool { return s.Rev() >= rev })
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
		if _, err := s.refresh(); err != nil {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "task %s kept changing", id)
}
