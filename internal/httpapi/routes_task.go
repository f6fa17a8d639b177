package httpapi

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// TaskRef names a task in a path.
type TaskRef struct {
	Task string `path:"task" maxLength:"32" doc:"Its identity"`
}

func (s *Server) taskRoutes() {
	list(s, listing[v1.Task]{path: "/v1/tasks", id: "task-list", summary: "What takes long, and what did within a day: under way by itself first, then the newest first", more: true, down: true,
		key: taskKey, all: s.allTasks})
	type one struct {
		TaskRef
		Wait int `query:"wait" minimum:"0" maximum:"60" doc:"Seconds to wait for its end before it is told"`
	}
	act(s, s.operation("GET", "/v1/tasks/{task}", "task-show", "One task, with its log; or wait for its end", 200),
		func(ctx context.Context, in *one) (v1.Task, error) {
			return s.showTask(ctx, in.Task, time.Duration(in.Wait)*time.Second)
		})
	do(s, s.operation("POST", "/v1/tasks/{task}/cancel", "task-cancel", "Have a task end before it gets there. What a drain or an evacuation has moved stays moved", 204),
		func(ctx context.Context, in *TaskRef) error { return s.cancelTask(ctx, in.Task) })
}

func (s *Server) showTask(ctx context.Context, id string, wait time.Duration) (v1.Task, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Task{}, err
	}
	store, err := s.tasks()
	if err != nil {
		return v1.Task{}, err
	}
	within, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.base, stop)() // who waits does not keep the host from ending
	if t, ok := store.Await(within, id, wait); ok {
		return withPace(p.renderTask(t), time.Now()), nil
	}
	all, err := s.allTasks(ctx, p)
	if i := slices.IndexFunc(all, func(t v1.Task) bool { return t.ID == id }); err == nil && i >= 0 {
		return all[i], nil
	}
	return v1.Task{}, task.ErrNone(id)
}

func (s *Server) cancelTask(ctx context.Context, id string) error {
	store, err := s.tasks()
	if err != nil {
		return err
	}
	t, ok := store.Find(id)
	switch {
	case !ok:
		return s.cancelWork(ctx, id)
	case t.Over() || !t.Host.IsZero():
		return store.Cancel(id, principal(ctx).String())
	}
	if err := s.undo(ctx, t); err != nil {
		return err
	}
	return s.endNoted(ctx, t.Kind, t.Ref)
}

// cancelWork cancels what nobody noted, if it can be.
func (s *Server) cancelWork(ctx context.Context, id string) error {
	p, err := s.picture(ctx)
	if err != nil {
		return err
	}
	all, err := s.allTasks(ctx, p)
	if i := slices.IndexFunc(all, func(t v1.Task) bool { return t.ID == id }); err == nil && i >= 0 && !all[i].Cancel {
		return holdfast.Errorf(holdfast.Conflict, "task %s cannot be canceled: the %s of %s is what keeps the cluster whole", id, all[i].Kind, all[i].Subject)
	}
	return s.o.Backend.CancelWork(ctx, id, false)
}
