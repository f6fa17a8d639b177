package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/fair"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// Replica is one volume's copy on this disk.
type Replica struct {
	s           *Store
	id          holdfast.ReplicaID
	vol         holdfast.VolumeID
	num         uint32   // names it in the log
	origin      uint16   // of blocks written here
	origins     []uint16 // of all blocks that its roots may hold, ascending
	promise     holdfast.Epoch
	durProm     holdfast.Epoch // the promise that is on disk
	remembers   holdfast.Epoch // see Remember
	damage      string
	passing     bool // the damage is that the disk gave no answer: it is not on the disk
	build       bool // building, also when interrupted
	removed     bool
	replayBuild bool // recovery: what follows in the log belongs to a build that did not survive
	finishing   bool // a build is finished but not yet durable
	attempt     Attempt

	flow     fair.Flow // its share of the log
	head     *head
	fallback *head   // during a build: the head before it
	begun    *Build  // the last that was begun in this life of the store
	taking   *taking // a root that is being received
	aside    []*snap // roots that were received, for the next build
	pins     []*Pin

	proved time.Time // when the last scrub began that found all of it good
	missed time.Time // when something may last have escaped a scrub that was under way
}

// SnapshotInfo describes a kept snapshot.
type SnapshotInfo struct {
	ID     holdfast.SnapshotID
	LSN    holdfast.LSN
	Blocks uint64
}

// State is what a replica says about itself.
type State struct {
	Replica   holdfast.ReplicaID
	Volume    holdfast.VolumeID
	Blocks    uint64
	Promise   holdfast.Epoch // on disk
	Prefix    holdfast.LSN   // highest LSN held, memory included, gap-free
	Durable   holdfast.LSN   // highest LSN on disk, gap-free
	Stable    holdfast.LSN   // on disk at every in-sync replica, as last told; after a restart a lower bound
	Reverted  holdfast.LSN   // last revert: a delta since an LSN below it is not possible
	History   []record.Start // ascending
	Building  bool           // not eligible: a resync or rebuild is under way, or was when the host stopped
	Damage    string         // "": none; else why this replica is not eligible
	Snapshots []SnapshotInfo // ascending
	Aside     []SnapshotInfo // roots that a resync or rebuild has brought and not yet used
}

// State returns the replica's state as of now.
func (r *Replica) State() State {
	r.s.lock()
	defer r.s.unlock()
	h := r.head
	st := State{Replica: r.id, Volume: r.vol, Blocks: h.blocks, Promise: r.durProm, Prefix: h.prefix, Durable: h.durable, Stable: h.stable,
		Reverted: h.reverted, History: slices.Clone(h.history), Building: r.build || r.finishing, Damage: r.damage}
	for _, sn := range h.snaps {
		if sn.dropped == 0 {
			st.Snapshots = append(st.Snapshots, SnapshotInfo{sn.id, sn.lsn, sn.blocks})
		}
	}
	for _, sn := range r.aside {
		st.Aside = append(st.Aside, SnapshotInfo{sn.id, sn.lsn, sn.blocks})
	}
	return st
}

// Remember notes the epoch all of whose acknowledgements are in this replica,
// those that its disk does not have yet included. A disk that is closed in order
// keeps it; one that is not has forgotten it, for good.
func (r *Replica) Remember(e holdfast.Epoch) {
	r.s.lock()
	defer r.s.unlock()
	r.remembers = e
	r.attempt = max(r.attempt, Attempt(holdfast.MakeLSN(e, begunAttempt))) // what the epoch's opening still asks comes late
}

// Remembers returns what Remember noted last, also before the disk was closed in
// order; 0: the memory that knew is gone.
func (r *Replica) Remembers() holdfast.Epoch {
	r.s.lock()
	defer r.s.unlock()
	return r.remembers
}

// usable reports why the replica cannot be used, if so. Under the lock.
func (r *Replica) usable() error {
	switch {
	case r.removed:
		return holdfast.Errorf(holdfast.NotFound, "replica %s was removed", r.id)
	case r.s.closing:
		return holdfast.Errorf(holdfast.Closed, "disk %s is closed", r.s.id.Disk)
	}
	return r.s.err
}

// Promise makes the replica refuse epochs below e from now on and after any
// restart: durable on return. Kind Fenced if it has promised more already.
func (r *Replica) Promise(e holdfast.Epoch) error {
	return r.s.wait(func(done func(error)) error {
		if err := r.usable(); err != nil {
			return err
		}
		if e < r.promise {
			return holdfast.Errorf(holdfast.Fenced, "replica %s: epoch %d is over, %d is promised", r.id, e, r.promise)
		}
		if e > r.promise {
			r.promise = e
			r.s.put(entryPromise, r.num, le.AppendUint32(nil, uint32(e)))
		}
		r.s.afterSync(func(err error) {
			if err == nil {
				r.s.lock()
				r.durProm = max(r.durProm, e)
				r.s.unlock()
			}
			done(err)
		})
		return nil
	})
}

