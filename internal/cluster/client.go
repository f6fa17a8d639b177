package cluster

import (
	"log/slog"
	"slices"
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
)

// Client is one host's live picture of the cluster and its way to change it.
// Its methods may be called from any task.
type Client struct {
	st   kv.Store
	clk  clock.Clock
	log  *slog.Logger
	stop clock.Event
	wg   *clock.Group

	floor Floor // the records never go below

	mu     sync.Mutex
	state  *State
	err    error // the cluster's format is newer than this build, or its records were set back
	subs   []clock.Event
	closed bool

	compared bool // the records are those of the floor, gone on
}

// Open returns a client whose picture is empty (Rev 0) until the first read
// succeeds, and follows every change from then on, through outages. The caller
// closes the client before the store.
func Open(st kv.Store, clk clock.Clock, log *slog.Logger) *Client {
	return OpenAbove(st, clk, log, Floor{})
}

// OpenAbove is Open for a host that knows what the records once held: if they
// were set back, the picture stays as it is and Err says why.
func OpenAbove(st kv.Store, clk clock.Clock, log *slog.Logger, floor Floor) *Client {
	c := &Client{st: st, clk: clk, log: log.With("part", "cluster"), floor: floor,
		stop: clk.NewEvent(), wg: clock.NewGroup(clk), state: emptyState()}
	c.wg.Go(c.run)
	return c
}

// Close ends the following. The last picture stays readable.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop.Set()
	c.wg.Wait()
}

// State returns the newest picture; it is never nil and never changes.
func (c *Client) State() *State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Err returns why nothing can be read or changed at all: kind Invalid if the
// cluster's records are of a newer format than this build knows, Damaged if they
// were set back.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Subscribe has ev set at every change of the picture, or of Err.
func (c *Client) Subscribe(ev clock.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(slices.Clip(c.subs), ev)
}

// Unsubscribe ends that.
func (c *Client) Unsubscribe(ev clock.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = slices.DeleteFunc(slices.Clone(c.subs), func(e clock.Event) bool { return e == ev })
}

// WaitFor waits until f holds of the picture and reports whether it did so
// within timeout (clock.Forever: none).
func (c *Client) WaitFor(f func(*State) bool, timeout time.Duration) bool {
	ev := c.clk.NewEvent()
	c.Subscribe(ev)
	defer c.Unsubscribe(ev)
	end := c.clk.Now() + timeout
	for !f(c.State()) {
		left := timeout
		if timeout >= 0 {
			if left = end - c.clk.Now(); left <= 0 {
				return false
			}
		}
		ev.Wait(left)
	}
	return true
}

// WaitRev waits until the picture includes rev, as Commit returns it.
func (c *Client) WaitRev(rev kv.Rev, timeout time.Duration) bool {
	return c.WaitFor(func(s *State) bool { return s.Rev >= rev }, timeout)
}

// Refresh reads everything and returns a picture that includes every commit
// that ended before the call. Errors are those of kv.Store.Range, and Err's, which
// says more if both do not answer: whoever was set back does not come back by itself.
func (c *Client) Refresh() (*State, error) {
	items, rev, err := c.st.Range(root)
	if why := c.Err(); err != nil && why != nil {
		err = why
	}
	if err != nil {
		return nil, err
	}
	if err := c.compare(items, rev); err != nil {
		return nil, err
	}
	return c.adopt(func(old *State) (*State, error) {
		if err := c.floor.check(items, rev); err != nil {
			return old, err
		}
		if rev < old.Rev {
			return old, nil // a slow answer: the picture has gone on
		}
		s, err := repaint(old, items, rev)
		if err == nil && s.Cluster.ID.IsZero() && !old.Cluster.ID.IsZero() {
			was := Floor{Rev: old.Rev}
			err = was.check(items, rev)
		}
		return s, err
	})
}

// compare looks once whether the records are those that this host knows an earlier
// state of. If they are not, nothing of them is taken in, and Err says why.
func (c *Client) compare(items []kv.Item, rev kv.Rev) error {
	c.mu.Lock()
	done := c.compared
	c.mu.Unlock()
	if done || c.floor.Rev == 0 || rev < c.floor.Rev {
		return nil
	}
	err := c.floor.compare(c.st, items, rev)
	if holdfast.IsKind(err, holdfast.Damaged) {
		_, err = c.adopt(func(old *State) (*State, error) { return old, err })
	}
	c.mu.Lock()
	c.compared = err == nil
	c.mu.Unlock()
	return err
}

// ReadVolume reads one volume's record, as of a revision not older than the
// call; kind NotFound if there is none. The picture does not change by it.
func (c *Client) ReadVolume(id holdfast.VolumeID) (Versioned[Volume], error) {
	if err := c.Err(); err != nil {
		return Versioned[Volume]{}, err
	}
	v, _, err := c.readVolume(id)
	return v, err
}

// adopt replaces the picture by what next makes of it.
func (c *Client) adopt(next func(old *State) (*State, error)) (*State, error) {
	c.mu.Lock()
	old, oldErr := c.state, c.err
	s, err := next(old)
	if err != nil {
		s = old // frozen: nothing of a newer format is guessed at
	}
	c.state, c.err = s, err
	subs := c.subs
	c.mu.Unlock()
	if s != old || (err == nil) != (oldErr == nil) {
		c.tell(old, s, err)
		for _, ev := range subs {
			ev.Set()
		}
	}
	return s, err
}

// tell logs records that became unreadable, and a cluster that did.
func (c *Client) tell(old, s *State, err error) {
	if err != nil {
		c.log.Error("the cluster cannot be read", "err", err)
	}
	keys := make([]string, 0, len(s.Bad))
	for k, why := range s.Bad {
		if old.Bad[k] != why {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		c.log.Error("a record cannot be read; its last readable version stands", "key", k, "err", s.Bad[k])
	}
}

func (c *Client) stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// run reads everything and follows the changes, again and again.
func (c *Client) run() {
	delay := retryMin
	for !c.stopped() {
		s, err := c.Refresh()
		if err == nil {
			delay = retryMin
			err = c.follow(s.Rev)
		}
		if c.stopped() || holdfast.IsKind(err, holdfast.Closed) {
			return
		}
		c.log.Debug("following the cluster broke off", "err", err)
		c.stop.Wait(delay)
		delay = min(2*delay, retryMax)
	}
}

// follow applies changes after rev until the watch breaks, the client is
// closed or a newer format appears.
func (c *Client) follow(rev kv.Rev) error {
	w := c.st.Watch(root, rev)
	defer w.Close()
	for !c.stopped() {
		evs, err := w.Next(pollStop)
		if err != nil {
			return err
		}
		if len(evs) == 0 {
			continue
		}
		if _, err := c.adopt(func(old *State) (*State, error) { return advance(old, evs) }); err != nil {
			return err
		}
	}
	return nil
}
