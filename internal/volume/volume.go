package volume

import (
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// window is how many bytes of writes may be unacknowledged before further ones
// wait.
const window = 32 << 20

// Volume is an open volume on its writer's host: one epoch, from its opening
// until it is fenced, fails or is closed.
type Volume struct {
	s       *Service
	id      holdfast.VolumeID
	epoch   holdfast.Epoch
	sealing *sealing
	history []record.Start
	log     *slog.Logger

	mu        sync.Mutex
	local     *member // this host's in-sync replica; nil: reads go to another host
	localID   holdfast.ReplicaID
	rec       cluster.Volume
	mod       kv.Rev
	m         *replica.Writer[*op]
	refs      []cluster.Replica                    // of m's members, by index
	flying    []int                                // frames under way, by index
	places    []*lanePlace                         // on the ways to members, by index
	held      []hold                               // why a member is sent no records now, by index
	links     []*governor                          // of what is sent to a member, by index
	eject     []proposal                           // members to be ejected, for the reconfigure task
	admitting []*admission                         // joiners to be added, for the same
	givenUp   []*surrender                         // replicas to be done without, likewise
	syncing   []syncState                          // by index
	recs      recordRing                           // issued, not yet in memory everywhere or still lent
	bytes     int64                                // of recs
	waiting   []*op                                // not admitted: the window or a disk is full, or an unaligned write is in the way
	turn      func()                               // admitWaiting, for the local disk
	throttle  *throttle                            // nil: the volume has no limits
	edges     []span                               // blocks of unaligned writes under way
	full      []bool                               // members that said that their disk is full, by index
	fullSince time.Duration                        // when a write first met a full disk; negative: there is room
	noRoom    bool                                 // and has waited long enough
	failed    error                                // why the volume no longer serves
	stable    time.Duration                        // when stable was last as high as issued
	done      *[]finished                          // nil: none
	wantSync  localSync                            // what the local disk is to be asked to make durable; see due
	mending   map[holdfast.ReplicaID]time.Duration // earliest next try
	writers   []*session                           // that may write: one, or several that are shared
	readers   int                                  // sessions that only read
	bound     int                                  // sessions of both kinds that cannot follow the volume
	under     int                                  // writes and flushes of all sessions that have not ended
	leaving   *leaving                             // nil: the volume is not about to be handed over
	trying    bool                                 // to hand it over
	leaveAt   time.Duration                        // not before: the last try came to nothing
	retired   bool                                 // no session begins any more: the volume is about to be closed
	copy      copied                               // to a joiner, while copying
	rooted    holdfast.LSN                         // last record that keeps or sets a root
	lacked    map[holdfast.ReplicaID]time.Duration // members that are not on their disks: since when that is said
	awaited   map[holdfast.ReplicaID]time.Duration // joiners that wait for their origin's, since when
	attempts  uint64                               // to have a replica join, in this epoch
	copying   bool                                 // a joiner is at work; nothing need wait for it yet
	wait      waiting                              // a joiner that has to wait for others
	orphansAt time.Duration                        // when to look for snapshots that it does not name
	releaseAt time.Duration                        // who stays must have been asked since, and have answered

	reconfig clock.Event // something for the task that changes the in-sync set
	tick     clock.Event
	tasks    *clock.Group
	habit    habit
	pushed   bool // by the initiator's server: what was completed is answered
	stats    Stats
	latency  Latencies // its hops by index

	confirms confirming

	making  map[holdfast.SnapshotID]time.Duration // snapshots that need no name in the record until then, or are lapsed
	barrier *barrier                              // nil: writes need not wait for a group snapshot
}

// Stats counts what a volume did since it was opened.
type Stats struct {
	Writes, Reads, Flushes  uint64
	ReadBytes, WrittenBytes int64
	StoredBytes             int64 // of what was written, after compression and encryption; one copy
	ResyncBytes             int64 // payload sent to returning and new replicas
	ResyncBlocks            int64
	Ejections, Joins        int
	Repaired                int64 // blocks restored from another replica
	Delayed                 int64 // requests that waited for the volume's limits
	Under                   int   // writes and flushes that are not answered yet
}

// hold is why a member is sent no records.
type hold uint8

const (
	sendable  hold = iota
	backOff        // it could not be reached: until it answers a question
	preparing      // a joiner that has not begun its build yet
)

// proposal is a member to be ejected.
type proposal struct {
	i      int
	why    string
	forgot bool // it lost its memory, or what was on its disk: it cannot stay, even if it cannot be ejected
}

type syncState struct {
	flying bool
	again  time.Duration // not before: a disk that fails at once costs no spin
}

type span struct{ addr, n uint64 }

func (a span) overlaps(b span) bool { return a.addr < b.addr+b.n && b.addr < a.addr+a.n }

// finished is an operation whose caller is told after the lock is released.
type finished struct {
	op  *op
	err error
}

// newVolume starts the writer of a completed take-over.
func (s *Service) newVolume(t *takeover, seats []seat, history []record.Start) *Volume {
	now := s.Clock.Now()
	v := &Volume{
		s: s, id: t.rec.ID, epoch: t.epoch, sealing: t.sealing, history: history, rec: t.rec, mod: t.mod,
		log:     s.Log.With("volume", t.rec.Name, "epoch", uint32(t.epoch)),
		mending: make(map[holdfast.ReplicaID]time.Duration), lacked: make(map[holdfast.ReplicaID]time.Duration), awaited: make(map[holdfast.ReplicaID]time.Duration),
		making: make(map[holdfast.SnapshotID]time.Duration), fullSince: -1, releaseAt: now,
		stable: now, reconfig: s.Clock.NewEvent(), tick: s.Clock.NewEvent(), tasks: clock.NewGroup(s.Clock),
	}
	v.turn = v.admitWaiting
	members := make([]replica.Member, len(seats))
	for i, st := range seats {
		members[i] = replica.Member{ID: st.ref.ID, Boot: st.report.Boot}
		v.refs = append(v.refs, st.ref)
		if st.ref.Host == s.Self {
			if m := s.member(st.ref.ID); m != nil && m.boot == st.report.Boot {
				v.local, v.localID = m, st.ref.ID
			}
		}
	}
	v.m = replica.NewWriter[*op](t.epoch, members)
	v.m.Visits = s.visits().Writer
	v.grow()
	v.setLimits(v.rec.Limits)
	s.weigh(v.rec)
	if v.rec.Blocks > t.blocks {
		v.mu.Lock()
		v.growLocked() // before anybody can join: who does is told that size
		v.pump()
		v.mu.Unlock()
	}
	v.tasks.Go(v.watch)
	v.tasks.Go(v.reconfigure)
	v.log.Info("volume opened", "in_sync", len(seats), "cut", history[len(history)-1].Cut.String(), "generation", t.rec.Generation)
	return v
}

// grow keeps the shell's slices as long as the machine's; v.mu is held or v is new.
func (v *Volume) grow() {
	for n := len(v.m.Members()); len(v.flying) < n; {
		v.flying = append(v.flying, 0)
		v.places = append(v.places, newPlace(v, v.s.lane(v.refs[len(v.places)].Disk)))
		v.held = append(v.held, sendable)
		v.links = append(v.links, v.s.linkGovernor(v.refs[len(v.links)].Host))
		v.full = append(v.full, false)
		v.syncing = append(v.syncing, syncState{})
		v.latency.Hops = append(v.latency.Hops, HopLatency{Host: v.refs[len(v.latency.Hops)].Host})
	}
}

// Epoch returns the epoch the volume is open at.
func (v *Volume) Epoch() holdfast.Epoch { return v.epoch }

// ID returns the volume's identity.
func (v *Volume) ID() holdfast.VolumeID { return v.id }

// Record returns the volume's record as this writer knows it.
func (v *Volume) Record() cluster.Volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rec
}

