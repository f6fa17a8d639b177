package volume

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Diff tells which blocks of to, from block addr on and in order, do not hold
// what from holds: at most limit extents, at most replica.MaxExtents. It is over
// when Next of the answer is its Size; else go on at Next, which is above addr,
// now or any time later: nothing is kept in between. One between snapshots is
// exact; one to the head shows all that was acknowledged before its first step
// and perhaps later writes. Kind NotFound if a snapshot is not there (any more).
// It blocks.
func (v *Volume) Diff(from, to replica.RootRef, addr uint64, limit int) (d replica.Diff, err error) {
	return v.diffUntil(from, to, addr, holdfast.MaxVolumeBlocks, limit)
}

// diffUntil is Diff that need not tell of blocks from block end on; another
// host's replica does all the same.
func (v *Volume) diffUntil(from, to replica.RootRef, addr, end uint64, limit int) (d replica.Diff, err error) {
	ask := replica.DiffAsk{From: from, To: to, Addr: addr, Max: uint32(max(1, min(limit, replica.MaxExtents)))}
	v.mu.Lock()
	local, failed := v.local, v.failed
	v.mu.Unlock()
	if failed != nil {
		return d, failed
	}
	err = holdfast.Errorf(holdfast.Unavailable, "volume %s has no in-sync replica to compare on", v.Record().Name)
	if local != nil {
		if d, err = local.diff(&ask, end); err == nil || holdfast.IsKind(err, holdfast.NotFound) {
			return d, err
		}
	}
	for _, ref := range v.others() {
		var f transport.Frame
		if f, err = v.s.ask(ref.Replica, replica.KindDiff, replica.Ask{Epoch: v.epoch, Upto: ref.holds}, ask.AppendTo(nil), nil); err == nil {
			d, err = replica.DecodeDiff(f.Head)
		}
		if err == nil && d.Next <= addr && d.Next < d.Size {
			err = holdfast.Errorf(holdfast.Invalid, "replica %s answered a comparison that does not go on", ref.ID.Short())
		}
		if err == nil || holdfast.IsKind(err, holdfast.NotFound) {
			break
		}
	}
	return d, err
}

// diff is a step of Diff on this host, of the blocks before end.
func (m *member) diff(a *replica.DiffAsk, end uint64) (d replica.Diff, err error) {
	ext, next, size, err := m.r.DiffUntil(store.RootRef(a.From), store.RootRef(a.To), a.Addr, end, int(a.Max))
	d.Next, d.Size = next, size
	for _, e := range ext {
		d.Extents = append(d.Extents, replica.Extent(e))
	}
	return d, err
}

func (s *Service) serveDiff(m *member, a replica.Ask, rest, _ []byte) (transport.Frame, error) {
	ask, err := replica.DecodeDiffAsk(rest)
	if err == nil {
		err = m.checkHolds(a, s.Clock.Now())
	}
	var d replica.Diff
	if err == nil {
		d, err = m.diff(&ask, holdfast.MaxVolumeBlocks)
	}
	return transport.Frame{Head: d.AppendTo(nil)}, err
}
