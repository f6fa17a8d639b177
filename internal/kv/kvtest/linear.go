package kvtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// linearKeys is how many keys the clients of a Linear fight over.
const linearKeys = 3

// Linear is a linearizability check under way: clients that range and commit
// against one map, recording what they did and saw.
type Linear struct {
	Clock clock.Clock // shared by all clients, to order the history
	Dir   string

	mu      sync.Mutex
	history []porcupine.Operation
	kinds   map[holdfast.Kind]int // outcomes of commits
}

// step is one operation: a range, or a commit of puts under a condition.
type step struct {
	commit  bool
	cond    int    // the key whose value must be as read
	was     string // value read before; "" is absence
	puts    [linearKeys]string
	seen    [linearKeys]string // range: what it returned
	outcome holdfast.Kind      // commit: Other is success
}

// Client makes n operations on st. Clients may run at once, one task each.
func (l *Linear) Client(st kv.Store, id, n int, r *rand.Rand, pause time.Duration) {
	var seen [linearKeys]string
	var mods [linearKeys]kv.Rev
	for i := range n {
		if i == 0 || r.IntN(2) == 0 {
			if s, m, ok := l.read(st, id); ok {
				seen, mods = s, m
			}
		} // else decide on what was seen last
		l.write(st, id, fmt.Sprintf("%d.%d", id, i), seen, mods, r)
		clock.Sleep(l.Clock, time.Duration(r.Int64N(int64(pause))))
	}
}

func (l *Linear) key(i int) string { return fmt.Sprintf("%s%d", l.Dir, i) }

func (l *Linear) read(st kv.Store, id int) (seen [linearKeys]string, mods [linearKeys]kv.Rev, ok bool) {
	call := l.Clock.Now()
	items, _, err := st.Range(l.Dir)
	if err != nil {
		return seen, mods, false
	}
	for _, it := range items {
		var i int
		if _, err := fmt.Sscan(strings.TrimPrefix(it.Key, l.Dir), &i); err == nil && i < linearKeys {
			seen[i], mods[i] = string(it.Value), it.Mod
		}
	}
	l.record(id, call, l.Clock.Now(), step{seen: seen})
	return seen, mods, true
}

func (l *Linear) write(st kv.Store, id int, value string, seen [linearKeys]string, mods [linearKeys]kv.Rev, r *rand.Rand) {
	s := step{commit: true, cond: r.IntN(linearKeys)}
	s.was = seen[s.cond]
	first := r.IntN(linearKeys)
	var ops []kv.Op
	for i := range linearKeys {
		if i == first || r.IntN(2) == 0 {
			s.puts[i] = value
			ops = append(ops, kv.Op{Key: l.key(i), Value: []byte(value)})
		}
	}
	call := l.Clock.Now()
	_, err := st.Commit([]kv.Cond{{Key: l.key(s.cond), Mod: mods[s.cond]}}, ops)
	ret := l.Clock.Now()
	if err != nil {
		s.outcome = holdfast.KindOf(err)
	}
	if s.outcome == holdfast.Unknown {
		ret = 1 << 62 // it may take effect at any later time, or, seen from here, never
	}
	l.record(id, call, ret, s)
}

func (l *Linear) record(id int, call, ret time.Duration, s step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = make(map[holdfast.Kind]int)
	}
	if s.commit {
		l.kinds[s.outcome]++
		if s.outcome == holdfast.Unavailable {
			return // promised to have done nothing: then the rest must fit without it
		}
	}
	l.history = append(l.history, porcupine.Operation{ClientId: id, Input: s, Call: int64(call), Return: int64(ret)})
}

// Check fails t unless the history is that of one map, and returns how many
// commits ended in each way (Other is success).
func (l *Linear) Check(t *testing.T) map[holdfast.Kind]int {
	t.Helper()
	res, info := porcupine.CheckOperationsVerbose(linearModel(), l.history, patience)
	if res != porcupine.Ok {
		t.Errorf("the history of %d operations is not linearizable (%v), outcomes %v", len(l.history), res, l.kinds)
		if path := t.TempDir() + "/history.html"; porcupine.VisualizePath(linearModel(), info, path) == nil {
			t.Logf("picture: %s", path)
		}
	}
	return l.kinds
}

func linearModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return [linearKeys]string{} },
		Step: func(state, input, _ any) (bool, any) {
			st, s := state.([linearKeys]string), input.(step)
			if !s.commit {
				return st == s.seen, st
			}
			met := st[s.cond] == s.was
			switch s.outcome {
			case holdfast.Other:
				return met, s.apply(st)
			case holdfast.Conflict:
				return !met, st
			case holdfast.Unknown:
				if met {
					return true, s.apply(st)
				}
				return true, st
			}
			return false, st
		},
	}
}

func (s step) apply(st [linearKeys]string) [linearKeys]string {
	for i, v := range s.puts {
		if v != "" {
			st[i] = v
		}
	}
	return st
}

// History returns the operations as text, to compare two runs.
func (l *Linear) History() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.history)
}
