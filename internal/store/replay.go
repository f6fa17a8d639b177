package store

import (
	"math"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// replay applies one batch of the log. Everything that it does is also done by
// the call that wrote the entry, and in the same order.
func (s *Store) replay(sb *scanned) {
	if s.space.segs[sb.at.seg] == nil {
		s.space.adopt(sb.at.seg, sb.at.place)
	}
	s.space.virgin = max(s.space.virgin, sb.at.place+1)
	b := &batch{seq: sb.seq, head: sb.at, blocks: sb.blocks, slot: uint16(sb.at.block+sb.blocks) * blockUnit, closed: true}
	for i := range sb.entries {
		if h := sb.entries[i].hashes; len(h) > 0 {
			b.lay(h)
		}
	}
	for i := range sb.entries {
		s.replayEntry(b, &sb.entries[i])
	}
}

func (s *Store) replayEntry(b *batch, e *entry) {
	switch e.kind {
	case entryCreate:
		s.replayCreate(e)
		return
	case entryClone:
		s.replayClone(e)
		return
	case entryRepair:
		seg, slot := le.Uint32(e.body), uint16(le.Uint32(e.body[4:]))
		s.space.move(seg, noPlace, []run{{seg: b.head.seg, slot: slot, dst: b.slot + uint16(e.payload), n: uint16(checksum.Units(e.hashes[0]))}})
		return
	}
	r := s.byNum[e.replica]
	if r == nil {
		return // removed before the checkpoint, or later in the log
	}
	switch e.kind {
	case entryRecord:
		if !r.replayBuild {
			s.replayRecord(r, b, e)
		}
	case entryStable:
		if l := holdfast.LSN(le.Uint64(e.body)); !r.replayBuild {
			r.head.stable = max(r.head.stable, l)
		}
	case entryRemove:
		s.removeReplica(r)
	case entryPromise:
		r.promise = max(r.promise, holdfast.Epoch(le.Uint32(e.body)))
		r.durProm = r.promise
	case entryTruncate:
		s.replayTruncate(r, holdfast.LSN(le.Uint64(e.body)))
	case entryBuild:
		r.build, r.replayBuild = true, true
	case entryAbort:
		r.replayBuild = false
	case entryDamage:
		r.markDamaged(string(e.body))
	}
}

func (s *Store) replayTruncate(r *Replica, cut holdfast.LSN) {
	switch h := r.head; {
	case r.replayBuild || cut >= h.prefix:
	case cut < h.pos:
		r.markDamaged("its log was cut below what is stable")
	default:
		h.truncate(cut)
	}
}

func (s *Store) replayRecord(r *Replica, b *batch, e *entry) {
	h := r.head
	if e.rec.Last() <= h.prefix {
		return
	}
	if !e.rec.Follows(h.prefix) {
		r.markDamaged("its log has a gap after " + h.prefix.String())
		return
	}
	o := orec{kind: e.rec.Kind, count: e.rec.Count, lsn: e.rec.LSN, addr: e.rec.Addr, idx: uint32(e.first)}
	switch {
	case e.rec.Kind == record.Write:
		o.b = b
		s.space.mark(b.head.seg, b.slot+uint16(e.payload), uint16(checksum.Length(e.hashes)/unitSize))
	case e.rec.Count == 0:
		rec := e.rec
		o.ctl = &rec
	}
	h.add(o)
}

func (s *Store) replayCreate(e *entry) {
	id, vol := holdfast.ReplicaID{UUID: holdfast.UUID(e.body)}, holdfast.VolumeID{UUID: holdfast.UUID(e.body[16:])}
	if s.byNum[e.replica] != nil || s.replicas[id] != nil {
		return
	}
	tree, err := s.pages.New(le.Uint64(e.body[32:]))
	if err != nil {
		s.log.Error("a replica in the log has no proper size", "disk", s.id.Disk.String(), "replica", id.String(), "err", err)
		return
	}
	r, err := s.addReplica(e.replica, id, vol)
	if err != nil {
		s.log.Error("a replica in the log cannot be made", "disk", s.id.Disk.String(), "replica", id.String(), "err", err)
		return
	}
	r.head = newHead(r, tree)
}

func (s *Store) replayClone(e *entry) {
	id, vol := holdfast.ReplicaID{UUID: holdfast.UUID(e.body)}, holdfast.VolumeID{UUID: holdfast.UUID(e.body[16:])}
	from := s.byNum[le.Uint32(e.body[32:])]
	snap := holdfast.SnapshotID{UUID: holdfast.UUID(e.body[36:])}
	at := holdfast.LSN(le.Uint64(e.body[52:]))
	if s.byNum[e.replica] != nil || s.replicas[id] != nil {
		return
	}
	r, err := s.addReplica(e.replica, id, vol)
	if err != nil {
		s.log.Error("a clone in the log cannot be made", "disk", s.id.Disk.String(), "replica", id.String(), "err", err)
		return
	}
	tree, _ := s.pages.New(1)
	r.head = newHead(r, tree)
	if from != nil {
		if err = s.mergeUpTo(from.head, at); err == nil && (snap.IsZero() || from.head.snap(snap) != nil && from.head.snap(snap).node != nil) {
			tree.Release()
			r.linkTo(from.head, snap)
			return
		}
	}
	r.markDamaged("what it was cloned from cannot be found")
}

// mergeUpTo merges what was stable when the log said so.
func (s *Store) mergeUpTo(h *head, at holdfast.LSN) error {
	h.stable = max(h.stable, at)
	return s.withMap(func() error { return h.merge(at, math.MaxInt) })
}
