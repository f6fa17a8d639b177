package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

const (
	mendAgain   = 3 * time.Second // between tries at one replica
	ingestBatch = 128             // blocks per frame of a resync, at most
	ingestLeast = 16              // and at least, of one that is slow
)

// mendSome starts a join for a replica of the record that is not in the in-sync
// set and whose host is there, one at a time per volume.
func (v *Volume) mendSome() {
	now := v.s.Clock.Now()
	v.mu.Lock()
	var todo *cluster.Replica
	if v.failed == nil && !v.copying {
		for i := range v.rec.Others {
			ref := v.rec.Others[i]
			// One whose ejection is committed and not known to be is a member
			// still: it may be the very one that others are copied from.
			if v.m.Find(ref.ID) < 0 && now >= v.mending[ref.ID] && v.s.Records.Alive(ref.Host) {
				todo = &ref
				break
			}
		}
	}
	if todo != nil && (v.wait.of != todo.ID || now-v.wait.at > waitIdle) {
		v.wait = waiting{of: todo.ID, since: now, at: now, to: todo.Host}
	}
	since := v.wait.since
	v.mu.Unlock()
	if todo == nil {
		return
	}
	ref, rank := *todo, v.rank()
	ok, ahead := v.s.takeSeat(v, ref, rank, since, now)
	if !ok {
		v.waitsFor(ref, ahead)
		return
	}
	v.mu.Lock()
	v.copying, v.copy = true, copied{to: ref.Host}
	v.attempts++
	attempt := store.JoinAttempt(v.epoch, v.attempts)
	v.mu.Unlock()
	v.tasks.Go(func() {
		j := &joiner{v: v, ref: ref, i: -1, rank: rank, since: since, pages: ingestBatch, attempt: attempt}
		if err := j.run(); err != nil && v.Err() == nil && (j.hasSeat || !holdfast.IsKind(err, holdfast.Busy)) {
			v.log.Info("replica could not join yet", "replica", ref.ID.Short(), "host", ref.Host.Short(), "why", err)
		}
	})
}

// joiner brings one replica into the in-sync set (STORE §5 "Join", §9).
type joiner struct {
	v    *Volume
	ref  cluster.Replica
	i    int // its index among the members once it is waited for
	lost int // blocks that no copy has

	rank      uint64        // among others that want a seat
	since     time.Duration // it wants one
	hasSeat   bool
	seatAsked time.Duration // when it last asked for one
	pages     int           // blocks of the next page
	attempt   store.Attempt
	blocks    uint64 // the volume's size as of the LSN from which the live stream goes on
}

func (j *joiner) run() (err error) {
	v := j.v
	defer func() {
		v.mu.Lock()
		if err != nil && j.i >= 0 && !v.m.Members()[j.i].InSync {
			v.m.Remove(j.i)
			v.pump()
		}
		if err == nil {
			delete(v.awaited, j.ref.ID)
		}
		v.copying = false
		if j.hasSeat || !holdfast.IsKind(err, holdfast.Busy) {
			v.mending[j.ref.ID] = v.s.Clock.Now() + mendAgain
			v.wait = waiting{}
		}
		done := v.takeDone()
		v.mu.Unlock()
		tell(done)
		if j.hasSeat {
			j.stand()
		}
	}()
	if err := j.seated(); err != nil {
		if !holdfast.IsKind(err, holdfast.Busy) {
			v.s.leaveSeat(j.ref.ID)
		}
		return err
	}
	j.hasSeat = true
	v.mu.Lock()
	v.copy.seated = true
	v.mu.Unlock()
	has, err := j.prepare()
	if err != nil {
		return err
	}
	crashpoint.At(crashpoint.JoinPrepared)
	v.mu.Lock()
	v.copy.resync = has.since > 0
	v.mu.Unlock()
	if err := j.sendRoots(has); err != nil {
		return err
	}
	src, base, err := j.attach(has.boot)
	if err != nil {
		return err
	}
	defer src.release()
	crashpoint.At(crashpoint.JoinAttached)
	if err := j.sendHead(src, has, base); err != nil {
		return err
	}
	crashpoint.At(crashpoint.JoinCopied)
	end := replica.BuildEnd{Blocks: v.Record().Blocks, History: v.history}
	if err := j.step(replica.KindBuildEnd, end.AppendTo(nil), nil); err != nil {
		return err
	}
	crashpoint.At(crashpoint.JoinBuilt)
	return j.admit()
}

// sendHead begins the build of the joiner's head, lets the live stream go on
// and copies what is below it.
func (j *joiner) sendHead(src source, has *holding, base holdfast.LSN) error {
	v := j.v
	shows := src.shows()
	if len(has.lacks(shows.Roots)) > 0 {
		return holdfast.Errorf(holdfast.Conflict, "a snapshot was made while the copy was being prepared")
	}
	has.know(shows.Roots)
	c, err := j.begin(has, &shows, replica.Root{LSN: base + 1, Parent: shows.Parent}, func(from replica.From) error {
		d := replica.Build{Base: base, Reverted: shows.Reverted, Blocks: j.blocks, From: from, Roots: shows.Roots}
		return j.step(replica.KindBuildBegin, nil, [][]byte{d.AppendTo(nil)})
	})
	if err != nil {
		return err
	}
	crashpoint.At(crashpoint.JoinBegun)
	v.mu.Lock()
	v.held[j.i] = sendable
	v.pump()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	c.upto = base
	return j.copy(src, c)
}

