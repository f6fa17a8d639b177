// Package fair shares what there is little of between flows, by weight: a pure
// machine, told of what is taken and given back, and asked whose turn it is.
//
// It is start-time fair queueing with a bound on what is under way (SFQ(D): Goyal,
// Vin and Cheng 1996; Jin, Chase and Kaur 2004). Every flow has a place in virtual
// time, which what it takes moves on by its size over the flow's weight, and the
// one that is furthest behind is next. A flow that took nothing for a while has
// saved up nothing: it is where the others are.
package fair

// Weights of flows: twice the weight is twice as much while there is not enough
// for all.
const (
	MinWeight     = 1
	DefaultWeight = 100
	MaxWeight     = 1000
)

// Gate lets flows take while less than its room is taken. Its caller keeps it to
// one task at a time.
type Gate struct {
	shared  int64 // room while several flows take
	alone   int64 // room while one does
	taken   int64
	last    *Flow   // that took
	run     int64   // what it took since another did
	now     float64 // virtual time: where the last one began that took
	waiting []*Flow
}

// Flow is one that takes. The zero value has the default weight.
type Flow struct {
	weight int
	end    float64 // virtual time up to which it has taken
	taken  int64   // not given back yet
	waits  bool
	wake   func()
}

// New returns a gate with room for so much, while several flows take and while
// one does alone. What is taken may exceed it by as much as a flow takes at once,
// for every flow that had nothing.
func New(shared, alone int64) Gate { return Gate{shared: shared, alone: max(shared, alone)} }

// aloneAfter is how many times the room for one a flow takes before it is alone.
const aloneAfter = 16

// room is what may be taken now.
func (g *Gate) room() int64 {
	if g.run < aloneAfter*g.alone {
		return g.shared
	}
	return g.alone
}

// SetWeight sets a flow's weight for what it takes from here on; 0 is the
// default, others are brought into their range.
func (f *Flow) SetWeight(w int) {
	if w != 0 {
		w = min(max(w, MinWeight), MaxWeight)
	}
	f.weight = w
}

// Weight is the flow's weight.
func (f *Flow) Weight() int {
	if f.weight == 0 {
		return DefaultWeight
	}
	return f.weight
}

// Ask reports whether a flow may take now. Else it waits from here on: Next
// returns it, and wake is for whoever asks for that.
//
// Whose turn it is and who has nothing need not wait for room: those who fill it
// must not make it wait. With closed nobody may, whatever room there is.
func (g *Gate) Ask(f *Flow, closed bool, wake func()) bool {
	if !closed && !g.before(f) && (g.taken < g.room() || f.taken == 0) {
		return true
	}
	f.wake = wake
	if !f.waits {
		f.waits = true
		g.waiting = append(g.waiting, f)
	}
	return false
}

// before reports whether another flow that waits is to go before f.
func (g *Gate) before(f *Flow) bool {
	for _, w := range g.waiting {
		if w != f && max(w.end, g.now) < max(f.end, g.now) {
			return true
		}
	}
	return false
}

// Take takes n for a flow, whether it may or not.
func (g *Gate) Take(f *Flow, n int64) {
	if g.last != f {
		g.last, g.run = f, 0
	}
	g.run += n
	g.now = max(g.now, f.end)
	f.end = g.now + float64(n)*DefaultWeight/float64(f.Weight())
	f.taken += n
	g.taken += n
}

// Give gives back n of what a flow took.
func (g *Gate) Give(f *Flow, n int64) {
	f.taken -= n
	g.taken -= n
}

// Next returns what to call for the flow whose turn it is, which waits no more
// then; nil if there is no room or nobody waits.
func (g *Gate) Next() (wake func()) {
	if g.taken >= g.room() || len(g.waiting) == 0 {
		return nil
	}
	at := 0
	for i, f := range g.waiting {
		if f.end < g.waiting[at].end {
			at = i
		}
	}
	return g.leave(at)
}

// Waits reports whether any flow waits.
func (g *Gate) Waits() bool { return len(g.waiting) > 0 }

// Any returns what to call for any flow that waits, whatever the room; nil if
// there is none.
func (g *Gate) Any() (wake func()) {
	if len(g.waiting) == 0 {
		return nil
	}
	return g.leave(0)
}

func (g *Gate) leave(at int) func() {
	f := g.waiting[at]
	g.waiting = append(g.waiting[:at], g.waiting[at+1:]...)
	wake := f.wake
	f.waits, f.wake = false, nil
	return wake
}
