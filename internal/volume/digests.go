package volume

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// digestsOf folds what a pin shows.
func digestsOf(pin *store.Pin, a replica.DigestAsk, upto holdfast.LSN) (d replica.Digests, err error) {
	list, next, more, err := pin.Digests(a.Root, a.Against, upto, a.From)
	if err != nil {
		return d, err
	}
	d.Next, d.More = next, more
	for _, x := range list {
		d.List = append(d.List, replica.Digest(x))
	}
	return d, nil
}

// entriesOf is what the map of a pin says of the stretch that begins at an
// address, newer blocks too.
func entriesOf(pin *store.Pin, root holdfast.SnapshotID, from uint64) (out []replica.Block, err error) {
	err = pin.Walk(store.Changes{Root: root}, from, func(addr uint64, ref store.BlockRef) bool {
		if addr >= from+replica.DigestSpan {
			return false
		}
		out = append(out, replica.Block{Addr: addr, LSN: ref.LSN, Origin: ref.Origin, Hash: ref.Hash, Hole: ref.Hole, Lost: !ref.Hole})
		return true
	})
	return out, err
}

func (l *localSource) digests(a replica.DigestAsk, upto holdfast.LSN) (replica.Digests, error) {
	return digestsOf(l.pin, a, upto)
}

func (l *localSource) entries(root holdfast.SnapshotID, from uint64) ([]replica.Block, error) {
	return entriesOf(l.pin, root, from)
}

func (r *remoteSource) digests(a replica.DigestAsk, upto holdfast.LSN) (d replica.Digests, err error) {
	a.Pin = r.pin.ID
	f, err := r.v.s.ask(r.ref, replica.KindDigest, replica.Ask{Epoch: r.v.epoch, Upto: upto}, a.AppendTo(nil), nil)
	if err != nil {
		return d, err
	}
	return replica.DecodeDigests(f.Head, whole(f.Bulk), a.From)
}

func (r *remoteSource) entries(root holdfast.SnapshotID, from uint64) ([]replica.Block, error) {
	ask := replica.PinPage{ID: r.pin.ID, From: from, Max: replica.DigestSpan, Root: root}
	f, err := r.v.s.ask(r.ref, replica.KindEntries, replica.Ask{Epoch: r.v.epoch}, ask.AppendTo(nil), nil)
	if err != nil {
		return nil, err
	}
	return replica.DecodeEntries(f.Head, from)
}

func (s *Service) serveDigest(m *member, a replica.Ask, rest, _ []byte) (out transport.Frame, err error) {
	ask, err := replica.DecodeDigestAsk(rest)
	if err != nil {
		return out, err
	}
	pin, err := s.heldFor(m, a.Epoch, ask.Pin)
	if err != nil {
		return out, err
	}
	d, err := digestsOf(pin, ask, a.Upto)
	if err != nil {
		return out, err
	}
	head, bulk := d.AppendTo(nil, nil)
	if out.Head = head; len(bulk) > 0 {
		out.Bulk = [][]byte{bulk}
	}
	return out, nil
}

func (s *Service) serveEntries(m *member, a replica.Ask, rest, _ []byte) (out transport.Frame, err error) {
	ask, err := replica.DecodePinPage(rest)
	if err != nil {
		return out, err
	}
	pin, err := s.heldFor(m, a.Epoch, ask.ID)
	if err != nil {
		return out, err
	}
	list, err := entriesOf(pin, ask.Root, ask.From)
	for i := range list {
		out.Head = list[i].AppendTo(out.Head)
	}
	return out, err
}

// heldFor finds a pin of a member for the writer of an epoch.
func (s *Service) heldFor(m *member, e holdfast.Epoch, id uint64) (*store.Pin, error) {
	if err := m.check(e, s.Clock.Now()); err != nil {
		return nil, err
	}
	return s.heldPin(m, id)
}