// Reached returns up to where writes may have been acknowledged, and up to where
// flushes may have been.
func (v *Volume) Reached() (acked, stable holdfast.LSN) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.m.Acked(), v.m.Stable()
}

// Stats returns what was counted since the opening.
func (v *Volume) Stats() Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.stats
	s.Under = v.under
	return s
}

// Err returns why the volume no longer serves, or nil.
func (v *Volume) Err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

// Close flushes, ends the sessions and stops being the writer's process. The
// record keeps naming this host; the next opening is a new epoch.
func (v *Volume) Close() {
	if v.Err() == nil && v.rest() {
		v.tellStable()
	}
	v.fail(holdfast.Errorf(holdfast.Closed, "volume %s was closed", v.rec.Name))
	v.tasks.Wait()
}

// restWait bounds how long a volume that is closed waits for its replicas. One
// that stalls may do so for days, and a host must be able to stop: what was
// acknowledged and not flushed is then kept as it is when a host dies.
const restWait = 10 * time.Second

// rest flushes the volume and reports whether that ended well within restWait.
func (v *Volume) rest() bool {
	ended, err := v.doWithin(restWait, export.Request{Op: export.Flush})
	if !ended {
		v.log.Warn("the volume is closed though not everything is on disk at every replica")
	}
	return ended && err == nil
}

