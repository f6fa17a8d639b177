package volume

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// askTimeout bounds a request to a replica. A member that does not answer
// sooner is ejected by the writer anyway.
const askTimeout = 2 * time.Second

// stopGrace is how long an opening waits that has just taken a volume from the
// writer on the host it asked: for the machine on it to stop.
const stopGrace = time.Second

// longAsk bounds a request that waits for a checkpoint of the replica's disk, or
// that may read much of a map from it.
const longAsk = 10 * time.Second

// member is the serving side of one replica on this host.
type member struct {
	st   *store.Store
	r    *store.Replica
	id   holdfast.ReplicaID
	boot holdfast.BootID // of the memory that it is in

	governor *governor // of its disk

	mu      sync.Mutex
	over    bool              // another has taken its place: its disk was opened anew
	auth    replica.Authority // raised before that is durable
	highest atomic.Uint32     // what is promised, or above all epochs once it is over
}

// addMember registers a replica; s.mu is held.
func (s *Service) addMember(st *store.Store, r *store.Replica) *member {
	state := r.State()
	m := &member{st: st, r: r, id: state.Replica, boot: s.Boot, auth: replica.Awakened(state.Promise, s.Clock.Now()), governor: s.diskGovernor(st.Identity().Disk)}
	m.highest.Store(uint32(state.Promise)) // nobody else has it yet
	s.members[m.id] = m
	return m
}

func (s *Service) member(id holdfast.ReplicaID) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[id]
}

func lastEpoch(h []record.Start) holdfast.Epoch {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].Epoch
}

// authorize checks a request's epoch against the promise and, if the request
// proves the writer alive, renews its lease; m.mu is held.
func (m *member) authorizeLocked(e holdfast.Epoch, now time.Duration) error {
	if m.over {
		return holdfast.Errorf(holdfast.Unavailable, "the disk of replica %s has just been opened anew", m.id.Short())
	}
	return m.auth.Authorize(m.id, e, now)
}

// append appends records under the authority of epoch e. A gap is no error:
// the answer's prefix shows it.
func (m *member) append(e holdfast.Epoch, stable holdfast.LSN, recs []record.Record, now time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.authorizeLocked(e, now); err != nil {
		if !m.over && e > m.auth.Promise() { // who sends records has been promised that once
			err = holdfast.Errorf(holdfast.Damaged, "%w: it has lost what was on its disk", err)
		}
		return err
	}
	if len(recs) > 0 {
		err := m.r.Append(recs)
		if holdfast.IsKind(err, holdfast.Corrupt) {
			m.r.NoteReceipt(store.HopReceipt, recs[0].Addr, recs[0].LSN)
		}
		if err != nil && !holdfast.IsKind(err, holdfast.Gap) {
			return err
		}
	}
	m.r.SetStable(stable)
	return nil
}

func (m *member) check(e holdfast.Epoch, now time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.authorizeLocked(e, now)
}

// checkHolds is check of who asks for the head, and for all of it up to an LSN
// that this replica has acknowledged, perhaps in an earlier life.
func (m *member) checkHolds(a replica.Ask, now time.Duration) error {
	if err := m.check(a.Epoch, now); err != nil {
		return err
	}
	if prefix, _ := m.r.Position(); prefix < a.Upto {
		return holdfast.Errorf(holdfast.Unavailable, "replica %s has restarted: it holds records up to %v, not %v as before", m.id.Short(), prefix, a.Upto)
	}
	return nil
}

