package volume

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// HasSession reports whether a writing session is open.
func (v *Volume) HasSession() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.writers) > 0
}

// Used reports whether any session is open, one that only reads included.
func (v *Volume) Used() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.writers) > 0 || v.readers > 0
}

// Session starts a session in this process: for imports and tools.
func (v *Volume) Session(readOnly bool) (export.Disk, error) { return v.startSession(readOnly) }

// Target offers a volume to the exports of this host. Opening a session on it
// opens the volume here if nobody else writes it, and forwards to its writer
// otherwise.
type Target struct {
	s        *Service
	id       holdfast.VolumeID
	blocks   uint64
	readOnly bool
	follows  bool // sessions go with the volume when it is handed over
}

// Target returns the target of a volume as its record describes it; a sealed
// image may only be read.
func (s *Service) Target(rec cluster.Volume) *Target {
	return &Target{s: s, id: rec.ID, blocks: rec.Blocks, readOnly: rec.Image && rec.Sealed}
}

// Following returns the target with sessions that go with the volume when it is
// handed over to another writer, though they began at this one.
func (t *Target) Following() *Target {
	f := *t
	f.follows = true
	return &f
}

// Size implements export.Target: as it is known here, since a volume may have
// grown after it was offered.
func (t *Target) Size() int64 {
	blocks := t.blocks
	if rec, ok := t.known(); ok {
		blocks = max(blocks, rec.Blocks)
	}
	return int64(blocks) * holdfast.BlockSize
}

// known is the volume's record without asking anybody.
func (t *Target) known() (cluster.Volume, bool) {
	if v := t.s.Opened(t.id); v != nil {
		return v.Record(), true
	}
	if t.s.Known == nil {
		return cluster.Volume{}, false
	}
	return t.s.Known(t.id)
}

// Snapshots implements export.Keeper, as they are now; if that cannot be asked,
// as they are where the volume is open.
func (t *Target) Snapshots() ([]export.Snapshot, error) {
	rec, _, err := t.s.Records.ReadVolume(t.id)
	if err != nil {
		v := t.s.Opened(t.id)
		if v == nil {
			return nil, err
		}
		rec = v.Record()
	}
	var out []export.Snapshot
	for _, s := range rec.Snapshots {
		if !s.Hidden {
			out = append(out, export.Snapshot{ID: s.ID, Name: s.Name})
		}
	}
	return out, nil
}

// ReadOnly implements export.Target.
func (t *Target) ReadOnly() bool { return t.readOnly }

// Open implements export.Target.
func (t *Target) Open(readOnly bool) (export.Disk, error) {
	d, _, err := t.open(readOnly, false)
	return d, err
}

// OpenShared implements export.Sharer.
func (t *Target) OpenShared() (d export.Disk, shared bool, err error) { return t.open(false, true) }

// Whoever connects when the writer's rack has just been lost gets a pause as those
// do who were connected before, and no error: for openWaits the writer is asked
// again, until it answers or its place is another's. And whoever connects when
// another has just hung up comes before that one's session has ended, since its
// host first has to notice, and then to flush: it waits busyWaits for that.
const (
	openWaits = 8 * time.Second
	busyWaits = 2 * time.Second
	openAgain = 200 * time.Millisecond
)

// open opens the volume here, or carries the session to its writer: then it is
// not shared, since what a lost path left behind could come after its retry.
func (t *Target) open(readOnly, share bool) (d export.Disk, shared bool, err error) {
	began := t.s.Clock.Now()
	for {
		var asked holdfast.HostID
		d, shared, asked, err = t.tryOpen(readOnly, share)
		var waits time.Duration
		switch {
		case holdfast.IsKind(err, holdfast.Busy):
			waits = busyWaits
		case holdfast.IsKind(err, holdfast.Unavailable) && !asked.IsZero():
			waits = openWaits
		}
		if t.s.Clock.Now()-began >= waits || t.s.isClosed() {
			return d, shared, err
		}
		clock.Sleep(t.s.Clock, openAgain)
	}
}

