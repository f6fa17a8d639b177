package volume

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// ReadSnapshot reads whole blocks of a snapshot from block addr on, from
// whichever in-sync replica has them undamaged, this host's first. Kind NotFound
// if the snapshot is not there (any more). It blocks.
func (v *Volume) ReadSnapshot(id holdfast.SnapshotID, dst []byte, addr uint64) error {
	v.mu.Lock()
	local, failed := v.local, v.failed
	v.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case local == nil:
		return v.snapshotElsewhere(id, dst, addr, nil)
	}
	err := local.r.ReadSnapshot(id, dst, addr, v.sealing)
	if !spoilt(err) {
		return err
	}
	// Each block by itself: two replicas may help each other out though each is
	// damaged.
	for ; len(dst) > 0; dst, addr = dst[holdfast.BlockSize:], addr+1 {
		block := dst[:holdfast.BlockSize]
		err := local.r.ReadSnapshot(id, block, addr, v.sealing)
		if rotten(err) {
			v.s.metRot(local, err)
		}
		if spoilt(err) {
			err = v.snapshotElsewhere(id, block, addr, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// snapshotElsewhere reads of the other in-sync replicas' snapshot; err is why
// this host's does not do.
func (v *Volume) snapshotElsewhere(id holdfast.SnapshotID, dst []byte, addr uint64, err error) error {
	if err == nil {
		err = holdfast.Errorf(holdfast.Unavailable, "volume %s has no in-sync replica to read a snapshot from", v.Record().Name)
	}
	for _, ref := range v.others() {
		ferr := v.snapshotFrom(ref.Replica, id, dst, addr)
		if ferr == nil {
			return nil
		}
		err = holdfast.Errorf(holdfast.KindOf(ferr), "%w; %v", err, ferr)
	}
	return err
}

// snapshotFrom reads of one replica's snapshot.
func (v *Volume) snapshotFrom(ref cluster.Replica, id holdfast.SnapshotID, dst []byte, addr uint64) error {
	src, err := v.pinAt(ref, 0)
	if err != nil {
		return err
	}
	defer src.release()
	clear(dst)
	n := len(dst) / holdfast.BlockSize
	end := addr + uint64(n)
	for from, more := addr, true; more && from < end; {
		pg, err := src.page(changes{root: id, upto: AtHead}, from, n)
		if err != nil {
			return err
		}
		for i, b := range pg.blocks {
			if b.Addr >= end {
				return nil
			}
			at := int(b.Addr-addr) * holdfast.BlockSize
			stored := store.Block{Addr: b.Addr, LSN: b.LSN, Origin: b.Origin, Hash: b.Hash, Hole: b.Hole, Lost: b.Lost, Data: pg.data[i]}
			if err := v.takeBlock(dst[at:at+holdfast.BlockSize], b.Addr, stored, nil); err != nil {
				return err
			}
		}
		from, more = pg.next, pg.more
	}
	return nil
}