// step sends one request of this attempt to the joiner and takes its answer. A
// joiner that was dropped meanwhile stays dropped.
func (j *joiner) step(kind transport.Kind, more []byte, bulk [][]byte) error {
	return j.stepTo(kind, holdfast.LSN(j.attempt), more, bulk)
}

func (j *joiner) stepTo(kind transport.Kind, upto holdfast.LSN, more []byte, bulk [][]byte) error {
	v := j.v
	asked := v.s.Clock.Now()
	v.mu.Lock()
	a := replica.Ask{Epoch: v.epoch, Stable: v.m.Stable(), Upto: upto}
	failed := v.failed
	v.mu.Unlock()
	if failed != nil {
		return failed
	}
	f, err := v.s.ask(j.ref, kind, a, more, bulk)
	if err != nil {
		return err
	}
	ans, err := replica.DecodeAnswer(f.Head)
	if err != nil || j.i < 0 {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return v.failed
	}
	m := &v.m.Members()[j.i]
	if m.Gone || ans.Boot != m.Boot {
		return errDropped()
	}
	m.LeaseUntil = max(m.LeaseUntil, asked+replica.LeaseWriter)
	if kind == replica.KindBuildEnd || kind == replica.KindSync {
		m.Durable = max(m.Durable, min(ans.Durable, m.Acked))
	}
	return nil
}

