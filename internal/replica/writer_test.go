package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

const epoch = holdfast.Epoch(5)

func at(counter uint64) holdfast.LSN { return holdfast.MakeLSN(epoch, counter) }

func replicaID(n byte) holdfast.ReplicaID { return holdfast.ReplicaID{UUID: holdfast.UUID{n}} }
func bootID(n byte) holdfast.BootID       { return holdfast.BootID{UUID: holdfast.UUID{n, 0xb0}} }

// script plays a writer of replicas a, b, … (members 0, 1, …). A write is one
// block, sent to all in one frame.
type script struct {
	*testing.T
	w   *Writer[string]
	now time.Duration
}

func open(t *testing.T, members int) *script {
	var m []Member
	for i := range members {
		m = append(m, Member{ID: replicaID(byte(i + 1)), Boot: bootID(byte(i + 1))})
	}
	return &script{T: t, w: NewWriter[string](epoch, m), now: time.Second}
}

// write issues one block and sends it to the members named.
func (s *script) write(op string, durable bool, to ...int) holdfast.LSN {
	s.Helper()
	lsn, ok := s.w.Issue(1)
	if !ok {
		s.Fatal("the epoch is used up")
	}
	s.w.Pend(lsn, durable, op)
	for _, i := range to {
		s.w.FrameSent(i, lsn, lsn, s.now)
	}
	return lsn
}

// holds lets member i answer that it holds everything up to prefix, and has
// everything up to durable on disk. Frames up to prefix have been given back.
func (s *script) holds(i int, prefix, durable holdfast.LSN) Verdict {
	for l := at(1); l <= prefix; l++ {
		s.w.FrameDone(i, l)
	}
	return s.w.Answer(i, s.w.Members()[i].Boot, prefix, durable, s.now, s.now)
}

// acknowledged checks what is complete now.
func (s *script) acknowledged(want ...string) {
	s.Helper()
	got, _ := s.w.Complete(nil)
	if !slices.Equal(got, want) {
		s.Errorf("acknowledged %q, want %q", got, want)
	}
}

func TestAWriteIsAcknowledgedWhenItIsInMemoryEverywhere(t *testing.T) {
	s := open(t, 3)
	l := s.write("w", false, 0, 1, 2)
	s.acknowledged()
	s.holds(0, l, at(0))
	s.holds(2, l, at(0))
	s.acknowledged()
	s.holds(1, l, at(0))
	s.acknowledged("w")
}

func TestAFlushIsAcknowledgedWhenItIsOnDiskEverywhere(t *testing.T) {
	s := open(t, 2)
	l := s.write("w", false, 0, 1)
	s.w.Pend(l, true, "flush")
	if upto, want := s.w.WantSync(); !want || upto != l {
		t.Errorf("a sync up to %v is wanted: %v, though it need not wait for the other's memory", upto, want)
	}
	s.holds(0, l, l)
	s.holds(1, l, at(0))
	s.acknowledged("w")
	if upto, want := s.w.WantSync(); !want || upto != l {
		t.Errorf("a sync up to %v is wanted: %v", upto, want)
	}
	s.holds(1, l, l)
	s.acknowledged("flush")
	if _, want := s.w.WantSync(); want {
		t.Error("a sync is still wanted")
	}
}

// TestAFlushVouchesOnlyForWhatWasWrittenBefore: a later write does not hold it
// up, and it does not hold up a later write.
func TestAFlushVouchesOnlyForWhatWasWrittenBefore(t *testing.T) {
	s := open(t, 2)
	l := s.write("before", false, 0, 1)
	s.w.Pend(l, true, "flush")
	m := s.write("after", false, 0, 1)
	s.holds(0, m, l)
	s.holds(1, m, at(0))
	s.acknowledged("before", "after")
	s.holds(1, m, l)
	s.acknowledged("flush")
}

func TestAReplicaThatForgotIsNotBelieved(t *testing.T) {
	s := open(t, 2)
	l := s.write("w", false, 0, 1)
	s.holds(0, l, l)
	if v := s.w.Answer(1, bootID(99), l, l, s.now, s.now); v != Forgot {
		t.Errorf("verdict %v about an answer of another life", v)
	}
	s.acknowledged()
	if s.w.Stable() >= l {
		t.Error("what it said of its disk counted")
	}
}

// TestNothingIsAcknowledgedWithoutAMemberUntilItIsRemoved, which the shell does
// when the ejection is known to be committed.
func TestNothingIsAcknowledgedWithoutAMemberUntilItIsRemoved(t *testing.T) {
	s := open(t, 2)
	l := s.write("w", false, 0, 1)
	s.w.Pend(l, true, "flush")
	s.holds(0, l, l)
	s.now += Silence
	if got := s.w.Silent(s.now, nil); !slices.Equal(got, []int{1}) {
		t.Errorf("silent are %v", got)
	}
	s.acknowledged()
	s.w.Remove(1)
	s.acknowledged() // its frame still borrows the data
	s.w.FrameDone(1, l)
	s.acknowledged("w", "flush")
	if n := s.w.Count(); n != 1 {
		t.Errorf("%d members are in sync", n)
	}
	if v := s.w.Answer(1, bootID(2), at(0), at(0), s.now, s.now); v != Fine {
		t.Errorf("a late answer of the removed gives verdict %v", v)
	}
}

