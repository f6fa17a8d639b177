package task

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	pollStop = 250 * time.Millisecond // how often a waiting watch looks whether to end
	retryMin = 100 * time.Millisecond // between attempts to read
	retryMax = 2 * time.Second
	attempts = 5 // to change what others change, too
)

// Config is what a Store works with.
type Config struct {
	KV    kv.Store
	Clock clock.Clock
	Rand  io.Reader // of identities
	Log   *slog.Logger
	Host  holdfast.HostID // this one
}

// Store is one host's live picture of the tasks, and its way to have some. Its
// methods may be called from any goroutine.
type Store struct {
	cfg  Config
	stop clock.Event
	wg   *clock.Group

	mu     sync.Mutex
	p      *picture
	subs   []clock.Event
	own    map[string]*Work // under way here
	closed bool
}

// picture is the records as of one revision. It never changes.
type picture struct {
	rev   kv.Rev
	tasks map[string]versioned
	runs  map[string]bool   // whose hosts live
	asked map[string]string // who wants them to end
}

type versioned struct {
	mod kv.Rev
	*Task
}

// Open follows the records until Close. The caller closes the Store before the
// kv.Store.
func Open(c Config) *Store {
	s := &Store{cfg: c, stop: c.Clock.NewEvent(), wg: clock.NewGroup(c.Clock), p: &picture{}, own: map[string]*Work{}}
	s.wg.Go(s.run)
	return s
}

// Close ends the following. Work that was begun here is to be ended before.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop.Set()
	s.wg.Wait()
}

func (s *Store) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Store) picture() *picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// All is every task, the newest first.
func (s *Store) All() []Task {
	p := s.picture()
	out := make([]Task, 0, len(p.tasks))
	for id := range p.tasks {
		out = append(out, p.show(id))
	}
	slices.SortFunc(out, func(a, b Task) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Rev is the revision that All tells of.
func (s *Store) Rev() kv.Rev { return s.picture().rev }

// Find returns a task by its identity. One that this host does not know of yet is
// asked for.
func (s *Store) Find(id string) (Task, bool) {
	p := s.picture()
	if _, ok := p.tasks[id]; !ok {
		if _, err := s.refresh(); err == nil {
			p = s.picture()
		}
	}
	return p.find(id)
}

func (p *picture) find(id string) (Task, bool) {
	if _, ok := p.tasks[id]; !ok {
		return Task{}, false
	}
	return p.show(id), true
}

// show is a task as it is to be told of.
func (p *picture) show(id string) Task {
	t := *p.tasks[id].Task
	t.Asked = p.asked[id]
	if t.State == Running && !t.Host.IsZero() && !p.runs[id] {
		t.State, t.Error = Interrupted, "the host that was at it is lost, or was stopped"
	}
	return t
}

// Await waits until a task has ended, for so long at most or until ctx ends, and
// returns it as it is then; false: there is none.
func (s *Store) Await(ctx context.Context, id string, most time.Duration) (t Task, ok bool) {
	if t, ok = s.Find(id); !ok || t.Over() {
		return t, ok
	}
	s.until(ctx, most, func() bool {
		t, ok = s.picture().find(id)
		return !ok || t.Over()
	})
	return t, ok
}

// AwaitChange waits until something is not as it was at a revision.
func (s *Store) AwaitChange(ctx context.Context, after kv.Rev, most time.Duration) {
	s.until(ctx, most, func() bool { return s.Rev() > after })
}

func (s *Store) until(ctx context.Context, most time.Duration, f func() bool) {
	ev := s.cfg.Clock.NewEvent()
	s.mu.Lock()
	s.subs = append(s.subs, ev)
	s.mu.Unlock()
	defer context.AfterFunc(ctx, ev.Set)()
	for end := s.cfg.Clock.Now() + most; !f() && s.cfg.Clock.Now() < end && ctx.Err() == nil && !s.stopped(); {
		ev.Wait(end - s.cfg.Clock.Now())
	}
	s.mu.Lock()
	s.subs = slices.DeleteFunc(slices.Clone(s.subs), func(e clock.Event) bool { return e == ev })
	s.mu.Unlock()
}

// run reads everything and follows the changes, again and again.
func (s *Store) run() {
	delay := retryMin
	for !s.stopped() {
		p, err := s.refresh()
		if err == nil {
			delay = retryMin
			err = s.follow(p.rev)
		}
		if s.stopped() || holdfast.IsKind(err, holdfast.Closed) {
			return
		}
		s.stop.Wait(delay)
		delay = min(2*delay, retryMax)
	}
}

// refresh reads everything anew.
func (s *Store) refresh() (*picture, error) {
	items, rev, err := s.cfg.KV.Range(root)
	if err != nil {
		return nil, err
	}
	p := &picture{rev: rev, tasks: map[string]versioned{}, runs: map[string]bool{}, asked: map[string]string{}}
	for _, it := range items {
		s.put(p, it)
	}
	return s.adopt(p), nil
}

func (s *Store) follow(rev kv.Rev) error {
	w := s.cfg.KV.Watch(root, rev)
	defer w.Close()
	for !s.stopped() {
		evs, err := w.Next(pollStop)
		if err != nil {
			return err
		}
		if len(evs) == 0 {
			continue
		}
		was := s.picture()
		p := &picture{rev: was.rev, tasks: maps.Clone(was.tasks), runs: maps.Clone(was.runs), asked: maps.Clone(was.asked)}
		for _, e := range evs {
			if e.Mod <= was.rev {
				continue
			}
			if p.rev = max(p.rev, e.Mod); e.Deleted {
				p.remove(e.Key)
			} else {
				s.put(p, e.Item)
			}
		}
		s.adopt(p)
	}
	return nil
}

func (s *Store) put(p *picture, it kv.Item) {
	name := strings.TrimPrefix(it.Key, root)
	if id, ok := strings.CutSuffix(name, runSuffix); ok {
		p.runs[id] = true
	} else if id, ok := strings.CutSuffix(name, endSuffix); ok {
		p.asked[id] = clip(string(it.Value), maxText)
	} else if t, err := decode(it.Key, it.Value); err == nil {
		p.tasks[t.ID] = versioned{it.Mod, t}
	} else {
		delete(p.tasks, name)
		s.cfg.Log.Warn("a task cannot be read and is passed over", "key", clip(name, 40), "error", err)
	}
}

func (p *picture) remove(key string) {
	name := strings.TrimPrefix(key, root)
	if id, ok := strings.CutSuffix(name, runSuffix); ok {
		delete(p.runs, id)
	} else if id, ok := strings.CutSuffix(name, endSuffix); ok {
		delete(p.asked, id)
	} else {
		delete(p.tasks, name)
	}
}

// adopt takes a picture unless there is a newer one, ends what somebody wants to
// end, and returns the newest.
func (s *Store) adopt(p *picture) *picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.rev < s.p.rev {
		return s.p
	}
	s.p = p
	for id, who := range p.asked {
		if w := s.own[id]; w != nil {
			w.cancel(who)
		}
	}
	for _, ev := range s.subs {
		ev.Set()
	}
	return p
}
