package memexport

import (
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Faults is what goes wrong on a wrapped target, set at any time from any
// goroutine. The zero value is no fault.
type Faults struct {
	mu      sync.Mutex
	rules   []rule
	ended   error
	holding bool
	held    []func()
	later   func(func())
	open    error
	seen    map[export.Op]int
}

type rule struct {
	op    export.Op
	after int
	err   error
}

// Fail lets the next skip requests of op pass and fails the one after them,
// once, without doing it.
func (f *Faults) Fail(op export.Op, skip int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, rule{op: op, after: skip, err: err})
}

// FailOpen makes every further Open fail with err; nil ends that.
func (f *Faults) FailOpen(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = err
}

// End ends every session: all further requests, and those held, fail with
// err, of kind Fenced, LostCache or Closed. nil lets new requests through.
func (f *Faults) End(err error) {
	f.mu.Lock()
	f.ended = err
	f.mu.Unlock()
	f.Release()
}

// Hold keeps all further requests from being done until Release.
func (f *Faults) Hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holding = true
}

// Release does what was held, on the caller's goroutine, and ends Hold.
func (f *Faults) Release() {
	f.mu.Lock()
	held := f.held
	f.held, f.holding = nil, false
	f.mu.Unlock()
	for _, do := range held {
		do()
	}
}

// Held returns how many requests are being held.
func (f *Faults) Held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held)
}

// Later makes every request run through run instead of inside Submit, for
// instance on a task of its own: run may call its argument at any time, from
// anywhere, once.
func (f *Faults) Later(run func(func())) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.later = run
}

// Seen returns how many requests of op were submitted.
func (f *Faults) Seen(op export.Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[op]
}

// Faulty wraps t so that f decides what goes wrong.
func Faulty(t export.Target, f *Faults, clk clock.Clock) export.Target {
	return &faultyTarget{Target: t, f: f, clk: clk}
}

type faultyTarget struct {
	export.Target
	f   *Faults
	clk clock.Clock
}

func (t *faultyTarget) Open(readOnly bool) (export.Disk, error) {
	t.f.mu.Lock()
	err := t.f.open
	t.f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	d, err := t.Target.Open(readOnly)
	if err != nil {
		return nil, err
	}
	return t.wrap(d), nil
}

func (t *faultyTarget) wrap(d export.Disk) export.Disk {
	return &faultyDisk{Disk: d, f: t.f, idle: t.clk.NewEvent()}
}

// OpenShared implements export.Sharer; a target that is none is never shared.
func (t *faultyTarget) OpenShared() (export.Disk, bool, error) {
	s, can := t.Target.(export.Sharer)
	t.f.mu.Lock()
	err := t.f.open
	t.f.mu.Unlock()
	if !can || err != nil {
		d, err := t.Open(false)
		return d, false, err
	}
	d, shared, err := s.OpenShared()
	if err != nil {
		return nil, false, err
	}
	return t.wrap(d), shared, nil
}

// Shared implements export.Sharer.
func (t *faultyTarget) Shared() bool {
	s, can := t.Target.(export.Sharer)
	return can && s.Shared()
}

// Snapshots implements export.Keeper; a target that is none has none.
func (t *faultyTarget) Snapshots() ([]export.Snapshot, error) {
	if k, can := t.Target.(export.Keeper); can {
		return k.Snapshots()
	}
	return nil, nil
}

type faultyDisk struct {
	export.Disk
	f *Faults

	mu      sync.Mutex
	pending int
	closing bool
	idle    clock.Event
}

func (d *faultyDisk) Submit(r *export.Request) {
	f := d.f
	d.enter(r)
	do := func() { d.do(r) }
	f.mu.Lock()
	if f.seen == nil {
		f.seen = map[export.Op]int{}
	}
	f.seen[r.Op]++
	if f.holding {
		f.held = append(f.held, do)
		f.mu.Unlock()
		return
	}
	later := f.later
	f.mu.Unlock()
	if later != nil {
		later(do)
		return
	}
	do()
}

// enter counts r until its completion, for Close to wait.
func (d *faultyDisk) enter(r *export.Request) {
	d.mu.Lock()
	d.pending++
	d.mu.Unlock()
	done := r.Done
	r.Done = func(r *export.Request, err error) {
		r.Done = done // the request is its owner's again
		done(r, err)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.pending--; d.pending == 0 && d.closing {
			d.idle.Set()
		}
	}
}

func (d *faultyDisk) do(r *export.Request) {
	if err := d.f.verdict(r.Op); err != nil {
		r.Done(r, err)
		return
	}
	d.Disk.Submit(r)
}

// Close implements export.Disk; it waits for what is held or still to come.
func (d *faultyDisk) Close() {
	d.mu.Lock()
	d.closing = true
	wait := d.pending > 0
	d.mu.Unlock()
	if wait {
		d.idle.Wait(clock.Forever)
	}
	d.Disk.Close()
}

// verdict applies the faults to one request that is about to be done.
func (f *Faults) verdict(op export.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended != nil {
		return f.ended
	}
	for i := range f.rules {
		if f.rules[i].op != op {
			continue
		}
		if f.rules[i].after--; f.rules[i].after < 0 {
			err := f.rules[i].err
			f.rules = append(f.rules[:i], f.rules[i+1:]...)
			return err
		}
	}
	return nil
}

func (d *faultyDisk) Extents(off, n int64, most int) ([]export.Extent, error) {
	d.f.mu.Lock()
	err := d.f.ended
	d.f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return d.Disk.Extents(off, n, most)
}

// Changes implements export.Comparer.
func (d *faultyDisk) Changes(since holdfast.SnapshotID, off, n int64, most int) ([]export.Change, error) {
	d.f.mu.Lock()
	err := d.f.ended
	d.f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, can := d.Disk.(export.Comparer)
	if !can {
		return nil, holdfast.Errorf(holdfast.NotFound, "the volume has no snapshots")
	}
	return c.Changes(since, off, n, most)
}
