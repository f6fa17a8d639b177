package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-cloud/holdfast"
)

// Verdict is what a history came to.
type Verdict struct {
	Blocks     int // that were written or read
	Reads      int // that were judged
	Writes     int // of them Unknown, nobody knows whether they happened
	Unknown    int
	Violations []Violation // by their blocks; one of each, the first
}

// Violation is a block whose history cannot have happened.
type Violation struct {
	Block uint64
	Gen   uint32
	Start []uint64 // what it may have held at first
	Ops   []Op     // the fewest that cannot have happened, by their calls
}

// String tells it, the last few operations of it.
func (v *Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "block %d, which held one of %v in generation %d, cannot have done this:", v.Block, v.Start, v.Gen)
	from := max(0, len(v.Ops)-8)
	if from > 0 {
		b.WriteString(" …")
	}
	for i := range v.Ops[from:] {
		o := &v.Ops[from+i]
		end := "never told"
		if !o.Unknown {
			end = fmt.Sprintf("%.6f", float64(o.Return)/1e9)
		}
		fmt.Fprintf(&b, " [%.6f to %s] %s %d;", float64(o.Call)/1e9, end, o.Kind, o.Value)
	}
	return strings.TrimSuffix(b.String(), ";")
}

// Check judges a history: what one volume's clients did since it was made, when it
// was zeroes. Kind Invalid: it cannot be judged, for a value that is there twice or
// a snapshot that is not there.
func Check(ops []Op) (Verdict, error) {
	var v Verdict
	if err := sound(ops); err != nil {
		return v, err
	}
	j := judge{eras: eras(ops), keeps: make(map[uint64]Op), blocks: make(map[uint64]*blockEras)}
	for _, o := range ops {
		if o.Kind == Keep {
			j.keeps[o.Snap] = o
		}
	}
	for i := range j.eras {
		for b, list := range j.eras[i].byBlock() {
			x := j.blocks[b]
			if x == nil {
				x = &blockEras{ops: make([][]Op, len(j.eras))}
				j.blocks[b] = x
			}
			x.ops[i] = list
		}
	}
	for _, b := range slices.Sorted(maps.Keys(j.blocks)) {
		v.Blocks++
		if bad := j.block(b, &v); bad != nil {
			v.Violations = append(v.Violations, *bad)
		}
	}
	return v, nil
}

// sound refuses what no history is.
func sound(ops []Op) error {
	type written struct{ block, value uint64 }
	seen := make(map[written]bool)
	kept := make(map[uint64]bool)
	for i := range ops {
		o := &ops[i]
		if err := o.valid(); err != nil {
			return err
		}
		switch {
		case o.Kind == Write && o.Value != 0:
			w := written{o.Block, o.Value}
			if seen[w] {
				return holdfast.Errorf(holdfast.Invalid, "a history writes %d to block %d twice, so that nobody can tell which one was read", o.Value, o.Block)
			}
			seen[w] = true
		case o.Kind == Keep:
			if kept[o.Snap] {
				return holdfast.Errorf(holdfast.Invalid, "a history takes snapshot %d twice", o.Snap)
			}
			kept[o.Snap] = true
		}
	}
	for i := range ops {
		if o := &ops[i]; o.Kind == Revert && !kept[o.Snap] {
			return holdfast.Errorf(holdfast.Invalid, "a history goes back to snapshot %d, which it never took", o.Snap)
		}
	}
	return nil
}

// judge goes through the blocks of a history.
type judge struct {
	eras   []era
	keeps  map[uint64]Op
	blocks map[uint64]*blockEras
}

// blockEras is what was done to one block, by eras.
type blockEras struct {
	ops    [][]Op
	starts []start
}

// block judges one block, era by era, up to the first that cannot have happened.
func (j *judge) block(b uint64, v *Verdict) *Violation {
	x := j.blocks[b]
	at := start{now: []uint64{0}, disk: []uint64{0}}
	for i := range j.eras {
		if i > 0 {
			at = j.next(x, i)
		}
		ops := settled(x.ops[i])
		x.ops[i] = ops
		at = seen(at, ops)
		x.starts = append(x.starts, at)
		for k := range ops {
			switch o := &ops[k]; {
			case o.Kind == Read:
				v.Reads++
			case o.Unknown:
				v.Unknown++
				fallthrough
			default:
				v.Writes++
			}
		}
		if bad := linear(at.now, ops); bad != nil {
			return &Violation{Block: b, Gen: j.eras[i].gen, Start: at.now, Ops: bad}
		}
	}
	return nil
}

// next is what a block may hold when era i begins.
func (j *judge) next(x *blockEras, i int) start {
	e, was, last := &j.eras[i], x.starts[i-1], x.ops[i-1]
	disk := durable(was, writesOf(last), j.eras[i-1].syncs)
	if e.revert == nil {
		return start{now: disk, disk: disk}
	}
	snap := j.kept(x, j.keeps[e.revert.Snap], i)
	if !e.revert.Unknown {
		return start{now: snap, disk: snap}
	}
	now := possible(was, writesOf(last), e.revert.Call, e.from)
	return start{now: with(now, snap...), disk: with(disk, snap...)}
}