// attach begins to wait for the joiner and pins the roots it is copied from: all
// above base reaches the joiner by the live stream.
func (j *joiner) attach(boot holdfast.BootID) (source, holdfast.LSN, error) {
	v := j.v
	v.mu.Lock()
	base := v.m.Issued()
	j.blocks = v.rec.Blocks
	j.i = v.m.Add(replica.Member{ID: j.ref.ID, Boot: boot}, base)
	v.refs = append(v.refs, j.ref)
	v.grow()
	v.held[j.i] = preparing
	v.mu.Unlock()
	src, err := v.pin(base)
	if err != nil {
		return nil, base, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.rooted > base && v.rooted <= src.shows().LSN {
		// The pin shows what is above that root, not the root itself.
		v.tasks.Go(src.release)
		return nil, base, holdfast.Errorf(holdfast.Conflict, "a root was kept or set at %v while the copy was being prepared", v.rooted)
	}
	return src, base, nil
}

// A joiner whose disk is full is given a page again while its cleaner makes room;
// for less than a pin is kept for nobody.
const (
	roomAgain = 250 * time.Millisecond
	roomWait  = pinIdle * 4 / 5
)

func (j *joiner) sendPage(pg page) error {
	head, bulk := pg.encoded()
	for waited := time.Duration(0); ; waited += roomAgain {
		err := j.step(replica.KindIngest, head, bulk)
		if !holdfast.IsKind(err, holdfast.NoSpace) || waited >= roomWait {
			return err
		}
		clock.Sleep(j.v.s.Clock, roomAgain)
	}
}

// copy sends every block of the source that is asked for.
func (j *joiner) copy(src source, c changes) (err error) {
	v := j.v
	v.mu.Lock()
	v.copy.root, v.copy.done = v.s.Clock.Now(), 0
	v.copy.part++
	if v.copy.began == 0 {
		v.copy.began = v.copy.root
	}
	v.mu.Unlock()
	var under []*sending
	for at, more := uint64(0), true; more && err == nil; {
		var pg page
		if pg, err = j.nextOf(src, c, at); err != nil {
			break
		}
		at, more = pg.next, pg.more
		under = append(under, j.send(pg))
		if len(under) == pagesUnder {
			err = j.sent(under[0])
			under = under[1:]
		}
	}
	for _, x := range under { // all of them: the joiner must not get any later
		if e := j.sent(x); err == nil {
			err = e
		}
	}
	return err
}

// nextOf reads the next page of a source, when it may.
func (j *joiner) nextOf(src source, c changes, at uint64) (pg page, err error) {
	v := j.v
	if err := v.Err(); err != nil {
		return pg, err
	}
	if err := j.keepSeat(); err != nil {
		return pg, err
	}
	limit := j.pages
	link := v.s.linkGovernor(j.ref.Host)
	if link.gently(v.s.Clock.Now()) {
		limit = min(limit, gentleBlocks)
	}
	pg, err = src.page(c, at, limit)
	if err == nil {
		err = j.complete(&pg)
	}
	if err == nil {
		link.pace(v.s.Clock, pg.bytes())
	}
	return pg, err
}

// pagesUnder is how many pages are under way to a joiner: one is read while
// others travel and are written.
const pagesUnder = 2

// sending is a page under way.
type sending struct {
	pg    page
	began time.Duration
	took  time.Duration
	ended *clock.Future[error]
}

func (j *joiner) send(pg page) *sending {
	c := j.v.s.Clock
	x := &sending{pg: pg, began: c.Now(), ended: clock.NewFuture[error](c)}
	if len(pg.blocks) == 0 {
		x.ended.Resolve(nil)
		return x
	}
	j.v.tasks.Go(func() {
		err := j.sendPage(pg)
		x.took = c.Now() - x.began
		x.ended.Resolve(err)
	})
	return x
}

// sent waits for a page and counts it.
func (j *joiner) sent(x *sending) error {
	err, _ := x.ended.Wait(clock.Forever)
	if err != nil {
		return err
	}
	if len(x.pg.blocks) > 0 {
		j.pages = nextPage(j.pages, x.took)
	}
	j.count(x.pg, x.pg.next)
	return nil
}

// nextPage is how many blocks are sent at once after a page of n took so long:
// fewer while they are slow, so that each is answered in time and nothing waits
// long behind it on the link.
func nextPage(n int, took time.Duration) int {
	switch {
	case took > 100*time.Millisecond:
		return max(n/2, ingestLeast)
	case took < 25*time.Millisecond:
		return min(n*2, ingestBatch)
	}
	return n
}

// stand gives up the seats, here and where the copy went.
func (j *joiner) stand() {
	v := j.v
	if _, err := j.askSeat(true); err != nil {
		v.log.Debug("a seat was not given back and will expire", "replica", j.ref.ID.Short(), "error", err)
	}
	v.s.leaveSeat(j.ref.ID)
}

func (j *joiner) count(pg page, next uint64) {
	data := pg.bytes()
	j.v.mu.Lock()
	j.v.copy.done = min(1, float64(next)/float64(j.v.rec.Blocks))
	j.v.copy.bytes += int64(data)
	j.v.stats.ResyncBlocks += int64(len(pg.blocks))
	j.v.stats.ResyncBytes += int64(data)
	j.v.mu.Unlock()
}

// admit adds the joiner to the in-sync set. It counts for durability first, and
// what was flushed before that goes to its disk: so when the add is sent it
// misses nothing, whatever the outcome.
func (j *joiner) admit() error {
	v := j.v
	v.mu.Lock()
	if v.failed != nil || v.m.Members()[j.i].Gone {
		v.mu.Unlock()
		return errDropped()
	}
	flushed := min(v.m.Stable(), v.m.Acked())
	v.m.SetInSync(j.i)
	v.mu.Unlock()
	if err := j.stepTo(replica.KindSync, flushed, nil, nil); err != nil {
		j.drop()
		return err
	}
	crashpoint.At(crashpoint.JoinCounts)
	a := &admission{j: j, ended: v.s.Clock.NewEvent()}
	v.mu.Lock()
	if v.failed != nil {
		v.mu.Unlock()
		return v.failed
	}
	v.admitting = append(v.admitting, a)
	v.mu.Unlock()
	v.reconfig.Set()
	a.ended.Wait(clock.Forever)
	return a.err
}

// admission is a joiner whose add waits for its turn among the changes of the
// in-sync set; ended is set after err.
type admission struct {
	j     *joiner
	ended clock.Event
	err   error
}

func errDropped() error {
	return holdfast.Errorf(holdfast.Unavailable, "the joining replica was dropped")
}

// drop stops waiting for the joiner, whose add was not sent or is known not to
// have been committed.
func (j *joiner) drop() {
	v := j.v
	v.mu.Lock()
	v.m.Remove(j.i)
	v.pump()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// commit sends the add. It runs on the task that changes the in-sync set, so no
// ejection is decided while its outcome is not known.
func (j *joiner) commit() error {
	v := j.v
	v.mu.Lock()
	gone := v.m.Members()[j.i].Gone
	v.mu.Unlock()
	if gone {
		return errDropped()
	}
	err := v.commit(func(rec *cluster.Volume) (bool, error) {
		if hasReplica(rec.InSync, j.ref.ID) {
			return false, nil
		}
		if !hasReplica(rec.Others, j.ref.ID) {
			return false, holdfast.Errorf(holdfast.Conflict, "the replica was removed from the volume")
		}
		rec.Others = without(rec.Others, j.ref.ID)
		rec.InSync = append(rec.InSync, j.ref)
		rec.Tidy()
		return true, nil
	})
	if err != nil {
		j.drop() // commit returns an error only if the record is known not to hold it, or the volume is over
		return err
	}
	crashpoint.At(crashpoint.JoinCommitted)
	v.mu.Lock()
	v.stats.Joins++
	v.log.Info("replica joined", "replica", j.ref.ID.Short(), "host", j.ref.Host.Short(), "resync_bytes", v.stats.ResyncBytes)
	v.pump()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
	return nil
}