// Append adds records that follow the prefix, in memory only; Sync makes them
// durable. Records wholly at or below the prefix are skipped; kind Gap if the
// first above does not follow. Every hash is verified (kind Corrupt) and Data
// is copied. Kind NoSpace if only the reserve is left. The records before a bad
// one are kept.
func (r *Replica) Append(recs []record.Record) error {
	for i := range recs {
		if err := r.verify(&recs[i]); err != nil {
			return err
		}
	}
	s := r.s
	s.lock()
	defer s.unlock()
	if err := r.usable(); err != nil {
		return err
	}
	for i := range recs {
		if err := r.append(&recs[i]); err != nil {
			return err
		}
	}
	return nil
}

// AppendOwn is Append of one record of this process's own writer, which has just
// made its hashes from the bytes that are copied here: nothing lies in between
// that verifying could find out about.
func (r *Replica) AppendOwn(rec *record.Record) error {
	s := r.s
	s.lock()
	defer s.unlock()
	if err := r.usable(); err != nil {
		return err
	}
	return r.append(rec)
}

// verify checks what can be checked without the lock.
func (r *Replica) verify(rec *record.Record) error {
	if rec.Kind != record.Write {
		if len(rec.Data) != 0 || len(rec.Hashes) != 0 {
			return holdfast.Errorf(holdfast.Invalid, "record %v of kind %d has data", rec.LSN, rec.Kind)
		}
		if rec.Kind == record.Zero && (rec.Count == 0 || rec.Count > record.MaxZero) {
			return holdfast.Errorf(holdfast.Invalid, "record %v zeroes %d blocks, allowed are 1 to %d", rec.LSN, rec.Count, record.MaxZero)
		}
		return nil
	}
	n := int(rec.Count)
	if n == 0 || n > record.MaxBlocks || len(rec.Hashes) != n || len(rec.Data) != checksum.Length(rec.Hashes) {
		return holdfast.Errorf(holdfast.Invalid, "record %v: %d blocks with %d hashes and %d bytes", rec.LSN, n, len(rec.Hashes), len(rec.Data))
	}
	if i, ok := whole(r.vol, rec); !ok {
		return holdfast.Errorf(holdfast.Corrupt, "record %v: block %d does not match its hash; it was damaged on the way", rec.LSN, rec.Addr+uint64(i))
	}
	return nil
}

// whole verifies the stored blocks of a Write of a volume; if one does not match
// its hash it tells which.
func whole(vol holdfast.VolumeID, rec *record.Record) (bad int, ok bool) {
	rest := rec.Data
	for i, h := range rec.Hashes {
		n := checksum.Units(h) * unitSize
		if checksum.Block(vol, rec.Addr+uint64(i), rec.LSN+holdfast.LSN(i), rest[:n]) != h {
			return i, false
		}
		rest = rest[n:]
	}
	return 0, true
}

// append takes one verified record. Under the lock.
func (r *Replica) append(rec *record.Record) error {
	h, s := r.head, r.s
	if rec.Last() <= h.prefix {
		return nil
	}
	x := *rec
	if x.LSN <= h.prefix && x.Count > 0 {
		_, x = x.Cut(uint32(h.prefix - x.LSN + 1))
	}
	if !x.Follows(h.prefix) {
		return holdfast.Errorf(holdfast.Gap, "replica %s: record %v does not follow %v", r.id, rec.LSN, h.prefix)
	}
	if x.Count > 0 && (x.Addr >= h.blocks || uint64(x.Count) > h.blocks-x.Addr) {
		return holdfast.Errorf(holdfast.Invalid, "record %v: blocks %d+%d are beyond the end of a volume of %d blocks", rec.LSN, rec.Addr, rec.Count, h.blocks)
	}
	if err := r.allowed(&x); err != nil {
		return err
	}
	if x.Kind != record.Write {
		s.appendRecord(r, &x)
		return nil
	}
	if s.floor() {
		s.stalled = true
		return holdfast.Errorf(holdfast.NoSpace, "disk %s is full; free space on it or move replicas away, then writing goes on", s.id.Disk)
	}
	for x.Count > 0 {
		b := s.openBatch(record.HeaderSize + 8*int(x.Count))
		n := s.shape.fitting(b.n, x.Hashes)
		if n == x.Count {
			s.appendRecord(r, &x)
			break
		}
		var piece record.Record
		piece, x = x.Cut(n)
		s.appendRecord(r, &piece)
	}
	return nil
}