// tryOpen is open at the host that writes the volume now; asked is that host if
// it is another.
func (t *Target) tryOpen(readOnly, share bool) (d export.Disk, shared bool, asked holdfast.HostID, err error) {
	v := t.s.Opened(t.id)
	if v == nil {
		rec, _, err := t.s.Records.ReadVolume(t.id)
		if err != nil {
			return nil, false, asked, err
		}
		to := t.s.writerFor(rec)
		if own := !readOnly && t.s.Runs != nil && t.s.Runs(t.id); own {
			to = t.s.Self
		} else if other := t.s.instead(rec, to); !other.IsZero() {
			if d, err := t.s.forward(rec, to, readOnly, true); d != nil || err != nil {
				return d, false, to, err
			}
			to = other // the drained host does without the volume
		}
		if to != t.s.Self {
			d, err := t.s.forward(rec, to, readOnly, false)
			return d, false, to, err
		}
		if v, err = t.s.openHere(t.id); err != nil {
			return nil, false, asked, err
		}
	}
	if t.follows && !share {
		d, err := v.follows(readOnly)
		return d, false, asked, err
	}
	ss, err := v.beginSession(start{readOnly: readOnly, share: share})
	if err != nil {
		return nil, false, asked, err
	}
	return ss, ss.shared, asked, nil
}

// Shared implements export.Sharer.
func (t *Target) Shared() bool {
	rec, ok := t.known()
	return ok && t.s.mayShare(rec) && (t.s.Opened(t.id) != nil || t.s.writerFor(rec) == t.s.Self)
}

// mayShare reports whether several sessions may write a volume. A VM's disk has
// one writer, whatever its record says (invariant 4).
func (s *Service) mayShare(rec cluster.Volume) bool {
	return rec.Shared && rec.VM.IsZero() && (s.Belongs == nil || !s.Belongs(rec.ID))
}

// writerFor chooses the host that serves a session: the living writer; else
// this host, if the volume belongs here or a good replica is here; else the
// first living host that has one, so that what is written need not travel
// twice.
func (s *Service) writerFor(rec cluster.Volume) holdfast.HostID {
	if w := rec.Writer; !w.IsZero() && w != s.Self && s.Records.Alive(w) {
		return w
	}
	if s.Belongs != nil && s.Belongs(rec.ID) {
		return s.Self
	}
	to := s.Self
	for _, ref := range rec.InSync {
		switch {
		case ref.Host == s.Self:
			return s.Self
		case to == s.Self && s.Records.Alive(ref.Host):
			to = ref.Host
		}
	}
	return to
}

// openHere opens a volume for a session, if this host may.
func (s *Service) openHere(id holdfast.VolumeID) (*Volume, error) {
	if s.MayOpen != nil {
		if err := s.MayOpen(id); err != nil {
			return nil, err
		}
	}
	return s.Open(id)
}

// Opened returns the volume if it is open here and serving.
func (s *Service) Opened(id holdfast.VolumeID) *Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.opened[id]; sl != nil && sl.vol != nil {
		return sl.vol
	}
	return nil
}

// Open makes this host the writer of a volume, or returns it if it is already.
// It blocks; calls that meet share one opening.
func (s *Service) Open(id holdfast.VolumeID) (*Volume, error) {
	if err := s.awaitHandOver(id); err != nil {
		return nil, err
	}
	return s.openAfter(id, nil)
}

