package store

import (
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// scanned is one batch found in the log.
type scanned struct {
	headerInfo
	at      logPos
	entries []entry
}

// scan is what the log holds behind a checkpoint.
type scan struct {
	batches []scanned
	damage  string // not "": a batch that was on disk cannot be read
	synced  uint64 // last batch that a later one calls synced
	window  []byte // what was read last
	from    int64
}

const windowBlocks = 256

// scanBlock returns a block of a place, reading ahead; it is valid until the next
// is asked for.
func (s *Store) scanBlock(sc *scan, place, block uint32) ([]byte, error) {
	off := s.offset(place, block)
	if sc.window == nil || off < sc.from || off+blockSize > sc.from+int64(len(sc.window)) {
		n := int(min(windowBlocks, s.space.segBlocks-block)) * blockSize
		buf := sc.window[:cap(sc.window)]
		if sc.window = nil; len(buf) < n {
			buf = newBuffer(shape{header: n / blockSize}).b
		}
		buf = buf[:n]
		if err := s.dev.ReadAt(buf, off); err != nil {
			buf = buf[:blockSize]
			if err := s.dev.ReadAt(buf, off); err != nil {
				return nil, err
			}
		}
		sc.window, sc.from = buf, off
	}
	return sc.window[off-sc.from:][:blockSize], nil
}

// readHeader reads the header at a position, whatever batch it is of; ok says
// that it is whole and of this disk and life.
func (s *Store) readHeader(sc *scan, life uint64, place, block uint32) (h headerInfo, raw []byte, ok bool) {
	if place >= s.space.places || block >= s.space.segBlocks {
		return h, nil, false
	}
	p, err := s.scanBlock(sc, place, block)
	if err != nil {
		return h, nil, false
	}
	h, ok = parseHeader(p)
	if !ok || h.disk != s.id.Disk || h.life != life || h.block != block || block+h.blocks+h.payloadBlocks() > s.space.segBlocks {
		return h, nil, false
	}
	raw = append(raw, p...)
	for i := uint32(1); i < h.blocks; i++ {
		if p, err = s.scanBlock(sc, place, block+i); err != nil {
			return h, nil, false
		}
		raw = append(raw, p...)
	}
	return h, raw, checkHeader(raw)
}

// scanLog reads the log from a checkpoint on, up to the last whole batch. What
// is torn behind the last sync is left out; a batch that cannot be read though
// a later one calls it synced is damage.
func (s *Store) scanLog(root *rootBlock) (*scan, error) {
	sc := &scan{}
	pos := root.log
	next := uint32(noPlace)
	var synced uint64
	for pos.place != noPlace {
		h, raw, ok := s.readHeader(sc, root.life, pos.place, pos.block)
		ok = ok && h.seq == pos.seq && (h.seg == pos.seg || pos.block == 0 && h.seg > pos.seg)
		if !ok {
			if later := s.later(sc, root.life, pos, next); later >= pos.seq {
				sc.damage = damageText(pos.seq)
			}
			break
		}
		if h.ckpt > root.seq {
			return nil, holdfast.Errorf(holdfast.Damaged, "disk %s: its log belongs to checkpoint %d, but the newest that can be read is %d; what it holds cannot be trusted: replace the disk and let its replicas be rebuilt",
				s.id.Disk, h.ckpt, root.seq)
		}
		entries, err := parseEntries(h, raw)
		if err != nil {
			sc.damage = damageText(pos.seq)
			break
		}
		at := pos
		at.seg = h.seg
		sc.batches = append(sc.batches, scanned{h, at, entries})
		synced, next = max(synced, h.synced), h.next
		pos = logPos{place: at.place, seg: h.seg, block: at.block + h.blocks + h.payloadBlocks(), seq: h.seq + 1}
		if h.last {
			pos = logPos{place: h.next, seg: h.seg, seq: h.seq + 1}
		}
	}
	sc.synced = synced
	s.dropTorn(sc, synced)
	return sc, nil
}

// settle makes what was read what the disk has: the root and the batches that no
// later one calls synced are written once more and synced. A sync may have failed
// before: then they are in the operating system's cache, where they can be read,
// and will never reach the disk by themselves; and nothing that the root before
// this one names may be written over while it could be the newest on the disk.
func (s *Store) settle(root *rootBlock, sc *scan) error {
	if err := s.rewriteTail(sc); err != nil {
		return err
	}
	return s.writeRoot(root)
}

// rewriteTail writes the batches again that no later one calls synced.
func (s *Store) rewriteTail(sc *scan) error {
	for i := range sc.batches {
		b := &sc.batches[i]
		if b.seq <= sc.synced {
			continue
		}
		p := newBuffer(shape{header: int(b.blocks + b.payloadBlocks())}).b
		off := s.offset(b.at.place, b.at.block)
		err := s.dev.ReadAt(p, off)
		if err == nil {
			err = s.devWrite(&s.usage.Log, p, off)
		}
		if err != nil {
			return holdfast.Errorf(holdfast.IO, "open disk %s: the end of the log cannot be written again: %w", s.id.Disk, err)
		}
	}
	return nil
}

func damageText(seq uint64) string {
	return "a part of the log that had been on disk cannot be read (batch " + strconv.FormatUint(seq, 10) + ")"
}

// later looks behind a header that is not there for batches that follow it, in
// the rest of its segment and in the next, and returns the highest batch that
// they call synced.
func (s *Store) later(sc *scan, life uint64, pos logPos, next uint32) (synced uint64) {
	look := func(place, from uint32) {
		for b := from; b < s.space.segBlocks; b++ {
			if h, _, ok := s.readHeader(sc, life, place, b); ok && h.seq > pos.seq {
				synced = max(synced, h.synced)
				next = h.next
			}
		}
	}
	look(pos.place, pos.block+1)
	for range 3 {
		if next == noPlace || next == pos.place || next >= s.space.places {
			break
		}
		place := next
		next = noPlace
		look(place, 0)
	}
	return synced
}

// dropTorn cuts the batches behind the last known sync at the first whose
// payload is not whole: the crash came while they were being written.
func (s *Store) dropTorn(sc *scan, synced uint64) {
	vols := make(map[uint32]holdfast.VolumeID)
	for num, r := range s.byNum {
		vols[num] = r.vol
	}
	for i := range sc.batches {
		b := &sc.batches[i]
		b.volumes(vols)
		if b.seq > synced && !s.wholePayload(b, vols) {
			sc.batches = sc.batches[:i]
			return
		}
	}
}

func (s *Store) wholePayload(b *scanned, vols map[uint32]holdfast.VolumeID) bool {
	if b.payload == 0 {
		return true
	}
	buf := newBuffer(shape{header: int(b.payloadBlocks())}).b
	if err := s.dev.ReadAt(buf, s.offset(b.at.place, b.at.block+b.blocks)); err != nil {
		return false
	}
	for _, e := range b.entries {
		p := buf[e.payload*unitSize:][:checksum.Length(e.hashes)]
		if !s.wholeEntry(&e, p, vols) {
			return false
		}
	}
	return true
}

// volumes notes the volumes of the replicas that the batch makes.
func (b *scanned) volumes(vols map[uint32]holdfast.VolumeID) {
	for _, e := range b.entries {
		if e.kind == entryCreate || e.kind == entryClone {
			vols[e.replica] = holdfast.VolumeID{UUID: holdfast.UUID(e.body[16:32])}
		}
	}
}

// wholeEntry verifies an entry's payload.
func (s *Store) wholeEntry(e *entry, p []byte, vols map[uint32]holdfast.VolumeID) bool {
	switch e.kind {
	case entryRecord:
		vol, ok := vols[e.replica]
		if !ok || e.rec.Kind != record.Write {
			return true
		}
		rec := e.rec
		rec.Data = p
		_, ok = whole(vol, &rec)
		return ok
	case entryIngest, entryRepair:
		if len(e.hashes) == 0 {
			return true
		}
		b := e.body
		if e.kind == entryRepair {
			b = b[8:]
		}
		vol := holdfast.VolumeID{UUID: holdfast.UUID(b[:16])}
		return checksum.Block(vol, le.Uint64(b[16:]), holdfast.LSN(le.Uint64(b[24:])), p) == le.Uint64(b[32:])
	}
	return true
}
