// Package visits counts which events have met which states of the protocol's step
// machines, so that a campaign can say what it has not tried. The product counts
// nothing: a nil *Counts costs a comparison.
package visits

// Pair is a state of a machine and an event that may meet it.
type Pair struct {
	State, Event string
	Never        string // why they cannot meet; "": they may
}

// String is how a summary names the pair.
func (p *Pair) String() string { return p.State + ", " + p.Event }

// Machine is a step machine as all its pairs.
type Machine struct {
	Name  string
	Pairs []Pair
}

// Cross makes the pairs of every state and every event, state by state. never says
// why a pair cannot be, "" if it can.
func Cross(name string, states, events []string, never func(state, event int) string) Machine {
	m := Machine{Name: name}
	for s := range states {
		for e := range events {
			m.Pairs = append(m.Pairs, Pair{states[s], events[e], never(s, e)})
		}
	}
	return m
}

// Counts are the visits of one machine. They belong to one task at a time.
type Counts struct {
	Machine Machine
	Of      []uint64 // by Machine.Pairs
}

// Of returns counts of a machine that nobody has visited.
func Of(m Machine) *Counts { return &Counts{Machine: m, Of: make([]uint64, len(m.Pairs))} }

// Hit counts a pair. A nil c counts nothing.
func (c *Counts) Hit(pair int) {
	if c != nil {
		c.Of[pair]++
	}
}

// Impossible returns the first pair that was visited and cannot be; nil: none.
func (c *Counts) Impossible() *Pair {
	for i := range c.Machine.Pairs {
		if p := &c.Machine.Pairs[i]; p.Never != "" && c.Of[i] > 0 {
			return p
		}
	}
	return nil
}
