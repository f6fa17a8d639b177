package store

import (
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// piece is one block of a read that has to come from the device.
type piece struct {
	at   int // block of the destination
	off  int64
	seg  *segment
	f    found
	vol  holdfast.VolumeID
	addr uint64
}

// readBlocks is how many blocks are looked up under one hold of the lock.
const readBlocks = 64

// ReadAt reads whole blocks of the head from block addr on into dst. Holes and
// blocks never written are zero. Every block is verified against the map's
// hash: a bad one gives a *CorruptError, and dst is not to be used then.
func (r *Replica) ReadAt(dst []byte, addr uint64) error {
	return r.read(dst, addr, nil)
}

// ReadNow is ReadAt of what can be had without waiting for the disk. It returns
// false at once if that is not everything, or if anything is wrong with it: then
// dst holds anything, and ReadAt says what is the matter. See Waits.
func (r *Replica) ReadNow(dst []byte, addr uint64) bool {
	if r.s.prompt == nil || len(dst)%blockSize != 0 {
		return false
	}
	var pieces [readBlocks]piece
	for len(dst) > 0 {
		n := min(len(dst)/blockSize, readBlocks)
		part := dst[:n*blockSize]
		ps, err := r.lookupPieces(pieces[:0], part, addr, nil)
		if err != nil {
			return false
		}
		ok := r.s.readPiecesNow(part, ps)
		r.s.unpin(ps)
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

// ReadSnapshot is ReadAt of a snapshot; kind NotFound if there is none.
func (r *Replica) ReadSnapshot(id holdfast.SnapshotID, dst []byte, addr uint64) error {
	return r.read(dst, addr, &id)
}

func (r *Replica) read(dst []byte, addr uint64, id *holdfast.SnapshotID) error {
	if len(dst)%blockSize != 0 {
		return holdfast.Errorf(holdfast.Invalid, "read of %d bytes: use whole blocks of %d", len(dst), blockSize)
	}
	var pieces [readBlocks]piece
	wait := patience{s: r.s}
	defer wait.end()
	for len(dst) > 0 {
		n := min(len(dst)/blockSize, readBlocks)
		part := dst[:n*blockSize]
		ps, err := r.lookupPieces(pieces[:0], part, addr, id)
		if err != nil {
			var m *blockmap.Miss
			if !errors.As(err, &m) {
				return err
			}
			if err := wait.resolve(err); err != nil {
				return r.pageError(addr, err)
			}
			continue
		}
		err = r.s.readPieces(part, ps)
		r.s.unpin(ps)
		if err != nil {
			return r.readError(err)
		}
		dst = dst[n*blockSize:]
		addr += uint64(n)
	}
	return nil
}

// lookupPieces copies what is in memory and returns the rest, whose segments
// are pinned.
func (r *Replica) lookupPieces(ps []piece, dst []byte, addr uint64, id *holdfast.SnapshotID) ([]piece, error) {
	s := r.s
	s.lock()
	defer s.unlock()
	s.scrub.busy++
	if r.removed || s.closing {
		return nil, r.usable()
	}
	h := r.head
	var sn *snap
	size := h.blocks
	if id != nil {
		if sn = h.snap(*id); sn == nil {
			return nil, holdfast.Errorf(holdfast.NotFound, "replica %s has no snapshot %s", r.id, *id)
		}
		size = sn.blocks
	}
	if n := uint64(len(dst) / blockSize); addr >= size || n > size-addr {
		return nil, holdfast.Errorf(holdfast.Invalid, "read of blocks %d+%d is beyond the end of a volume of %d blocks", addr, n, size)
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
			for _, p := range ps {
				p.seg.readers--
			}
			return nil, err
		}
		p := piece{at: i, f: f, addr: addr + uint64(i)}
		if s.fill(&p, dst) {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// fill copies a block that is in memory, or prepares its read from the device
// and returns true.
func (s *Store) fill(p *piece, dst []byte) bool {
	block := dst[p.at*blockSize : (p.at+1)*blockSize]
	f := &p.f
	if !f.stored() {
		clear(block)
		return false
	}
	if f.b == nil {
		if b, idx := s.inMemory(f.seg, f.slot); b != nil {
			f.b, f.idx = b, idx
		}
	}
	if f.b != nil {
		if f.b.buf != nil {
			copy(block, f.b.payload(s.shape, int(f.idx), 1))
			return false
		}
		f.seg, f.slot = f.b.head.seg, f.b.slot+uint16(f.idx)
	}
	p.vol = s.origins[f.origin]
	at, blk := s.space.locate(f.seg, f.slot)
	if at == nil {
		p.seg, p.off = s.nowhere, -1
	} else {
		p.seg, p.off = at, s.offset(at.place, uint32(blk))
	}
	p.seg.readers++
	return true
}

// inMemory finds the batch that holds a slot and has not been written yet.
func (s *Store) inMemory(seg uint32, slot uint16) (*batch, uint32) {
	if w := &s.wal; w.seg == nil || seg != w.seg.num && len(w.queue) == 0 && len(w.flight) == 0 {
		return nil, 0
	}
	for _, list := range [][]*batch{s.wal.flight, s.wal.queue} {
		for _, b := range list {
			if b.buf != nil && b.head.seg == seg && slot >= b.slot && int(slot-b.slot) < b.n {
				if idx := uint32(slot - b.slot); !slices.Contains(b.lost, idx) {
					return b, idx
				}
				return nil, 0
			}
		}
	}
	return nil, 0
}

// badBlock says which piece of a read does not match its hash.
type badBlock struct {
	p     piece
	cause error
}

func (e *badBlock) Error() string { return "block does not match its hash" }

// together counts the pieces at the front that one read can fetch.
func together(ps []piece) int {
	n := 1
	for n < len(ps) && ps[n].off == ps[n-1].off+blockSize && ps[n].at == ps[n-1].at+1 && ps[0].off >= 0 {
		n++
	}
	return n
}

// readPiecesNow is readPieces of what the device need not wait for.
func (s *Store) readPiecesNow(dst []byte, ps []piece) bool {
	for len(ps) > 0 {
		n := together(ps)
		if ps[0].off < 0 || !s.prompt.ReadNow(dst[ps[0].at*blockSize:(ps[0].at+n)*blockSize], ps[0].off) {
			return false
		}
		for i := range ps[:n] {
			if ps[i].verify(dst) != nil {
				return false
			}
		}
		ps = ps[n:]
	}
	return true
}

// readPieces reads and verifies; runs that lie together are read together.
func (s *Store) readPieces(dst []byte, ps []piece) error {
	for len(ps) > 0 {
		n := together(ps)
		buf := dst[ps[0].at*blockSize : (ps[0].at+n)*blockSize]
		if ps[0].off < 0 {
			return &badBlock{ps[0], errLostBlock}
		}
		if err := s.dev.ReadAt(buf, ps[0].off); err != nil {
			return s.readSingly(dst, ps[:n], err)
		}
		for _, p := range ps[:n] {
			if err := p.verify(dst); err != nil {
				return err
			}
		}
		ps = ps[n:]
	}
	return nil
}

var errLostBlock = errors.New("its bytes are lost: they could not be read when they were to be moved or copied")

func (p *piece) verify(dst []byte) error {
	if checksum.Block(p.vol, p.addr, p.f.lsn, dst[p.at*blockSize:(p.at+1)*blockSize]) != p.f.hash {
		return &badBlock{p: *p}
	}
	return nil
}

// readSingly finds which block of a run the device fails on.
func (s *Store) readSingly(dst []byte, ps []piece, cause error) error {
	for _, p := range ps {
		if err := s.dev.ReadAt(dst[p.at*blockSize:(p.at+1)*blockSize], p.off); err != nil {
			return &badBlock{p, err}
		}
		if err := p.verify(dst); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) unpin(ps []piece) {
	if len(ps) == 0 {
		return
	}
	s.lock()
	for _, p := range ps {
		p.seg.readers--
	}
	s.unlock()
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
	r.markDamaged("its block map cannot be read: " + err.Error())
	r.s.unlock()
	return &CorruptError{Replica: r.id, Addr: addr, cause: err}
}

// unreadable marks the replica damaged if err says that its map cannot be read.
// Under the lock.
func (r *Replica) unreadable(err error) error {
	if holdfast.IsKind(err, holdfast.Corrupt) || holdfast.IsKind(err, holdfast.IO) {
		r.markDamaged("its block map cannot be read: " + err.Error())
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
	var ps [16]piece
	s.lock()
	if s.stopped {
		s.unlock()
		return holdfast.Errorf(holdfast.Closed, "disk %s is closed", s.id.Disk)
	}
	list := ps[:0]
	for i := range n {
		at, blk := s.space.locate(seg, slot+uint16(i))
		if at == nil {
			for _, p := range list {
				p.seg.readers--
			}
			s.unlock()
			return holdfast.Errorf(holdfast.Corrupt, "block map page %d is not on the disk", m.ID)
		}
		at.readers++
		list = append(list, piece{at: i, seg: at, off: s.offset(at.place, uint32(blk))})
	}
	s.unlock()
	var err error
	for i := 0; i < n && err == nil; {
		k := 1
		for i+k < n && list[i+k].off == list[i+k-1].off+blockSize {
			k++
		}
		err = s.dev.ReadAt(buf[i*blockSize:(i+k)*blockSize], list[i].off)
		i += k
	}
	s.unpin(list)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "disk %s: read of a block map page: %w", s.id.Disk, err)
	}
	s.lock()
	defer s.unlock()
	s.makeRoom()
	return s.pages.Install(m, buf)
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
