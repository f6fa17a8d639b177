package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
)

// restingMost is how many journals there may be for one that nobody watches any more to
// be kept: who comes back after a moment is told what is new, and not everything.
const restingMost = 32

// journals are one of the whole cluster, and one for each project that is watched, or
// was lately, by somebody to whom it is all there is. Server.mu guards it.
type journals struct {
	of       map[string]followed // by project; "": the whole cluster
	watchers int                 // of all of them
}

// followed is a journal that is kept until end is called.
type followed struct {
	*journal
	end context.CancelFunc
}

// enter counts a watcher in, and returns what is watched. Kind Unavailable: there are
// too many, or the server ends.
func (s *Server) enter(project string) (*journal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host stops; watch another one")
	case s.journals.watchers >= watchersMost:
		return nil, holdfast.Errorf(holdfast.Unavailable, "%d watch this host already; watch another one", watchersMost)
	}
	f, ok := s.journals.of[project]
	if !ok {
		ctx, end := context.WithCancel(s.base)
		f = followed{newJournal(func() look { return s.lookAround(project) }, s.o.Backend.AwaitChange), end}
		s.journals.of[project] = f
		s.serving.Go(func() { f.run(ctx) })
	}
	f.enter()
	s.journals.watchers++
	return f.journal, nil
}

// leave counts a watcher out.
func (s *Server) leave(project string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journals.watchers--
	f := s.journals.of[project]
	if f.leave() && project != "" && len(s.journals.of) > restingMost {
		f.end()
		delete(s.journals.of, project)
	}
}
