package store

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

const (
	scrubChunk = 256 // blocks of one read while nobody else wants the disk
	scrubShort = 32  // and while somebody does
	scrubGap   = 8   // blocks that are read for nothing rather than to read twice
	scrubRate  = 64 << 20
	// scrubShare is the part of the disk's time that a scrub takes at most while
	// somebody else uses it: one in so many.
	scrubShare = 5
)

// readPortion reads and verifies what was collected, and reports whether that was
// done before the store was closed.
func (s *Store) readPortion(p *pass, items []scrubbed) bool {
	var buf []byte
	busy, last := false, uint64(0)
	for len(items) > 0 {
		chunk := scrubChunk
		s.lock()
		stop := s.stopped || s.err != nil
		busy, last = s.scrub.busy != last, s.scrub.busy
		s.unlock()
		if stop {
			return false
		}
		if busy {
			chunk = scrubShort
		}
		if buf == nil {
			buf = newBuffer(shape{header: scrubChunk}).b
		}
		begin := s.clk.Now()
		n, blocks := s.readSome(p, items, buf[:chunk*blockSize])
		done := unitsOfAll(items[:n])
		items = items[n:]
		s.lock()
		p.done += done
		s.scrub.dirty = true
		s.unlock()
		if wait := s.pace(blocks, s.clk.Now()-begin, busy); wait > 0 && s.pause(wait) {
			return false
		}
	}
	return true
}

// pace is how long to rest after a read.
func (s *Store) pace(blocks int, took time.Duration, busy bool) time.Duration {
	rate := s.o.ScrubRate
	if rate <= 0 {
		rate = scrubRate
	}
	wait := time.Duration(float64(blocks)*blockSize/float64(rate)*float64(time.Second)) - took
	if busy {
		wait = max(wait, (scrubShare-1)*took)
	}
	return wait
}

// pause rests, and reports whether the store was closed meanwhile.
func (s *Store) pause(d time.Duration) bool {
	for end := s.clk.Now() + d; ; {
		left := end - s.clk.Now()
		if left <= 0 {
			return false
		}
		s.scrub.wake.Wait(left)
		s.lock()
		stop := s.stopped || s.err != nil
		s.unlock()
		if stop {
			return true
		}
	}
}

// readSome reads the first items that lie close together and returns how many
// that were, and how many blocks were read.
func (s *Store) readSome(p *pass, items []scrubbed, buf []byte) (n, blocks int) {
	var at *segment
	var first, end, unit int // blocks; the unit behind the last item
	var run, bad []scrubbed
	s.lock()
	for ; n < len(items); n++ {
		it := items[n]
		if !s.onDisk(it) {
			continue
		}
		g, u, k := s.space.extent(it.seg, it.slot, uint16(it.units()))
		if g == nil {
			bad = append(bad, it) // it could not be read when it had to be moved
			continue
		}
		if int(k) < it.units() { // it lies in two places
			if at != nil {
				break
			}
			list := s.parts(nil, it.seg, it.slot, uint16(it.units()))
			s.unlock()
			blocks = s.readCut(p, it, list)
			s.lock()
			letParts(list)
			s.unlock()
			return n + 1, blocks
		}
		from, to := int(u)/blockUnit, (int(u)+it.units()+blockUnit-1)/blockUnit
		if at != nil && (g != at || int(u) < unit || from-end > scrubGap || to-first > len(buf)/blockSize) {
			break
		}
		if at == nil {
			at, first = g, from
		}
		end, unit = to, int(u)+it.units()
		it.unit = u
		run = append(run, it)
	}
	if at != nil {
		at.readers++
		off := s.offset(at.place, uint32(first))
		s.unlock()
		bad = append(bad, s.readRun(run, buf[:(end-first)*blockSize], off, first)...)
		s.lock()
		at.readers--
	}
	s.unlock()
	for _, it := range bad {
		s.foundBad(p, it)
	}
	return n, end - first
}

// readRun reads the blocks of a place from first on and returns the items that
// are not what they must be.
func (s *Store) readRun(run []scrubbed, buf []byte, off int64, first int) (bad []scrubbed) {
	err := s.readMedium(buf, off)
	for _, it := range run {
		from := int(it.unit) - first*blockUnit
		if err != nil {
			lo, hi := from/blockUnit*blockSize, roundUp((from+it.units())*unitSize)
			if s.readMedium(buf[lo:hi], off+int64(lo)) != nil {
				bad = append(bad, it)
				continue
			}
		}
		if checksum.Block(it.vol, it.addr, it.lsn, buf[from*unitSize:][:it.units()*unitSize]) != it.hash {
			bad = append(bad, it)
		}
	}
	return bad
}

// readCut reads an item that lies in several places, and returns how many blocks
// that took.
func (s *Store) readCut(p *pass, it scrubbed, list []part) (blocks int) {
	var stored []byte
	for _, x := range list {
		first := x.off / blockSize * blockSize
		span := newBuffer(shape{header: roundUp(int(max(x.off, 0)-max(first, 0))+x.n) / blockSize}).b
		if x.off < 0 || s.readMedium(span, first) != nil {
			stored = nil
			break
		}
		stored = append(stored, span[x.off-first:][:x.n]...)
		blocks += len(span) / blockSize
	}
	if checksum.Block(it.vol, it.addr, it.lsn, stored) != it.hash {
		s.foundBad(p, it)
	}
	return blocks
}

// unitsOfAll is how many units items have together.
func unitsOfAll(items []scrubbed) (n int64) {
	for i := range items {
		n += int64(items[i].units())
	}
	return n
}

// onDisk reports whether something still refers to a block, and it has been
// written. Under the lock.
func (s *Store) onDisk(it scrubbed) bool {
	g := s.space.segs[it.seg]
	if g == nil || !g.isLive(it.slot) {
		return false
	}
	b, _ := s.inMemory(it.seg, it.slot)
	return b == nil
}

// readMedium reads past caches, if the device can.
func (s *Store) readMedium(p []byte, off int64) error {
	if m, ok := s.dev.(disk.Medium); ok {
		return m.ReadMedium(p, off)
	}
	return s.dev.ReadAt(p, off)
}

// foundBad notes a bad block and has it restored.
func (s *Store) foundBad(p *pass, it scrubbed) {
	s.lock()
	g := s.space.segs[it.seg]
	r := s.byNum[it.owner]
	if g == nil || !g.isLive(it.slot) || r == nil {
		s.unlock()
		return
	}
	f := Fault{Replica: r.id, Addr: it.addr, LSN: it.lsn, Origin: it.vol, Hash: it.hash, Hop: HopScrub, seg: it.seg, slot: it.slot}
	p.bad++
	s.noteFault(f)
	tell := s.scrub.onBad
	s.unlock()
	s.log.Warn("scrub found a bad block", "disk", s.id.Disk.String(), "replica", r.id.String(), "block", it.addr)
	if tell != nil {
		tell(f)
	}
}