// promised persists the promise and reports. It blocks.
func (m *member) promised(e holdfast.Epoch, now func() time.Duration) (replica.Report, error) {
	m.mu.Lock()
	refuse := m.auth.Raise(e)
	if !refuse {
		m.highest.Store(uint32(e))
	}
	m.mu.Unlock()
	if !refuse {
		if err := m.r.Promise(e); err != nil {
			return replica.Report{}, err
		}
		crashpoint.At(crashpoint.MemberPromised)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.r.State()
	rep := replica.Report{
		Replica: m.id, Boot: m.boot, Promise: m.auth.Promise(),
		Prefix: st.Prefix, Durable: st.Durable, Stable: st.Stable,
		Kept:     len(st.History) == 0 || lastEpoch(st.History) == m.r.Remembers(),
		Building: st.Building, Damaged: st.Damage != "" || m.st.Err() != nil,
		Blocks: st.Blocks, History: st.History,
	}
	rep.Lease = m.auth.LeaseBelow(e, now())
	return rep, nil
}

// begin starts an epoch on the replica; it blocks.
func (m *member) begin(e holdfast.Epoch, start record.Start) error {
	if err := m.r.Begin(start); err != nil {
		return err
	}
	crashpoint.At(crashpoint.MemberBegun)
	if start.Epoch == e {
		m.r.Remember(e)
	}
	return nil
}

func (m *member) answer() replica.Answer {
	prefix, durable := m.r.Position()
	return replica.Answer{Boot: m.boot, Prefix: prefix, Durable: durable, Full: m.st.Full()}
}

// handleMembers installs the handlers of the replica frames.
func (s *Service) handleMembers() {
	s.Net.Handle(replica.KindAppend, s.serveAppend)
	s.Net.Handle(replica.KindSync, s.serveSync)
	for kind, f := range map[transport.Kind]func(*member, replica.Ask, []byte, []byte) (transport.Frame, error){
		replica.KindPromise:    s.servePromise,
		replica.KindBegin:      s.serveBegin,
		replica.KindTruncate:   s.serveTruncate,
		replica.KindTail:       s.serveTail,
		replica.KindRead:       s.serveRead,
		replica.KindRoots:      s.serveRoots,
		replica.KindRootBegin:  s.serveRootBegin,
		replica.KindRootEnd:    s.serveRootEnd,
		replica.KindBuildBegin: s.serveBuildBegin,
		replica.KindIngest:     s.serveIngest,
		replica.KindBuildEnd:   s.serveBuildEnd,
		replica.KindBuildAbort: s.serveBuildAbort,
		replica.KindPin:        s.servePin,
		replica.KindPinRead:    s.servePinRead,
		replica.KindPinRelease: s.servePinRelease,
		replica.KindDiff:       s.serveDiff,
		replica.KindFind:       s.serveFind,
		replica.KindDigest:     s.serveDigest,
		replica.KindEntries:    s.serveEntries,
		replica.KindInspect:    s.serveInspect,
		replica.KindReinstate:  s.serveReinstate,
	} {
		s.Net.Handle(kind, s.onTask(f))
	}
	s.Net.Handle(replica.KindSeat, s.serveSeat)
	s.Net.Handle(KindCreate, s.serveCreate)
	s.Net.Handle(KindRemove, s.serveRemove)
}

func (s *Service) find(head []byte) (*member, replica.Ask, []byte, error) {
	a, rest, err := replica.DecodeAsk(head)
	if err != nil {
		return nil, a, nil, err
	}
	m := s.member(a.Replica)
	if m == nil {
		return nil, a, nil, holdfast.Errorf(holdfast.NotFound, "replica %s is not on this host", a.Replica.Short())
	}
	return m, a, rest, nil
}

// onTask serves a frame that may block on a task of its own.
func (s *Service) onTask(f func(*member, replica.Ask, []byte, []byte) (transport.Frame, error)) transport.Handler {
	return func(_ holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
		m, a, rest, err := s.find(in.Head)
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		s.tasks.Go(func() {
			reply(f(m, a, rest, whole(in.Bulk)))
		})
	}
}

// whole is the bulk of a frame that was received: it is in one piece.
func whole(bulk [][]byte) []byte {
	if len(bulk) == 0 {
		return nil
	}
	return bulk[0]
}

func (s *Service) serveAppend(_ holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
	m, a, rest, err := s.find(in.Head)
	if err == nil {
		recs, hashes := recSlices.get(), wordSlices.get()
		if *recs, err = replica.DecodeRecords(rest, whole(in.Bulk), *recs, hashes); err == nil {
			err = m.append(a.Epoch, a.Stable, *recs, s.Clock.Now()) // which copies
		}
		recSlices.put(recs)
		wordSlices.put(hashes)
	}
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	reply(s.answered(m))
}

func (s *Service) answered(m *member) (transport.Frame, error) {
	ans := m.answer()
	return transport.Frame{Head: ans.AppendTo(make([]byte, 0, 48))}, nil
}

func (s *Service) serveSync(_ holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
	m, a, _, err := s.find(in.Head)
	if err == nil {
		err = m.append(a.Epoch, a.Stable, nil, s.Clock.Now())
	}
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	began := s.Clock.Now()
	m.r.Sync(a.Upto, func(err error) {
		m.governor.felt(s.Clock.Now()-began, s.Clock.Now())
		if err == nil {
			err = m.check(a.Epoch, s.Clock.Now())
		}
		if err != nil {
			reply(transport.Frame{}, err)
			return
		}
		reply(s.answered(m))
	})
}

func (s *Service) servePromise(m *member, a replica.Ask, _, _ []byte) (transport.Frame, error) {
	rep, err := m.promised(a.Epoch, s.Clock.Now)
	if err != nil {
		return transport.Frame{}, err
	}
	if a.Epoch >= rep.Promise && s.fenceBelow(m, a.Epoch) {
		rep.Lease = max(rep.Lease, stopGrace)
	}
	return transport.Frame{Head: rep.AppendTo(nil)}, nil
}

func (s *Service) serveBegin(m *member, a replica.Ask, rest, _ []byte) (transport.Frame, error) {
	start, _, err := replica.DecodeStart(rest)
	if err == nil {
		err = m.check(a.Epoch, s.Clock.Now())
	}
	if err == nil {
		err = m.begin(a.Epoch, start)
	}
	if err != nil {
		return transport.Frame{}, err
	}
	return s.answered(m)
}

func (s *Service) serveTruncate(m *member, a replica.Ask, rest, _ []byte) (transport.Frame, error) {
	if len(rest) != 8 {
		return transport.Frame{}, holdfast.Errorf(holdfast.Invalid, "replica truncate: %d bytes of attempt, need 8", len(rest))
	}
	err := m.check(a.Epoch, s.Clock.Now())
	if err == nil {
		err = m.r.Truncate(store.Attempt(binary.LittleEndian.Uint64(rest)), a.Upto)
	}
	if err != nil {
		return transport.Frame{}, err
	}
	crashpoint.At(crashpoint.MemberCut)
	return s.answered(m)
}

// serveTail returns records after Upto, as many as fit a frame.
func (s *Service) serveTail(m *member, a replica.Ask, _, _ []byte) (out transport.Frame, err error) {
	if err = m.check(a.Epoch, s.Clock.Now()); err != nil {
		return out, err
	}
	var bulk []byte
	err = m.r.Tail(a.Upto, tailBytes, func(r *record.Record) error {
		if len(bulk)+len(r.Data) > transport.MaxBulk || len(out.Head)+record.HeaderSize+8*len(r.Hashes) > transport.MaxHead {
			return errFull
		}
		out.Head = r.AppendHeader(out.Head)
		bulk = append(bulk, r.Data...)
		return nil
	})
	if err != nil && err != errFull {
		return transport.Frame{}, err
	}
	if len(bulk) > 0 {
		out.Bulk = [][]byte{bulk}
	}
	return out, nil
}

const tailBytes = 1 << 20

var errFull = holdfast.Errorf(holdfast.Other, "the frame is full")
