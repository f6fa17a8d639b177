package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

const (
	maxFlying  = 4       // frames of records under way to one member
	worthwhile = 8       // LSNs, so about 32 KiB, for which a further frame is sent while others are under way: the other host works on one while this one fills the next
	frameBytes = 1 << 20 // bulk of one such frame, unless a single record is larger
	frameHead  = transport.MaxHead / 2
	pingEvery  = replica.Lease / 3
	tickEvery  = 200 * time.Millisecond
)

// frame is records under way to one member. It is used again when it has been
// answered.
type frame struct {
	v     *Volume
	i     int // member
	first holdfast.LSN
	asked time.Duration
	taken int64 // of the way there
	f     transport.Frame
	done  func(transport.Frame, error) // answered
}

func newFrame() *frame {
	fr := &frame{f: transport.Frame{Kind: replica.KindAppend, Head: make([]byte, 0, 1<<10)}}
	fr.done = fr.answered
	return fr
}

// release makes the frame ready for others; nobody refers to it any more.
func (fr *frame) release() {
	clear(fr.f.Bulk)
	fr.v, fr.f.Head, fr.f.Bulk = nil, fr.f.Head[:0], fr.f.Bulk[:0]
	framesReady.Put(fr)
}

// sendAll sends every remote member what it lacks, as far as its window
// allows; v.mu is held. What is issued while a frame is under way gathers for
// the next one, unless there is much of it: so a single writer waits for
// nothing, and many share frames, system calls and wake-ups.
func (v *Volume) sendAll() {
	for i := range v.m.Members() {
		m := &v.m.Members()[i]
		if m.Gone || m.ID == v.localID || v.held[i] != sendable {
			continue
		}
		for m.Sent < v.m.Issued() && v.mayFly(i) && v.sendTo(i) {
		}
	}
}

// mayFly reports whether another frame of records may be sent to member i now.
func (v *Volume) mayFly(i int) bool {
	if v.flying[i] > 0 && (v.flying[i] >= maxFlying || v.m.Issued()-v.m.Members()[i].Sent < worthwhile) {
		return false
	}
	return v.places[i].may(v.rec.Weight)
}

// sendTo sends one frame of records to member i; it reports whether there were
// any to send. v.mu is held.
func (v *Volume) sendTo(i int) bool {
	m := &v.m.Members()[i]
	j := v.recs.after(m.Sent)
	if j >= v.recs.len() {
		return false
	}
	fr, _ := framesReady.Get().(*frame)
	if fr == nil {
		fr = newFrame()
	}
	fr.v, fr.i, fr.first, fr.asked = v, i, v.recs.at(j).LSN, v.s.Clock.Now()
	ask := replica.Ask{Replica: m.ID, Epoch: v.epoch, Stable: v.m.Stable()}
	fr.f.Head = ask.AppendTo(fr.f.Head)
	var last holdfast.LSN
	for bytes := 0; j < v.recs.len(); j++ {
		r := v.recs.at(j)
		size := record.HeaderSize + 8*len(r.Hashes)
		if last != 0 && (bytes+len(r.Data) > frameBytes || len(fr.f.Head)+size > frameHead) {
			break
		}
		fr.f.Head = r.AppendHeader(fr.f.Head)
		if len(r.Data) > 0 {
			fr.f.Bulk = append(fr.f.Bulk, r.Data)
		}
		bytes += len(r.Data)
		last = r.Last()
	}
	v.m.FrameSent(i, fr.first, last, fr.asked)
	v.flying[i]++
	fr.taken = int64(len(fr.f.Head) + fr.f.BulkLen())
	v.places[i].take(fr.taken)
	v.s.Net.Send(v.refs[i].Host, fr.f, askTimeout, fr.done)
	return true
}

