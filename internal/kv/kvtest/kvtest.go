// Package kvtest is the conformance suite of kv: every Store must pass it, and
// a new behaviour of the seam is written here first.
package kvtest

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// patience bounds what must come; it only ends a hang.
const patience = time.Minute

// Harness is one running store for the suite to use.
type Harness struct {
	// Clock is the clock of the calling host.
	Clock clock.Clock
	// Do runs f as a task of that clock and returns when it has ended.
	Do func(f func())
	// Dial returns a new connection to the one store; the suite closes it.
	Dial func() kv.Store
	// Compact forgets the history up to now.
	Compact func() error
}

// Run checks that the stores that h dials keep the contract of kv.Store.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		f    func(*tester)
	}{
		{"commit and range", commitAndRange},
		{"range of the past", rangePast},
		{"conditions", conditions},
		{"limits", limits},
		{"watch", watch},
		{"watch sees a commit whole", watchWhole},
		{"watch of the past", watchPast},
		{"watch after compaction", watchGap},
		{"lease ends", leaseEnds},
		{"lease is renewed", leaseRenewed},
		{"lease is revoked", leaseRevoked},
		{"key leaves its lease", leaseLeft},
		{"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			for try := 1; ; try++ {
				x := &tester{T: t, h: h, dir: fmt.Sprintf("kvtest/%s/%d/", t.Name(), try)}
				h.Do(func() {
					x.st = h.Dial()
					defer x.st.Close()
					defer x.stop()
					c.f(x)
				})
				if x.held && try < tries {
					t.Logf("the store or its caller was held up, once more after: %q", x.found)
					continue
				}
				for _, f := range x.found {
					t.Error(f)
				}
				return
			}
		})
	}
}

// tries is how often a case is begun whose store did not answer in time, as it
// may at any moment.
const tries = 5

// tester is one case with a store and a part of the map of its own.
type tester struct {
	*testing.T
	h     Harness
	st    kv.Store
	dir   string
	ends  time.Duration // when a lease ends that the case counts on; 0: none
	found []string      // what is wrong
	held  bool          // something of that may be so because somebody was held up
}

// Errorf notes what is wrong.
func (t *tester) Errorf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && (holdfast.IsKind(err, holdfast.Unavailable) || holdfast.IsKind(err, holdfast.Unknown)) {
			t.held = true
		}
	}
	if t.ends > 0 && t.h.Clock.Now() >= t.ends {
		t.held = true
	}
	_, file, line, _ := runtime.Caller(1)
	t.found = append(t.found, fmt.Sprintf("%s:%d: ", filepath.Base(file), line)+fmt.Sprintf(format, args...))
}

// Fatalf ends the case. It unwinds by a panic, since the case may run on a task
// of a simulated world, from which a test cannot be ended otherwise.
func (t *tester) Fatalf(format string, args ...any) {
	t.Helper()
	t.Errorf(format, args...)
	panic(stopped{})
}

type stopped struct{}

func (t *tester) stop() {
	if r := recover(); r != nil && r != (stopped{}) {
		panic(r)
	}
}

func (t *tester) key(name string) string { return t.dir + name }

// put commits name = value without a condition and returns the revision.
func (t *tester) put(name, value string) kv.Rev {
	t.Helper()
	return t.commit(nil, kv.Op{Key: t.key(name), Value: []byte(value)})
}

func (t *tester) commit(conds []kv.Cond, ops ...kv.Op) kv.Rev {
	t.Helper()
	rev, err := t.st.Commit(conds, ops)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return rev
}

func (t *tester) refused(k holdfast.Kind, conds []kv.Cond, ops ...kv.Op) {
	t.Helper()
	if _, err := t.st.Commit(conds, ops); !holdfast.IsKind(err, k) {
		t.Errorf("commit: %v, want an error of kind %v", err, k)
	}
}

// has checks what is below the tester's directory: name, value pairs in order.
func (t *tester) has(want ...string) []kv.Item {
	t.Helper()
	items, _, err := t.st.Range(t.dir)
	if err != nil {
		t.Fatalf("range: %v", err)
	}
	var got []string
	for _, it := range items {
		got = append(got, it.Key[len(t.dir):], string(it.Value))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the map holds %q, want %q", got, want)
	}
	return items
}

// next returns the next batch of a watch as "+name=value@mod" or "-name@mod".
func (t *tester) next(w kv.Watcher) []string {
	t.Helper()
	evs, err := w.Next(patience)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	return t.spell(evs)
}

func (t *tester) spell(evs []kv.Event) (out []string) {
	for _, e := range evs {
		name := e.Key[len(t.dir):]
		if e.Deleted {
			out = append(out, fmt.Sprintf("-%s@%d", name, e.Mod))
		} else {
			out = append(out, fmt.Sprintf("+%s=%s@%d", name, e.Value, e.Mod))
		}
	}
	return out
}

func (t *tester) equal(what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
