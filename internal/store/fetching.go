package store

import (
	"errors"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// part is units of a block, or of a map page, that lie together on the disk.
type part struct {
	off int64 // in bytes; -1: they could not be read when the cleaner moved them
	n   int   // bytes
	seg *segment
}

// parts finds where n units of an identity are and pins the segments. Under the
// lock; see letParts.
func (s *Store) parts(list []part, seg uint32, slot, n uint16) []part {
	for n > 0 {
		at, unit, k := s.space.extent(seg, slot, n)
		p := part{off: -1, n: int(k) * unitSize, seg: s.nowhere}
		if at != nil {
			p.off, p.seg = s.offset(at.place, 0)+int64(unit)*unitSize, at
		}
		p.seg.readers++
		list = append(list, p)
		slot, n = slot+k, n-k
	}
	return list
}

func letParts(list []part) {
	for _, p := range list {
		p.seg.readers--
	}
}

// piece is one block of a read that is not at its destination yet.
type piece struct {
	at   int    // where it goes, in bytes of the destination
	n    int    // bytes that are stored of it
	mem  []byte // what is stored, if that was in memory; else
	part part   // where it is, or its first part;
	rest []part // the cleaner may have cut it
	f    found
	vol  holdfast.VolumeID
	addr uint64
}

func (p *piece) end() int64 { return p.part.off + int64(p.n) }

// fetching is a read of up to readBlocks blocks: they are looked up under the
// store's lock, then read, verified and opened without it.
type fetching struct {
	s      *Store
	opener Opener
	sealed bool // the destination takes what is stored
	now    bool // only what the device need not wait for
	dst    []byte
	ps     []piece // in pieces, mostly
	pieces [readBlocks]piece

	span []byte // read from the device on the way to being opened; aligned
	held []byte // copied out of batches, for the same
	one  [holdfast.MaxStoredUnits * unitSize]byte
}

const (
	spanBlocks = 32        // longest span that is read at once to be opened
	spanGap    = blockSize // between blocks that are read together
)

// fetching returns what a read needs; end gives it back. o may be nil: then only
// what is stored as it is can be read.
func (s *Store) fetching(o Opener) *fetching {
	ft, _ := s.fetchings.Get().(*fetching)
	if ft == nil {
		ft = new(fetching)
	}
	if o == nil {
		o = asIs{}
	}
	ft.s, ft.opener, ft.sealed, ft.now = s, o, false, false
	return ft
}

// storedFetching returns a fetching whose destination takes what is stored.
func (s *Store) storedFetching() *fetching {
	ft := s.fetching(nil)
	ft.sealed = true
	return ft
}

func (ft *fetching) end() {
	s := ft.s
	ft.s, ft.opener, ft.dst, ft.ps = nil, nil, nil, nil
	s.fetchings.Put(ft)
}

// room is n bytes to read into, whole blocks.
func (ft *fetching) room(n int) []byte {
	if ft.span == nil {
		ft.span = newBuffer(shape{header: spanBlocks}).b
	}
	return ft.span[:n]
}

// begin forgets what was read before and reads into dst from now on.
func (ft *fetching) begin(dst []byte) { ft.dst, ft.ps, ft.held = dst, ft.pieces[:0], ft.held[:0] }

// plain reports whether what is stored of a block is what the destination takes.
func (ft *fetching) plain(p *piece) bool {
	return ft.sealed || p.n == blockSize && ft.opener.Plain(p.vol)
}

// want asks for a block at an offset of the destination. What is in memory is
// copied at once. Under the lock.
func (ft *fetching) want(at int, f found, addr uint64) {
	s := ft.s
	if !f.stored() {
		if !ft.sealed {
			clear(ft.dst[at : at+blockSize])
		}
		return
	}
	if f.b == nil {
		if b, idx := s.inMemory(f.seg, f.slot); b != nil {
			f.b, f.idx = b, idx
		}
	}
	if f.b != nil && f.b.closed { // what is wrong with it is told, and restored, by where it lies
		f.seg, f.slot = f.b.head.seg, f.b.slotOf(f.idx)
	}
	p := piece{at: at, n: checksum.Units(f.hash) * unitSize, f: f, vol: s.origins[f.origin], addr: addr}
	switch {
	case !checksum.Proper(f.hash):
		p.part.off = -1
		p.part.seg = s.nowhere
		s.nowhere.readers++
	case f.b != nil && f.b.buf != nil:
		stored := f.b.stored(s.shape, f.idx)
		if ft.plain(&p) {
			copy(ft.dst[at:], stored)
			return
		}
		k := len(ft.held)
		ft.held = append(ft.held, stored...)
		p.mem = ft.held[k:]
	default:
		var list [1]part
		found := s.parts(list[:0], f.seg, f.slot, uint16(checksum.Units(f.hash)))
		p.part = found[0]
		if len(found) > 1 {
			p.rest = found[1:]
		}
	}
	ft.ps = append(ft.ps, p)
}

// let gives up the pieces. Under the lock.
func (ft *fetching) let() {
	for i := range ft.ps {
		if p := &ft.ps[i]; p.mem == nil {
			p.part.seg.readers--
			letParts(p.rest)
		}
	}
	ft.ps = nil
}

// unpin is let, taking the lock.
func (ft *fetching) unpin() {
	if len(ft.ps) == 0 {
		return
	}
	ft.s.lock()
	ft.let()
	ft.s.unlock()
}

// errNotNow is the error of a read that would have to wait.
var errNotNow = errors.New("the device would have to wait")

func (ft *fetching) dev(p []byte, off int64) error {
	if !ft.now {
		return ft.s.dev.ReadAt(p, off)
	}
	if !ft.s.prompt.ReadNow(p, off) {
		return errNotNow
	}
	return nil
}

// badBlock says which block of a read does not match its hash, or cannot be had.
type badBlock struct {
	p     piece
	cause error
}

func (e *badBlock) Error() string { return "block does not match its hash" }

var errLostBlock = errors.New("its bytes are lost: they could not be read when they were to be moved or copied")

// read fetches what was asked for; what lies together is read together.
func (ft *fetching) read() error {
	for ps := ft.ps; len(ps) > 0; {
		n, err := 1, error(nil)
		switch p := &ps[0]; {
		case p.mem != nil:
			err = ft.take(p, p.mem)
		case p.part.off < 0 || p.rest != nil:
			err = ft.readApart(p)
		case ft.direct(p):
			n = ft.together(ps)
			err = ft.readDirect(ps[:n])
		default:
			n = ft.near(ps)
			err = ft.readSpan(ps[:n])
		}
		if err != nil {
			return err
		}
		ps = ps[n:]
	}
	return nil
}

// direct reports whether a piece can be read to where it goes.
func (ft *fetching) direct(p *piece) bool {
	return p.mem == nil && p.rest == nil && p.part.off >= 0 && p.n == blockSize && p.part.off%blockSize == 0 && ft.plain(p)
}

// together counts the pieces at the front that one read can put where they go.
func (ft *fetching) together(ps []piece) int {
	n := 1
	for n < len(ps) && ft.direct(&ps[n]) && ps[n].part.off == ps[n-1].end() && ps[n].at == ps[n-1].at+blockSize {
		n++
	}
	return n
}

func (ft *fetching) readDirect(ps []piece) error {
	buf := ft.dst[ps[0].at : ps[len(ps)-1].at+blockSize]
	if err := ft.dev(buf, ps[0].part.off); err != nil {
		if ft.now || len(ps) == 1 {
			return &badBlock{ps[0], err}
		}
		for i := range ps {
			if err := ft.readDirect(ps[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range ps {
		if err := ps[i].verify(ft.dst[ps[i].at : ps[i].at+blockSize]); err != nil {
			return err
		}
	}
	return nil
}

// near counts the pieces at the front that lie in one span.
func (ft *fetching) near(ps []piece) int {
	first := ps[0].part.off / blockSize * blockSize
	n := 1
	for ; n < len(ps); n++ {
		p := &ps[n]
		if p.mem != nil || p.rest != nil || p.part.off < ps[n-1].end() || p.part.off > ps[n-1].end()+spanGap ||
			p.end() > first+spanBlocks*blockSize || ft.direct(p) {
			break
		}
	}
	return n
}

func (ft *fetching) readSpan(ps []piece) error {
	first := ps[0].part.off / blockSize * blockSize
	span := ft.room(roundUp(int(ps[len(ps)-1].end() - first)))
	if err := ft.dev(span, first); err != nil {
		if ft.now || len(ps) == 1 {
			return &badBlock{ps[0], err}
		}
		for i := range ps {
			if err := ft.readSpan(ps[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range ps {
		stored := span[ps[i].part.off-first:][:ps[i].n]
		if err := ps[i].verify(stored); err != nil {
			return err
		}
		if err := ft.take(&ps[i], stored); err != nil {
			return err
		}
	}
	return nil
}

// readApart reads a block that was cut, or lost.
func (ft *fetching) readApart(p *piece) error {
	stored := ft.one[:p.n]
	at := 0
	for i := -1; i < len(p.rest); i++ {
		part := p.part
		if i >= 0 {
			part = p.rest[i]
		}
		if part.off < 0 {
			return &badBlock{*p, errLostBlock}
		}
		first := part.off / blockSize * blockSize
		span := ft.room(roundUp(int(part.off-first) + part.n))
		if err := ft.dev(span, first); err != nil {
			return &badBlock{*p, err}
		}
		at += copy(stored[at:], span[part.off-first:][:part.n])
	}
	if err := p.verify(stored); err != nil {
		return err
	}
	return ft.take(p, stored)
}

func (p *piece) verify(stored []byte) error {
	if checksum.Block(p.vol, p.addr, p.f.lsn, stored) != p.f.hash {
		return &badBlock{p: *p}
	}
	return nil
}

// take puts what is stored of a block, or the block, where it goes.
func (ft *fetching) take(p *piece, stored []byte) error {
	if ft.plain(p) {
		copy(ft.dst[p.at:], stored)
		return nil
	}
	return ft.opener.Open(ft.dst[p.at:p.at+blockSize], stored, p.vol, p.addr, p.f.lsn)
}