// openAfter is Open; with after, of a volume that is handed over to this host.
func (s *Service) openAfter(id holdfast.VolumeID, after *released) (*Volume, error) {
	s.mu.Lock()
	for {
		if s.closed {
			s.mu.Unlock()
			return nil, holdfast.Errorf(holdfast.Closed, "the host is stopping")
		}
		sl := s.opened[id]
		if sl == nil {
			break
		}
		if sl.vol != nil {
			s.mu.Unlock()
			return sl.vol, nil
		}
		ev := s.Clock.NewEvent()
		sl.waiters = append(sl.waiters, ev)
		s.mu.Unlock()
		ev.Wait(clock.Forever)
		if sl.err != nil {
			return nil, sl.err
		}
		s.mu.Lock()
	}
	sl := &slot{}
	s.opened[id] = sl
	s.mu.Unlock()
	v, err := s.open(id, after)
	s.mu.Lock()
	sl.vol, sl.err = v, err
	s.mu.Unlock()
	if err == nil { // whoever is promised from now on finds it open, and ends it
		err = v.overtaken()
	}
	s.mu.Lock()
	if err != nil || v.Err() != nil {
		sl.err = err
		delete(s.opened, id)
	}
	waiters := sl.waiters
	sl.waiters = nil
	s.mu.Unlock()
	for _, ev := range waiters {
		ev.Set()
	}
	return v, err
}

// overtaken ends a volume whose own replica has promised a later epoch before it
// was found open: that replica alone tells this writer nothing, since no lease is
// asked of it. Kind Fenced.
func (v *Volume) overtaken() error {
	v.mu.Lock()
	m, name := v.local, v.rec.Name
	v.mu.Unlock()
	if m == nil {
		return nil
	}
	m.mu.Lock()
	e := m.auth.Promise()
	m.mu.Unlock()
	if e <= v.epoch {
		return nil
	}
	err := holdfast.Errorf(holdfast.Fenced, "volume %s was opened at epoch %d by another host meanwhile", name, e)
	v.fail(err)
	return err
}

// forget removes a volume that stopped serving.
func (s *Service) forget(v *Volume) {
	s.mu.Lock()
	if sl := s.opened[v.id]; sl != nil && sl.vol == v {
		delete(s.opened, v.id)
	}
	s.mu.Unlock()
}

// fenceBelow ends this host's own writing of the volume of m if its epoch is
// below e, and reports whether it had to.
func (s *Service) fenceBelow(m *member, e holdfast.Epoch) bool {
	v := s.Opened(m.r.State().Volume)
	if v == nil || v.epoch >= e {
		return false
	}
	v.fail(holdfast.Errorf(holdfast.Fenced, "volume %s was opened at epoch %d by another host", v.rec.Name, e))
	return true
}

// session is one initiator's use of an open volume on its writer's host.
type session struct {
	v        *Volume
	readOnly bool
	shared   bool // others that are, too, may write beside it
	moves    bool // it may follow the volume to another writer
	// Below: under v.mu.
	closed  bool
	under   int         // writes and flushes that have not ended
	drained clock.Event // set when none is left, once it is closed
}

// enter counts an operation, unless the session is over; nil is no session.
// v.mu is held.
func (ss *session) enter(o *op) bool {
	switch {
	case ss == nil:
		return true
	case ss.closed:
		return false
	}
	o.ss = ss
	ss.under++
	ss.v.under++
	return true
}

// left notes that an operation has ended; v.mu is held.
func (ss *session) left() {
	if ss.under--; ss.under == 0 && ss.drained != nil {
		ss.drained.Set()
	}
	if ss.v.under--; ss.v.under == 0 && ss.v.leaving != nil {
		ss.v.leaving.still.Set()
	}
}

func errSessionClosed() error {
	return holdfast.Errorf(holdfast.Closed, "this session was closed")
}

// startSession starts a session; a second writing one is refused.
func (v *Volume) startSession(readOnly bool) (export.Disk, error) {
	ss, err := v.beginSession(start{readOnly: readOnly})
	if err != nil {
		return nil, err
	}
	return ss, nil
}

// start is how a session begins.
type start struct {
	readOnly bool
	share    bool // if the volume is shared, beside others that were begun so
	moves    bool // it follows the volume to another writer
	came     bool // it does so now
}