// answered takes the answer to a frame of records.
func (fr *frame) answered(f transport.Frame, err error) {
	v := fr.v
	v.mu.Lock()
	v.flying[fr.i]--
	v.places[fr.i].give(fr.taken)
	v.m.FrameDone(fr.i, fr.first)
	if now := v.s.Clock.Now(); err == nil {
		v.links[fr.i].felt(now-fr.asked, now)
		v.latency.Hops[fr.i].Append.add(now - fr.asked)
	}
	v.takeAnswer(fr.i, f, err, fr.asked)
	v.settleIn(fr.i)
	v.pump()
	v.admitLocked()
	done := v.takeDone()
	way := v.places[fr.i].on
	v.mu.Unlock()
	fr.release()
	tell(done)
	way.letIn()
}

// takeAnswer feeds an answer of member i to the machine; v.mu is held.
func (v *Volume) takeAnswer(i int, f transport.Frame, err error, asked time.Duration) {
	if v.failed != nil || v.m.Members()[i].Gone {
		return
	}
	var ans replica.Answer
	if err == nil {
		ans, err = replica.DecodeAnswer(f.Head)
	}
	if err != nil {
		v.memberFailed(i, err)
		return
	}
	v.noteFull(i, ans.Full)
	delete(v.lacked, v.m.Members()[i].ID)
	if v.held[i] == backOff {
		v.held[i] = sendable
	}
	if v.m.Answer(i, ans.Boot, ans.Prefix, ans.Durable, asked, v.s.Clock.Now()) == replica.Forgot {
		v.proposeFor(proposal{i: i, why: "it restarted and lost its memory", forgot: true})
	}
}

// noteFull takes what member i says of its disk; v.mu is held.
func (v *Volume) noteFull(i int, full bool) { v.full[i] = full }

// othersFull reports whether the disk of a member elsewhere has only its
// reserve left; v.mu is held.
func (v *Volume) othersFull() bool {
	for i, full := range v.full {
		if full && !v.m.Members()[i].Gone {
			return true
		}
	}
	return false
}

// memberFailed decides what an error from member i means; v.mu is held.
func (v *Volume) memberFailed(i int, err error) {
	switch holdfast.KindOf(err) {
	case holdfast.Fenced:
		v.fence(err)
	case holdfast.Unavailable, holdfast.Closed:
		// Not reached: it is tried again, and ejected when silent for too long.
		m := &v.m.Members()[i]
		if v.flying[i] == 0 && m.Sent > m.Acked {
			v.m.Ask(i, v.s.Clock.Now())
			m.Sent = m.Acked
			if v.held[i] == sendable {
				v.held[i] = backOff // it is asked without records until it answers
			}
			v.tick.Set()
		}
	case holdfast.NotFound:
		v.proposeFor(proposal{i: i, why: err.Error(), forgot: v.isGone(i)})
	case holdfast.Damaged:
		v.proposeFor(proposal{i: i, why: err.Error(), forgot: true})
	default:
		if holdfast.IsKind(err, holdfast.Corrupt) {
			v.suspectMemory()
		}
		v.propose(i, err.Error())
	}
}

// goneAfter is for how long a host has to say that a replica is not on a disk that it
// uses, until nobody waits for that replica any more: what it has said of its disks is
// of its present life by then.
const goneAfter = 10 * time.Second

// isGone notes that member i is said not to be there, and reports whether it will not
// be: a disk that lost what was written last may have lost whole replicas. v.mu is held.
func (v *Volume) isGone(i int) bool {
	id, now := v.m.Members()[i].ID, v.s.Clock.Now()
	since, said := v.lacked[id]
	if !said {
		v.lacked[id] = now
	}
	return said && now-since >= goneAfter && v.s.Records.Uses(v.refs[i])
}

// fence ends the volume because a higher epoch exists; v.mu is held.
func (v *Volume) fence(err error) {
	v.s.Clock.Go(func() {
		v.fail(holdfast.Errorf(holdfast.Fenced, "volume %s is no longer this host's to write: %w", v.rec.Name, err))
	})
}

