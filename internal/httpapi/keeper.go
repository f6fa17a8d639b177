package httpapi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// What the cluster does as a whole is no host's work: a drain goes on though every
// host is started anew. Its task is noted when somebody asks for it, and the host that
// leads looks from time to time how far it is.

// The kinds of such tasks, each about what its Ref is the identity of.
const (
	taskDrain      = "drain"      // a host
	taskEvacuation = "evacuation" // a disk
	taskMove       = "move"       // a volume
)

const (
	keepEvery = 2 * time.Second  // while there is one
	keepIdle  = 10 * time.Second // while there is none, or another host leads
	keepAlive = time.Hour        // how often one that does not get on is kept from being forgotten
)

// note notes that somebody has asked for something that the cluster does.
func (s *Server) note(ctx context.Context, kind, ref, subject, detail string) {
	if tried(ctx) {
		return
	}
	store, err := s.tasks()
	if err == nil {
		_, err = store.Note(task.Task{Kind: kind, Ref: ref, Subject: subject, Detail: detail, Who: principal(ctx).String()})
	}
	if err != nil && s.o.Tasks != nil { // it is done all the same
		s.o.Log.Warn("a task could not be noted", "kind", kind, "error", err)
	}
}

// noted notes it, or that it was taken back.
func (s *Server) noted(ctx context.Context, on bool, kind, ref, subject, detail string) {
	if on {
		s.note(ctx, kind, ref, subject, detail)
	} else if err := s.endNoted(ctx, kind, ref); err != nil {
		s.o.Log.Warn("that a task was canceled could not be noted", "kind", kind, "error", err)
	}
}