// tellStable lets every in-sync replica know that all it holds is on disk
// everywhere, so that a volume at rest has no loose end. It blocks.
func (v *Volume) tellStable() {
	v.mu.Lock()
	stable := v.m.Stable()
	v.mu.Unlock()
	for _, ref := range v.others() {
		if _, err := v.s.ask(ref.Replica, replica.KindAppend, replica.Ask{Epoch: v.epoch, Stable: stable}, nil, nil); err != nil {
			v.log.Info("a replica was not told that the volume is stable", "replica", ref.ID.Short(), "error", err)
		}
	}
}

// Flush makes everything acknowledged so far durable on every in-sync replica.
// It blocks.
func (v *Volume) Flush() error {
	return v.do(export.Request{Op: export.Flush})
}

// do submits a request and waits for it.
func (v *Volume) do(r export.Request) error {
	_, err := v.doWithin(clock.Forever, r)
	return err
}

// doWithin is do for at most limit; ended is false if that was not enough, and
// the request is still under way.
func (v *Volume) doWithin(limit time.Duration, r export.Request) (ended bool, err error) {
	fin := clock.NewFuture[error](v.s.Clock)
	r.Done = func(_ *export.Request, e error) { fin.Resolve(e) }
	v.submit(&r)
	err, ended = fin.Wait(limit)
	return ended, err
}

// fail ends the volume: every operation under way and to come gets err. Only
// the first call counts.
func (v *Volume) fail(err error) {
	v.mu.Lock()
	if v.failed != nil {
		v.mu.Unlock()
		return
	}
	done := v.failLocked(err)
	v.mu.Unlock()
	v.afterFail(done, err)
}

// failLocked ends all operations; v.mu is held, and given up before afterFail.
func (v *Volume) failLocked(err error) due {
	v.failed = err
	for _, o := range v.m.Abort() {
		v.finishLocked(o, err)
	}
	for _, o := range v.waiting {
		v.finishLocked(o, err)
	}
	v.waiting = nil
	v.dropUnconfirmed(err)
	v.dropDelayed(nil, err)
	v.dropParked(nil, err)
	return v.takeDone()
}

func (v *Volume) afterFail(done due, err error) {
	v.reconfig.Set()
	v.tick.Set()
	v.s.forget(v)
	tell(done)
	if k := holdfast.KindOf(err); k != holdfast.Closed {
		v.log.Warn("volume stopped serving", "kind", k.String(), "error", err)
	}
}

// finishLocked ends an operation; v.mu is held.
func (v *Volume) finishLocked(o *op, err error) {
	if v.done == nil {
		v.done = doneSlices.get()
	}
	*v.done = append(*v.done, finished{o, err})
	if o.ss != nil {
		o.ss.left()
	}
}

// due is what is to be done once v.mu is given up.
type due struct {
	v    *Volume
	done *[]finished // nil: nothing
	sync localSync
}

// localSync asks this host's own replica, a member by index, for what is up to
// an LSN; 0: for nothing.
type localSync struct {
	r     *member
	i     int
	upto  holdfast.LSN
	asked time.Duration
	// early: nobody waits for it, but perhaps for the operations that are completed.
	early bool
	// here: on this task, which may block.
	here bool
}

// takeDone takes what has become due; v.mu is held. The caller unlocks and
// tells.
func (v *Volume) takeDone() due {
	if v.done != nil {
		v.noteAnswers(*v.done)
	}
	d := due{v, v.done, v.wantSync}
	v.done, v.wantSync = nil, localSync{}
	return d
}

// tell starts the local sync and completes operations; no lock is held. Nobody
// who is completed waits for a sync that is done on this task. The last completion
// of a session is marked, so that its server may answer all of them at once.
func tell(d due) {
	wanted := d.sync.upto != 0
	last := d.sync.early || d.sync.here
	if wanted && !last {
		d.startSync()
	}
	if d.done != nil {
		finishAll(*d.done)
		doneSlices.put(d.done)
	}
	if wanted && last {
		d.startSync()
	}
}

func finishAll(done []finished) {
	last := len(done) - 1
	for last >= 0 && done[last].op.ss == nil {
		last--
	}
	for i, f := range done {
		more := i < last && f.op.ss == done[last].op.ss
		f.op.finish(f.err, more)
	}
}

func (d *due) startSync() {
	l, v := d.sync, d.v
	began := v.s.Clock.Now()
	sync := l.r.r.Sync
	if l.here {
		sync = l.r.r.SyncHere
	}
	sync(l.upto, func(err error) {
		now := v.s.Clock.Now()
		l.r.governor.felt(now-began, now)
		v.syncedLocal(l, err)
	})
}

