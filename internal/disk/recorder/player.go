package recorder

import (
	"math/rand/v2"
	"slices"
)

// unit is what no device tears.
const unit = 512

// Player follows a record and knows at every event what a crash may leave.
type Player struct {
	log     []Event
	next    int
	Base    []byte              // what is on the medium for sure
	pending map[int64][]version // by unit, in the order of the record
	upto    map[int]int         // for Crash: where a write ends
	ended   map[int]bool
	open    []int // writes that may not be on the medium
}

// version is what a write would leave in a unit.
type version struct {
	op   int
	data []byte // nil: zeros
}

// NewPlayer follows a record from its beginning, over what the medium held then,
// which it goes on with.
func NewPlayer(log []Event, base []byte) *Player {
	return &Player{log: log, Base: base, pending: map[int64][]version{}, ended: map[int]bool{}}
}

// Event returns the event that Step goes on to, false at the end.
func (p *Player) Event() (Event, bool) {
	if p.next == len(p.log) {
		return Event{}, false
	}
	return p.log[p.next], true
}

// Boundary reports whether an event makes something durable, and so is the end of
// a flush.
func (p *Player) Boundary(e Event) bool {
	return e.Kind == End && !e.Failed && (p.log[e.Of].Kind == Sync || p.log[e.Of].Kind == WriteSync)
}

// Pending is how many writes a crash now may lose.
func (p *Player) Pending() int { return len(p.open) }

// Step goes on by one event and returns the places, in units, that are different
// on the medium for sure.
func (p *Player) Step() (changed []int64) {
	n := p.next
	e := p.log[n]
	p.next++
	switch e.Kind {
	case Write, WriteSync, Discard:
		p.open = append(p.open, n)
		for i := int64(0); i < e.N; i += unit {
			v := version{op: n}
			if e.Data != nil {
				v.data = e.Data[i : i+unit]
			}
			p.pending[(e.Off+i)/unit] = append(p.pending[(e.Off+i)/unit], v)
		}
	case Sync:
		p.log[n].Note = slices.DeleteFunc(slices.Clone(p.open), func(w int) bool { return !p.ended[w] })
	case End:
		if e.Failed {
			return nil
		}
		p.ended[e.Of] = true
		switch of := p.log[e.Of]; of.Kind {
		case WriteSync:
			changed = p.settle([]int{e.Of})
		case Sync:
			changed = p.settle(of.Note.([]int))
		}
	}
	return changed
}

// settle puts writes on the medium for sure.
func (p *Player) settle(ops []int) (changed []int64) {
	for _, op := range ops {
		e := p.log[op]
		for i := int64(0); i < e.N; i += unit {
			at := (e.Off + i) / unit
			vs := p.pending[at]
			k := slices.IndexFunc(vs, func(v version) bool { return v.op == op })
			if k < 0 {
				continue // a later one is there for sure
			}
			put(p.Base[at*unit:][:unit], vs[k].data)
			changed = append(changed, at)
			if vs = vs[k+1:]; len(vs) == 0 {
				delete(p.pending, at)
			} else {
				p.pending[at] = vs
			}
		}
	}
	p.open = slices.DeleteFunc(p.open, func(w int) bool { return slices.Contains(ops, w) })
	return changed
}

func put(dst, data []byte) {
	if data == nil {
		clear(dst)
		return
	}
	copy(dst, data)
}

// Fate is what a crash does to writes that are not there for sure.
type Fate uint8

// The fates.
const (
	Lost    Fate = iota // all of them
	Kept                // none of them
	Some                // each as a whole
	Torn4K              // each block of 4 KiB by itself
	Torn512             // each unit of 512 bytes by itself
	Ended               // each up to some unit
	Fates
)

// Crash returns what the medium holds after a crash now, by unit, where that is not
// what is there for sure.
func (p *Player) Crash(f Fate, rng *rand.Rand) map[int64][]byte {
	type choice struct {
		op int
		at int64
	}
	chosen := map[choice]bool{}
	keeps := func(op int, at int64) bool {
		e := p.log[op]
		c := choice{op: op}
		switch f {
		case Lost:
			return false
		case Kept:
			return true
		case Torn4K:
			c.at = at / (4096 / unit)
		case Torn512:
			c.at = at
		case Ended:
			c.at = -1
		}
		if f == Ended {
			end, ok := p.upto[op]
			if !ok {
				end = rng.IntN(int(e.N/unit) + 1)
				p.upto[op] = end
			}
			return at-e.Off/unit < int64(end)
		}
		k, ok := chosen[c]
		if !ok {
			k = rng.IntN(2) == 0
			chosen[c] = k
		}
		return k
	}
	p.upto = map[int]int{}
	places := make([]int64, 0, len(p.pending))
	for at := range p.pending {
		places = append(places, at)
	}
	slices.Sort(places)
	out := map[int64][]byte{}
	for _, at := range places {
		for _, v := range slices.Backward(p.pending[at]) {
			if keeps(v.op, at) {
				u := make([]byte, unit)
				put(u, v.data)
				out[at] = u
				break
			}
		}
	}
	return out
}

// Unit is what a Player's places count, in bytes.
const Unit = unit