// kept is what a block may hold in a snapshot that was taken before era upto.
func (j *judge) kept(x *blockEras, k Op, upto int) (out []uint64) {
	for i := range upto {
		e := &j.eras[i]
		if e.gen > k.Gen || e.to < k.Call || i > 0 && e.from > k.end() {
			continue
		}
		out = with(out, possible(x.starts[i], writesOf(x.ops[i]), k.Call, k.end())...)
		if k.Gen > e.gen { // and the memory went before it was taken
			out = with(out, durable(x.starts[i], writesOf(x.ops[i]), e.syncs)...)
		}
	}
	return out
}

func writesOf(ops []Op) []Op {
	return slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return !o.writes() })
}

// settled bounds the writes of which nobody knows whether they happened: one whose
// value was read had happened by then. It returns copies.
func settled(ops []Op) []Op {
	ops = slices.Clone(ops)
	first := make(map[uint64]int64)
	for i := range ops {
		if o := &ops[i]; o.Kind == Read && o.Value != 0 {
			if at, ok := first[o.Value]; !ok || o.Return < at {
				first[o.Value] = o.Return
			}
		}
	}
	for i := range ops {
		o := &ops[i]
		if at, ok := first[o.Value]; ok && o.writes() && o.Unknown && at >= o.Call {
			o.Unknown, o.FUA, o.Return = false, false, at
		}
	}
	return ops
}

// seen narrows what a block may have held at first by what was read of it: a value
// that nobody wrote since was there.
func seen(at start, ops []Op) start {
	for i := range ops {
		o := &ops[i]
		if o.Kind != Read || !slices.Contains(at.now, o.Value) {
			continue
		}
		if !slices.ContainsFunc(ops, func(w Op) bool { return w.writes() && w.Value == o.Value }) {
			at.now = []uint64{o.Value}
			return at
		}
	}
	return at
}

// linear asks Porcupine whether a register that held one of some values can have
// done these operations, and returns the fewest that it cannot have, or nil.
func linear(at []uint64, ops []Op) []Op {
	for len(ops) > 0 {
		part, rest := split(ops)
		if !linearizable(at, part) {
			return least(at, part)
		}
		if len(rest) == 0 {
			return nil
		}
		at, ops = []uint64{part[len(part)-1].Value}, rest
	}
	return nil
}

// split cuts operations, which stand in the order of their calls, where nothing was
// under way and the last one had the block to itself, so that its value is what the
// block holds: what follows can be judged alone. Porcupine's memory grows with the
// square of a history's length.
func split(ops []Op) (part, rest []Op) {
	before := int64(-1) // the last return of those before i
	for i := range ops {
		o := &ops[i]
		if i >= splitAfter && i+1 < len(ops) && before < o.Call && !o.Unknown && o.Return < ops[i+1].Call {
			return ops[:i+1], ops[i+1:]
		}
		if o.Unknown && o.Value != 0 {
			continue // nobody read it: it may as well never have happened
		}
		before = max(before, o.done())
	}
	return ops, nil
}

const splitAfter = 64 // operations

// register is the state of a block: a value, or one of those that it may have held
// at first.
type register struct {
	value uint64
	known bool
}

func linearizable(at []uint64, ops []Op) bool {
	list := make([]porcupine.Operation, 0, len(ops))
	for i := range ops {
		o := &ops[i]
		if o.Unknown && (o.Value != 0 || !readsZeroes(ops, o.Call)) {
			continue
		}
		list = append(list, porcupine.Operation{ClientId: i, Input: o, Call: o.Call, Return: o.done()})
	}
	return porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			s, o := state.(register), input.(*Op)
			if o.Kind == Write || s.known && s.value == o.Value {
				return true, register{o.Value, true}
			}
			return !s.known && slices.Contains(at, o.Value), register{o.Value, true}
		},
	}, list)
}

// readsZeroes reports whether zeroes were read at or after a time.
func readsZeroes(ops []Op, from int64) bool {
	return slices.ContainsFunc(ops, func(o Op) bool { return o.Kind == Read && o.Value == 0 && o.Return >= from })
}

// least leaves out what is not needed for operations to be impossible: all that
// ended after the read that tells, and as many of the first as can be.
func least(at []uint64, ops []Op) []Op {
	ends := slices.Clone(ops)
	slices.SortStableFunc(ends, func(a, b Op) int { return cmp.Compare(a.done(), b.done()) })
	for i := range ends {
		if ends[i].Kind != Read {
			continue
		}
		part := slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return o.Call > ends[i].Return || o.Kind == Read && o.Return > ends[i].Return })
		if !linearizable(at, part) {
			return part
		}
	}
	return ops
}
