package store

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// The scrub page is what a disk remembers of its scrubs and of the faults that
// were found: docs/format/store.md. It is written apart from log and
// checkpoints, to two slots in turn. Nothing else depends on it: a page that is
// lost or torn costs a scrub from the beginning.

const (
	scrubMagic = 0x31504648 // "HFP1"
	scrubRoom  = 52 << 10   // of a slot

	scrubHeader   = 64
	maxPasses     = 16
	maxProved     = 900
	passBytes     = 8 + 4 + 4 + 8 + 1 + 8 + 8 + 8 + 8 + 4
	provedBytes   = 16 + 8 + 8
	faultBytes    = 16 + 8 + 8 + 16 + 8 + 1 + 1 + 4 + 2 + 8 + 8
	faultRepaired = 1 << 0
	faultGone     = 1 << 1
	faultNowhere  = 1 << 2
	faultKnown    = 1 << 3
)

// scrubSlots are where the two pages are, in the free room behind the roots.
var scrubSlots = [2]int64{3 * blockSize, mirrorOffset + 3*blockSize}

// unix and fromUnix code a time in seconds; 0: none.
func unix(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

func fromUnix(x uint64) time.Time {
	if x == 0 || x > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(x), 0).UTC()
}

// encodeScrub encodes the page. Under the lock.
func (s *Store) encodeScrub(seq uint64) []byte {
	w := catalogWriter{b: make([]byte, scrubHeader, scrubRoom)}
	w.u64(unix(s.scrub.full))
	w.u64(unix(s.scrub.ended))
	passes := s.scrub.passes[:min(len(s.scrub.passes), maxPasses)]
	w.u32(uint32(len(passes)))
	for _, p := range passes {
		w.u64(unix(p.started))
		w.u32(p.only)
		w.u32(p.headPos)
		w.u64(p.nodePos)
		w.u8(uint8(p.at))
		w.u64(p.addr)
		w.u64(uint64(p.done))
		w.u64(uint64(p.total))
		w.u64(uint64(p.bad))
		w.u32(p.head)
	}
	replicas := s.sorted[:min(len(s.sorted), maxProved)]
	w.u32(uint32(len(replicas)))
	for _, r := range replicas {
		w.uuid(r.id.UUID)
		w.u64(unix(r.proved))
		w.u64(unix(r.missed))
	}
	faults := s.faults[:min(len(s.faults), maxFaults)]
	w.u32(uint32(len(faults)))
	for i := range faults {
		w.fault(&faults[i])
	}
	p := w.b
	le.PutUint32(p[0:], scrubMagic)
	le.PutUint32(p[4:], FormatVersion)
	copy(p[16:], s.id.Disk.UUID[:])
	le.PutUint64(p[32:], seq)
	le.PutUint32(p[40:], uint32(len(p)))
	le.PutUint32(p[8:], checksum.CRC(p[12:]))
	return p
}

func (w *catalogWriter) fault(f *Fault) {
	w.uuid(f.Replica.UUID)
	w.u64(f.Addr)
	w.u64(uint64(f.LSN))
	w.uuid(f.Origin.UUID)
	w.u64(f.Hash)
	w.u8(uint8(f.Hop))
	var flags uint8
	for i, set := range []bool{f.Repaired, f.Gone, f.Nowhere, f.Known} {
		if set {
			flags |= 1 << i
		}
	}
	w.u8(flags)
	w.u32(f.seg)
	w.u16(f.slot)
	w.u64(unix(f.First))
	w.u64(unix(f.Last))
}

// scrubPage is a decoded page.
type scrubPage struct {
	seq         uint64
	full, ended time.Time
	passes      []*pass
	proved      map[holdfast.ReplicaID][2]time.Time // proved, missed
	faults      []Fault
}

