package store

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
)

// Checkpoint makes everything durable and bounds the next recovery to what is
// logged from now on. Segments that hold nothing become free with it.
func (s *Store) Checkpoint() error {
	res := clock.NewFuture[error](s.clk)
	s.lock()
	if s.err != nil || s.stopped {
		err := s.err
		if err == nil {
			err = holdfast.Errorf(holdfast.Closed, "disk %s is closed", s.id.Disk)
		}
		s.unlock()
		return err
	}
	s.ckptAsked = append(s.ckptAsked, res.Resolve)
	s.kick()
	s.unlock()
	err, _ := res.Wait(clock.Forever)
	return err
}

// capture is a checkpoint being made: the state at one moment.
type capture struct {
	w      catalogWriter
	log    logPos
	clean  bool            // nothing can follow
	free   map[uint32]bool // segments that hold nothing
	builds []*blockmap.Root
}

// runCheckpoint makes one checkpoint. Only one task may be in it.
func (s *Store) runCheckpoint() (err error) {
	s.lock()
	s.ckptRuns = true
	s.unlock()
	defer func() {
		s.lock()
		s.ckptRuns, s.ckptFailed = false, err != nil
		s.unlock()
		s.merge.Set()
	}()
	var c *capture
	if err := s.wait(func(done func(error)) error {
		if s.err != nil {
			return s.err
		}
		c = s.capture()
		s.afterSync(done)
		return nil
	}); err != nil {
		return err
	}
	crashpoint.At(crashpoint.CheckpointCaptured)
	err = s.writeCheckpoint(c)
	s.lock()
	c.w.release()
	for _, r := range c.builds {
		r.Release()
	}
	s.unlock()
	return err
}

// capture notes the state and where in the log it was. Under the lock.
func (s *Store) capture() *capture {
	s.closeBatch()
	s.commit.Set()
	for _, id := range s.pages.Freed() {
		seg, slot, n := unpackPage(id)
		s.space.clear(seg, slot, uint16(n*blockUnit))
	}
	c := &capture{free: make(map[uint32]bool), clean: s.closing}
	c.w.b = make([]byte, 0, s.catalogBytes+s.catalogBytes/8)
	s.space.each(func(g *segment) {
		if !g.open && g.place != noPlace && g.resident == 0 && g.readers == 0 {
			c.free[g.num] = true
		}
	})
	w := &s.wal
	w.since = 0
	c.log = logPos{place: w.seg.place, seg: w.seg.num, block: w.pos, seq: w.seq}
	c.w.state(s, c.free)
	s.builds(func(h *head) { c.builds = append(c.builds, h.base.Snapshot()) })
	return c
}

// writeCheckpoint puts a capture, whose log is durable, on the disk.
func (s *Store) writeCheckpoint(c *capture) error {
	for _, r := range c.w.roots {
		if err := s.flush(r.root); err != nil {
			return err
		}
	}
	for _, r := range c.builds { // so that their pages can be evicted
		if err := s.flush(r); err != nil {
			return err
		}
	}
	s.lock()
	err := c.w.fillRoots()
	c.w.mapSegments(s, c.free)
	s.unlock()
	if err != nil {
		return err
	}
	root := rootBlock{disk: s.id.Disk, seq: s.ckptSeq + 1, life: s.life, log: c.log, bytes: uint64(len(c.w.b)), crc: checksum.CRC(c.w.b), clean: c.clean}
	if err := s.writeCatalog(&root, c.w.b); err != nil {
		return err
	}
	crashpoint.At(crashpoint.CheckpointCatalog)
	if err := s.writeRoot(&root); err != nil {
		return err
	}
	crashpoint.At(crashpoint.CheckpointRoot)
	s.lock()
	s.adoptRoot(&root, c.free)
	s.unlock()
	crashpoint.At(crashpoint.CheckpointDone)
	return nil
}

// adoptRoot makes free what the checkpoint that is now durable does not need.
func (s *Store) adoptRoot(root *rootBlock, free map[uint32]bool) {
	was := rootBlock{catalog: s.catalog, list: s.catalogList}
	s.space.free = append(s.space.free, was.places()...)
	s.catalog, s.catalogList, s.catalogBytes = root.catalog, root.list, root.bytes
	s.ckptSeq = root.seq
	s.ckptSeg = root.log.seg
	s.cleaner.empty = 0
	s.space.vacate(free)
	s.makeRoom()
	s.drained()
}

// flushSlice is how many pages are encoded under one hold of the lock.
const flushSlice = 32

// chunk is encoded pages that lie together in a segment.
type chunk struct {
	seg uint32
	buf []byte
	off int64
}

// flush writes the dirty pages below a root.
func (s *Store) flush(root *blockmap.Root) error {
	for {
		var chunks []chunk
		s.lock()
		done, err := root.Flush(flushSlice, func(level, size int) (blockmap.PageID, []byte, error) {
			return s.allocPage(level, size, &chunks)
		})
		s.unlock()
		for _, c := range chunks {
			if werr := s.devWrite(&s.usage.Mapped, c.buf, c.off); werr != nil {
				return s.fenceFor("write of block map pages", werr)
			}
			crashpoint.At(crashpoint.CheckpointPages)
		}
		if len(chunks) > 0 {
			s.lock()
			s.pages.Landed()
			s.makeRoom()
			s.unlock()
			s.merge.Set()
		}
		if err != nil || done {
			return err
		}
	}
}