func TestAGapIsSentAgain(t *testing.T) {
	s := open(t, 2)
	first := s.write("1", false, 0, 1)
	second := s.write("2", false, 0, 1)
	s.holds(0, second, at(0))
	s.w.FrameDone(1, first) // lost on the way
	if v := s.w.Answer(1, bootID(2), at(0), at(0), s.now, s.now); v != Fine {
		t.Fatalf("verdict %v while a frame is still under way", v)
	}
	s.w.FrameDone(1, second)
	if v := s.w.Answer(1, bootID(2), at(0), at(0), s.now, s.now); v != Resend {
		t.Fatalf("verdict %v about a gap", v)
	}
	if sent := s.w.Members()[1].Sent; sent != at(0) {
		t.Errorf("it is sent again after %v, want all", sent)
	}
	s.acknowledged()
	s.w.FrameSent(1, first, second, s.now)
	s.holds(1, second, at(0))
	s.acknowledged("1", "2")
}

// TestAnOldAnswerTakesNothingBack: answers may overtake each other.
// TestWhatWasAcknowledgedWasSent: a frame was given up for lost, so that it would be
// sent again, and then a later answer tells that it had arrived. A member is asked to
// make durable only what was sent to it (simulated seed 810914).
func TestWhatWasAcknowledgedWasSent(t *testing.T) {
	s := open(t, 2)
	last := s.write("a", true, 1)
	s.w.FrameDone(1, last)
	m := &s.w.Members()[1]
	m.Sent = m.Acked // as the shell has it, which got no answer
	s.w.Answer(1, m.Boot, last, at(0), s.now, s.now)
	if m.Sent != last || m.Acked != last {
		t.Errorf("sent up to %v and acknowledged up to %v, both are %v", m.Sent, m.Acked, last)
	}
}

func TestAnOldAnswerTakesNothingBack(t *testing.T) {
	s := open(t, 1)
	s.write("1", false, 0)
	second := s.write("2", false, 0)
	s.holds(0, second, second)
	s.holds(0, at(1), at(0))
	s.acknowledged("1", "2")
	if m := s.w.Members()[0]; m.Acked != second || m.Durable != second {
		t.Errorf("it holds %v, %v on disk", m.Acked, m.Durable)
	}
}

// TestTheDiskIsNotBelievedBeyondTheMemory: a replica cannot have on disk what
// it does not hold.
func TestTheDiskIsNotBelievedBeyondTheMemory(t *testing.T) {
	s := open(t, 1)
	first := s.write("1", true, 0)
	second := s.write("2", true, 0)
	s.w.FrameDone(0, first)
	s.w.FrameDone(0, second)
	s.w.Answer(0, bootID(1), first, second+100, s.now, s.now)
	s.acknowledged("1")
}

// TestDataThatIsStillLentHoldsUpItsWrite: the buffer belongs to the network
// until the frame is done, so its owner must not be told yet.
func TestDataThatIsStillLentHoldsUpItsWrite(t *testing.T) {
	s := open(t, 2)
	first := s.write("1", false, 0, 1)
	second := s.write("2", false, 0, 1)
	s.holds(0, second, at(0))
	s.w.FrameDone(1, first)
	s.w.Answer(1, bootID(2), second, at(0), s.now, s.now)
	if lent := s.w.Lent(); lent != second {
		t.Errorf("lent from %v on", lent)
	}
	s.acknowledged("1")
	s.w.FrameDone(1, second)
	s.acknowledged("2")
	if lent := s.w.Lent(); lent != s.w.Issued()+1 {
		t.Errorf("%v is still lent", lent)
	}
}

// TestFramesAnsweredOutOfOrder keep the claim of those still under way.
func TestFramesAnsweredOutOfOrder(t *testing.T) {
	s := open(t, 1)
	for i := range 40 {
		s.write(fmt.Sprint(i), false, 0)
	}
	for l := at(2); l <= at(40); l++ {
		s.w.FrameDone(0, l)
	}
	s.w.Answer(0, bootID(1), at(40), at(0), s.now, s.now)
	if lent := s.w.Lent(); lent != at(1) {
		t.Errorf("lent from %v on", lent)
	}
	s.acknowledged()
	s.w.FrameDone(0, at(1))
	if got, _ := s.w.Complete(nil); len(got) != 40 {
		t.Errorf("%d writes are acknowledged, want 40", len(got))
	}
}

