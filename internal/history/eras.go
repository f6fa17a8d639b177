package history

import (
	"cmp"
	"slices"
)

// An era is what was done to a volume between two moments at which its content
// may have jumped: the memory of all replicas was lost, which begins another
// generation, or the volume was set back. Eras follow each other; within one,
// every block is a register.
type era struct {
	gen    uint32
	revert *Op // that began it, if that was what did
	from   int64
	to     int64 // nothing of it happens later
	ops    []Op  // reads and writes
	syncs  []Op  // flushes that were done
}

const never = int64(1<<63 - 1)

// eras divides a history. A read that went on while the volume was set back is
// nobody's.
func eras(ops []Op) []era {
	ops = slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return o.Kind == Keep })
	slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Or(cmp.Compare(a.Gen, b.Gen), cmp.Compare(a.Call, b.Call)) })
	var out []era
	open := func(gen uint32, r *Op, from, to int64) {
		if n := len(out); n > 0 {
			out[n-1].to = to
		}
		out = append(out, era{gen: gen, revert: r, from: from, to: never})
	}
	for i := range ops {
		o := ops[i]
		if len(out) == 0 || out[len(out)-1].gen != o.Gen {
			open(o.Gen, nil, o.Call, o.Call)
		}
		e := &out[len(out)-1]
		switch {
		case o.Kind == Revert:
			open(o.Gen, &o, o.end(), o.Call)
		case o.Kind == Flush:
			if !o.Unknown {
				e.syncs = append(e.syncs, o)
			}
		case o.Kind == Read && (o.Unknown || o.Call < e.from && e.revert != nil):
		default:
			e.ops = append(e.ops, o)
		}
	}
	for i := range len(out) - 1 {
		e, next := &out[i], &out[i+1]
		e.ops = slices.DeleteFunc(e.ops, func(o Op) bool { return o.Kind == Read && next.revert != nil && o.Return > e.to })
	}
	return out
}

// end is when somebody stopped waiting for the operation.
func (o *Op) end() int64 { return max(o.Call, o.Return) }

// done is when the operation had certainly happened, never if nobody knows.
func (o *Op) done() int64 {
	if o.Unknown {
		return never
	}
	return o.Return
}

// byBlock returns an era's reads and writes of each block, in the order of their
// calls.
func (e *era) byBlock() map[uint64][]Op {
	out := make(map[uint64][]Op)
	for _, o := range e.ops {
		out[o.Block] = append(out[o.Block], o)
	}
	return out
}

// start is what a block may hold when an era begins: now, and on the disks.
type start struct{ now, disk []uint64 }

func with(set []uint64, more ...uint64) []uint64 {
	for _, v := range more {
		if !slices.Contains(set, v) {
			set = append(set, v)
		}
	}
	return set
}

// possible returns what a block may have held at some moment between two, given
// its writes in an era: all that was written by then and had not certainly been
// written over before.
func possible(at start, writes []Op, from, to int64) (out []uint64) {
	covered := func(done int64) bool { // by another write that was done before from
		return slices.ContainsFunc(writes, func(w Op) bool { return w.Call > done && w.done() < from })
	}
	if !covered(-1) {
		out = with(out, at.now...)
	}
	for i := range writes {
		if w := &writes[i]; w.Call <= to && !covered(w.done()) {
			out = with(out, w.Value)
		}
	}
	return out
}

// durable returns what a block may hold after the memory of all replicas was lost
// at the end of an era: what was flushed, or anything after it. A write that asked
// for it is flushed when it is done.
func durable(at start, writes []Op, syncs []Op) (out []uint64) {
	safe := func(w *Op) bool { // w is on the disks, as its client knows
		return !w.Unknown && (w.FUA || slices.ContainsFunc(syncs, func(f Op) bool { return w.Return < f.Call }))
	}
	covered := func(done int64) bool {
		return slices.ContainsFunc(writes, func(w Op) bool { return w.Call > done && safe(&w) })
	}
	if !covered(-1) {
		if out = with(out, at.now...); len(syncs) == 0 {
			out = with(out, at.disk...)
		}
	}
	for i := range writes {
		if w := &writes[i]; !covered(w.done()) {
			out = with(out, w.Value)
		}
	}
	return out
}
