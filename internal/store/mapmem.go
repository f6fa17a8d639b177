package store

import (
	"cmp"
	"errors"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
)

// The pages of the block maps share Options.MapMemory. What is clean goes when
// another page is needed; what is dirty makes a checkpoint due at half of it,
// and the merge waits for that at three quarters: what is written meanwhile is
// kept in the overlays, where a block takes a hundredth of a page.

// defaultMapMemory is that of a store which is told nothing.
const defaultMapMemory = 64 << 20

// SetMapMemory changes how many bytes of memory the pages of the block maps may
// take.
func (s *Store) SetMapMemory(bytes int64) {
	s.lock()
	defer s.unlock()
	s.o.MapMemory = bytes
	s.makeRoom()
	s.kick()
}

// MapResident is what the pages of the block maps take in memory, in bytes.
func (s *Store) MapResident() int64 {
	s.lock()
	defer s.unlock()
	all, _ := s.pages.Resident()
	return all
}

// makeRoom evicts pages if there are too many in memory. Under the lock.
func (s *Store) makeRoom() {
	if all, _ := s.pages.Resident(); all > s.o.MapMemory && s.hoarders == 0 {
		s.pages.Evict(s.o.MapMemory - s.o.MapMemory/16)
	}
}

// mapDirty reports whether so much of the maps is dirty that a checkpoint is
// due. A small log since the last one says that another would not help: a pin
// or a large overlay holds it.
func (s *Store) mapDirty() bool {
	_, dirty := s.pages.Resident()
	return dirty > s.o.MapMemory/2 && s.wal.since > min(s.o.CheckpointBytes, s.o.MapMemory)/8
}

// mergeHeld reports whether merging waits for a checkpoint to write map pages.
func (s *Store) mergeHeld() bool {
	_, dirty := s.pages.Resident()
	return dirty > s.o.MapMemory/4*3 && !s.ckptFailed && (s.ckptRuns || s.mapDirty())
}

// maxLag is how many blocks may wait in overlays for the merge before writers
// pause: about 12 MiB of memory.
const maxLag = 1 << 17

// noteLag finds out whether the merge lags behind. Under the lock.
func (s *Store) noteLag(mergeable bool) {
	blocks := 0
	if mergeable {
		s.heads(func(h *head) { blocks += h.index.len() })
	}
	switch {
	case blocks > maxLag:
		s.lags = true
	case blocks < maxLag/2 && s.lags:
		s.lags = false
		s.drained()
	}
}

// patience resolves the misses of one operation. One that needs many pages at
// once must find those of before still there when it has got the last: after
// hoardAfter misses nothing is evicted until it is over.
type patience struct {
	s      *Store
	misses int
}

const hoardAfter = 64

// resolve fetches the page that err asks for; any other error is returned.
func (p *patience) resolve(err error) error {
	var m *blockmap.Miss
	if !errors.As(err, &m) {
		return err
	}
	if p.misses++; p.misses == hoardAfter {
		p.s.lock()
		p.s.hoarders++
		p.s.unlock()
	}
	return p.s.fetch(m)
}

// end must be called when the operation is over.
func (p *patience) end() {
	if p.misses >= hoardAfter {
		p.s.lock()
		p.s.hoarders--
		p.s.makeRoom()
		p.s.unlock()
	}
	p.misses = 0
}

// bury loads map pages that nothing refers to any more, so that they and what
// only they refer to go. It reports whether there were any.
func (s *Store) bury() bool {
	s.lock()
	doomed := s.pages.Doomed(16)
	s.unlock()
	s.fetchAll(doomed, narrow(), true)
	return len(doomed) > 0
}

// together bounds what is read at once of pages that lie near each other.
type together struct {
	gap int64 // blocks between two pages that are read over
	max int64 // blocks
}

// narrow is for pages that are wanted now, wide for the inner pages of a disk that is
// opened.
func narrow() together { return together{gap: 16, max: 256} }
func wide() together   { return together{gap: 64, max: 1024} }

