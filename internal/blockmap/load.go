package blockmap

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

func sortMisses(m []*Miss) {
	slices.SortFunc(m, func(a, b *Miss) int { return cmp.Compare(a.ID, b.ID) })
}

// need makes sure that the page of s, which covers base at level, is in memory.
func (p *Pages) need(s slot, level int, base uint64) error {
	n := &p.nodes[s.page]
	n.used = true
	if n.resident() {
		return nil
	}
	if n.lost {
		return corrupt(n.id, "it could not be read when the disk was opened")
	}
	m := &Miss{ID: n.id, Level: level, Addr: base, max: s.max}
	if p.load == nil {
		return m
	}
	b, err := p.load.Load(n.id)
	if err != nil {
		return err
	}
	return p.Install(m, b)
}

// Install puts the encoded page that a Miss asked for into memory. A page that
// is not what its parent says fails with kind Corrupt. A page that is no longer
// wanted is ignored. b is not kept.
func (p *Pages) Install(m *Miss, b []byte) error {
	h, ok := p.byID[m.ID]
	if !ok || p.nodes[h].resident() || p.nodes[h].lost {
		return nil
	}
	if int(p.nodes[h].level) != m.Level {
		return corrupt(m.ID, "it is used at level %d and at level %d", p.nodes[h].level, m.Level)
	}
	d, err := decode(m, b)
	if err != nil {
		return err
	}
	if m.Level == 0 {
		l := p.newLeaf()
		d.entries(l)
		p.nodes[h].leaf, p.nodes[h].used = l, true
		return nil
	}
	in, err := p.link(m, d)
	if err != nil {
		return err
	}
	p.nodes[h].inner = in
	p.settled(h)
	return nil
}

// GiveUp says that an Absent page cannot be read, for good: it no longer holds
// up Freed, and everything below it fails with kind Corrupt. The pages that only
// it refers to stay taken until a restart without the maps that need it. It
// changes nothing for a leaf, which may be asked for again.
func (p *Pages) GiveUp(m *Miss) {
	h, ok := p.byID[m.ID]
	if _, absent := p.absent[h]; !ok || !absent {
		return
	}
	p.nodes[h].lost = true
	p.settled(h)
}

// settled takes an inner page off the list of those that hold up Freed.
func (p *Pages) settled(h handle) {
	delete(p.absent, h)
	if len(p.absent) == 0 {
		p.bury()
	}
}

// link turns a decoded inner page into slots and counts its references.
func (p *Pages) link(m *Miss, d decoded) (*inner, error) {
	in := new(inner)
	var err error
	d.slots(m.Level, func(i int, s slot, id PageID) bool {
		if id != 0 {
			child := &Miss{ID: id, Level: m.Level - 1, Addr: m.Addr + uint64(i)*span(m.Level-1), max: s.max}
			if s.page, err = p.refer(child); err != nil {
				return false
			}
		}
		in[i] = s
		return true
	})
	if err != nil {
		for i := range in {
			p.release(in[i].page)
		}
		return nil, err
	}
	return in, nil
}

// refer adds a reference to a stored page, which becomes known if it was not.
func (p *Pages) refer(m *Miss) (handle, error) {
	if h, ok := p.byID[m.ID]; ok {
		if int(p.nodes[h].level) != m.Level {
			return 0, corrupt(m.ID, "it is used at level %d and at level %d", p.nodes[h].level, m.Level)
		}
		p.nodes[h].refs++
		return h, nil
	}
	h := p.add(node{id: m.ID, level: uint8(m.Level)})
	p.byID[m.ID] = h
	if m.Level > 0 {
		p.absent[h] = *m
	}
	return h, nil
}

// Evict takes up to n clean leaves out of memory, those that were not read
// since the last pass first, and returns how many it found. A page whose Flush
// has not reached the disk yet must not be evicted: wait for the writes first.
func (p *Pages) Evict(n int) int {
	done := 0
	for step := 0; step < 2*len(p.nodes) && done < n; step++ {
		p.hand++
		if p.hand >= len(p.nodes) {
			p.hand = 1
		}
		if p.hand >= len(p.nodes) {
			return done
		}
		e := &p.nodes[p.hand]
		switch {
		case e.leaf == nil || e.id == 0:
		case e.used:
			e.used = false
		default:
			p.dropLeaf(e.leaf)
			e.leaf = nil
			done++
		}
	}
	return done
}

func corrupt(id PageID, format string, args ...any) error {
	args = append([]any{id}, args...)
	return holdfast.Errorf(holdfast.Corrupt, "block map page %d: "+format, args...)
}