// apartPlaces is from how many places on inner pages have a segment of their own:
// opening reads all of them, which takes few reads where they lie together.
const apartPlaces = 192

// metaLane is which of the segments for map pages a page of a level goes to.
func (s *Store) metaLane(level int) int {
	if level > 0 && s.sb.places >= apartPlaces {
		return 1
	}
	return 0
}

// allocPage gives a page a place, behind the one before if it fits there.
func (s *Store) allocPage(level, size int, chunks *[]chunk) (blockmap.PageID, []byte, error) {
	n := roundUp(size) / blockSize
	l := s.metaLane(level)
	g := s.metaSegs[l]
	if g == nil || g.pos+uint32(n) > s.space.segBlocks {
		if g != nil {
			g.open = false
		}
		s.metaSegs[l] = nil
		place, ok := s.space.take()
		if !ok {
			return 0, nil, holdfast.Errorf(holdfast.NoSpace, "disk %s: no segment is left for a checkpoint", s.id.Disk)
		}
		g = s.space.open(place, classMeta)
		s.metaSegs[l] = g
	}
	off := s.offset(g.place, g.pos)
	k := slices.IndexFunc(*chunks, func(c chunk) bool { return c.seg == g.num && c.off+int64(len(c.buf)) == off })
	if k < 0 {
		k = len(*chunks)
		*chunks = append(*chunks, chunk{seg: g.num, off: off})
	}
	c := &(*chunks)[k]
	if c.buf == nil {
		c.buf = newBuffer(shape{header: flushSlice * 4}).b[:0]
	}
	at := len(c.buf)
	c.buf = c.buf[:at+n*blockSize]
	clear(c.buf[at:])
	slot := uint16(g.pos) * blockUnit
	s.space.mark(g.num, slot, uint16(n*blockUnit))
	g.pos += uint32(n)
	return pageID(g.num, slot, n), c.buf[at : at+size], nil
}

// writeCatalog writes both copies of a catalog and makes everything that the
// new checkpoint refers to durable.
func (s *Store) writeCatalog(root *rootBlock, cat []byte) error {
	fits := len(cat) <= maxCatalog
	for c := 0; c < len(root.catalog) && fits; c++ {
		var err error
		if fits, err = s.writeCopy(root, c, cat); err != nil {
			return s.fenceFor("write of a checkpoint", err)
		}
		crashpoint.At(crashpoint.CheckpointCopy)
	}
	if !fits {
		s.returnPlaces(root)
		return holdfast.Errorf(holdfast.NoSpace, "disk %s: no room for a checkpoint's catalog of %d bytes", s.id.Disk, len(cat))
	}
	return s.sync("a checkpoint", s.dev.Sync)
}

// writeCopy writes one copy of a catalog, and where its places are too many for
// the root, the list of them. It does not fit if no place is left.
func (s *Store) writeCopy(root *rootBlock, c int, cat []byte) (fits bool, err error) {
	per := int(s.sb.segmentBytes)
	for rest := cat; len(rest) > 0; {
		place, ok := s.takePlace()
		if !ok {
			return false, nil
		}
		root.catalog[c] = append(root.catalog[c], place)
		n := min(len(rest), per)
		if err := s.writeUnaligned(rest[:n], s.offset(place, 0)); err != nil {
			return true, err
		}
		rest = rest[n:]
	}
	if len(root.catalog[c]) <= s.rootNames() {
		return true, nil
	}
	place, ok := s.takePlace()
	if !ok {
		return false, nil
	}
	var list []byte
	for _, x := range root.catalog[c] {
		list = le.AppendUint32(list, x)
	}
	root.list[c] = placeList{known: true, place: place, crc: checksum.CRC(list)}
	return true, s.writeUnaligned(list, s.offset(place, 0))
}

func (s *Store) takePlace() (place uint32, ok bool) {
	s.lock()
	defer s.unlock()
	return s.space.take()
}

// rootNames is how many places of a copy a root names itself.
func (s *Store) rootNames() int {
	if s.o.listed {
		return 0
	}
	return rootPlaces
}

// writeUnaligned writes a part of a catalog through a small aligned buffer, filled
// up with zeros.
func (s *Store) writeUnaligned(p []byte, off int64) error {
	const most = 256 // blocks
	buf := newBuffer(shape{header: min(most, roundUp(len(p))/blockSize)}).b
	for len(p) > 0 {
		k := copy(buf, p)
		n := roundUp(k)
		clear(buf[k:n])
		if err := s.devWrite(&s.usage.Catalog, buf[:n], off); err != nil {
			return err
		}
		p, off = p[k:], off+int64(n)
	}
	return nil
}

func (s *Store) returnPlaces(root *rootBlock) {
	s.lock()
	defer s.unlock()
	s.space.free = append(s.space.free, root.places()...)
}

// writeRoot writes both copies of a root, durably.
func (s *Store) writeRoot(root *rootBlock) error {
	p := newBuffer(shape{header: 1}).b
	copy(p, root.encode())
	for c := range 2 {
		if err := s.devWrite(&s.usage.Catalog, p, rootAt(int(root.seq%2), c)); err != nil {
			return s.fenceFor("write of a checkpoint root", err)
		}
		crashpoint.At(crashpoint.CheckpointHalfRoot)
	}
	return s.sync("a checkpoint root", s.dev.Sync)
}