// fetchAll loads map pages, those that lie together with one read, and returns how
// many cannot be read: these are given up if giveUp is set.
func (s *Store) fetchAll(misses []*blockmap.Miss, how together, giveUp bool) (lost int) {
	type want struct {
		m   *blockmap.Miss
		off int64
		n   int
	}
	var list []want
	var segs []*segment
	s.lock()
	for _, m := range misses {
		seg, slot, n := unpackPage(m.ID)
		at, off := s.whole(seg, slot, n)
		if at != nil {
			at.readers++
			segs = append(segs, at)
		}
		list = append(list, want{m, off, n})
	}
	s.unlock()
	slices.SortStableFunc(list, func(a, b want) int { return cmp.Compare(a.off, b.off) })
	for len(list) > 0 {
		first, end := list[0], list[0].off+int64(list[0].n)*blockSize
		k := 1
		for ; k < len(list) && first.off >= 0 && list[k].off <= end+how.gap*blockSize && list[k].off-first.off < how.max*blockSize; k++ {
			end = max(end, list[k].off+int64(list[k].n)*blockSize)
		}
		var buf []byte
		if first.off >= 0 && k > 1 {
			buf = newBuffer(shape{header: int((end - first.off) / blockSize)}).b
			if s.dev.ReadAt(buf, first.off) != nil {
				buf = nil
			}
		}
		for _, w := range list[:k] {
			if err := s.take(w.m, buf, w.off-first.off, w.n); err == nil || holdfast.IsKind(err, holdfast.Closed) {
				continue
			} else if lost++; giveUp {
				s.giveUpPage(w.m, err)
			}
		}
		list = list[k:]
	}
	s.lock()
	for _, g := range segs {
		g.readers--
	}
	s.unlock()
	return lost
}

// whole finds a page that lies in one piece, on whole blocks; else the offset is negative.
func (s *Store) whole(seg uint32, slot uint16, n int) (*segment, int64) {
	units := uint16(n * blockUnit)
	at, unit, k := s.space.extent(seg, slot, units)
	if at == nil || n == 0 || k < units || unit%blockUnit != 0 {
		return nil, -1
	}
	return at, s.offset(at.place, uint32(unit/blockUnit))
}

// take installs a page from what was read, or reads it by itself.
func (s *Store) take(m *blockmap.Miss, buf []byte, at int64, n int) error {
	if buf != nil {
		s.lock()
		s.makeRoom()
		err := s.pages.Install(m, buf[at:at+int64(n)*blockSize])
		s.unlock()
		if err == nil {
			return nil
		}
	}
	return s.fetch(m)
}

func (s *Store) giveUpPage(m *blockmap.Miss, err error) {
	s.log.Error("a block map page cannot be read", "disk", s.id.Disk.String(), "err", err)
	s.lock()
	s.pages.GiveUp(m)
	s.unlock()
}

// aheadBlocks is how much of a map is read ahead by what goes through all of it.
const aheadBlocks = 64 * blockmap.Fan

// ahead loads the pages that a walk of a root of the pin, or of what it differs
// by from another, is about to ask for. What cannot be read the walk will tell.
func (p *Pin) ahead(root, against holdfast.SnapshotID, from uint64) {
	s := p.r.s
	for range 4 { // levels
		s.lock()
		a, err := p.shown(root)
		var b *blockmap.Root
		if err == nil && !against.IsZero() {
			b, err = p.shown(against)
		}
		var absent []*blockmap.Miss
		if err == nil {
			absent = blockmap.Ahead(a, b, from, from+aheadBlocks)
		}
		s.unlock()
		if s.fetchAll(absent, narrow(), false) > 0 || !slices.ContainsFunc(absent, func(m *blockmap.Miss) bool { return m.Level > 0 }) {
			return
		}
	}
}