// endNoted notes that somebody has taken back what they asked for.
func (s *Server) endNoted(ctx context.Context, kind, ref string) error {
	store, err := s.tasks()
	if err != nil || tried(ctx) {
		return nil // then nothing was noted either
	}
	for _, t := range store.All() {
		if t.Kind == kind && t.Ref == ref && !t.Over() {
			if err := store.Change(t.ID, func(*task.Task) (task.State, string) {
				return task.Canceled, "canceled by " + principal(ctx).String()
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// undo takes back what the cluster was asked for.
func (s *Server) undo(ctx context.Context, t task.Task) error {
	p, err := s.picture(ctx)
	if err != nil {
		return err
	}
	switch t.Kind {
	case taskDrain:
		h, err := p.host(t.Ref)
		if err != nil {
			return err
		}
		return s.o.Backend.Drain(ctx, h.ID, false, 0)
	case taskEvacuation:
		d, err := p.disk(t.Ref)
		if err != nil {
			return err
		}
		return s.o.Backend.EvacuateDisk(ctx, d.ID, false, false)
	case taskMove:
		v, err := p.volumeOrImage(t.Ref)
		if err != nil {
			return err
		}
		return s.o.Backend.StayReplicas(ctx, v.ID)
	}
	return holdfast.Errorf(holdfast.Conflict, "task %s cannot be canceled: this host does not know what a %s is", t.ID, t.Kind)
}

// keep looks after such tasks until the server ends.
func (s *Server) keep() {
	renewed := time.Now()
	over := map[string]int{} // how often in a row a task was seen to have ended
	for s.base.Err() == nil {
		store, err := s.tasks()
		if err != nil {
			select {
			case <-time.After(keepIdle):
			case <-s.base.Done():
			}
			continue
		}
		rev, wait := store.Rev(), keepIdle
		p, err := s.picture(s.base)
		if err == nil && p.Leader == s.o.Backend.Self().ID {
			again := time.Since(renewed) > keepAlive
			if again {
				renewed = time.Now()
			}
			if s.keepAll(store, p, again, over) {
				wait = keepEvery
			}
		}
		if wait == keepIdle {
			store.AwaitChange(s.base, rev, wait)
		}
		select { // also when something changes all the time
		case <-time.After(keepEvery):
		case <-s.base.Done():
		}
	}
}

// keepAll looks at each, and reports whether there is one. What is asked for is noted
// after it was done, and the picture may be older than the note: what has ended is
// seen twice.
func (s *Server) keepAll(store *task.Store, p picture, renew bool, over map[string]int) (some bool) {
	var work *v1.Works
	for _, t := range store.All() {
		if t.Over() || !t.Host.IsZero() {
			delete(over, t.ID)
			continue
		}
		if some = true; renew {
			store.Renew(t.ID)
		}
		if work == nil {
			work = &v1.Works{}
			if w, err := s.o.Backend.Work(s.base, false); err == nil {
				*work = w
			}
		}
		if err := store.Change(t.ID, func(t *task.Task) (task.State, string) {
			state, why := p.howFar(t, *work)
			if state == task.Running {
				delete(over, t.ID)
			} else if over[t.ID]++; over[t.ID] < 2 {
				return task.Running, ""
			}
			return state, why
		}); err != nil && s.base.Err() == nil {
			s.o.Log.Debug("how far a task is could not be noted", "task", t.ID, "error", err)
		}
	}
	return some
}

// howFar says how far a task of the cluster is, and how it ended if it has.
func (p picture) howFar(t *task.Task, w v1.Works) (task.State, string) {
	switch t.Kind {
	case taskDrain:
		return p.howFarDrained(t)
	case taskEvacuation:
		return p.howFarEvacuated(t, w)
	case taskMove:
		return p.howFarMoved(t, w)
	}
	return task.Running, "" // of a newer version: another host may know
}

func (p picture) howFarDrained(t *task.Task) (task.State, string) {
	h, err := p.host(t.Ref)
	if err != nil {
		return task.Done, "" // it was removed
	}
	if !h.Drained {
		return task.Canceled, "the host takes work again"
	}
	d := p.renderDrain(h)
	left := len(d.Moves) + len(d.Written)
	t.Most = max(t.Most, left)
	if left == 0 && d.Noticed {
		return task.Done, ""
	}
	if t.Most > 0 {
		t.Part = float64(t.Most-left) / float64(t.Most)
	}
	for _, m := range d.Moves {
		if m.Stage == "stays" {
			t.SayOnce(time.Now(), fmt.Sprintf("VM %s stays: %s", m.VM, m.Why))
		}
	}
	return task.Running, ""
}

func (p picture) howFarEvacuated(t *task.Task, w v1.Works) (task.State, string) {
	d, err := p.disk(t.Ref)
	if err != nil {
		return task.Done, "" // it was given back
	}
	if !d.Evacuate {
		return task.Canceled, "the disk may have copies again"
	}
	moves := placement.Departures(p.State, d.ID)
	if len(moves) == 0 && !d.Remove {
		return task.Done, ""
	}
	if x, ok := p.renderEvacuation(d, w); ok {
		t.Total = max(t.Total, x.Total)
		left := x.Total - int64(x.Done*float64(x.Total))
		t.Done = max(t.Done, t.Total-left)
		t.Part = part(t.Done, t.Total)
	}
	for _, m := range moves {
		if m.Stage == placement.Stays {
			t.SayOnce(time.Now(), fmt.Sprintf("the copy of %s stays: %s", m.Name, m.Why))
		}
	}
	return task.Running, ""
}

func (p picture) howFarMoved(t *task.Task, w v1.Works) (task.State, string) {
	v, err := p.volumeOrImage(t.Ref)
	if err != nil {
		return task.Failed, "the volume was deleted"
	}
	if len(v.Moving) == 0 {
		return task.Done, ""
	}
	if i := slices.IndexFunc(w.Work, func(x v1.Work) bool { return x.Kind == "rebuild" && x.VolumeID == t.Ref && !x.Waits }); i >= 0 {
		t.Part = min(1, max(t.Part, w.Work[i].Done))
	}
	return task.Running, ""
}