// pump completes what may be acknowledged, trims the records that no longer
// need keeping, sends what members lack and asks for syncs; v.mu is held. The
// caller unlocks and tells.
func (v *Volume) pump() {
	if v.failed != nil {
		return
	}
	ops := opSlices.get()
	*ops, _ = v.m.Complete(*ops)
	for _, o := range *ops {
		v.finishLocked(o, nil)
	}
	opSlices.put(ops)
	v.trim()
	v.sendAll()
	v.syncAll()
	if v.local != nil {
		v.local.r.SetStable(v.m.Stable())
	}
}

// trim drops records that every member holds and the transport gave back.
func (v *Volume) trim() {
	upto := v.m.Acked()
	if lent := v.m.Lent(); lent <= upto {
		upto = lent - 1
	}
	for v.recs.len() > 0 && v.recs.at(0).Last() <= upto {
		r := v.recs.pop()
		v.bytes -= int64(len(r.Data))
		v.sealing.release(&r)
	}
}

// issue gives a record its LSNs, the form in which it is stored and its hashes,
// appends it locally and queues it for the others. p is what compression made of
// a write's blocks, or nil; v.mu is held.
func (v *Volume) issue(r record.Record, p *packed) error {
	n := max(r.Count, 1)
	lsn, ok := v.m.Issue(n)
	if !ok {
		return holdfast.Errorf(holdfast.Fenced, "volume %s: epoch %d has no LSNs left; the volume must be opened again", v.rec.Name, v.epoch)
	}
	r.LSN = lsn
	if r.Kind == record.Snapshot || r.Kind == record.Revert {
		v.rooted = lsn
	}
	if r.Kind == record.Write {
		r.Hashes = v.recs.hashes(int(r.Count))
		v.sealing.seal(&r, p)
		v.stats.StoredBytes += int64(len(r.Data))
	}
	v.recs.push(r)
	v.bytes += int64(len(r.Data))
	if v.local != nil {
		v.appendLocal(v.recs.last())
	}
	return nil
}

// appendLocal appends to this host's own replica, short-cutting the network,
// and reports whether that was done.
func (v *Volume) appendLocal(r *record.Record) bool {
	i := v.m.Find(v.localID)
	if i < 0 {
		return false
	}
	now := v.s.Clock.Now()
	err := v.local.appendOne(v.epoch, r, now)
	if err != nil {
		v.memberFailed(i, err)
		return false
	}
	m := &v.m.Members()[i]
	m.Sent = r.Last()
	prefix, durable := v.local.r.Position()
	v.m.Answer(i, m.Boot, prefix, durable, now, now)
	return true
}

// appendOne is append for a single record of this host's own writer.
func (m *member) appendOne(e holdfast.Epoch, r *record.Record, now time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.authorizeLocked(e, now); err != nil {
		return err
	}
	return m.r.AppendOwn(r)
}

// recordRing holds issued records in LSN order.
type recordRing struct {
	recs []record.Record
	head int
	free [][]uint64 // hash slices of popped one-block records
}

func (q *recordRing) len() int                { return len(q.recs) - q.head }
func (q *recordRing) at(i int) *record.Record { return &q.recs[q.head+i] }
func (q *recordRing) last() *record.Record    { return &q.recs[len(q.recs)-1] }

func (q *recordRing) push(r record.Record) {
	if q.head > 0 && len(q.recs) == cap(q.recs) {
		n := copy(q.recs, q.recs[q.head:])
		clear(q.recs[n:])
		q.recs, q.head = q.recs[:n], 0
	}
	q.recs = append(q.recs, r)
}

func (q *recordRing) pop() record.Record {
	r := q.recs[q.head]
	q.recs[q.head] = record.Record{}
	if q.head++; q.head == len(q.recs) {
		q.recs, q.head = q.recs[:0], 0
	}
	if len(r.Hashes) == 1 && len(q.free) < 1024 {
		q.free = append(q.free, r.Hashes)
	}
	return r
}

func (q *recordRing) hashes(n int) []uint64 {
	if k := len(q.free); n == 1 && k > 0 {
		h := q.free[k-1]
		q.free = q.free[:k-1]
		return h
	}
	return make([]uint64, n)
}

// after returns the index of the first record above l.
func (q *recordRing) after(l holdfast.LSN) int {
	return sort.Search(q.len(), func(i int) bool { return q.at(i).LSN > l })
}
