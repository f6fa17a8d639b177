package history

import (
	"slices"
	"sync"
)

// Recorder takes down what clients do as they do it. Any number of tasks may use
// one; a nil one takes nothing down.
type Recorder struct {
	mu  sync.Mutex
	ops []Op
	out map[int]bool // refused, or of another history
}

// Begin notes that an operation is called at o.Call, and returns its number for
// End. Until then nobody knows what became of it.
func (r *Recorder) Begin(o Op) int {
	if r == nil {
		return -1
	}
	o.Unknown, o.Return = true, 0
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
	return len(r.ops) - 1
}

// End notes that operation n was done at a time; of a read, with what it read.
func (r *Recorder) End(n int, at int64, value uint64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.ops[n]
	o.Unknown, o.Return = false, at
	if o.Kind == Read {
		o.Value = value
	}
}

// SetGen changes the generation of operation n, once it is known.
func (r *Recorder) SetGen(n int, gen uint32) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops[n].Gen = gen
}

// GiveUp notes that nobody waits for operation n any longer, at a time.
func (r *Recorder) GiveUp(n int, at int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops[n].Return = at
}

// Withdraw notes that operation n was refused: it did not happen, and will not.
func (r *Recorder) Withdraw(n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out == nil {
		r.out = make(map[int]bool)
	}
	r.out[n] = true
}

// Except leaves out what belongs to another history, as is known only now.
func (r *Recorder) Except(other func(Op) bool) {
	if r == nil {
		return
	}
	for n, o := range r.all() {
		if other(o) {
			r.Withdraw(n)
		}
	}
}

func (r *Recorder) all() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// Ops returns a copy of what was taken down so far, without what was left out.
func (r *Recorder) Ops() []Op {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Op
	for n, o := range r.ops {
		if !r.out[n] {
			out = append(out, o)
		}
	}
	return out
}
