package store

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// catalogReader decodes a catalog; the first thing wrong with it sticks.
type catalogReader struct {
	b   []byte
	err error
}

func (c *catalogReader) bad(what string) {
	if c.err == nil {
		c.err = holdfast.Errorf(holdfast.Corrupt, "checkpoint catalog: %s", what)
	}
}

var zeros [64]byte // never written

func (c *catalogReader) take(n int) []byte {
	if c.err == nil && len(c.b) < n {
		c.bad("it is cut off")
	}
	if c.err != nil {
		return zeros[:min(n, len(zeros))]
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *catalogReader) u8() uint8           { return c.take(1)[0] }
func (c *catalogReader) u16() uint16         { return le.Uint16(c.take(2)) }
func (c *catalogReader) u32() uint32         { return le.Uint32(c.take(4)) }
func (c *catalogReader) u64() uint64         { return le.Uint64(c.take(8)) }
func (c *catalogReader) lsn() holdfast.LSN   { return holdfast.LSN(c.u64()) }
func (c *catalogReader) bool() bool          { return c.u8() == 1 }
func (c *catalogReader) uuid() holdfast.UUID { return holdfast.UUID(c.take(16)) }

// count reads a number of items of at least size bytes each.
func (c *catalogReader) count(size int) int {
	n := c.u32()
	if c.err == nil && int64(n)*int64(size) > int64(len(c.b)) {
		c.bad("it counts more items than it has")
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

func (c *catalogReader) root(s *Store) *blockmap.Root {
	p := c.take(blockmap.RootSize)
	if c.err != nil {
		return nil
	}
	r, err := s.pages.OpenRoot(p)
	if err != nil {
		c.err = err
	}
	return r
}

// load fills an empty store from a catalog.
func (s *Store) load(b []byte) error {
	c := &catalogReader{b: b}
	if c.u32() != catalogMagic || c.u32() != FormatVersion {
		c.bad("it is not one")
	}
	s.nextNode, s.nextNum, s.space.next = c.u64(), c.u32(), c.u32()
	s.space.virgin = c.u32()
	if s.space.virgin > s.space.places {
		c.bad("it counts more places than the disk has")
	}
	for range c.count(16) {
		vol := holdfast.VolumeID{UUID: c.uuid()}
		s.originOf[vol] = uint16(len(s.origins))
		s.origins = append(s.origins, vol)
	}
	if len(s.origins) > 1<<16 {
		c.bad("too many volumes")
	}
	c.nodes(s)
	for range c.count(40) {
		c.replica(s)
	}
	for range c.count(blockmap.RootSize + 1) {
		c.job(s)
	}
	for range c.count(20) {
		c.segment(s, true)
	}
	for range c.count(18) {
		c.segment(s, false)
	}
	if c.err == nil && len(c.b) > 0 {
		c.bad("something follows it")
	}
	return c.err
}

func (c *catalogReader) nodes(s *Store) {
	parents := make(map[*node]uint64)
	for range c.count(25) {
		n := &node{id: c.u64()}
		parents[n] = c.u64()
		n.lsn, n.hidden = c.lsn(), c.bool()
		n.root = c.root(s)
		if c.err != nil {
			return
		}
		if n.id == 0 || n.id > s.nextNode || len(s.nodes) > 0 && s.nodes[len(s.nodes)-1].id >= n.id {
			c.bad("a root has no proper number")
		}
		s.nodes = append(s.nodes, n)
	}
	for _, n := range s.nodes {
		if n.parent = c.node(s, parents[n]); n.parent != nil && n.parent.id >= n.id { // what it descends from was there before it
			c.bad("a root descends from itself")
		}
	}
}

// node finds a root by its number; they ascend.
func (s *Store) node(id uint64) *node {
	i, ok := slices.BinarySearchFunc(s.nodes, id, func(n *node, id uint64) int { return cmp.Compare(n.id, id) })
	if !ok {
		return nil
	}
	return s.nodes[i]
}

func (c *catalogReader) node(s *Store, id uint64) *node {
	if id == 0 || c.err != nil {
		return nil
	}
	n := s.node(id)
	if n == nil {
		c.bad("a root is missing")
	}
	return n
}

func (c *catalogReader) replica(s *Store) {
	num := c.u32()
	id, vol := holdfast.ReplicaID{UUID: c.uuid()}, holdfast.VolumeID{UUID: c.uuid()}
	if c.err == nil && (s.byNum[num] != nil || s.replicas[id] != nil) {
		c.bad("a replica is listed twice")
	}
	promise, remembers := holdfast.Epoch(c.u32()), holdfast.Epoch(c.u32())
	build, active := c.bool(), c.bool()
	n := int(c.u16())
	if n > maxDamageText {
		c.bad("a text is too long")
		return
	}
	damage := string(c.take(n))
	if c.err != nil {
		return
	}
	if _, ok := s.originOf[vol]; !ok {
		c.bad("a replica's volume has no number")
		return
	}
	r, err := s.addReplica(num, id, vol)
	if err != nil {
		c.err = err
		return
	}
	for range c.count(2) {
		i := c.u16()
		if int(i) >= len(s.origins) {
			c.bad("a number names no volume")
			return
		}
		r.mayHold(i)
	}
	r.remembers = remembers
	r.promise, r.durProm, r.build, r.replayBuild, r.damage = promise, promise, build, active, damage
	c.head(s, r)
	r.aside = c.snaps(s)
}

func (c *catalogReader) snaps(s *Store) (out []*snap) {
	for range c.count(40) {
		sn := &snap{id: holdfast.SnapshotID{UUID: c.uuid()}, lsn: c.lsn(), blocks: c.u64()}
		if sn.node = c.node(s, c.u64()); sn.node == nil {
			c.bad("a snapshot has no root")
		}
		out = append(out, sn)
	}
	return out
}

func (c *catalogReader) head(s *Store, r *Replica) {
	pos, stable, reverted := c.lsn(), c.lsn(), c.lsn()
	parent := c.node(s, c.u64())
	root := c.root(s)
	if c.err != nil {
		return
	}
	h := newHead(r, blockmap.FromRoot(root))
	root.Release()
	r.head = h
	h.pos, h.prefix, h.stable, h.reverted, h.parent = pos, pos, stable, reverted, parent
	for range c.count(20) {
		h.history = append(h.history, record.Start{Epoch: holdfast.Epoch(c.u32()), Prev: holdfast.Epoch(c.u32()), Cut: c.lsn(), Generation: c.u32()})
	}
	h.setSnaps(c.snaps(s))
	for range c.count(6 + record.HeaderSize) {
		seg, slot := c.u32(), c.u16()
		if c.err != nil {
			return
		}
		rec, rest, err := record.DecodeHeader(c.b)
		if err != nil || rec.LSN <= h.prefix {
			c.bad("a record of the overlay is unreadable or out of order")
			return
		}
		c.b = rest
		o := orec{kind: rec.Kind, count: rec.Count, lsn: rec.LSN, addr: rec.Addr}
		switch {
		case rec.Kind == record.Write:
			o.b = &batch{closed: true, head: logPos{seg: seg}, slot: slot}
			o.b.lay(rec.Hashes)
		case rec.Count == 0:
			o.ctl = &rec
		}
		h.add(o)
	}
}

func (c *catalogReader) job(s *Store) {
	j := &dropJob{from: c.root(s)}
	n := c.u8()
	if n > 2 {
		c.bad("a drop job compares with too many roots")
		return
	}
	for i := range n {
		j.keep[i] = c.root(s)
	}
	if c.err == nil {
		s.jobs = append(s.jobs, j)
	}
}

// slots decodes a set of slots of a segment.
func (c *catalogReader) slots(segBlocks uint32) (set slots) {
	n := c.u16()
	if n == fineBitmap || n == coarseBitmap {
		set = newSlots(segBlocks, n == fineBitmap)
		for i := range set.words {
			set.words[i] = c.u32()
		}
		return set
	}
	for at := 0; n > 0 && c.err == nil; n-- {
		i, k := int(c.u16()), int(c.u16())+1
		if i < at || i+k > int(segBlocks)*blockUnit {
			c.bad("a set of slots is out of order")
			break
		}
		set.add(uint16(i), uint16(k), segBlocks)
		at = i + k
	}
	return set
}

func (c *catalogReader) segment(s *Store, data bool) {
	sp := s.space
	g := &segment{num: c.u32(), place: c.u32(), class: class(c.u8())}
	open := c.u8()
	g.open, g.pos = open != 0, c.u32()
	g.moved = c.moved(sp.segUnits())
	if data {
		g.live = c.slots(sp.segBlocks)
		g.live.thin()
	}
	ok := g.num > 0 && g.num < sp.next && sp.segs[g.num] == nil && (g.place == noPlace || g.place < sp.virgin) &&
		g.pos <= sp.segBlocks && (g.class == classMeta) == !data && g.class >= classLog && g.class <= classMeta
	if c.err == nil && !ok {
		c.bad("a segment's description contradicts the rest")
	}
	if c.err != nil {
		return
	}
	sp.add(g)
	switch {
	case g.open && g.class == classCold && s.cleaner.lanes[laneWarm] == nil:
		s.cleaner.lanes[laneWarm] = g
	case g.open && g.class == classCold && s.cleaner.lanes[laneCold] == nil:
		s.cleaner.lanes[laneCold] = g
	case g.open && g.class == classMeta && open <= 2 && s.metaSegs[open-1] == nil:
		s.metaSegs[open-1] = g
	default:
		g.open = false
	}
}