// TestAJoinerIsWaitedForBeforeItIsInTheSet, but it has no voice in what is
// stable until then.
func TestAJoinerIsWaitedForBeforeItIsInTheSet(t *testing.T) {
	s := open(t, 1)
	old := s.write("old", false, 0)
	s.holds(0, old, old)
	s.acknowledged("old")
	j := s.w.Add(Member{ID: replicaID(9), Boot: bootID(9)}, old)
	if s.w.Stable() != old || s.w.Count() != 1 {
		t.Errorf("stable %v with %d in sync; the joiner counts", s.w.Stable(), s.w.Count())
	}
	l := s.write("new", false, 0, j)
	s.holds(0, l, l)
	s.acknowledged()
	s.holds(j, l, at(0))
	s.acknowledged("new")
	if s.w.Stable() != l {
		t.Errorf("stable is %v, want %v", s.w.Stable(), l)
	}
	s.w.SetInSync(j)
	if s.w.Stable() != at(0) || s.w.Count() != 2 {
		t.Errorf("stable %v with %d in sync; its disk must count from the moment the add is sent", s.w.Stable(), s.w.Count())
	}
	s.holds(j, l, l)
	if s.w.Stable() != l {
		t.Errorf("stable is %v, want %v", s.w.Stable(), l)
	}
	if s.w.Find(replicaID(9)) != j {
		t.Error("it is not found")
	}
	s.w.Remove(j)
	if s.w.Find(replicaID(9)) != -1 {
		t.Error("it is still found")
	}
}

// TestALeaseCountsFromTheQuestion and is shorter for the writer than for the
// member, so that clocks of different rates cannot make both think it theirs.
func TestALeaseCountsFromTheQuestion(t *testing.T) {
	s := open(t, 2)
	local := replicaID(1)
	if s.w.Leased(local, s.now) {
		t.Error("a lease that nobody granted")
	}
	asked := s.now
	s.now += time.Second
	s.w.Answer(1, bootID(2), at(0), at(0), asked, s.now)
	if end := asked + LeaseWriter; !s.w.Leased(local, end-1) || s.w.Leased(local, end) {
		t.Error("the lease does not end when it should")
	}
	if member := Lease - Lease/Drift; LeaseWriter > member {
		t.Errorf("the writer counts %v of %v: no room for drift", LeaseWriter, Lease)
	}
	s.w.Answer(1, bootID(2), at(0), at(0), asked-time.Second, s.now) // overtaken
	if !s.w.Leased(local, asked+LeaseWriter-1) {
		t.Error("an older answer shortened the lease")
	}
	s.w.Remove(1)
	if !s.w.Leased(local, asked+time.Hour) {
		t.Error("alone, the writer needs nobody's lease")
	}
}

func TestSilenceCountsFromTheOldestQuestion(t *testing.T) {
	s := open(t, 2)
	if got := s.w.Silent(s.now+time.Hour, nil); got != nil {
		t.Errorf("%v owe nothing and are called silent", got)
	}
	first := s.write("1", false, 1)
	s.now += Silence / 2
	s.write("2", false, 1)
	if got := s.w.Silent(s.now+Silence/2, nil); !slices.Equal(got, []int{1}) {
		t.Errorf("silent are %v", got)
	}
	s.w.FrameDone(1, first)
	s.w.Answer(1, bootID(2), first, at(0), s.now, s.now) // it lives: what it still owes counts anew
	if got := s.w.Silent(s.now+Silence/2, nil); got != nil {
		t.Errorf("silent are %v", got)
	}
}

// TestAnEpochEnds rather than run over into the next one.
func TestAnEpochEnds(t *testing.T) {
	s := open(t, 1)
	for left := uint64(holdfast.MaxCounter - 1); left > 0; {
		n := uint32(min(left, 1<<32-1))
		first, ok := s.w.Issue(n)
		if !ok || first.Epoch() != epoch {
			t.Fatalf("%v, %v with %d left", first, ok, left)
		}
		left -= uint64(n)
	}
	if s.w.Issued().Epoch() != epoch {
		t.Errorf("issued %v", s.w.Issued())
	}
	if l, ok := s.w.Issue(1); ok {
		t.Errorf("issued %v beyond the epoch's end", l)
	}
}

func TestWhatIsNotCompleteIsGivenBack(t *testing.T) {
	s := open(t, 2)
	s.write("done", false, 0, 1)
	l := s.write("fua", true, 0, 1)
	s.holds(0, l, l)
	s.holds(1, l, at(0))
	s.acknowledged("done")
	s.write("late", false, 0, 1)
	if got := s.w.Abort(); !slices.Equal(got, []string{"fua", "late"}) {
		t.Errorf("given back: %q", got)
	}
	if got := s.w.Abort(); got != nil {
		t.Errorf("given back twice: %q", got)
	}
}
