package store

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
)

// Block is one block as it travels in a resync, rebuild or repair.
type Block struct {
	Addr   uint64
	LSN    holdfast.LSN
	Origin holdfast.VolumeID // the volume that it was written as
	Hash   uint64
	Hole   bool   // a tombstone: no Hash, no Data
	Lost   bool   // no Data: no copy had it; reading the block fails
	Data   []byte // as stored; the hash tells how long it is
}

const ingestBytes = 48

func (b *Block) check() error {
	if b.Hole {
		if len(b.Data) != 0 || b.Hash != 0 {
			return holdfast.Errorf(holdfast.Invalid, "block %d: a hole with data", b.Addr)
		}
		return nil
	}
	if !checksum.Proper(b.Hash) {
		return holdfast.Errorf(holdfast.Invalid, "block %d: its hash is of no length that is stored", b.Addr)
	}
	if b.Lost {
		if len(b.Data) != 0 {
			return holdfast.Errorf(holdfast.Invalid, "block %d: it is lost, and has data", b.Addr)
		}
		return nil
	}
	if len(b.Data) != checksum.Units(b.Hash)*unitSize {
		return holdfast.Errorf(holdfast.Invalid, "block %d: %d bytes, its hash is of %d", b.Addr, len(b.Data), checksum.Units(b.Hash)*unitSize)
	}
	if checksum.Block(b.Origin, b.Addr, b.LSN, b.Data) != b.Hash {
		return holdfast.Errorf(holdfast.Corrupt, "block %d at %v does not match its hash; it was damaged on the way", b.Addr, b.LSN)
	}
	return nil
}

// receiver is the head that takes blocks now: a root's, else the build's.
func (r *Replica) receiver() *head {
	if r.taking != nil {
		return r.taking.head
	}
	return r.head
}

// Ingest puts blocks into the root that is being received, else into the build,
// in any order; per block the higher LSN wins. None may be newer than the root
// or the build's base. Hashes are verified (kind Corrupt). The blocks are not
// durable before FinishRoot or FinishBuild.
func (r *Replica) Ingest(a Attempt, blocks []Block) error {
	for i := range blocks {
		if err := blocks[i].check(); err != nil {
			return err
		}
	}
	s := r.s
	h, entries, err := r.store(a, blocks)
	if err != nil {
		return err
	}
	at := 0
	err = s.withMap(func() error {
		for ; at < len(blocks); at++ {
			if r.receiver() != h || h.building == nil {
				return r.notBuilding()
			}
			if err := h.ingest(blocks[at].Addr, entries[at]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	crashpoint.At(crashpoint.BuildIngested)
	return s.wait(func(done func(error)) error {
		s.afterWrite(done)
		return nil
	})
}

// store puts blocks into the log and returns the entries that name them.
func (r *Replica) store(a Attempt, blocks []Block) (*head, []blockmap.Entry, error) {
	s := r.s
	s.lock()
	defer s.unlock()
	h := r.receiver()
	if err := r.of(a); err != nil {
		return nil, nil, err
	}
	switch {
	case h.building == nil:
		return nil, nil, r.notBuilding()
	case s.floor():
		return nil, nil, holdfast.Errorf(holdfast.NoSpace, "disk %s is full; the build of replica %s cannot go on", s.id.Disk, r.id)
	}
	if err := h.fit(blocks); err != nil {
		return nil, nil, err
	}
	entries := make([]blockmap.Entry, len(blocks))
	for i := range blocks {
		o, err := s.originIndex(blocks[i].Origin)
		if err != nil {
			return nil, nil, err
		}
		r.mayHold(o)
		entries[i] = blockmap.Entry{LSN: blocks[i].LSN, Origin: o}
	}
	refs := make([]placed, len(blocks))
	for i := range blocks {
		refs[i] = s.putIngest(r, &blocks[i])
	}
	s.closeBatch()
	for i := range blocks {
		b := &blocks[i]
		if !b.Hole {
			entries[i].Hash = b.Hash
			entries[i].Seg, entries[i].Slot = refs[i].b.head.seg, refs[i].b.slotOf(refs[i].idx)
			h.owned.add(entries[i].Seg, entries[i].Slot, unitsOf(entries[i]), s.space.segBlocks)
			if b.Lost {
				refs[i].b.lost = append(refs[i].b.lost, refs[i].idx)
				s.lose(r, b, entries[i].Seg, entries[i].Slot)
			}
		}
	}
	return h, entries, nil
}

// fit checks blocks against the build.
func (h *head) fit(blocks []Block) error {
	for i := range blocks {
		b := &blocks[i]
		if b.LSN > h.building.base || b.LSN == 0 {
			return holdfast.Errorf(holdfast.Invalid, "block %d has LSN %v, but what is built takes blocks up to %v; later ones come as records", b.Addr, b.LSN, h.building.base)
		}
		if b.Addr >= holdfast.MaxVolumeBlocks {
			return holdfast.Errorf(holdfast.Invalid, "block %d is beyond the largest volume", b.Addr)
		}
		if b.Addr >= h.base.Blocks() { // the volume has grown since
			if err := h.base.Grow(b.Addr + 1); err != nil {
				return err
			}
			h.blocks = max(h.blocks, b.Addr+1)
		}
	}
	return nil
}

// lostData stands for lost blocks in the log. It is never written.
var lostData [holdfast.MaxStoredUnits * unitSize]byte

// lose makes a block one that is nowhere, and says so. Its place in the map is
// its own: with its bytes gone it must neither read as what was there before nor
// keep the rest from being rebuilt.
func (s *Store) lose(r *Replica, b *Block, seg uint32, slot uint16) {
	s.space.move(seg, noPlace, []run{{seg: lostSegment, slot: slot, n: uint16(checksum.Units(b.Hash))}})
	s.noteFault(Fault{Replica: r.id, Addr: b.Addr, LSN: b.LSN, Origin: b.Origin, Hash: b.Hash, Hop: HopCopy, Nowhere: true, seg: seg, slot: slot})
}

func (s *Store) putIngest(r *Replica, x *Block) placed {
	b := s.openBatch(ingestBytes)
	p := b.begin(entryIngest, r.num)
	p = append(p, x.Origin.UUID[:]...)
	p = le.AppendUint64(p, x.Addr)
	p = le.AppendUint64(p, uint64(x.LSN))
	hash := x.Hash
	if x.Lost { // zeros stand for it in the log, where they must be whole
		hash = checksum.Block(x.Origin, x.Addr, x.LSN, lostData[:checksum.Units(x.Hash)*unitSize])
	}
	p = le.AppendUint64(p, hash)
	hole := byte(0)
	if x.Hole {
		hole = 1
	}
	b.end(append(p, hole, 0, 0, 0, 0, 0, 0, 0))
	return s.putPayload(b, x)
}

// placed is a block's place in a batch.
type placed struct {
	b   *batch
	idx uint32
}

// putPayload adds a block's data, if it has any, to a batch.
func (s *Store) putPayload(b *batch, x *Block) placed {
	ref := placed{b: b}
	if !x.Hole {
		ref.idx = s.gather(b, []uint64{x.Hash}, x.Data)
	}
	return ref
}

// ingest applies one block to the base unless it has it, or a newer one.
func (h *head) ingest(addr uint64, e blockmap.Entry) error {
	old, err := h.base.Get(addr)
	if err != nil {
		return err
	}
	if old.LSN >= e.LSN {
		if e.Stored() {
			h.giveBack(e)
		}
		return nil
	}
	return h.replace(addr, e)
}
