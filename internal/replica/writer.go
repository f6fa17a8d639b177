package replica

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/visits"
)

// Times of the protocol. A member grants the writer a lease of Lease with
// every reply; the writer counts it from before it asked and shortens it by
// the drift bound, the member counts it from its reply.
const (
	Lease       = 3 * time.Second
	Drift       = 50                      // clock rates differ by at most 1/Drift, a stated bound
	LeaseWriter = Lease - Lease/Drift     // as the writer counts it
	Silence     = 1500 * time.Millisecond // a member that owes an answer for this long is ejected
)

// Writer decides what the writer of a volume may acknowledge. It belongs to
// one goroutine or lock; T is the shell's name for an operation.
type Writer[T any] struct {
	epoch   holdfast.Epoch
	next    holdfast.LSN // next to be issued
	members []Member
	acks    fifo[pending[T]] // waiting to be in memory everywhere
	syncs   fifo[pending[T]] // waiting to be on disk everywhere
	durable int              // operations of acks that are to wait for the disk as well
	want    holdfast.LSN     // of the last operation that waits or is to wait for the disk

	Visits *visits.Counts // what has happened, for a checker; nil: nobody counts
}

type pending[T any] struct {
	last    holdfast.LSN
	durable bool
	op      T
}

// Member is what the writer knows of one replica.
type Member struct {
	ID     holdfast.ReplicaID
	Boot   holdfast.BootID // the life of the memory that acknowledges
	InSync bool            // in the committed in-sync set, or maybe: an add was sent
	Gone   bool            // ejected or dropped: waited for no more

	Sent    holdfast.LSN // highest LSN handed to the transport
	Acked   holdfast.LSN // in its memory
	Durable holdfast.LSN // on its disk

	Asked      time.Duration // when the oldest unanswered request was sent; 0: nothing is owed
	LeaseUntil time.Duration // it promised not to serve another writer's opening before
	frames     fifo[holdfast.LSN]
}

// NewWriter returns the writer of epoch, whose EpochStart record (counter 0) is
// on disk at every member.
func NewWriter[T any](epoch holdfast.Epoch, members []Member) *Writer[T] {
	start := holdfast.MakeLSN(epoch, 0)
	for i := range members {
		m := &members[i]
		m.Sent, m.Acked, m.Durable, m.InSync = start, start, start, true
	}
	return &Writer[T]{epoch: epoch, next: start + 1, members: members}
}

// Epoch returns the writer's epoch.
func (w *Writer[T]) Epoch() holdfast.Epoch { return w.epoch }

// Issued returns the last LSN issued.
func (w *Writer[T]) Issued() holdfast.LSN { return w.next - 1 }

// Issue takes n LSNs for a record; ok is false when the epoch is used up and a
// new one must be opened.
func (w *Writer[T]) Issue(n uint32) (first holdfast.LSN, ok bool) {
	if uint64(n) > holdfast.MaxCounter-w.next.Counter() {
		return 0, false
	}
	first = w.next
	w.next += holdfast.LSN(n)
	return first, true
}

// Pend registers op: it is complete when everything up to last is in memory,
// or with durable on disk, at every replica that counts.
func (w *Writer[T]) Pend(last holdfast.LSN, durable bool, op T) {
	w.acks.push(pending[T]{last, durable, op})
	if durable {
		w.durable++
		w.want = last
	}
}

// Members returns the members; the slice is the machine's own.
func (w *Writer[T]) Members() []Member { return w.members }

// Find returns the index of a replica that counts, or -1.
func (w *Writer[T]) Find(id holdfast.ReplicaID) int {
	for i := range w.members {
		if w.members[i].ID == id && !w.members[i].Gone {
			return i
		}
	}
	return -1
}

// FrameSent notes that records from first on were lent to the transport for
// member i: no operation among them completes before FrameDone.
func (w *Writer[T]) FrameSent(i int, first, last holdfast.LSN, now time.Duration) {
	m := &w.members[i]
	w.visit(w.state(i), sawSent)
	m.frames.push(first)
	if last > m.Sent {
		m.Sent = last
	}
	m.ask(now)
}

// Ask notes that member i owes an answer since now.
func (w *Writer[T]) Ask(i int, now time.Duration) {
	w.visit(w.state(i), sawAsked)
	w.members[i].ask(now)
}

func (m *Member) ask(now time.Duration) {
	if m.Asked == 0 {
		m.Asked = now
	}
}

// FrameDone notes that the transport gave back the frame sent from first on.
func (w *Writer[T]) FrameDone(i int, first holdfast.LSN) {
	m := &w.members[i]
	w.visit(w.state(i), sawFrameBack)
	for j := 0; j < m.frames.len(); j++ {
		if *m.frames.at(j) == first {
			*m.frames.at(j) = 0 // answered out of order: keep the place, drop the claim
			break
		}
	}
	for m.frames.len() > 0 && *m.frames.at(0) == 0 {
		m.frames.pop()
	}
}

// Verdict is what an answer means for its sender.
type Verdict uint8

// The verdicts.
const (
	Fine   Verdict = iota
	Resend         // it lacks what was sent after Acked: send again from there
	Forgot         // another boot id: what it acknowledged in memory is gone; eject it
)

// Answer takes a member's answer to a request sent at asked: its boot id, the
// highest LSN it holds and the highest on disk.
func (w *Writer[T]) Answer(i int, boot holdfast.BootID, prefix, durable holdfast.LSN, asked, now time.Duration) Verdict {
	m, was := &w.members[i], w.state(i)
	v := m.answer(boot, prefix, durable, asked, now)
	w.visit(was, m.answered(v))
	return v
}

