package volume

import (
	"errors"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// source is where the content of a joiner comes from: the head and the
// snapshots as of some LSN.
type source interface {
	page(c changes, from uint64, limit int) (page, error)
	digests(ask replica.DigestAsk, upto holdfast.LSN) (replica.Digests, error)
	entries(root holdfast.SnapshotID, from uint64) ([]replica.Block, error)
	shows() replica.Pinned
	release()
}

// changes says which blocks are wanted: those of a root (zero: the head) that
// are newer than since, or that differ from another root, and not newer than
// upto. What is newer in the head the live stream carries.
type changes struct {
	root    holdfast.SnapshotID
	since   holdfast.LSN
	against holdfast.SnapshotID
	upto    holdfast.LSN
}

// page is some blocks of a source, and the data of those that have any, each in
// a buffer of its own; nil: it could not be read, and the block is lost unless
// it is found elsewhere.
type page struct {
	blocks []replica.Block
	data   [][]byte
	next   uint64
	more   bool
}

// bytes is how much data the page has.
func (pg *page) bytes() (n int) {
	for i := range pg.blocks {
		if pg.blocks[i].Bulky() {
			n += pg.blocks[i].Bytes()
		}
	}
	return n
}

// encoded is the page in the coding of an ingest.
func (pg *page) encoded() (head []byte, bulk [][]byte) {
	for i := range pg.blocks {
		head = pg.blocks[i].AppendTo(head)
		if pg.blocks[i].Bulky() {
			bulk = append(bulk, pg.data[i])
		}
	}
	return head, bulk
}

// pageOf takes the next page of a pin; read reads what is
// stored of a block. A block whose
// bytes do not match their hash, or that the disk does not give, is told as lost.
func pageOf(pin *store.Pin, c changes, from uint64, limit int, read func(addr uint64) ([]byte, error)) (page, error) {
	pg := page{next: from}
	err := pin.Walk(store.Changes{Root: c.root, Since: c.since, Against: c.against}, from, func(addr uint64, ref store.BlockRef) bool {
		if len(pg.blocks) == limit {
			pg.more = true
			return false
		}
		pg.next = addr + 1
		if ref.LSN > c.upto {
			return true
		}
		b := replica.Block{Addr: addr, LSN: ref.LSN, Origin: ref.Origin, Hash: ref.Hash, Hole: ref.Hole}
		pg.blocks = append(pg.blocks, b)
		return true
	})
	pg.data = make([][]byte, len(pg.blocks))
	for i := 0; i < len(pg.blocks) && err == nil; { // only now: no callback waits for the disk
		n := min(len(pg.blocks)-i, store.ReadAtOnce)
		if !pg.readTogether(pin, c.root, i, i+n) {
			err = pg.readApart(i, i+n, read)
		}
		i += n
	}
	return pg, err
}

// readTogether reads what is stored of some blocks of a page, and reports whether
// all of it is good.
func (pg *page) readTogether(pin *store.Pin, root holdfast.SnapshotID, from, to int) bool {
	var at []int
	var addrs []uint64
	for i := from; i < to; i++ {
		if !pg.blocks[i].Hole {
			at, addrs = append(at, i), append(addrs, pg.blocks[i].Addr)
		}
	}
	if len(addrs) == 0 {
		return true
	}
	data, err := pin.ReadBlocks(root, addrs)
	if err != nil {
		return false
	}
	for k, i := range at {
		pg.data[i] = data[k]
	}
	return true
}

// readApart reads it block by block; one that is bad is lost.
func (pg *page) readApart(from, to int, read func(addr uint64) ([]byte, error)) (err error) {
	for i := from; i < to && err == nil; i++ {
		b := &pg.blocks[i]
		if b.Hole {
			continue
		}
		if pg.data[i], err = read(b.Addr); rotten(err) {
			b.Lost, pg.data[i], err = true, nil, nil
		}
	}
	return err
}

// rotten reports whether a read failed by the stored bytes of one block.
func rotten(err error) bool {
	var bad *store.CorruptError
	return errors.As(err, &bad) && bad.Fault.Addr == bad.Addr && bad.Fault.LSN != 0
}

// pinned describes a pin.
func pinned(id uint64, pin *store.Pin) replica.Pinned {
	p := replica.Pinned{ID: id, LSN: pin.LSN(), Reverted: pin.Reverted(), Parent: pin.Parent()}
	for _, r := range pin.Roots() {
		p.Roots = append(p.Roots, replica.Root{ID: r.ID, LSN: r.LSN, Blocks: r.Blocks, Parent: r.Parent})
	}
	return p
}

// localSource is a pin of this host's own replica.
type localSource struct {
	v        *Volume
	pin      *store.Pin
	governor *governor // of its disk
}

func (l *localSource) shows() replica.Pinned { return pinned(0, l.pin) }
func (l *localSource) release()              { l.pin.Release() }

func (l *localSource) page(c changes, from uint64, limit int) (page, error) {
	clk := l.v.s.Clock
	if l.governor.gently(clk.Now()) {
		limit = min(limit, gentleBlocks)
	}
	pg, err := pageOf(l.pin, c, from, limit, func(addr uint64) ([]byte, error) { return l.read(c.root, addr) })
	l.governor.pace(clk, pg.bytes())
	return pg, err
}

// read reads what is stored of a block of the pin.
func (l *localSource) read(root holdfast.SnapshotID, addr uint64) ([]byte, error) {
	_, stored, err := l.pin.ReadBlock(root, addr, make([]byte, maxStored))
	if rotten(err) {
		l.v.mu.Lock()
		local := l.v.local
		l.v.mu.Unlock()
		if local != nil {
			l.v.s.metRot(local, err)
		}
	}
	return stored, err
}

// pin keeps the volume's roots somewhere, as of base or later.
func (v *Volume) pin(base holdfast.LSN) (source, error) {
	v.mu.Lock()
	local := v.local
	v.mu.Unlock()
	if local == nil {
		return v.pinRemote(base)
	}
	return &localSource{v: v, pin: local.r.Pin(), governor: local.governor}, nil
}

// remoteSource is a root that another in-sync member keeps for a writer that
// has no replica of its own.
type remoteSource struct {
	v   *Volume
	ref cluster.Replica
	pin replica.Pinned
}

// pinRemote has one of the other in-sync members keep its root, once it holds
// everything up to base.
func (v *Volume) pinRemote(base holdfast.LSN) (source, error) {
	err := holdfast.Errorf(holdfast.Unavailable, "volume %s has no in-sync replica to copy from", v.Record().Name)
	for _, ref := range v.others() {
		var src source
		if src, err = v.pinAt(ref.Replica, base); err == nil {
			return src, nil
		}
	}
	return nil, err
}

// pinAt has a member elsewhere keep its roots.
func (v *Volume) pinAt(ref cluster.Replica, base holdfast.LSN) (source, error) {
	f, err := v.s.ask(ref, replica.KindPin, replica.Ask{Epoch: v.epoch, Upto: base}, nil, nil)
	if err != nil {
		return nil, err
	}
	p, err := replica.DecodePinned(whole(f.Bulk))
	if err != nil {
		return nil, err
	}
	return &remoteSource{v: v, ref: ref, pin: p}, nil
}

func (r *remoteSource) shows() replica.Pinned { return r.pin }

func (r *remoteSource) release() {
	more := replica.PinPage{ID: r.pin.ID, Max: 1}
	if _, err := r.v.s.ask(r.ref, replica.KindPinRelease, replica.Ask{Epoch: r.v.epoch}, more.AppendTo(nil), nil); err != nil {
		r.v.log.Debug("a pin was not released and will expire", "replica", r.ref.ID.Short(), "error", err)
	}
}

func (r *remoteSource) page(c changes, from uint64, limit int) (pg page, err error) {
	ask := replica.PinPage{ID: r.pin.ID, Since: c.since, From: from, Max: uint32(limit), Root: c.root, Against: c.against}
	f, err := r.v.s.ask(r.ref, replica.KindPinRead, replica.Ask{Epoch: r.v.epoch, Upto: c.upto}, ask.AppendTo(nil), nil)
	if err != nil {
		return pg, err
	}
	p, ids, err := replica.DecodePage(f.Head)
	if err != nil {
		return pg, err
	}
	bulk := whole(f.Bulk)
	blocks, err := replica.DecodeBlocks(ids, len(bulk))
	if err != nil {
		return pg, err
	}
	if p.More && p.Next <= from {
		return pg, holdfast.Errorf(holdfast.Invalid, "replica %s answered a page that does not go on", r.ref.ID.Short())
	}
	pg = page{blocks: blocks, data: make([][]byte, len(blocks)), next: p.Next, more: p.More}
	for i := range blocks {
		if b := &blocks[i]; b.Bulky() {
			n := b.Bytes()
			pg.data[i], bulk = bulk[:n:n], bulk[n:]
		}
	}
	return pg, nil
}

// Bounds on the roots that a host keeps for writers elsewhere.
const (
	maxPins  = 64
	pinIdle  = 10 * time.Second // a pin that is not asked for so long is released
	pinWait  = time.Second      // for records that are on their way
	pinRetry = 5 * time.Millisecond
)

// heldPin is a root kept for a writer elsewhere; Service.mu guards it.
type heldPin struct {
	pin  *store.Pin
	of   holdfast.ReplicaID
	seen time.Duration
}

func (s *Service) servePin(m *member, a replica.Ask, _, _ []byte) (transport.Frame, error) {
	if err := m.check(a.Epoch, s.Clock.Now()); err != nil {
		return transport.Frame{}, err
	}
	for waited := time.Duration(0); ; waited += pinRetry {
		prefix, _ := m.r.Position()
		if prefix >= a.Upto {
			break
		}
		if waited >= pinWait {
			return transport.Frame{}, holdfast.Errorf(holdfast.Gap, "replica %s holds records up to %v, not %v", m.id.Short(), prefix, a.Upto)
		}
		clock.Sleep(s.Clock, pinRetry)
	}
	pin := m.r.Pin()
	if n := len(pin.Roots()); n > replica.MaxRoots {
		pin.Release()
		return transport.Frame{}, tooManyRoots(m.id, n)
	}
	s.mu.Lock()
	if len(s.pins) >= maxPins || s.closed {
		s.mu.Unlock()
		pin.Release()
		return transport.Frame{}, holdfast.Errorf(holdfast.Busy, "this host keeps %d roots already", maxPins)
	}
	s.lastPin++
	id := s.lastPin
	s.pins[id] = &heldPin{pin: pin, of: m.id, seen: s.Clock.Now()}
	s.mu.Unlock()
	s.Clock.AfterFunc(pinIdle, func() { s.expirePin(id) })
	p := pinned(id, pin)
	return transport.Frame{Bulk: [][]byte{p.AppendTo(nil)}}, nil
}

// expirePin releases a pin that nobody has asked for, and looks again later
// otherwise.
func (s *Service) expirePin(id uint64) {
	s.mu.Lock()
	h := s.pins[id]
	if h == nil {
		s.mu.Unlock()
		return
	}
	left := h.seen + pinIdle - s.Clock.Now()
	over := left <= 0 || s.closed
	if over {
		delete(s.pins, id)
	}
	s.mu.Unlock()
	if over {
		h.pin.Release()
		return
	}
	s.Clock.AfterFunc(left, func() { s.expirePin(id) })
}

// heldPin finds a pin of a member and notes that it is in use.
func (s *Service) heldPin(m *member, id uint64) (*store.Pin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.pins[id]
	if h == nil || h.of != m.id {
		return nil, holdfast.Errorf(holdfast.NotFound, "replica %s keeps no root %d; it was released or the host has restarted", m.id.Short(), id)
	}
	h.seen = s.Clock.Now()
	return h.pin, nil
}

func (s *Service) servePinRead(m *member, a replica.Ask, rest, _ []byte) (out transport.Frame, err error) {
	p, err := replica.DecodePinPage(rest)
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	var pin *store.Pin
	if err == nil {
		pin, err = s.heldPin(m, p.ID)
	}
	if err != nil {
		return out, err
	}
	c := changes{root: p.Root, since: p.Since, against: p.Against, upto: a.Upto}
	pg, err := pageOf(pin, c, p.From, int(p.Max), func(addr uint64) ([]byte, error) {
		_, stored, err := pin.ReadBlock(p.Root, addr, make([]byte, maxStored))
		if rotten(err) {
			s.metRot(m, err)
		}
		return stored, err
	})
	if err != nil {
		return out, err
	}
	m.governor.pace(s.Clock, pg.bytes())
	front := replica.Page{Next: pg.next, More: pg.more}
	head, bulk := pg.encoded()
	out.Head, out.Bulk = append(front.AppendTo(nil), head...), bulk
	return out, nil
}

func (s *Service) servePinRelease(m *member, _ replica.Ask, rest, _ []byte) (transport.Frame, error) {
	p, err := replica.DecodePinPage(rest)
	if err == nil {
		_, err = s.heldPin(m, p.ID)
	}
	if err != nil {
		return transport.Frame{}, err
	}
	s.mu.Lock()
	h := s.pins[p.ID]
	delete(s.pins, p.ID)
	s.mu.Unlock()
	if h != nil {
		h.pin.Release()
	}
	return transport.Frame{}, nil
}
