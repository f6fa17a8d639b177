package volume

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// A drained host hands a volume over that is written in sessions which can go
// with it: those that other hosts carry, and its own that were begun to follow
// (docs/adr/0057). It holds what comes, completes what is under way, flushes,
// and stops serving for good; then the new writer opens the volume and has the
// sessions before anybody else can begin one; then everybody who waits is told
// to ask there.

const (
	// hushLimit is how long requests are held at most while those before them
	// end, and how long the flush after them may take.
	hushLimit = 2 * time.Second
	// leaveAgain is how long a volume stays after it could not be handed over.
	leaveAgain  = 10 * time.Second
	takeTimeout = 8 * time.Second
	handLimit   = 20 * time.Second
	// goneFor is how long a host knows where a session went: longer than any
	// request for it is under way.
	goneFor = 2 * sessionCall
)

// leaving is a volume that is about to be handed over; Volume.mu guards it.
type leaving struct {
	parked []parked
	still  clock.Event // set when nothing is under way any more
}

// parked is a request that waits until it is known who is to have it.
type parked struct {
	ss  *session
	req *export.Request
}

// handing is a volume of this host that is handed over, or one that comes here;
// Service.mu guards it.
type handing struct {
	why  error // what requests end with meanwhile
	over bool
	to   holdfast.HostID // the writer then
	err  error           // or why there is none
	then []func(to holdfast.HostID, err error)
}

// gone is a session that went to another host with its volume.
type gone struct {
	from, to holdfast.HostID // who carries it, and who has it
	since    time.Duration
}

// handedError ends what was not begun before its volume was handed over.
type handedError struct{ h *handing }

func (e *handedError) Error() string { return "another host writes it now" }

// handedOver returns the hand-over that an error tells of, or nil.
func handedOver(err error) *handing {
	var e *handedError
	if err != nil && errors.As(err, &e) {
		return e.h
	}
	return nil
}

// whenHanded calls f with the outcome of a hand-over, at once if it is known.
func (s *Service) whenHanded(h *handing, f func(to holdfast.HostID, err error)) {
	s.mu.Lock()
	if !h.over {
		h.then = append(h.then, f)
		s.mu.Unlock()
		return
	}
	to, err := h.to, h.err
	s.mu.Unlock()
	f(to, err)
}

// awaitHandOver waits until a volume is not just handed over, and is an error if
// it was: who asks should look again who writes it. It blocks.
func (s *Service) awaitHandOver(id holdfast.VolumeID) error {
	s.mu.Lock()
	h := s.handing[id]
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	over := s.Clock.NewEvent()
	s.whenHanded(h, func(holdfast.HostID, error) { over.Set() })
	over.Wait(clock.Forever)
	return holdfast.Errorf(holdfast.Unavailable, "volume %s was just handed over to another writer; try again", id.Short())
}

// endHanding tells everybody who waits what came of a hand-over.
func (s *Service) endHanding(id holdfast.VolumeID, h *handing, to holdfast.HostID, err error) {
	s.mu.Lock()
	h.over, h.to, h.err = true, to, err
	then := h.then
	h.then = nil
	delete(s.handing, id)
	s.mu.Unlock()
	for _, f := range then {
		f(to, err)
	}
}

// HandOver begins to hand over to other hosts what this one, which is drained,
// writes in sessions that can go there. It reports whether any is on its way;
// ended is called when one has gone or stays. It does not block.
func (s *Service) HandOver(ended func()) (busy bool) {
	for _, v := range s.Volumes() {
		may, trying := v.mayLeave()
		if may {
			s.tasks.Go(func() { s.handOver(v); v.tried(); ended() })
		}
		busy = busy || trying
	}
	return busy
}

