package store

import (
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
)

// readBlocks is how many blocks are looked up under one hold of the lock.
const readBlocks = 64

// ReadAt reads whole blocks of the head from block addr on into dst. Holes and
// blocks never written are zero. Every block is verified against the map's
// hash: a bad one gives a *CorruptError, and dst is not to be used then. Blocks
// that are compressed or encrypted need an Opener; without one the error has
// kind Unavailable.
func (r *Replica) ReadAt(dst []byte, addr uint64) error { return r.ReadOpened(dst, addr, nil) }

// ReadOpened is ReadAt with what opens stored blocks. Errors of o end it as they
// are.
func (r *Replica) ReadOpened(dst []byte, addr uint64, o Opener) error {
	return r.read(dst, addr, nil, o)
}

// ReadNow is ReadOpened of what can be had without waiting for the disk. It returns
// false at once if that is not everything, or if anything is wrong with it: then
// dst holds anything, and ReadOpened says what is the matter. See Waits.
func (r *Replica) ReadNow(dst []byte, addr uint64, o Opener) bool {
	if r.s.prompt == nil || len(dst)%blockSize != 0 {
		return false
	}
	f := r.s.fetching(o)
	f.now = true
	defer f.end()
	for len(dst) > 0 {
		n := min(len(dst)/blockSize, readBlocks)
		part := dst[:n*blockSize]
		if r.lookupPieces(f, part, addr, nil) != nil {
			return false
		}
		ok := f.read() == nil
		f.unpin()
		if !ok {
			return false
		}
		dst = dst[n*blockSize:]
		addr += uint64(n)
	}
	return true
}

// Waits reports whether reads of this disk may wait for a medium, and ReadNow
// can tell which.
func (s *Store) Waits() bool { return s.prompt != nil }

// ReadSnapshot is ReadOpened of a snapshot; kind NotFound if there is none.
func (r *Replica) ReadSnapshot(id holdfast.SnapshotID, dst []byte, addr uint64, o Opener) error {
	return r.read(dst, addr, &id, o)
}

func (r *Replica) read(dst []byte, addr uint64, id *holdfast.SnapshotID, o Opener) error {
	if len(dst)%blockSize != 0 {
		return holdfast.Errorf(holdfast.Invalid, "read of %d bytes: use whole blocks of %d", len(dst), blockSize)
	}
	f := r.s.fetching(o)
	defer f.end()
	wait := patience{s: r.s}
	defer wait.end()
	for len(dst) > 0 {
		n := min(len(dst)/blockSize, readBlocks)
		part := dst[:n*blockSize]
		if err := r.lookupPieces(f, part, addr, id); err != nil {
			var m *blockmap.Miss
			if !errors.As(err, &m) {
				return err
			}
			if err := wait.resolve(err); err != nil {
				return r.pageError(addr, err)
			}
			continue
		}
		err := f.read()
		f.unpin()
		if err != nil {
			return r.readError(err)
		}
		dst = dst[n*blockSize:]
		addr += uint64(n)
	}
	return nil
}

// lookupPieces copies what is in memory and notes the rest, whose segments are
// pinned.
func (r *Replica) lookupPieces(ft *fetching, dst []byte, addr uint64, id *holdfast.SnapshotID) error {
	s := r.s
	s.lock()
	defer s.unlock()
	s.scrub.busy++
	ft.begin(dst)
	if r.removed || s.closing {
		return r.usable()
	}
	h := r.head
	var sn *snap
	size := h.blocks
	if id != nil {
		if sn = h.snap(*id); sn == nil {
			return holdfast.Errorf(holdfast.NotFound, "replica %s has no snapshot %s", r.id, *id)
		}
		size = sn.blocks
	}
	if n := uint64(len(dst) / blockSize); addr >= size || n > size-addr {
		return holdfast.Errorf(holdfast.Invalid, "read of blocks %d+%d is beyond the end of a volume of %d blocks", addr, n, size)
	}
	for i := range len(dst) / blockSize {
		var f found
		var err error
		if sn != nil {
			f, err = h.lookupSnap(sn, addr+uint64(i))
		} else {
			f, err = h.lookup(addr + uint64(i))
		}
		if err != nil {
			ft.let()
			return err
		}
		ft.want(i*blockSize, f, addr+uint64(i))
	}
	return nil
}

// inMemory finds the batch that holds a slot and has not been written yet.
func (s *Store) inMemory(seg uint32, slot uint16) (*batch, uint32) {
	if w := &s.wal; w.seg == nil || seg != w.seg.num && len(w.queue) == 0 && len(w.flight) == 0 {
		return nil, 0
	}
	for _, list := range [][]*batch{s.wal.flight, s.wal.queue} {
		for _, b := range list {
			if b.buf != nil && b.head.seg == seg && slot >= b.slot && int(slot-b.slot) < b.n {
				i, ok := slices.BinarySearch(b.at, slot-b.slot)
				if idx := uint32(i); ok && !slices.Contains(b.lost, idx) {
					return b, idx
				}
				return nil, 0
			}
		}
	}
	return nil, 0
}

// readError names the replica in an error of readPieces.
func (r *Replica) readError(err error) error {
	if b, ok := err.(*badBlock); ok {
		r.s.log.Warn("bad block", "disk", r.s.id.Disk.String(), "replica", r.id.String(), "block", b.p.addr, "err", b.cause)
		f := Fault{Replica: r.id, Addr: b.p.addr, LSN: b.p.f.lsn, Origin: b.p.vol, Hash: b.p.f.hash, Hop: HopRead, seg: b.p.f.seg, slot: b.p.f.slot}
		r.s.lock()
		r.s.noteFault(f)
		r.s.unlock()
		return &CorruptError{Replica: r.id, Addr: b.p.addr, Fault: f, cause: b.cause}
	}
	return err
}

