package simclock

import "iter"

// killed unwinds a task of a dead host; only the task's own frame recovers it.
type killed struct{}

// task is one function that runs on a host.
type task struct {
	id   int
	host *Host
	f    func()
	co   *coroutine // once it has begun
	run  func()     // resume, made once
}

// coroutine runs one task after the other: its stack, once grown, is kept.
type coroutine struct {
	t     *task // what it runs; nil: idle
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
}

func (h *Host) newTask(f func()) *task {
	h.w.tasks++
	t := &task{id: h.w.tasks, host: h, f: f}
	t.run = t.resume
	h.live[t] = struct{}{}
	return t
}

// coroutine returns one that is idle.
func (w *World) coroutine() *coroutine {
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return c
	}
	c := &coroutine{}
	c.next, c.stop = iter.Pull(c.work)
	return c
}

// work is the coroutine's body.
func (c *coroutine) work(yield func(struct{}) bool) {
	c.yield = yield
	for {
		c.one()
		c.t = nil
		if !yield(struct{}{}) {
			return
		}
	}
}

// one runs the task to its end, or to the death of its host.
func (c *coroutine) one() {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
		}
	}()
	c.t.f()
}

// park lets the world go on until the task is resumed.
func (c *coroutine) park() {
	if !c.yield(struct{}{}) || c.t.host.dead {
		panic(killed{})
	}
}

// resume runs t until it parks or ends. It nests only when a running task
// kills another host, whose tasks then unwind.
func (t *task) resume() {
	if t.host.dead {
		return
	}
	if t.co == nil {
		t.co = t.host.w.coroutine()
		t.co.t = t
	}
	t.switchTo()
}

// switchTo goes on with the task where it is, and takes its coroutine back when
// it has ended.
func (t *task) switchTo() {
	w := t.host.w
	prev := w.cur
	w.cur = t
	t.co.next()
	w.cur = prev
	if t.co.t == nil {
		w.idle = append(w.idle, t.co)
		delete(t.host.live, t)
	}
}

// unwind ends a task of a dead host where it waits.
func (t *task) unwind() {
	if t.co != nil {
		t.switchTo()
	}
}
