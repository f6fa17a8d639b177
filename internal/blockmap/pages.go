package blockmap

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
)

// PageID names an encoded page for ever: 1 to MaxPageID, chosen by whoever
// stores it. 0 means that a page has not been stored since it was changed.
type PageID uint64

// MaxPageID is the highest PageID; the top bit marks holes in inner pages.
const MaxPageID PageID = 1<<63 - 1

// Loader reads encoded pages back. It may wait only if the owner of the Pages
// holds no lock meanwhile that others wait for.
type Loader interface {
	Load(id PageID) ([]byte, error)
}

// Miss is the error that a page is needed and not in memory: load ID, Install
// it, and repeat the call. Addr is the page's first block.
type Miss struct {
	ID    PageID
	Level int
	Addr  uint64
	max   holdfast.LSN
	any   bool // Addr and max are not known: a page that is only loaded to go
}

// Error implements error.
func (m *Miss) Error() string {
	return fmt.Sprintf("block map page %d (level %d, block %d) is not in memory", m.ID, m.Level, m.Addr)
}

// handle is a page's index in Pages.nodes; 0 is none.
type handle uint32

// node is a page that something in memory refers to.
type node struct {
	leaf    *leaf  // level 0, in memory
	inner   *inner // level > 0, in memory
	id      PageID // 0: dirty
	refs    uint32 // slots, trees and roots that refer to it
	level   uint8
	used    bool // read since the last eviction pass
	zombie  bool // in Pages.zombies
	lost    bool // given up: an inner page that cannot be read
	counted bool // its references to pages below are counted, in memory or not
	landing bool // encoded by Flush and perhaps not yet on disk
	ring    bool // in Pages.ring
}

func (n *node) resident() bool { return n.leaf != nil || n.inner != nil }

// LeafBytes and InnerBytes are what a page takes in memory.
const (
	LeafBytes  = int64(unsafe.Sizeof(leaf{}))
	InnerBytes = int64(unsafe.Sizeof(inner{}))
)

// Pages owns all pages of one disk. The zero value is not usable.
type Pages struct {
	load    Loader
	nodes   []node            // by handle; [0] is unused
	unused  []handle          // free places in nodes
	byID    map[PageID]handle // clean pages that are known
	freed   []PageID          // no page uses these any more
	absent  map[handle]Miss   // inner pages that were never loaded
	zombies []handle          // without a reference while absent pages may hold one
	doomed  []handle          // inner pages without a reference that are not in memory
	landing []handle          // what Flush has encoded since Landed
	ring    []handle          // pages in memory, and some that were
	hand    int               // where in it the next eviction pass begins
	leaves  int               // leaves in memory
	bytes   int64             // of pages in memory
	dirty   int64             // of those, changed since they were stored or never stored
	spare   []*leaf           // buffers of freed leaves
}

// NewPages returns an empty set of pages; load may be nil (see Miss).
func NewPages(load Loader) *Pages {
	return &Pages{load: load, nodes: make([]node, 1), byID: make(map[PageID]handle), absent: make(map[handle]Miss)}
}

// Leaves is the number of leaf pages in memory, 12 KiB each.
func (p *Pages) Leaves() int { return p.leaves }

// Resident is what the pages in memory take, in bytes; the table of all pages
// that are known, about 60 bytes each, comes on top. Dirty is the part that
// cannot be evicted before it is flushed.
func (p *Pages) Resident() (all, dirty int64) { return p.bytes, p.dirty }

// Freed returns the PageIDs that no tree or root refers to any more, and
// forgets them. Their space may be used again once a checkpoint of all roots as
// they are now is durable. While Absent pages remain, nothing is reported: they
// might refer to the same pages.
func (p *Pages) Freed() []PageID {
	if len(p.absent) > 0 {
		return nil
	}
	f := p.freed
	p.freed = nil
	return f
}

// Absent returns up to max inner pages, in the order of their PageIDs, that were
// never loaded since they became known. After opening the roots of a disk, load
// and Install these until none is left: then every reference is counted.
func (p *Pages) Absent(max int) []*Miss {
	var out []*Miss
	for _, m := range p.absent {
		out = append(out, &m)
	}
	sortMisses(out)
	if len(out) > max {
		out = out[:max]
	}
	return out
}

// Doomed returns up to max pages that nothing refers to any more and that were
// evicted: Install them, and they and what only they refer to go. One that
// cannot be read is for GiveUp.
func (p *Pages) Doomed(max int) []*Miss {
	var out []*Miss
	for _, h := range p.doomed[:min(max, len(p.doomed))] {
		out = append(out, &Miss{ID: p.nodes[h].id, Level: int(p.nodes[h].level), any: true})
	}
	return out
}

// Stored calls f with the PageID of every stored page that a tree or root
// refers to, or a Doomed page, in an order that depends on nothing but what was
// done. While
// Absent pages remain, more may be in use. After a restart, and once none is
// absent, what it does not name is free: Freed only tells of this life.
func (p *Pages) Stored(f func(id PageID)) {
	for i := range p.nodes {
		if n := &p.nodes[i]; n.id != 0 && !n.zombie {
			f(n.id)
		}
	}
}

