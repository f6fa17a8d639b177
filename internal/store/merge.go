package store

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// mergeAll is no bound on what is merged.
const mergeAll = math.MaxInt

// mergeSlice is how many blocks are merged under one hold of the lock.
const mergeSlice = 256

// What is stable may wait in an overlay for mergeRest, or until mergeWorth
// records do: a task that is woken at every flush costs as much as the flush.
const (
	mergeRest  = 100 * time.Millisecond
	mergeWorth = 64
)

// mergeLater sees to it that an overlay, some of which is stable, is merged: at
// once if there is much of it or something in it that others may wait for. Under
// the lock.
func (s *Store) mergeLater(ov []orec) {
	if len(ov) >= mergeWorth || slices.ContainsFunc(ov, func(o orec) bool { return o.kind != record.Write && o.kind != record.Zero }) {
		s.merge.Set()
	} else if !s.merging {
		s.merging = true
		s.clk.AfterFunc(mergeRest, s.merge.Set)
	}
}

// mergeTask moves what has become stable from overlays into base maps, and
// works off drop jobs.
func (s *Store) mergeTask() {
	for {
		s.merge.Wait(clock.Forever)
		s.lock()
		s.merging = false
		s.unlock()
		for s.mergeOnce() {
		}
		s.kick()
		s.lock()
		stop := s.stopped || s.err != nil
		s.unlock()
		if stop {
			return
		}
	}
}

// mergeOnce does a slice of work, if there is any.
func (s *Store) mergeOnce() bool {
	s.lock()
	if s.stopped || s.err != nil {
		s.unlock()
		return false
	}
	var who *head
	var err error
	more, held, waits := false, s.mergeHeld(), false
	s.heads(func(h *head) {
		waits = waits || h.r.fallback != h && !h.stuck && h.mergeable()
		if held {
			return
		}
		if h.r.fallback != h && !h.stuck && err == nil && h.mergeable() {
			more = true
			if err = h.merge(h.stable, mergeSlice); err != nil {
				who = h
			}
		}
	})
	var job *dropJob
	if !more && len(s.jobs) > 0 {
		more = true
		job = s.jobs[0]
		err = job.step(s)
		crashpoint.At(crashpoint.SpaceSome)
		if job.finished {
			job.release()
			s.jobs = s.jobs[1:]
			s.kick()
			crashpoint.At(crashpoint.SpaceAll)
		}
	}
	if s.litter {
		s.collect()
	}
	s.noteLag(waits)
	s.unlock()
	if held {
		s.kick()
	}
	if err == nil {
		s.missed.end()
	} else if err = s.missed.resolve(err); err != nil {
		s.giveUp(who, job, err)
	}
	return more || s.bury()
}

// giveUp stops merging a head, or a job, whose map cannot be read.
func (s *Store) giveUp(h *head, j *dropJob, err error) {
	s.lock()
	defer s.unlock()
	if h != nil {
		h.stuck = true
		h.r.markUnread(err)
		return
	}
	s.log.Error("space of a dropped root is lost until the disk is rebuilt", "disk", s.id.Disk.String(), "err", err)
	if len(s.jobs) > 0 && s.jobs[0] == j {
		s.jobs = s.jobs[1:]
		j.release()
	}
}

func (h *head) mergeable() bool {
	ov := h.overlay()
	return len(ov) > 0 && ov[0].lsn <= h.stable && !h.holds(&ov[0])
}

// holds reports whether a record has to wait in the overlay until a build is
// finished: what it would keep, set or let go is not complete before.
func (h *head) holds(o *orec) bool {
	return h.building != nil && (o.kind == record.Snapshot || o.kind == record.Revert || o.kind == record.DropSnap)
}

// merge moves up to budget blocks of records at or below limit into the base.
// The error may be a *blockmap.Miss; what was done stays done.
func (h *head) merge(limit holdfast.LSN, budget int) error {
	for budget > 0 && h.gone < len(h.recs) {
		o := &h.recs[h.gone]
		if o.lsn > limit || h.holds(o) {
			break
		}
		var err error
		switch o.kind {
		case record.Write:
			err = h.mergeWrite(o, limit, &budget)
		case record.Zero:
			err = h.mergeZero(o, limit, &budget)
		default:
			budget -= 8
			err = h.mergeControl(o)
		}
		if err != nil {
			return err
		}
		if o.count == 0 {
			*o = orec{}
			h.gone++
		}
	}
	switch {
	case h.gone == len(h.recs):
		h.recs, h.gone = h.recs[:0], 0
	case h.gone > 64 && h.gone > len(h.recs)/2:
		n := copy(h.recs, h.recs[h.gone:])
		clear(h.recs[n:])
		h.recs, h.gone = h.recs[:n], 0
	}
	return nil
}

func (h *head) mergeWrite(o *orec, limit holdfast.LSN, budget *int) error {
	for o.count > 0 && *budget > 0 && o.lsn <= limit {
		e := h.entryOf(o.b, o.idx, o.lsn)
		if err := h.replace(o.addr, e); err != nil {
			return err
		}
		if h.owned != nil {
			h.owned.add(e.Seg, e.Slot, unitsOf(e), h.r.s.space.segBlocks)
		}
		h.index.merged(o.addr, o.lsn)
		h.pos = o.lsn
		o.addr++
		o.lsn++
		o.idx++
		o.count--
		*budget--
	}
	return nil
}