// mayLeave reports whether a volume can be handed over as far as its sessions go,
// and nobody is at it; and whether it is being tried then.
func (v *Volume) mayLeave() (may, trying bool) {
	if v.s.Belongs != nil && v.s.Belongs(v.id) {
		return false, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.s.Clock.Now()
	if v.trying || v.failed != nil || v.retired || v.bound > 0 || len(v.writers)+v.readers == 0 || now < v.leaveAt {
		return false, v.trying
	}
	v.trying, v.leaveAt = true, now+leaveAgain
	return true, true
}

// tried notes that an attempt to hand the volume over has ended.
func (v *Volume) tried() {
	v.mu.Lock()
	v.trying = false
	v.mu.Unlock()
}

// handOver hands a volume over, if that can be. It blocks.
func (s *Service) handOver(v *Volume) {
	to := s.successor(v)
	rec, _, err := s.Records.ReadVolume(v.id)
	if to.IsZero() || err != nil || rec.Epoch != v.epoch { // without the records nobody can take it
		return
	}
	ended, err := v.doWithin(restWait, export.Request{Op: export.Flush}) // what is left for later is little
	if !ended || err != nil || !v.hush() {
		v.unhush()
		return
	}
	v.tellStable()
	ask, h := s.release(v)
	if h == nil {
		v.unhush()
		return
	}
	began := s.Clock.Now()
	at, err := s.pass(ask, to)
	s.settleSessions(ask, h, at)
	s.endHanding(v.id, h, at, err)
	if err != nil {
		v.log.Warn("a volume could not be handed over, and its sessions end", "to", to.Short(), "error", err)
		return
	}
	v.log.Info("volume handed over", "to", at.Short(), "sessions", len(ask.sessions), "took", s.Clock.Now()-began)
}

// successor is the host that is to write a volume instead of this one: one that
// has a good replica and is not drained, if there is one the host that carries
// its writing session.
func (s *Service) successor(v *Volume) (to holdfast.HostID) {
	carries := make(map[holdfast.HostID]bool)
	s.mu.Lock()
	for _, sv := range s.remote {
		if sv.disk.v == v && !sv.disk.readOnly {
			carries[sv.from] = true
		}
	}
	s.mu.Unlock()
	for _, ref := range v.Record().InSync {
		if ref.Host == s.Self || s.Drained != nil && s.Drained(ref.Host) || !s.Records.Alive(ref.Host) {
			continue
		}
		if to.IsZero() || carries[ref.Host] && !carries[to] {
			to = ref.Host
		}
	}
	return to
}

// hush lets nothing more of the sessions begin, waits until what has begun has
// ended, and flushes. It reports whether the volume is still and durable then.
func (v *Volume) hush() bool {
	v.mu.Lock()
	if v.failed != nil || v.barrier != nil || v.bound > 0 || len(v.writers)+v.readers == 0 {
		v.mu.Unlock()
		return false
	}
	l := &leaving{still: v.s.Clock.NewEvent()}
	v.leaving, v.retired = l, true
	still := v.under == 0
	v.mu.Unlock()
	if !still && !l.still.Wait(hushLimit) {
		return false
	}
	ended, err := v.doWithin(hushLimit, export.Request{Op: export.Flush})
	return ended && err == nil
}

// unhush goes on with what hush has held.
func (v *Volume) unhush() {
	v.mu.Lock()
	l := v.leaving
	if l != nil {
		v.leaving, v.retired = nil, false
	}
	v.mu.Unlock()
	if l == nil {
		return
	}
	for _, p := range l.parked {
		v.submitFor(p.ss, p.req)
	}
}

// parks holds a request back if the volume is about to be handed over; v.mu is
// held.
func (v *Volume) parks(ss *session, o *op) bool {
	if ss == nil || ss.closed || v.leaving == nil {
		return false
	}
	o.req.Next = false
	v.leaving.parked = append(v.leaving.parked, parked{ss, o.req})
	putOp(o)
	return true
}

// dropParked ends what is held of a session, or of all; v.mu is held.
func (v *Volume) dropParked(ss *session, err error) {
	if v.leaving == nil {
		return
	}
	v.leaving.parked = slices.DeleteFunc(v.leaving.parked, func(p parked) bool {
		if ss != nil && p.ss != ss {
			return false
		}
		v.finishLocked(newOp(p.req), err)
		return true
	})
}

// release ends the serving of a still volume, for good: whoever waits is told
// when it is known who has it. nil: something has come between.
func (s *Service) release(v *Volume) (*takeAsk, *handing) {
	h := &handing{}
	h.why = holdfast.Errorf(holdfast.Closed, "volume %s was handed over: %w", v.Record().Name, &handedError{h})
	ask := &takeAsk{volume: v.id, epoch: v.epoch, generation: v.Record().Generation}
	s.mu.Lock()
	if s.closed || s.handing[v.id] != nil || s.opened[v.id] == nil || s.opened[v.id].vol != v {
		s.mu.Unlock()
		return nil, nil
	}
	s.handing[v.id] = h
	s.mu.Unlock()
	if !v.failStill(h.why) {
		s.endHanding(v.id, h, holdfast.HostID{}, v.Err())
		return nil, nil
	}
	s.mu.Lock()
	for id, sv := range s.remote {
		if sv.disk.v == v {
			sv.leaves = h
			ask.sessions = append(ask.sessions, takenSession{id, sv.from, sv.disk.readOnly})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(ask.sessions, func(a, b takenSession) int { return bytes.Compare(a.id.UUID[:], b.id.UUID[:]) })
	return ask, h
}

// failStill is fail, if the volume serves and nothing is under way.
func (v *Volume) failStill(err error) bool {
	v.mu.Lock()
	if v.failed != nil || v.leaving == nil || v.under > 0 || v.bound > 0 {
		v.mu.Unlock()
		return false
	}
	done := v.failLocked(err)
	v.mu.Unlock()
	v.afterFail(done, err)
	return true
}

// pass has another host take a volume that this one has given up, or takes it
// back, and returns who has it. It blocks.
func (s *Service) pass(ask *takeAsk, to holdfast.HostID) (holdfast.HostID, error) {
	until := s.Clock.Now() + handLimit
	for {
		_, err := transport.Call(s.Clock, s.Net, to, transport.Frame{Kind: KindSessionTake, Head: ask.appendTo(nil)}, takeTimeout)
		if err == nil {
			return to, nil
		}
		rec, _, rerr := s.Records.ReadVolume(ask.volume)
		switch {
		case rerr != nil:
		case ask.after(s.Self).still(&rec, s.Self, 0): // a question that is still on its way comes to nothing now
			if err = s.take(ask, s.Self); err == nil {
				return s.Self, nil
			}
		case rec.Writer != to:
			return s.Self, holdfast.Errorf(holdfast.Closed, "volume %s was opened by a third host: %w", rec.Name, err)
		case !holdfast.IsKind(err, holdfast.Unavailable):
			return s.Self, holdfast.Errorf(holdfast.Closed, "volume %s could not be handed over: %w", rec.Name, err)
		}
		if s.isClosed() || s.Clock.Now() > until {
			return s.Self, holdfast.Errorf(holdfast.Closed, "volume %s could not be handed over: %w", ask.volume.Short(), err)
		}
		clock.Sleep(s.Clock, promiseTry)
	}
}

// settleSessions notes where the sessions of a volume went.
func (s *Service) settleSessions(ask *takeAsk, h *handing, to holdfast.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range ask.sessions {
		sv := s.remote[t.id]
		if sv == nil || sv.leaves != h {
			continue // it came back
		}
		delete(s.remote, t.id)
		if to != s.Self {
			s.gone[t.id] = gone{t.from, to, s.Clock.Now()}
		}
	}
}

// wentTo answers that a session is at another host.
func wentTo(to holdfast.HostID) transport.Frame { return transport.Frame{Head: to.UUID[:]} }

// wentWhere reads such an answer: no other one has a head of that length.
func wentWhere(f transport.Frame) (to holdfast.HostID, went bool) {
	if len(f.Head) != len(to.UUID) {
		return to, false
	}
	copy(to.UUID[:], f.Head)
	return to, true
}

// released is what a writer gave up.
type released struct {
	from  holdfast.HostID
	epoch holdfast.Epoch
	taken bool // by an opening for this
}

// still reports whether nobody has opened the volume since, but this host by an
// attempt at the epoch tried.
func (r *released) still(rec *cluster.Volume, self holdfast.HostID, tried holdfast.Epoch) bool {
	return rec.Writer == r.from && rec.Epoch == r.epoch || rec.Writer == self && tried != 0 && rec.Epoch == tried
}