// allowed refuses control records that the head cannot execute.
func (r *Replica) allowed(x *record.Record) error {
	switch x.Kind {
	case record.Grow:
		if x.Blocks > holdfast.MaxVolumeBlocks { // to fewer blocks than there are it changes nothing: a build may have been told of more already
			return holdfast.Errorf(holdfast.Invalid, "record %v: a volume cannot have %d blocks", x.LSN, x.Blocks)
		}
	case record.Write, record.Zero, record.EpochStart, record.Snapshot, record.Revert, record.DropSnap:
	default:
		return holdfast.Errorf(holdfast.Invalid, "record %v: kind %d is not known", x.LSN, x.Kind)
	}
	return nil
}

// appendRecord puts a record that fits into the open batch and the overlay.
func (s *Store) appendRecord(r *Replica, x *record.Record) *batch {
	h := r.head
	size := record.HeaderSize + 8*len(x.Hashes)
	b := s.openBatch(size)
	o := orec{kind: x.Kind, count: x.Count, lsn: x.LSN, addr: x.Addr}
	b.end(x.AppendHeader(b.begin(entryRecord, r.num)))
	if x.Kind == record.Write {
		o.b, o.idx = b, s.gather(b, x.Hashes, x.Data)
	} else if x.Count == 0 {
		c := *x
		o.ctl = &c
	}
	h.add(o)
	h.touch(b, int64(size+len(x.Data)))
	s.scrub.busy++
	if b.n >= s.shape.soft*blockUnit {
		s.closeBatch()
		s.commit.Set()
	}
	return b
}

// touch notes that batch b makes the head's prefix durable, and has so many bytes
// more for that.
func (h *head) touch(b *batch, bytes int64) {
	h.r.s.gate.Take(&h.r.flow, bytes)
	if k := len(b.touched) - 1; h.lastIn == b {
		for ; k >= 0; k-- {
			if b.touched[k].h == h {
				b.touched[k].lsn = h.prefix
				b.touched[k].bytes += bytes
				return
			}
		}
	}
	h.lastIn = b
	b.touched = append(b.touched, touch{h, h.prefix, bytes})
}

// SetStable notes that everything up to l is on disk at every in-sync replica.
// It never goes back and is capped at Durable.
func (r *Replica) SetStable(l holdfast.LSN) {
	s := r.s
	s.lock()
	defer s.unlock()
	r.head.setStable(min(l, r.head.durable))
}

// Recorded tells that a snapshot stands in its volume's record: every replica that
// was in sync had it on disk by then, so all up to it is stable. One of that name
// at another LSN is not what the record speaks of; nothing changes.
func (r *Replica) Recorded(id holdfast.SnapshotID, at holdfast.LSN) {
	s := r.s
	s.lock()
	defer s.unlock()
	if sn := r.head.snap(id); sn != nil && sn.lsn == at {
		r.head.setStable(min(at, r.head.durable))
	}
}

func (h *head) setStable(l holdfast.LSN) {
	if l <= h.stable {
		return
	}
	h.stable = l
	s := h.r.s
	if !h.noted {
		h.noted = true
		s.wal.stable = append(s.wal.stable, h)
	}
	if ov := h.overlay(); len(ov) > 0 && ov[0].lsn <= l {
		s.mergeLater(ov)
	}
}

// Sync calls done once everything up to upTo is on disk, with kind IO if that
// failed and kind Gap if records up to upTo were dropped. done must not block;
// it may be called before Sync returns.
func (r *Replica) Sync(upTo holdfast.LSN, done func(error)) {
	s := r.s
	s.lock()
	defer s.unlock()
	if r.awaitSync(upTo, done) {
		s.commit.Set()
	}
}

// loneRounds in a row make it likely that there is one initiator and no other.
const loneRounds = 8

// SyncHere is Sync for a caller that has nothing else to do. If nobody is at work
// on the log, and nobody else was lately, it blocks and does the work itself: one
// who writes and flushes alone is spared two changes of tasks. Otherwise it is
// Sync.
func (r *Replica) SyncHere(upTo holdfast.LSN, done func(error)) {
	s := r.s
	s.lock()
	w := &s.wal
	here := r.awaitSync(upTo, done)
	if here && (w.busy || w.waiters > 1 || w.lone < loneRounds || s.stopped) {
		here = false
		s.commit.Set()
	}
	w.busy = w.busy || here
	s.unlock()
	if here {
		s.commitHere()
	}
}

