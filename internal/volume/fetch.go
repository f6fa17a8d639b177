package volume

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// fetch reads whole blocks from this host's replica, or from another in-sync
// one if there is none here or its bytes fail their hash; what failed is
// repaired. Bytes that fail their hash are never returned. It blocks.
func (v *Volume) fetch(dst []byte, addr uint64) error {
	v.mu.Lock()
	local := v.local
	v.mu.Unlock()
	if local == nil {
		return v.fetchAway(dst, addr)
	}
	began := v.s.Clock.Now()
	err := local.r.ReadOpened(dst, addr, v.sealing)
	if now := v.s.Clock.Now(); err == nil {
		local.governor.feltRead(now-began, now)
		return nil
	}
	if v.letGo(local) {
		return v.fetch(dst, addr) // its disk may be gone as well
	}
	if local.st.Err() != nil {
		return v.fetchWithout(dst, addr, local)
	}
	if !spoilt(err) {
		return err
	}
	// Each block by itself: what is good is neither fetched nor written again,
	// and two replicas may help each other out though each is damaged.
	for len(dst) > 0 {
		if err := v.mend(dst[:holdfast.BlockSize], addr, local); err != nil {
			return err
		}
		dst, addr = dst[holdfast.BlockSize:], addr+1
	}
	return nil
}

// fetchAway is fetch where this host has no replica. One that does not answer is
// waited for, as writes wait for it: until it does, or another takes its place, or
// the volume ends here. It blocks.
func (v *Volume) fetchAway(dst []byte, addr uint64) error {
	for {
		err := v.fetchRemote(dst, addr, nil)
		if !holdfast.IsKind(err, holdfast.Unavailable) || v.Err() != nil {
			return err
		}
		clock.Sleep(v.s.Clock, tickEvery)
		if !v.letGo(nil) {
			continue
		}
		return v.fetch(dst, addr) // a replica was built here
	}
}

// renewWait is how long a read waits for a disk to be opened anew that has the
// only copy.
const renewWait = 10 * time.Second

// fetchWithout is fetch while the disk of this host's replica is given up: from
// another replica, or from that one once it is served again. It blocks.
func (v *Volume) fetchWithout(dst []byte, addr uint64, local *member) error {
	for waited := time.Duration(0); ; waited += tickEvery {
		err := v.fetchRemote(dst, addr, nil)
		if err == nil || waited >= renewWait || v.Err() != nil {
			return err
		}
		clock.Sleep(v.s.Clock, tickEvery)
		if v.letGo(local) {
			return v.fetch(dst, addr)
		}
	}
}

// fetchSettled is fetch for who holds the blocks closed to other writes and puts
// back what it read: on another host a write that was issued before may not have
// arrived yet, so that waits until it is acknowledged. It blocks.
func (v *Volume) fetchSettled(dst []byte, addr uint64) error {
	v.mu.Lock()
	local := v.local
	v.mu.Unlock()
	if local != nil && local.r.ReadOpened(dst, addr, v.sealing) == nil {
		return nil
	}
	if err := v.settled(); err != nil {
		return err
	}
	return v.fetch(dst, addr)
}

// settled waits until everything that was issued is acknowledged.
func (v *Volume) settled() (err error) {
	ev := v.s.Clock.NewEvent()
	o := newOp(&export.Request{Done: func(_ *export.Request, e error) { err = e; ev.Set() }})
	v.mu.Lock()
	if v.failed != nil {
		v.finishLocked(o, v.failed)
	} else {
		v.pendIssued(o)
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	ev.Wait(clock.Forever)
	return err
}

// letGo reports whether this host's replica has become another, or none, since
// it was looked up.
func (v *Volume) letGo(local *member) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.local != local
}

// spoilt reports whether a read failed by what the disk gave.
func spoilt(err error) bool {
	var bad *store.CorruptError
	return errors.As(err, &bad) || holdfast.IsKind(err, holdfast.IO) || holdfast.IsKind(err, holdfast.Corrupt)
}

// mend reads one block of this host's replica; a bad one comes from another
// replica, and is restored here. One that does not answer is waited for as long as
// it is in sync, as writes wait for it, and for a while after it was ejected: it
// may be back soon. It blocks.
func (v *Volume) mend(block []byte, addr uint64, local *member) error {
	err := local.r.ReadOpened(block, addr, v.sealing)
	if !spoilt(err) {
		v.s.mendLater(mendRetry) // what was noted is looked at, unless somebody is about to restore it
		return err
	}
	v.log.Error("bad bytes on this host's disk; reading from another replica", "replica", local.id.Short(), "error", err)
	v.s.noteRot(local.st.Identity().Disk, 1, 0)
	for waited := time.Duration(0); ; waited += tickEvery {
		ferr := v.fetchRemote(block, addr, local)
		if ferr == nil {
			return nil
		}
		if waited == 0 {
			v.s.mendSoon()
		}
		if !holdfast.IsKind(ferr, holdfast.Unavailable) || v.Err() != nil || !v.mayComeBack(waited) {
			return holdfast.Errorf(holdfast.KindOf(err), "%w; no other replica could help: %v", err, ferr)
		}
		clock.Sleep(v.s.Clock, tickEvery)
		if v.letGo(local) || !spoilt(local.r.ReadOpened(block, addr, v.sealing)) {
			return v.fetch(block, addr) // a replica that is built anew, or the block was restored meanwhile
		}
	}
}

