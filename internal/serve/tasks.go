package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// tasks are the backups and restores that go through this host, and those that
// somebody does not want any more.
type tasks struct {
	mu       sync.Mutex
	list     []*task
	canceled map[string]time.Time
}

// task is one of them. Who asks for it gives it a name, which it keeps when it is
// gone on with elsewhere.
type task struct {
	id, kind string
	volume   holdfast.VolumeID
	begun    time.Time
	total    atomic.Int64 // bytes; 0: not known
	done     atomic.Int64
	stop     func()
}

const (
	canceledFor = 10 * time.Minute // who breaks off asks again within that, or not at all
	maxCanceled = 1000
)

func errCanceled(id string) error {
	return holdfast.Errorf(holdfast.Denied, "task %s was canceled by somebody", id)
}

// begin notes a task; stop ends it. Denied: it was canceled.
func (t *tasks) begin(id, kind string, volume holdfast.VolumeID, stop func()) (*task, error) {
	if id == "" {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, holdfast.Errorf(holdfast.IO, "a name: %w", err)
		}
		id = hex.EncodeToString(b[:])
	}
	x := &task{id: id, kind: kind, volume: volume, begun: time.Now(), stop: stop}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.canceled[id]; ok && time.Since(at) < canceledFor {
		return nil, errCanceled(id)
	}
	t.list = append(t.list, x)
	return x, nil
}

// end forgets a task that has ended.
func (t *tasks) end(x *task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(y *task) bool { return y == x })
}

// wasCanceled reports whether somebody did not want a task any more.
func (t *tasks) wasCanceled(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.canceled[id]
	return ok
}

// cancel ends what has a name, and keeps it from being begun again.
func (t *tasks) cancel(id string) (found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for id, at := range t.canceled {
		if now.Sub(at) > canceledFor || len(t.canceled) >= maxCanceled {
			delete(t.canceled, id)
		}
	}
	if t.canceled == nil {
		t.canceled = map[string]time.Time{}
	}
	t.canceled[id] = now
	for _, x := range t.list {
		if x.id == id {
			found = true
			x.stop()
		}
	}
	return found
}

// all are those under way, in the order in which they began.
func (t *tasks) all() []*task {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.list)
}

// beginTask is tasks.begin, and has the cluster know that there is something to
// ask this host for.
func (h *Host) beginTask(m *member, id, kind string, volume holdfast.VolumeID, stop func()) (*task, error) {
	x, err := h.streams.begin(id, kind, volume, stop)
	if err == nil {
		h.tellTasks(m)
	}
	return x, err
}

func (h *Host) endTask(m *member, x *task) {
	h.streams.end(x)
	h.tellTasks(m)
}

func (h *Host) tellTasks(m *member) {
	n := len(h.streams.all())
	m.node.Lease().Update(func(a *cluster.Alive) { a.Tasks = n })
}

// taskWork shows the tasks of this host.
func (h *Host) taskWork(st *cluster.State) (out []v1.Work) {
	for _, x := range h.streams.all() {
		w := v1.Work{ID: x.id, Kind: x.kind, Volume: nameOf(st, x.volume), VolumeID: x.volume.String(), Host: h.cfg.Name}
		done, total := x.done.Load(), x.total.Load()
		if secs := time.Since(x.begun).Seconds(); secs >= 1 {
			w.Rate = int64(float64(done) / secs)
		}
		if w.Total = total; total > 0 {
			w.Done = min(float64(done)/float64(total), 1)
			if w.Rate > 0 {
				w.LeftSecs = max(0, total-done) / w.Rate
			}
		}
		out = append(out, w)
	}
	return out
}

// CancelWork implements httpapi.Backend.
func (h *Host) CancelWork(ctx context.Context, id string, local bool) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	found := h.streams.cancel(id)
	var silent []string
	if !local {
		ctx, cancel := context.WithTimeout(ctx, workWait)
		defer cancel()
		var elsewhere atomic.Bool
		silent = m.everyOther(m.node.Cluster.State(), h.dir.id.Host, func(_ cluster.Host, c *client.Client) error {
			err := c.CancelWork(ctx, id, true)
			if err == nil {
				elsewhere.Store(true)
			} else if holdfast.IsKind(err, holdfast.NotFound) {
				err = nil
			}
			return err
		})
		found = found || elsewhere.Load()
	}
	switch {
	case found:
		return nil
	case len(silent) > 0:
		return holdfast.Errorf(holdfast.Unavailable, "no host that answers runs task %s, and %d did not answer: try again", id, len(silent))
	}
	return holdfast.Errorf(holdfast.NotFound, "there is no task %s; see 'holdfast task list'", id)
}
