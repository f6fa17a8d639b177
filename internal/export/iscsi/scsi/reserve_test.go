package scsi

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

func prOut(action, kind byte) []byte {
	return []byte{opReserveOut, action, kind, 0, 0, 0, 0, 0, 24, 0}
}

func prList24(key, other uint64, aptpl bool) []byte {
	b := make([]byte, 24)
	be.PutUint64(b, key)
	be.PutUint64(b[8:], other)
	if aptpl {
		b[20] = 1
	}
	return b
}

func (s *stage) register(p *Path, key uint64, aptpl bool) {
	s.t.Helper()
	s.good(s.run(p, prOut(prRegisterIgnore, 0), prList24(0, key, aptpl), 0))
}

func (s *stage) keys(p *Path) (list []uint64) {
	s.t.Helper()
	r := s.good(s.run(p, []byte{opReserveIn, prReadKeys, 0, 0, 0, 0, 0, 1, 0, 0}, nil, 256))
	for b := r.Data[8:]; len(b) > 0; b = b[8:] {
		list = append(list, be.Uint64(b))
	}
	return list
}

// The fence of a cluster: who is preempted cannot write any more, not even
// with a write that was on its way.
func TestPreemptAndAbort(t *testing.T) {
	s := newStage(t, Options{}, nil)
	a, b := s.path(1), s.path(2)
	s.register(a, 0xa, false)
	s.register(b, 0xb, false)
	s.good(s.run(b, prOut(prReserve, writeExclusiveRegistrants), prList24(0xb, 0, false), 0))
	s.good(s.run(a, write10(0, 1), block(1), 0))

	late := &Task{Path: b, Expect: 512, Buf: block(9)}
	ended := false
	late.Done = func(x *Task) { ended = true }
	copy(late.CDB[:], write10(0, 1))
	if !b.Begin(late) {
		t.Fatal("the holder may not write")
	}
	s.good(s.run(a, prOut(prPreemptAbort, writeExclusiveRegistrants), prList24(0xa, 0xb, false), 0))
	if !ended || !late.Aborted || late.Status != TaskAborted {
		t.Errorf("the write under way: ended %v, aborted %v, status %#x", ended, late.Aborted, late.Status)
	}
	b.Run(late) // its data has come: too late
	s.want(s.run(b, write10(0, 1), block(2), 0), CheckCondition, UnitAttention, RegistrationsPreempt)
	s.want(s.run(b, write10(0, 1), block(2), 0), ReservationConflict, 0, 0)
	s.good(s.run(b, read10(0, 1), nil, 512))
	if r := s.good(s.run(a, read10(0, 1), nil, 512)); r.Data[0] != 1 {
		t.Errorf("the block holds %d", r.Data[0])
	}
	if k := s.keys(a); !slices.Equal(k, []uint64{0xa}) {
		t.Errorf("keys %x", k)
	}
}

// PREEMPT without ABORT: a write that waits for its data does not get through.
func TestAPreemptedWriteDoesNotGetThrough(t *testing.T) {
	s := newStage(t, Options{}, nil)
	a, b := s.path(1), s.path(2)
	s.register(a, 0xa, false)
	s.register(b, 0xb, false)
	s.good(s.run(b, prOut(prReserve, writeExclusive), prList24(0xb, 0, false), 0))
	late := &Task{Path: b, Expect: 512}
	late.Done = func(*Task) {}
	copy(late.CDB[:], write10(0, 1))
	if !b.Begin(late) {
		t.Fatal("the holder may not write")
	}
	s.good(s.run(a, prOut(prPreempt, writeExclusive), prList24(0xa, 0xb, false), 0))
	late.Buf = block(9)
	b.Run(late)
	if late.Status != ReservationConflict {
		t.Errorf("the write ended with status %#x", late.Status)
	}
	if s.bad.Seen(export.Write) != 0 {
		t.Error("the write came to the disk")
	}
}

