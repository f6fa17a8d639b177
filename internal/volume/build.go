package volume

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Serving side of reads by identity, resync and rebuild.

// serveRead returns the blocks of a range {addr, count} with their identities.
func (s *Service) serveRead(m *member, a replica.Ask, rest, _ []byte) (out transport.Frame, err error) {
	if err = m.checkHolds(a, s.Clock.Now()); err != nil {
		return out, err
	}
	if len(rest) != 16 {
		return out, holdfast.Errorf(holdfast.Invalid, "replica read: %d bytes of range, need 16", len(rest))
	}
	addr, n := binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(rest[8:])
	if n == 0 || n > replica.MaxBlocks || addr >= holdfast.MaxVolumeBlocks {
		return out, holdfast.Errorf(holdfast.Invalid, "replica read: %d blocks at %d are out of range", n, addr)
	}
	began := s.Clock.Now()
	pin := m.r.PinHead()
	defer pin.Release()
	var bulk [][]byte
	room := make([]byte, n*maxStored)
	for i := range n {
		ref, data, err := pin.ReadBlock(holdfast.SnapshotID{}, addr+i, room)
		if spoilt(err) {
			s.metRot(m, err)
		}
		if err != nil {
			return transport.Frame{}, err
		}
		b := replica.Block{Addr: addr + i, LSN: ref.LSN, Origin: ref.Origin, Hash: ref.Hash, Hole: ref.Hole || ref.LSN == 0}
		if len(data) > 0 {
			bulk = append(bulk, data)
			room = room[len(data):]
		}
		out.Head = b.AppendTo(out.Head)
	}
	out.Bulk = bulk
	now := s.Clock.Now()
	m.governor.feltRead(now-began, now)
	return out, nil
}

// maxStored is the most that is stored of a block, in bytes.
const maxStored = holdfast.MaxStoredUnits * holdfast.StoredUnit

// serveRoots tells which snapshots the replica has, whatever they belong to.
func (s *Service) serveRoots(m *member, a replica.Ask, _, _ []byte) (out transport.Frame, err error) {
	if err = m.check(a.Epoch, s.Clock.Now()); err != nil {
		return out, err
	}
	st := m.r.State()
	var roots []replica.Root
	for i, x := range append(st.Aside, st.Snapshots...) {
		roots = append(roots, replica.Root{ID: x.ID, LSN: x.LSN, Blocks: x.Blocks, Aside: i < len(st.Aside)})
	}
	if len(roots) > replica.MaxRoots {
		return out, tooManyRoots(m.id, len(roots))
	}
	return transport.Frame{Bulk: [][]byte{replica.AppendRoots(nil, roots)}}, nil
}

func tooManyRoots(id holdfast.ReplicaID, n int) error {
	return holdfast.Errorf(holdfast.Invalid, "replica %s has %d snapshots, at most %d can be sent; delete some", id.Short(), n, replica.MaxRoots)
}

func (s *Service) serveRootBegin(m *member, a replica.Ask, rest, _ []byte) (transport.Frame, error) {
	d, err := replica.DecodeRootBuild(rest)
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	if err == nil {
		m.r.SetStable(a.Stable)
		err = m.r.BeginRoot(store.Attempt(a.Upto), rootID(d.Root), d.Blocks, storeFrom(d.From))
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}

func (s *Service) serveRootEnd(m *member, a replica.Ask, rest, _ []byte) (transport.Frame, error) {
	d, err := replica.DecodeRootBuild(rest)
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	if err == nil {
		err = m.r.FinishRoot(store.Attempt(a.Upto), rootID(d.Root))
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}

func rootID(r replica.Root) store.RootID { return store.RootID{ID: r.ID, LSN: r.LSN} }

func storeFrom(f replica.From) store.From {
	kinds := [...]store.FromKind{store.FromNothing, store.FromHead, store.FromSnapshot, store.FromOrigin}
	return store.From{Kind: kinds[f.Kind], Snapshot: f.Snapshot, Origin: f.Origin, At: f.At}
}

func (s *Service) serveBuildBegin(m *member, a replica.Ask, _, bulk []byte) (transport.Frame, error) {
	d, err := replica.DecodeBuild(bulk)
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	if err == nil {
		m.r.SetStable(a.Stable)
		b := store.Build{Base: d.Base, From: storeFrom(d.From), Reverted: d.Reverted, Blocks: d.Blocks}
		for _, r := range d.Roots {
			b.Roots = append(b.Roots, rootID(r))
		}
		err = m.r.BeginBuild(store.Attempt(a.Upto), b)
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}

func (s *Service) serveIngest(m *member, a replica.Ask, rest, bulk []byte) (transport.Frame, error) {
	ids, err := replica.DecodeBlocks(rest, len(bulk))
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	if err == nil {
		err = m.ingest(s.Clock, store.Attempt(a.Upto), storeBlocks(ids, bulk))
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}

func storeBlocks(ids []replica.Block, bulk []byte) []store.Block {
	out := make([]store.Block, 0, len(ids))
	for _, b := range ids {
		k := store.Block{Addr: b.Addr, LSN: b.LSN, Origin: b.Origin, Hash: b.Hash, Hole: b.Hole, Lost: b.Lost}
		if b.Bulky() {
			n := b.Bytes()
			k.Data, bulk = bulk[:n:n], bulk[n:]
		}
		out = append(out, k)
	}
	return out
}

func (s *Service) serveBuildEnd(m *member, a replica.Ask, rest, _ []byte) (transport.Frame, error) {
	d, err := replica.DecodeBuildEnd(rest)
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	if err == nil {
		err = m.r.FinishBuild(store.Attempt(a.Upto), d.History)
	}
	if err != nil {
		return transport.Frame{}, err
	}
	m.r.Remember(lastEpoch(d.History))
	return s.answered(m)
}

func (s *Service) serveBuildAbort(m *member, a replica.Ask, _, _ []byte) (transport.Frame, error) {
	err := m.check(a.Epoch, s.Clock.Now())
	if err == nil {
		err = m.r.AbortBuild(store.Attempt(a.Upto))
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}