// pageError turns a map page that cannot be read into a replica that is damaged.
func (r *Replica) pageError(addr uint64, err error) error {
	if holdfast.IsKind(err, holdfast.Closed) {
		return err
	}
	r.s.lock()
	r.markUnread(err)
	r.s.unlock()
	return &CorruptError{Replica: r.id, Addr: addr, cause: err}
}

// unreadable marks the replica damaged if err says that its map cannot be read.
// Under the lock.
func (r *Replica) unreadable(err error) error {
	if holdfast.IsKind(err, holdfast.Corrupt) || holdfast.IsKind(err, holdfast.IO) {
		r.markUnread(err)
	}
	return err
}

// pageID packs where a map page is stored: segment, slot and blocks.
func pageID(seg uint32, slot uint16, blocks int) blockmap.PageID {
	return blockmap.PageID(uint64(seg)<<20 | uint64(slot)<<4 | uint64(blocks))
}

func unpackPage(id blockmap.PageID) (seg uint32, slot uint16, blocks int) {
	return uint32(id >> 20), uint16(id >> 4), int(id & 15)
}

// resolveMiss fetches the page that err asks for; any other error is returned.
func (s *Store) resolveMiss(err error) error {
	var m *blockmap.Miss
	if !errors.As(err, &m) {
		return err
	}
	return s.fetch(m)
}

// withMap runs f under the lock, again and again until every map page it needs
// is in memory.
func (s *Store) withMap(f func() error) error {
	p := patience{s: s}
	defer p.end()
	for {
		s.lock()
		err := f()
		s.unlock()
		if err == nil {
			return nil
		}
		if err = p.resolve(err); err != nil {
			return err
		}
	}
}

// fetch loads a map page. Called without the lock.
func (s *Store) fetch(m *blockmap.Miss) error {
	seg, slot, n := unpackPage(m.ID)
	buf := newBuffer(shape{header: n}).b
	var room [1]part
	s.lock()
	if s.stopped {
		s.unlock()
		return holdfast.Errorf(holdfast.Closed, "disk %s is closed", s.id.Disk)
	}
	list := s.parts(room[:0], seg, slot, uint16(n*blockUnit))
	s.unlock()
	err := s.readParts(buf, list)
	s.lock()
	defer s.unlock()
	letParts(list)
	switch {
	case err == errLostBlock:
		return holdfast.Errorf(holdfast.Corrupt, "block map page %d is not on the disk", m.ID)
	case err != nil:
		return holdfast.Errorf(holdfast.IO, "disk %s: read of a block map page: %w", s.id.Disk, err)
	}
	s.makeRoom()
	return s.pages.Install(m, buf)
}

// readParts reads parts, one behind the other, into whole blocks.
func (s *Store) readParts(buf []byte, list []part) error {
	at := 0
	for _, p := range list {
		if p.off < 0 {
			return errLostBlock
		}
		to := buf[at : at+p.n]
		at += p.n
		skip := int(p.off % blockSize)
		if skip == 0 && len(to)%blockSize == 0 && (at-p.n)%blockSize == 0 {
			if err := s.dev.ReadAt(to, p.off); err != nil {
				return err
			}
			continue
		}
		span := newBuffer(shape{header: roundUp(skip+p.n) / blockSize}).b
		if err := s.dev.ReadAt(span, p.off-int64(skip)); err != nil {
			return err
		}
		copy(to, span[skip:])
	}
	return nil
}

// Run is a stretch of blocks that are all holes or all data.
type Run struct {
	Blocks uint64
	Hole   bool
}

// extentScan bounds the blocks that one Extents call looks at, extentSlice
// those under one hold of the lock.
const (
	extentScan  = 1 << 16
	extentSlice = 1 << 11
)

// Extents describes the head from block addr on as runs, at most max of them
// and at most n blocks; it may cover less, but at least one block.
func (r *Replica) Extents(addr, n uint64, max int) ([]Run, error) {
	if n == 0 || max <= 0 {
		return nil, nil
	}
	var runs []Run
	at, end := addr, addr+min(n, extentScan)
	for full := false; at < end && !full; {
		slice := min(end, at+extentSlice)
		err := r.s.withMap(func() (err error) {
			if err := r.usable(); err != nil {
				return err
			}
			if addr >= r.head.blocks || n > r.head.blocks-addr {
				return holdfast.Errorf(holdfast.Invalid, "extents of blocks %d+%d are beyond the end of a volume of %d blocks", addr, n, r.head.blocks)
			}
			runs, at, full, err = r.extend(runs, at, slice, max)
			return err
		})
		if err != nil {
			return runs, err
		}
	}
	return runs, nil
}

// extend adds blocks at to end to runs until there are max of them.
func (r *Replica) extend(runs []Run, at, end uint64, max int) ([]Run, uint64, bool, error) {
	for ; at < end; at++ {
		f, err := r.head.lookup(at)
		if err != nil {
			return runs, at, false, err
		}
		hole := !f.stored()
		switch k := len(runs); {
		case k > 0 && runs[k-1].Hole == hole:
			runs[k-1].Blocks++
		case k == max:
			return runs, at, true, nil
		default:
			runs = append(runs, Run{1, hole})
		}
	}
	return runs, at, false, nil
}