func TestWhatReservationsPermit(t *testing.T) {
	for kind, x := range map[byte]struct{ otherReads, otherWrites, memberReads, memberWrites bool }{
		writeExclusive:            {true, false, true, false},
		exclusiveAccess:           {false, false, false, false},
		writeExclusiveRegistrants: {true, false, true, true},
		exclusiveRegistrants:      {false, false, true, true},
		writeExclusiveAll:         {true, false, true, true},
		exclusiveAll:              {false, false, true, true},
	} {
		r := reservations{kind: kind, holder: nexus(1), list: []registration{{nexus(1), 1}, {nexus(2), 2}}}
		for _, c := range []struct {
			n    Nexus
			a    access
			want bool
		}{
			{nexus(1), accessRead, true}, {nexus(1), accessWrite, true},
			{nexus(2), accessRead, x.memberReads}, {nexus(2), accessWrite, x.memberWrites},
			{nexus(3), accessRead, x.otherReads}, {nexus(3), accessWrite, x.otherWrites},
		} {
			if got := r.permits(c.n, c.a); got != c.want {
				t.Errorf("type %d: %v may %d: %v", kind, c.n, c.a, got)
			}
		}
	}
}

// With APTPL registrations outlive the unit; without, they end with it.
func TestReservationsSurviveTheLossOfPower(t *testing.T) {
	store := &MemoryStore{}
	s := newStage(t, Options{Reservations: store}, nil)
	a := s.path(1)
	s.register(a, 0xa, true)
	s.good(s.run(a, prOut(prReserve, exclusiveAccess), prList24(0xa, 0, false), 0))

	s = newStage(t, Options{Reservations: store}, nil)
	b, a := s.path(2), s.path(1)
	s.want(s.run(b, read10(0, 1), nil, 512), ReservationConflict, 0, 0)
	s.good(s.run(a, write10(0, 1), block(1), 0))
	s.register(a, 0xaa, false) // now without

	s = newStage(t, Options{Reservations: store}, nil)
	b = s.path(2)
	s.good(s.run(b, read10(0, 1), nil, 512))
	if k := s.keys(b); len(k) > 0 {
		t.Errorf("keys %x", k)
	}
}

// failingStore cannot save.
type failingStore struct{ MemoryStore }

func (*failingStore) Save([]byte) error {
	return holdfast.Errorf(holdfast.Unavailable, "the cluster store does not answer")
}

// What could not be kept is not in force.
func TestAReservationThatCannotBeKept(t *testing.T) {
	s := newStage(t, Options{Reservations: &failingStore{}}, nil)
	a := s.path(1)
	s.want(s.run(a, prOut(prRegisterIgnore, 0), prList24(0, 5, true), 0), CheckCondition, NotReady, BecomingReady)
	if k := s.keys(a); len(k) > 0 {
		t.Errorf("keys %x", k)
	}
}

func TestRegisterAndMove(t *testing.T) {
	s := newStage(t, Options{}, nil)
	a, b := s.path(1), s.path(2)
	s.register(a, 0xa, false)
	s.good(s.run(a, prOut(prReserve, exclusiveAccess), prList24(0xa, 0, false), 0))
	id := nexus(2).transportID()
	list := make([]byte, 24, 24+len(id))
	be.PutUint64(list, 0xa)
	be.PutUint64(list[8:], 0xb)
	list[17] = 2 // UNREG
	be.PutUint16(list[18:], 1)
	be.PutUint32(list[20:], uint32(len(id)))
	list = append(list, id...)
	cdb := prOut(prRegisterMove, 0)
	cdb[8] = byte(len(list))
	s.good(s.run(a, cdb, list, 0))
	s.good(s.run(b, write10(0, 1), block(1), 0))
	s.want(s.run(a, write10(0, 1), block(1), 0), ReservationConflict, 0, 0)
	if k := s.keys(b); !slices.Equal(k, []uint64{0xb}) {
		t.Errorf("keys %x", k)
	}
}

func TestStoredReservationsComeBackTheSame(t *testing.T) {
	r := reservations{generation: 7, aptpl: true, kind: exclusiveRegistrants, holder: nexus(2),
		list: []registration{{nexus(1), 1}, {nexus(2), 1 << 63}}}
	got, err := decodeReservations(r.encode())
	if err != nil || got.generation != 7 || got.kind != r.kind || got.holder != r.holder || !slices.Equal(got.list, r.list) {
		t.Fatalf("%+v, %v", got, err)
	}
}
