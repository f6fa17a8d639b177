package blockmap

import "github.com/holdfast-cloud/holdfast"

// Tree is a map that can be changed: the head of a replica.
type Tree struct{ m mapping }

// Root is a map that does not change: a snapshot or a pin. It keeps its pages
// until it is released.
type Root struct{ m mapping }

// mapping is a slot that covers a whole map.
type mapping struct {
	p      *Pages
	top    slot
	level  int // of the top slot's page
	blocks uint64
}

// New returns an empty map of blocks blocks, up to holdfast.MaxVolumeBlocks.
func (p *Pages) New(blocks uint64) (*Tree, error) {
	if blocks == 0 || blocks > holdfast.MaxVolumeBlocks {
		return nil, holdfast.Errorf(holdfast.Invalid, "block map: %d blocks, allowed are 1 to %d", blocks, uint64(holdfast.MaxVolumeBlocks))
	}
	return &Tree{mapping{p: p, blocks: blocks, level: levelFor(blocks)}}, nil
}

// FromRoot returns a map that begins as r is: a clone, a revert, a build. O(1).
func FromRoot(r *Root) *Tree { return &Tree{r.m.share()} }

// Snapshot returns the map as it is now. O(1): later changes copy pages.
func (t *Tree) Snapshot() *Root { return &Root{t.m.share()} }

// Share returns another reference to the same map. O(1).
func (r *Root) Share() *Root { return &Root{r.m.share()} }

// Release gives up the map; pages that nothing else uses go. Neither the map
// nor its methods may be used afterwards; a second Release does nothing.
func (t *Tree) Release() { t.m.release() }

// Release gives up the root; pages that nothing else uses go. Neither the root
// nor its methods may be used afterwards; a second Release does nothing.
func (r *Root) Release() { r.m.release() }

// Blocks is the size of the map in blocks.
func (t *Tree) Blocks() uint64 { return t.m.blocks }

// Blocks is the size of the map in blocks.
func (r *Root) Blocks() uint64 { return r.m.blocks }

// MaxLSN is the highest LSN of any entry; 0 if there is none. O(1).
func (t *Tree) MaxLSN() holdfast.LSN { return t.m.top.max }

// MaxLSN is the highest LSN of any entry; 0 if there is none. O(1).
func (r *Root) MaxLSN() holdfast.LSN { return r.m.top.max }

// Same reports whether the map is what a root is, page for page. O(1).
func (t *Tree) Same(r *Root) bool {
	return t.m.top == r.m.top && (t.m.level == r.m.level || t.m.top.max == 0)
}

// Get returns the entry of a block, the zero Entry if it was never written. A
// block beyond the end gives kind Invalid, a page that is not in memory *Miss.
func (t *Tree) Get(addr uint64) (Entry, error) { return t.m.get(addr) }

// Get is Tree.Get.
func (r *Root) Get(addr uint64) (Entry, error) { return r.m.get(addr) }

// Grow makes the map larger, never smaller.
func (t *Tree) Grow(blocks uint64) error {
	m := &t.m
	if blocks < m.blocks || blocks > holdfast.MaxVolumeBlocks {
		return holdfast.Errorf(holdfast.Invalid, "block map: cannot go from %d blocks to %d; a map only grows, up to %d",
			m.blocks, blocks, uint64(holdfast.MaxVolumeBlocks))
	}
	for m.level < levelFor(blocks) {
		m.level++
		if m.top.max == 0 {
			continue
		}
		in := new(inner)
		in[0] = m.top
		m.top = slot{max: m.top.max, page: m.p.add(node{inner: in, level: uint8(m.level)})}
	}
	m.blocks = blocks
	return nil
}

// Set replaces the entry of a block and returns the one before. The zero Entry
// makes the block never written again. On an error nothing has changed.
func (t *Tree) Set(addr uint64, e Entry) (old Entry, err error) {
	m := &t.m
	if err := m.check(addr, 1); err != nil {
		return Entry{}, err
	}
	if !e.valid() {
		return Entry{}, holdfast.Errorf(holdfast.Invalid, "block map: entry %+v of block %d is neither data, hole nor empty", e, addr)
	}
	return m.p.set(&m.top, m.level, addr, e)
}

func (m *mapping) share() mapping {
	if m.top.page != 0 {
		m.p.nodes[m.top.page].refs++
	}
	return *m
}

func (m *mapping) release() {
	m.p.release(m.top.page)
	m.top, m.blocks = slot{}, 0
}

func (m *mapping) check(addr, n uint64) error {
	if addr >= m.blocks || n > m.blocks-addr {
		return holdfast.Errorf(holdfast.Invalid, "block map: blocks %d+%d are beyond the end of a volume of %d blocks", addr, n, m.blocks)
	}
	return nil
}

func (m *mapping) get(addr uint64) (Entry, error) {
	if addr >= m.blocks {
		return Entry{}, m.check(addr, 1)
	}
	p, s := m.p, m.top
	for level := m.level; ; level-- {
		if s.page == 0 {
			if s.max == 0 {
				return Entry{}, nil
			}
			return s.holeEntry(level, addr&(span(level)-1)), nil
		}
		n := &p.nodes[s.page]
		if !n.resident() {
			if err := p.need(s, level, addr&^(span(level)-1)); err != nil {
				return Entry{}, err
			}
			n = &p.nodes[s.page]
		}
		n.used = true
		if level == 0 {
			return n.leaf[addr&(Fan-1)], nil
		}
		s = n.inner[index(addr, level)]
	}
}

// set changes one entry below s. Pages are loaded and owned on the way down and
// the highest LSNs mended on the way up.
func (p *Pages) set(s *slot, level int, addr uint64, e Entry) (old Entry, err error) {
	if s.page == 0 && s.max == 0 && e.LSN == 0 {
		return Entry{}, nil
	}
	if s.page != 0 {
		if err := p.need(*s, level, addr&^(span(level)-1)); err != nil {
			return Entry{}, err
		}
	}
	p.own(s, level)
	n := &p.nodes[s.page]
	if level == 0 {
		at := &n.leaf[addr&(Fan-1)]
		old, *at = *at, e
	} else if old, err = p.set(&n.inner[index(addr, level)], level-1, addr, e); err != nil {
		return old, err
	}
	switch {
	case e.LSN >= s.max:
		s.max = e.LSN
	case old.LSN == s.max:
		p.mend(s)
	}
	return old, nil
}

// mend computes a slot's highest LSN from its page and drops an empty page.
func (p *Pages) mend(s *slot) {
	n := &p.nodes[s.page]
	s.max = 0
	if n.leaf != nil {
		for i := range n.leaf {
			s.max = max(s.max, n.leaf[i].LSN)
		}
	} else {
		for i := range n.inner {
			s.max = max(s.max, n.inner[i].max)
		}
	}
	if s.max == 0 {
		p.release(s.page)
		s.page = 0
	}
}