// awaitSync arranges for done to be called; it reports whether that takes a round
// of commits. Under the lock.
func (r *Replica) awaitSync(upTo holdfast.LSN, done func(error)) bool {
	s := r.s
	h := r.head
	switch err := r.usable(); {
	case err != nil:
		s.call(done, err)
	case upTo <= h.durable:
		s.call(done, nil)
	case upTo > h.prefix:
		s.call(done, holdfast.Errorf(holdfast.Gap, "replica %s: cannot sync up to %v, it holds records up to %v", r.id, upTo, h.prefix))
	default:
		return s.awaitSync(func(err error) {
			if err == nil {
				s.lock()
				if h.durable < upTo {
					err = holdfast.Errorf(holdfast.Gap, "replica %s: records up to %v were dropped before they were on disk", r.id, upTo)
				}
				s.unlock()
			}
			done(err)
		})
	}
	return false
}

// Begin opens an epoch: it drops everything above start.Cut and returns when
// the EpochStart record is on disk. Kind Gap if the prefix is below the cut,
// kind Damaged if Stable is above it, kind Fenced
// if this or a later epoch has begun otherwise. Repeating the last Begin changes nothing.
func (r *Replica) Begin(start record.Start) error {
	return r.s.durable(func() error {
		if err := r.usable(); err != nil {
			return err
		}
		h := r.head
		if n := len(h.history); n > 0 && h.history[n-1] == start {
			return nil
		} else if n > 0 && h.history[n-1].Epoch >= start.Epoch {
			return holdfast.Errorf(holdfast.Fenced, "replica %s: epoch %d cannot begin, epoch %d has", r.id, start.Epoch, h.history[n-1].Epoch)
		}
		rec := record.Record{Kind: record.EpochStart, LSN: startLSN(start), Start: start}
		if start.Cut.Epoch() >= start.Epoch || rec.LSN <= start.Cut {
			return holdfast.Errorf(holdfast.Invalid, "epoch %d cannot begin after %v", start.Epoch, start.Cut)
		}
		if h.prefix < start.Cut {
			return holdfast.Errorf(holdfast.Gap, "replica %s: epoch %d begins after %v, but records end at %v", r.id, start.Epoch, start.Cut, h.prefix)
		}
		if err := r.cut(start.Cut); err != nil {
			return err
		}
		if h.prefix != start.Cut {
			return holdfast.Errorf(holdfast.Gap, "replica %s: epoch %d begins after %v, which is not in its history; records end at %v", r.id, start.Epoch, start.Cut, h.prefix)
		}
		r.s.appendRecord(r, &rec)
		return nil
	})
}

// Truncate drops everything above cut, durably: a returning replica goes back
// to the last LSN that its history shares with the writer's. Kind Damaged if
// Stable is above cut: what was promised would be lost; set the replica aside
// and rebuild it. Kind Conflict while it is being built: what asks for it comes late,
// and would take records of the live stream.
func (r *Replica) Truncate(a Attempt, cut holdfast.LSN) error {
	return r.s.durable(func() error {
		if err := r.of(a); err != nil {
			return err
		}
		if r.head.building != nil {
			return holdfast.Errorf(holdfast.Conflict, "replica %s is being built, and does not go back to %v", r.id, cut)
		}
		return r.cut(cut)
	})
}

// cut drops what is above an LSN. Under the lock.
func (r *Replica) cut(cut holdfast.LSN) error {
	h := r.head
	if cut < h.stable || cut < h.pos {
		return holdfast.Errorf(holdfast.Damaged, "replica %s: cannot go back to %v, everything up to %v is stable; rebuild it", r.id, cut, max(h.stable, h.pos))
	}
	if cut >= h.prefix {
		return nil
	}
	h.truncate(cut)
	b := r.s.put(entryTruncate, r.num, le.AppendUint64(nil, uint64(cut)))
	h.touch(b, 0)
	return nil
}

// free gives up a block that only this replica referred to.
func (r *Replica) free(seg uint32, slot, n uint16, lsn holdfast.LSN) {
	s := r.s
	if k := len(r.pins); k > 0 && lsn <= r.pins[k-1].lsn {
		r.pins[k-1].held.add(seg, slot, n, s.space.segBlocks)
		return
	}
	s.space.clear(seg, slot, n)
}

// CorruptError says that a stored block does not match its hash.
type CorruptError struct {
	Replica holdfast.ReplicaID
	Addr    uint64
	Fault   Fault // what is at fault, to be restored; zero: a page of the map
	cause   error
}

// Error implements error.
func (e *CorruptError) Error() string {
	s := fmt.Sprintf("replica %s: block %d does not match its hash; repair it from another replica", e.Replica, e.Addr)
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap makes the error one of kind Corrupt.
func (e *CorruptError) Unwrap() error {
	return &holdfast.Error{Kind: holdfast.Corrupt, Err: errBadBlock}
}

var errBadBlock = holdfast.Errorf(holdfast.Corrupt, "stored bytes do not match")