// replace sets an entry of the base and frees the one before, if it was the
// head's alone.
func (h *head) replace(addr uint64, e blockmap.Entry) error {
	if h.parent == nil && h.owned == nil {
		old, err := h.base.Set(addr, e)
		if err == nil && old.Stored() {
			h.r.free(old.Seg, old.Slot, unitsOf(old), old.LSN)
		}
		return err
	}
	old, err := h.base.Get(addr)
	if err != nil {
		return err
	}
	mine, err := h.ownsAlone(addr, old)
	if err != nil {
		return err
	}
	if _, err := h.base.Set(addr, e); err != nil {
		return err
	}
	if mine {
		h.giveBack(old)
	}
	return nil
}

// ownsAlone reports whether an entry of the base belongs to nothing else.
func (h *head) ownsAlone(addr uint64, e blockmap.Entry) (bool, error) {
	switch p := h.parent; {
	case !e.Stored(), h.owned != nil && !h.owned.has(e.Seg, e.Slot):
		return false, nil
	case p != nil && e.LSN <= p.lsn && addr < p.root.Blocks():
		x, err := p.root.Get(addr)
		return x != e, err
	}
	return true, nil
}

// giveBack frees an entry that the head owned alone.
func (h *head) giveBack(e blockmap.Entry) {
	if h.owned != nil {
		h.owned.remove(e.Seg, e.Slot, unitsOf(e), h.r.s.space.segBlocks)
	}
	h.r.free(e.Seg, e.Slot, unitsOf(e), e.LSN)
}

// zeroSlice bounds the blocks of one step over a zeroed range where each entry
// must be compared with the parent's.
const zeroSlice = 1 << 14

func (h *head) mergeZero(o *orec, limit holdfast.LSN, budget *int) error {
	for o.count > 0 && *budget > 0 && o.lsn <= limit {
		n := min(uint64(o.count), uint64(limit-o.lsn)+1)
		if h.parent != nil || h.owned != nil {
			n = min(n, zeroSlice)
		}
		mine, err := h.ownedIn(o.addr, n)
		if err != nil {
			return err
		}
		var olds []blockmap.Entry
		done, err := h.base.SetRange(o.addr, n, o.lsn, h.r.origin, func(a uint64, e blockmap.Entry) {
			if mine == nil || mine[a] {
				olds = append(olds, e)
			}
		})
		for _, e := range olds {
			h.giveBack(e)
		}
		if done > 0 {
			h.zeros.forget(o.addr, done, o.lsn)
			h.pos = o.lsn + holdfast.LSN(done-1)
			o.addr += done
			o.lsn += holdfast.LSN(done)
			o.count -= uint32(done)
			*budget -= 32 + len(olds)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownedIn finds which stored entries of a range belong to the head alone; nil
// says all do.
func (h *head) ownedIn(addr, n uint64) (map[uint64]bool, error) {
	if h.parent == nil && h.owned == nil {
		return nil, nil
	}
	mine := make(map[uint64]bool)
	var inner error
	err := h.base.Walk(0, addr, func(a, k uint64, e blockmap.Entry) bool {
		if a >= addr+n {
			return false
		}
		if !e.Stored() {
			return true
		}
		var yes bool
		if yes, inner = h.ownsAlone(a, e); inner != nil {
			return false
		}
		if yes {
			mine[a] = true
		}
		return true
	})
	if inner != nil {
		err = inner
	}
	return mine, err
}

// mergeControl executes a control record on the base.
func (h *head) mergeControl(o *orec) error {
	s := h.r.s
	switch o.kind {
	case record.Grow:
		if o.ctl.Blocks > h.base.Blocks() {
			if err := h.base.Grow(o.ctl.Blocks); err != nil {
				return err
			}
		}
	case record.Snapshot:
		if sn := h.snapAt(o.lsn); sn != nil && sn.node == nil {
			sn.node = s.newNode(h.parent, h.base.Snapshot(), o.lsn)
			h.parent = sn.node
			h.rooted(sn)
			crashpoint.At(crashpoint.SnapshotKept)
		}
	case record.DropSnap:
		for i, sn := range h.snaps {
			if sn.dropped == o.lsn {
				h.snaps = slices.Delete(h.snaps, i, i+1)
				if sn.node != nil {
					sn.node.hidden = true
					s.litter = true
					s.merge.Set()
					crashpoint.At(crashpoint.DropMerged)
				}
				break
			}
		}
	case record.Revert:
		if err := h.mergeRevert(o); err != nil {
			return err
		}
	}
	h.pos = o.lsn
	return nil
}

func (h *head) mergeRevert(o *orec) error {
	var sn *snap
	for _, x := range h.snaps {
		if x.id == o.ctl.Snapshot && x.node != nil && x.lsn < o.lsn && (x.dropped == 0 || x.dropped > o.lsn) {
			sn = x
		}
	}
	if sn == nil {
		return nil
	}
	var above *blockmap.Root
	if h.parent != nil {
		above = h.parent.root
	}
	size := h.base.Blocks()
	h.r.s.drop(h.base.Snapshot(), above, nil)
	h.base.Release()
	h.base = blockmap.FromRoot(sn.node.root)
	h.parent = sn.node
	h.reverted = o.lsn
	crashpoint.At(crashpoint.RevertMerged)
	h.under.merged(o.lsn)
	for _, x := range h.snaps {
		x.under.merged(o.lsn)
	}
	return h.base.Grow(max(size, h.base.Blocks()))
}