func (m *Member) answer(boot holdfast.BootID, prefix, durable holdfast.LSN, asked, now time.Duration) Verdict {
	if m.Gone {
		return Fine
	}
	if boot != m.Boot {
		return Forgot
	}
	m.Acked = max(m.Acked, prefix)
	m.Sent = max(m.Sent, m.Acked) // a frame that was given up for lost may have arrived
	m.Durable = max(m.Durable, min(durable, prefix))
	m.LeaseUntil = max(m.LeaseUntil, asked+LeaseWriter)
	m.Asked = 0
	if m.frames.len() > 0 || m.Acked < m.Sent {
		m.Asked = now
	}
	if m.frames.len() == 0 && m.Acked < m.Sent {
		m.Sent = m.Acked
		return Resend
	}
	return Fine
}

// Silent returns the members that have owed an answer for too long.
func (w *Writer[T]) Silent(now time.Duration, out []int) []int {
	for i := range w.members {
		if m := &w.members[i]; !m.Gone && m.Asked != 0 && now-m.Asked >= Silence {
			w.visit(w.state(i), sawSilence)
			out = append(out, i)
		}
	}
	return out
}

// Add begins to wait for a joiner that holds everything up to at: from now on
// operations need its acknowledgement, though it is not in the in-sync set.
func (w *Writer[T]) Add(m Member, at holdfast.LSN) int {
	m.Sent, m.Acked, m.Durable = at, at, 0
	w.members = append(w.members, m)
	return len(w.members) - 1
}

// Remove stops waiting for member i. For a member of the in-sync set this is
// allowed only once its ejection is known to be committed.
func (w *Writer[T]) Remove(i int) {
	w.visit(w.state(i), sawDropped)
	w.members[i].Gone = true
}

// SetInSync makes member i count for durability and stable, at the moment its
// add is sent: if the commit's outcome is unknown, it must be waited for.
func (w *Writer[T]) SetInSync(i int) {
	w.visit(w.state(i), sawCounted)
	w.members[i].InSync = true
}

// Acked is the highest LSN that is in memory everywhere it must be.
func (w *Writer[T]) Acked() holdfast.LSN {
	l := w.next - 1
	for i := range w.members {
		if m := &w.members[i]; !m.Gone {
			l = min(l, m.Acked)
		}
	}
	return l
}

// Stable is the highest LSN on disk at every in-sync replica.
func (w *Writer[T]) Stable() holdfast.LSN {
	l := w.next - 1
	for i := range w.members {
		if m := &w.members[i]; !m.Gone && m.InSync {
			l = min(l, m.Durable)
		}
	}
	return l
}

// Lent is the lowest LSN still lent to the transport, or Issued()+1.
func (w *Writer[T]) Lent() holdfast.LSN {
	l := w.next
	for i := range w.members {
		fr := &w.members[i].frames
		for j := 0; j < fr.len(); j++ {
			if f := *fr.at(j); f != 0 && f < l {
				l = f
			}
		}
	}
	return l
}

// Count returns how many members are in the in-sync set.
func (w *Writer[T]) Count() (n int) {
	for i := range w.members {
		if m := &w.members[i]; !m.Gone && m.InSync {
			n++
		}
	}
	return n
}

// Syncs returns how many operations wait for the disk.
func (w *Writer[T]) Syncs() int { return w.syncs.len() }

// WantSync reports whether an operation waits for the disk, and up to where. It
// need not be in memory everywhere yet: a member may be asked to make durable
// what was sent to it just before.
func (w *Writer[T]) WantSync() (holdfast.LSN, bool) {
	return w.want, w.syncs.len() > 0 || w.durable > 0
}

// Complete appends the operations that may be acknowledged now, in order.
// Operations that also need the disk move on to wait for it; moved tells that
// some did, so that the shell asks for a sync.
func (w *Writer[T]) Complete(out []T) (done []T, moved bool) {
	acked := w.Acked()
	if lent := w.Lent(); lent <= acked {
		acked = lent - 1
	}
	for w.acks.len() > 0 && w.acks.at(0).last <= acked {
		p := w.acks.pop()
		if p.durable {
			w.durable--
			w.syncs.push(p)
			moved = true
		} else {
			out = append(out, p.op)
		}
	}
	if w.syncs.len() > 0 {
		for stable := w.Stable(); w.syncs.len() > 0 && w.syncs.at(0).last <= stable; {
			out = append(out, w.syncs.pop().op)
		}
	}
	return out, moved
}

// Abort removes and returns every operation that is not complete.
func (w *Writer[T]) Abort() (out []T) {
	for w.syncs.len() > 0 {
		out = append(out, w.syncs.pop().op)
	}
	for w.acks.len() > 0 {
		out = append(out, w.acks.pop().op)
	}
	w.durable = 0
	return out
}

// Leased reports whether every in-sync member but the local one still grants
// the writer its lease at now.
func (w *Writer[T]) Leased(local holdfast.ReplicaID, now time.Duration) bool {
	return w.LeaseLeft(local, now) > 0
}

// LeaseLeft is for how long they do at least; they are not asked, so without any
// other in-sync member it is without end.
func (w *Writer[T]) LeaseLeft(local holdfast.ReplicaID, now time.Duration) time.Duration {
	left := time.Duration(1<<63 - 1)
	for i := range w.members {
		if m := &w.members[i]; !m.Gone && m.InSync && m.ID != local {
			left = min(left, m.LeaseUntil-now)
		}
	}
	return left
}