// mayComeBack reports whether a copy that could not be asked for so long is still
// waited for: one in sync is, and others are for no longer than renewWait.
func (v *Volume) mayComeBack(waited time.Duration) bool {
	return len(v.others()) > 0 || waited < renewWait && len(v.Record().Others) > 0
}

// fetchRemote reads from the other in-sync replicas in turn; if none has all of
// it undamaged, each block from whichever has it. With repair set, the good
// blocks replace the bad ones there.
func (v *Volume) fetchRemote(dst []byte, addr uint64, repair *member) error {
	err := v.fetchWhole(dst, addr, repair)
	if len(dst) == holdfast.BlockSize || !spoilt(err) {
		return err
	}
	for len(dst) > 0 {
		if err := v.fetchWhole(dst[:holdfast.BlockSize], addr, repair); err != nil {
			return err
		}
		dst, addr = dst[holdfast.BlockSize:], addr+1
	}
	return nil
}

// fetchWhole reads all of a range from the first other replica that has it. Kind
// Unavailable: one that may have it cannot be asked, whatever the rest say.
func (v *Volume) fetchWhole(dst []byte, addr uint64, repair *member) error {
	var why error
	for _, ref := range v.others() {
		err := v.fetchFrom(ref, dst, addr, repair)
		if err == nil {
			return nil
		}
		if why == nil || holdfast.IsKind(err, holdfast.Unavailable) {
			why = err
		}
	}
	if why == nil {
		why = holdfast.Errorf(holdfast.Unavailable, "volume %s has no other in-sync replica", v.rec.Name)
	}
	return why
}

// elsewhere is an in-sync replica on another host, and up to where it held
// everything when it was last heard of. Who asks it for the head says so: a
// replica that restarted since may have forgotten what is not on disk yet, and
// its writer need not know of that (invariant 6).
type elsewhere struct {
	cluster.Replica
	holds holdfast.LSN
}

// others returns the in-sync replicas on other hosts.
func (v *Volume) others() []elsewhere {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []elsewhere
	for i := range v.m.Members() {
		if m := &v.m.Members()[i]; !m.Gone && m.InSync && m.ID != v.localID {
			out = append(out, elsewhere{v.refs[i], m.Acked})
		}
	}
	return out
}

func (v *Volume) fetchFrom(ref elsewhere, dst []byte, addr uint64, repair *member) error {
	for len(dst) > 0 {
		n := min(len(dst)/holdfast.BlockSize, replica.MaxBlocks)
		rng := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, addr), uint64(n))
		f, err := v.s.ask(ref.Replica, replica.KindRead, replica.Ask{Epoch: v.epoch, Upto: ref.holds}, rng, nil)
		if err != nil {
			return err
		}
		bulk := whole(f.Bulk)
		ids, err := replica.DecodeBlocks(f.Head, len(bulk))
		if err != nil {
			return err
		}
		if len(ids) != n {
			return holdfast.Errorf(holdfast.Invalid, "replica %s answered %d blocks instead of %d", ref.ID.Short(), len(ids), n)
		}
		for i, b := range storeBlocks(ids, bulk) {
			if err := v.takeBlock(dst[i*holdfast.BlockSize:(i+1)*holdfast.BlockSize], addr+uint64(i), b, repair); err != nil {
				return err
			}
		}
		dst, addr = dst[n*holdfast.BlockSize:], addr+uint64(n)
	}
	return nil
}

// takeBlock checks one fetched block and copies it.
func (v *Volume) takeBlock(dst []byte, addr uint64, b store.Block, repair *member) error {
	if b.Addr != addr {
		return holdfast.Errorf(holdfast.Invalid, "a replica answered block %d instead of %d", b.Addr, addr)
	}
	if b.Hole {
		clear(dst)
		return nil
	}
	if b.Lost || checksum.Block(b.Origin, b.Addr, b.LSN, b.Data) != b.Hash {
		return holdfast.Errorf(holdfast.Corrupt, "block %d of volume %s arrived with a wrong hash", addr, v.rec.Name)
	}
	if err := v.sealing.Open(dst, b.Data, b.Origin, b.Addr, b.LSN); err != nil {
		return err
	}
	if repair != nil {
		if err := repair.r.Repair(b); err != nil {
			v.log.Warn("a block could not be repaired", "block", addr, "error", err)
			return nil
		}
		v.mu.Lock()
		v.stats.Repaired++
		v.mu.Unlock()
		v.s.noteRot(repair.st.Identity().Disk, 0, 1)
	}
	return nil
}
