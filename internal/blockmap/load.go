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
		p.nodes[h].leaf = l
		p.came(h)
		return nil
	}
	if p.nodes[h].counted {
		return p.again(h, m, d)
	}
	in, err := p.link(m, d)
	if err != nil {
		return err
	}
	p.nodes[h].inner, p.nodes[h].counted = in, true
	p.came(h)
	p.settled(h)
	return nil
}

// again takes an inner page into memory whose references are counted already;
// one that is doomed goes with them.
func (p *Pages) again(h handle, m *Miss, d decoded) error {
	in := new(inner)
	var err error
	d.slots(m.Level, func(i int, s slot, id PageID) bool {
		if id != 0 {
			if s.page = p.byID[id]; s.page == 0 || int(p.nodes[s.page].level) != m.Level-1 {
				err = corrupt(m.ID, "page %d, which it refers to, is not known", id)
				return false
			}
		}
		in[i] = s
		return true
	})
	if err != nil {
		return err
	}
	if p.buried(h) {
		for i := range in {
			p.release(in[i].page)
		}
		return nil
	}
	p.nodes[h].inner = in
	p.came(h)
	return nil
}

// buried forgets a page if it is doomed, and reports whether it was.
func (p *Pages) buried(h handle) bool {
	if n := &p.nodes[h]; n.refs > 0 || n.zombie {
		return false
	}
	at := slices.Index(p.doomed, h)
	if at < 0 {
		return false
	}
	p.doomed = slices.Delete(p.doomed, at, at+1)
	p.forget(h)
	return true
}

// GiveUp says that an Absent or Doomed page cannot be read, for good: it no
// longer holds up Freed, and everything below it fails with kind Corrupt. The
// pages that only it refers to stay taken until a restart without the maps that
// need it. It changes nothing for other pages, which may be asked for again.
func (p *Pages) GiveUp(m *Miss) {
	h, ok := p.byID[m.ID]
	if ok && p.buried(h) {
		return
	}
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

// evictSteps bounds how many pages one Evict looks at, and so how long its
// caller holds its lock.
const evictSteps = 4096

// Evict takes clean pages out of memory, those that were not used since the last
// pass first, until all that are there take no more than so many bytes, or it
// has looked at a few thousand.
func (p *Pages) Evict(to int64) {
	for step := 0; step < evictSteps && p.bytes > to && p.bytes > p.dirty && len(p.ring) > 0; step++ {
		if p.hand++; p.hand >= len(p.ring) {
			p.hand = 0
		}
		n := &p.nodes[p.ring[p.hand]]
		switch {
		case !n.resident():
			p.unring()
		case n.id == 0 || n.landing:
		case n.used:
			n.used = false
		default:
			p.went(n)
			p.unring()
		}
	}
}

// unring takes what the hand points at out of the ring.
func (p *Pages) unring() {
	k := len(p.ring) - 1
	p.nodes[p.ring[p.hand]].ring = false
	p.ring[p.hand] = p.ring[k]
	p.ring = p.ring[:k]
	p.hand--
}

func corrupt(id PageID, format string, args ...any) error {
	args = append([]any{id}, args...)
	return holdfast.Errorf(holdfast.Corrupt, "block map page %d: "+format, args...)
}