// beginSession starts a session.
func (v *Volume) beginSession(b start) (*session, error) {
	readOnly, share := b.readOnly, b.share && v.s.mayShare(v.Record())
	if may := v.s.MaySession; may != nil && !readOnly {
		if err := may(v.id, v.Record().Generation); err != nil {
			return nil, err
		}
	}
	if !b.came {
		if err := v.s.awaitHandOver(v.id); err != nil {
			return nil, err
		}
	}
	if !readOnly {
		v.s.expireSessions() // one of a lost host does not keep this one out
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return nil, v.failed
	}
	if !readOnly && v.rec.Image && v.rec.Sealed {
		return nil, holdfast.Errorf(holdfast.Denied, "image %s is immutable; make a clone of it to write to", v.rec.Name)
	}
	if !readOnly && len(v.writers) > 0 && !(share && v.writers[0].shared) {
		return nil, holdfast.Errorf(holdfast.Busy, "volume %s already has a writing session; close it first or connect read-only", v.rec.Name)
	}
	if v.retired {
		return nil, holdfast.Errorf(holdfast.Unavailable, "volume %s is being closed, for another host to open it; try again", v.rec.Name)
	}
	ss := &session{v: v, readOnly: readOnly, shared: share, moves: b.moves}
	if !b.moves {
		v.bound++
	}
	if readOnly {
		v.readers++
	} else {
		v.writers = append(v.writers, ss)
	}
	return ss, nil
}

// Size implements export.Disk.
func (ss *session) Size() int64 {
	ss.v.mu.Lock()
	defer ss.v.mu.Unlock()
	return int64(ss.v.rec.Blocks) * holdfast.BlockSize
}

// CacheGeneration implements export.Cached. It does not change while a session
// lasts: a volume whose memory was lost ends with its sessions.
func (ss *session) CacheGeneration() uint64 {
	ss.v.mu.Lock()
	defer ss.v.mu.Unlock()
	return uint64(ss.v.rec.Generation)
}

// Space implements export.Thin, for this host's disk that holds the volume.
// Where there is none nothing is known: then there is no end to it.
func (ss *session) Space() (used, left int64) {
	ss.v.mu.Lock()
	local := ss.v.local
	ss.v.mu.Unlock()
	if local == nil {
		return 0, 1 << 62
	}
	u := local.st.Usage()
	return u.Live, max(0, u.Usable-u.Live)
}

// Submit implements export.Disk.
func (ss *session) Submit(r *export.Request) {
	ss.v.mu.Lock()
	closed, limited := ss.closed, ss.v.throttle != nil
	ss.v.mu.Unlock()
	if closed {
		r.Done(r, errSessionClosed())
		return
	}
	if ss.readOnly && r.Op != export.Read && r.Op != export.Flush {
		r.Done(r, holdfast.Errorf(holdfast.Denied, "this session may only read"))
		return
	}
	if limited && ss.v.hold(ss, r) {
		return
	}
	ss.v.submitFor(ss, r)
}

// Close implements export.Disk: it ends the session when the volume has
// completed what the session submitted before. Writes that have not begun, for
// want of room or by the volume's limits, never will: if they did after the initiator's next session had
// begun, they would overwrite its writes (STORE §10).
func (ss *session) Close() {
	v := ss.v
	v.mu.Lock()
	if ss.closed {
		v.mu.Unlock()
		return
	}
	ss.closed = true
	v.waiting = slices.DeleteFunc(v.waiting, func(o *op) bool {
		if o.ss != ss {
			return false
		}
		v.finishLocked(o, errSessionClosed())
		return true
	})
	v.dropDelayed(ss, errSessionClosed())
	v.dropParked(ss, errSessionClosed())
	if ss.under > 0 {
		ss.drained = v.s.Clock.NewEvent()
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	if ss.drained != nil {
		ss.drained.Wait(clock.Forever)
	}
	if v.Err() == nil {
		v.do(export.Request{Op: export.Flush}) // everything before it is complete, and durable, when it returns
	}
	v.mu.Lock()
	if ss.readOnly {
		v.readers--
	}
	if !ss.moves {
		v.bound--
	}
	v.writers = slices.DeleteFunc(v.writers, func(o *session) bool { return o == ss })
	v.mu.Unlock()
}