// add makes a node with one reference.
func (p *Pages) add(n node) handle {
	n.refs = 1
	var h handle
	if k := len(p.unused); k > 0 {
		h = p.unused[k-1]
		p.unused = p.unused[:k-1]
		n.ring = p.nodes[h].ring
		p.nodes[h] = n
	} else {
		if len(p.nodes) == math.MaxUint32 {
			panic("blockmap: more than 2^32 pages") // 8 PiB of blocks on one disk
		}
		p.nodes = append(p.nodes, n)
		h = handle(len(p.nodes) - 1)
	}
	if n.resident() {
		p.nodes[h].counted = true
		p.came(h)
		if n.id == 0 {
			p.dirty += n.bytes()
		}
	}
	return h
}

// bytes is what the page of n takes in memory while it is there.
func (n *node) bytes() int64 {
	if n.level == 0 {
		return LeafBytes
	}
	return InnerBytes
}

// came notes that a page is in memory now, went that it is about not to be.
func (p *Pages) came(h handle) {
	n := &p.nodes[h]
	p.bytes += n.bytes()
	n.used = true
	if !n.ring {
		n.ring = true
		p.ring = append(p.ring, h)
	}
}

func (p *Pages) went(n *node) {
	p.bytes -= n.bytes()
	if n.id == 0 {
		p.dirty -= n.bytes()
	}
	if n.leaf != nil {
		p.dropLeaf(n.leaf)
	}
	n.leaf, n.inner = nil, nil
}

func (p *Pages) newLeaf() *leaf {
	p.leaves++
	if k := len(p.spare); k > 0 {
		l := p.spare[k-1]
		p.spare = p.spare[:k-1]
		return l
	}
	return new(leaf)
}

const maxSpare = 64

// dropLeaf takes a leaf out of memory.
func (p *Pages) dropLeaf(l *leaf) {
	p.leaves--
	if len(p.spare) < maxSpare {
		*l = leaf{}
		p.spare = append(p.spare, l)
	}
}

// release takes one reference away, and with the last one the page. While
// absent pages might refer to it too, a stored page only becomes a zombie.
func (p *Pages) release(h handle) {
	if h == 0 {
		return
	}
	n := &p.nodes[h]
	n.refs--
	switch {
	case n.refs > 0:
	case n.id != 0 && len(p.absent) > 0:
		if !n.zombie {
			n.zombie = true
			p.zombies = append(p.zombies, h)
		}
	default:
		p.remove(h)
	}
}

// remove forgets a page without references and releases its children, or dooms
// it if they are not known.
func (p *Pages) remove(h handle) {
	n := p.nodes[h]
	if n.level > 0 && n.counted && n.inner == nil && !n.lost {
		p.doomed = append(p.doomed, h)
		return
	}
	in := n.inner
	if n.resident() {
		p.went(&n)
	}
	p.forget(h)
	if in != nil {
		for i := range in {
			p.release(in[i].page)
		}
	}
}

// forget gives a page's handle and PageID back.
func (p *Pages) forget(h handle) {
	n := &p.nodes[h]
	if n.id != 0 {
		delete(p.byID, n.id)
		p.freed = append(p.freed, n.id)
	}
	*n = node{ring: n.ring}
	p.unused = append(p.unused, h)
}

// bury removes the zombies that nothing refers to, once that is known.
func (p *Pages) bury() {
	z := p.zombies
	p.zombies = nil
	for _, h := range z {
		n := &p.nodes[h]
		if !n.zombie {
			continue // gone with its parent
		}
		n.zombie = false
		if n.refs == 0 {
			p.remove(h)
		}
	}
}

// own makes the page of s, at level, fit to be changed through s: it makes one
// where there is none, copies a shared one and marks a stored one dirty. Only
// pages that have been loaded may be owned.
func (p *Pages) own(s *slot, level int) {
	if s.page == 0 {
		s.page = p.fill(*s, level)
		s.origin = 0
		return
	}
	n := &p.nodes[s.page]
	if n.refs > 1 || n.id != 0 && len(p.absent) > 0 {
		old := s.page
		s.page = p.copyPage(old)
		p.release(old)
		return
	}
	if n.id != 0 {
		delete(p.byID, n.id)
		p.freed = append(p.freed, n.id)
		n.id, n.landing = 0, false
		p.dirty += n.bytes()
	}
}

// fill makes the page that says the same as an empty slot or a hole.
func (p *Pages) fill(s slot, level int) handle {
	if level == 0 {
		l := p.newLeaf()
		if s.max != 0 {
			for i := range l {
				l[i] = s.holeEntry(0, uint64(i))
			}
		}
		return p.add(node{leaf: l})
	}
	in := new(inner)
	if s.max != 0 {
		for i := range in {
			in[i] = s.child(level, i)
		}
	}
	return p.add(node{inner: in, level: uint8(level)})
}

func (p *Pages) copyPage(h handle) handle {
	n := p.nodes[h]
	if n.leaf != nil {
		l := p.newLeaf()
		*l = *n.leaf
		return p.add(node{leaf: l})
	}
	in := new(inner)
	*in = *n.inner
	for i := range in {
		if c := in[i].page; c != 0 {
			p.nodes[c].refs++
		}
	}
	return p.add(node{inner: in, level: n.level})
}