// decodeScrub reads a page of a disk; ok is false if it is none.
func decodeScrub(b []byte, id holdfast.DiskID) (pg scrubPage, ok bool) {
	if len(b) < scrubHeader || le.Uint32(b) != scrubMagic || le.Uint32(b[4:]) != FormatVersion || holdfast.UUID(b[16:32]) != id.UUID {
		return pg, false
	}
	n := le.Uint32(b[40:])
	if n < scrubHeader || int64(n) > int64(len(b)) || checksum.CRC(b[12:n]) != le.Uint32(b[8:]) {
		return pg, false
	}
	pg.seq = le.Uint64(b[32:])
	c := &catalogReader{b: b[scrubHeader:n]}
	pg.full, pg.ended = fromUnix(c.u64()), fromUnix(c.u64())
	for range c.count(passBytes) {
		p := &pass{started: fromUnix(c.u64()), only: c.u32()}
		p.headPos, p.nodePos, p.at, p.addr = c.u32(), c.u64(), passAt(c.u8()), c.u64()
		p.done, p.total, p.bad, p.head = int64(c.u64()), int64(c.u64()), int64(c.u64()), c.u32()
		if p.at > atHead || len(pg.passes) >= maxPasses {
			return pg, false
		}
		pg.passes = append(pg.passes, p)
	}
	pg.proved = make(map[holdfast.ReplicaID][2]time.Time)
	for range c.count(provedBytes) {
		id := holdfast.ReplicaID{UUID: c.uuid()}
		pg.proved[id] = [2]time.Time{fromUnix(c.u64()), fromUnix(c.u64())}
	}
	for range c.count(faultBytes) {
		f := Fault{Replica: holdfast.ReplicaID{UUID: c.uuid()}, Addr: c.u64(), LSN: c.lsn(), Origin: holdfast.VolumeID{UUID: c.uuid()}, Hash: c.u64(), Hop: Hop(c.u8())}
		flags := c.u8()
		f.Repaired, f.Gone, f.Nowhere, f.Known = flags&faultRepaired != 0, flags&faultGone != 0, flags&faultNowhere != 0, flags&faultKnown != 0
		f.seg, f.slot = c.u32(), c.u16()
		f.First, f.Last = fromUnix(c.u64()), fromUnix(c.u64())
		pg.faults = append(pg.faults, f)
	}
	return pg, c.err == nil && len(pg.faults) <= maxFaults
}

// loadScrub reads the newest page, when the replicas are known.
func (s *Store) loadScrub() {
	var best scrubPage
	for _, at := range scrubSlots {
		b := newBuffer(shape{header: scrubRoom / blockSize}).b
		if err := s.dev.ReadAt(b, at); err != nil {
			s.log.Warn("what is known of scrubs cannot be read", "disk", s.id.Disk.String(), "err", err)
			continue
		}
		if pg, ok := decodeScrub(b, s.id.Disk); ok && pg.seq > best.seq {
			best = pg
		}
	}
	s.scrub.seq = best.seq
	s.scrub.full, s.scrub.ended, s.scrub.passes, s.faults = best.full, best.ended, best.passes, best.faults
	for _, r := range s.sorted {
		t := best.proved[r.id]
		r.proved, r.missed = t[0], t[1]
	}
}

// saveScrub writes the page, durably, if something has changed. Only the scrub
// task calls it.
func (s *Store) saveScrub() {
	s.lock()
	if !s.scrub.dirty || s.err != nil {
		s.unlock()
		return
	}
	s.scrub.dirty = false
	s.scrub.seq++
	p := s.encodeScrub(s.scrub.seq)
	at := scrubSlots[s.scrub.seq%2]
	s.unlock()
	buf := newBuffer(shape{header: roundUp(len(p)) / blockSize}).b
	copy(buf, p)
	var err error
	if w, ok := s.dev.(disk.SyncWriter); ok {
		err = s.sync("the scrub page", func() error { return s.devWriteBy(w.WriteSync, &s.usage.Catalog, buf, at) })
	} else {
		err = s.devWrite(&s.usage.Catalog, buf, at)
	}
	if err != nil {
		s.log.Warn("what is known of scrubs cannot be written; after a restart the scrub begins anew", "disk", s.id.Disk.String(), "err", err)
	}
}