// syncAll asks every in-sync member to make durable what operations wait for,
// or what a flush is expected to; v.mu is held. One sync is under way per
// member; the next covers all that gathered meanwhile.
func (v *Volume) syncAll() {
	if upto, want := v.m.WantSync(); want {
		v.syncUpto(upto)
	}
	if v.habit.upto != 0 {
		v.syncEarly(v.habit.upto)
	}
}

func (v *Volume) syncUpto(upto holdfast.LSN) {
	for i := range v.m.Members() {
		v.syncMember(i, upto, false)
	}
}

// syncEarly is syncUpto of what nobody waits for yet. The other members are asked
// in the same breath as they are sent the records; this host's disk when the
// write has been answered, for that is what the initiator waits for now.
func (v *Volume) syncEarly(upto holdfast.LSN) {
	alone := true
	for i := range v.m.Members() {
		if m := &v.m.Members()[i]; m.ID != v.localID && m.InSync && !m.Gone {
			alone = false
			v.syncMember(i, upto, true)
		}
	}
	if i := v.m.Find(v.localID); i >= 0 && v.m.Acked() >= upto && (v.pushed || !alone) {
		v.syncMember(i, upto, true)
	}
}

// syncMember asks member i, unless a sync of it is under way; v.mu is held.
func (v *Volume) syncMember(i int, upto holdfast.LSN, early bool) {
	m := &v.m.Members()[i]
	s := &v.syncing[i]
	target := min(upto, m.Sent) // the question arrives behind what was sent
	asked := v.s.Clock.Now()
	if m.Gone || !m.InSync || s.flying || m.Durable >= target || asked < s.again {
		return
	}
	s.flying = true
	if m.ID == v.localID {
		v.wantSync = localSync{r: v.local, i: i, upto: target, asked: asked, early: early} // once v.mu is given up
		return
	}
	v.m.Ask(i, asked)
	ask := replica.Ask{Replica: m.ID, Epoch: v.epoch, Stable: v.m.Stable(), Upto: target}
	f := transport.Frame{Kind: replica.KindSync, Head: ask.AppendTo(nil)}
	v.s.Net.Send(v.refs[i].Host, f, syncTimeout, func(f transport.Frame, err error) { v.syncedRemote(i, target, f, err, asked) })
}

// syncTimeout bounds a sync: a slow disk may take its time as long as its host
// answers pings.
const syncTimeout = 30 * time.Second

// syncedRemote takes the answer to a sync. What a member lacks of what it was to
// make durable is sent again if it was lost on the way: its answer to that frame
// tells. If it held it once, it cannot stay.
func (v *Volume) syncedRemote(i int, upto holdfast.LSN, f transport.Frame, err error, asked time.Duration) {
	v.mu.Lock()
	v.syncing[i].flying = false
	if !holdfast.IsKind(err, holdfast.Gap) || v.m.Members()[i].Acked >= upto {
		v.takeAnswer(i, f, err, asked)
	}
	if err == nil {
		v.latency.Hops[i].Sync.add(v.s.Clock.Now() - asked)
		v.pump()
	}
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}

// syncedLocal runs on the disk's own task, which has nothing better to do than
// to complete the operations that waited for it, unless there are many.
func (v *Volume) syncedLocal(l localSync, err error) {
	v.mu.Lock()
	if v.m.Syncs() <= fewSyncs {
		v.takeSync(l, err)
		return
	}
	v.mu.Unlock()
	v.s.Clock.Go(func() {
		v.mu.Lock()
		v.takeSync(l, err)
	})
}

// fewSyncs is how many operations the disk's task completes itself before it
// goes on with the next sync.
const fewSyncs = 8

// takeSync takes the outcome of a local sync; v.mu is held and given up.
func (v *Volume) takeSync(l localSync, err error) {
	v.syncing[l.i].flying = false
	if err != nil {
		v.syncing[l.i].again = v.s.Clock.Now() + tickEvery
		v.propose(l.i, err.Error())
	} else {
		m := &v.m.Members()[l.i]
		m.Durable = max(m.Durable, l.upto)
		v.latency.Hops[l.i].Sync.add(v.s.Clock.Now() - l.asked)
	}
	v.pump()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}
