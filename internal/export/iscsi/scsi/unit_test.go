package scsi

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a unit over a memory volume whose faults the test decides.
type stage struct {
	t    *testing.T
	unit *Unit
	dev  *Device
	bad  *memexport.Faults
}

// generation is a memory volume that tells its cache generation.
type generation struct {
	export.Target
	now *uint64
}

type generationDisk struct {
	export.Disk
	at uint64
}

func (g generation) Open(readOnly bool) (export.Disk, error) {
	d, err := g.Target.Open(readOnly)
	return generationDisk{d, *g.now}, err
}

func (d generationDisk) CacheGeneration() uint64 { return d.at }

// tight is a volume with little space.
type tight struct {
	export.Target
	left *int64
}

type tightDisk struct {
	export.Disk
	left *int64
}

func (g tight) Open(readOnly bool) (export.Disk, error) {
	d, err := g.Target.Open(readOnly)
	return tightDisk{d, g.left}, err
}

func (d tightDisk) Space() (used, left int64) { return 1 << 20, *d.left }

func newStage(t *testing.T, opt Options, wrap func(export.Target) export.Target) *stage {
	m, err := memexport.New(16<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	bad := &memexport.Faults{}
	target := memexport.Faulty(m, bad, clock.System{})
	if wrap != nil {
		target = wrap(target)
	}
	opt.ID = holdfast.VolumeID{UUID: holdfast.UUID{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}}
	u, err := New(target, opt)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDevice(map[uint16]*Unit{0: u})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bad.Release(); d.Close() })
	return &stage{t, u, d, bad}
}

func nexus(n byte) Nexus {
	return Nexus{Initiator: "iqn.2026-11.org.example:h" + string(rune('0'+n)), ISID: [6]byte{0x80, 0, 0, 0, 0, n}, Port: 1}
}

// path attaches a nexus and takes its first unit attentions.
func (s *stage) path(n byte) *Path {
	s.t.Helper()
	p, err := s.dev.Attach(nexus(n))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { p.Detach(true) })
	for range 5 {
		if r := s.run(p, make([]byte, 6), nil, 0); r.Status == Good {
			return p
		}
	}
	s.t.Fatal("the unit does not become ready")
	return nil
}

// outcome of a command.
type result struct {
	Status Status
	Key    Key
	Code   Code
	Data   []byte
}

// run runs a command with data out, or with room for in bytes of data in.
func (s *stage) run(p *Path, cdb, out []byte, in int) result {
	t := &Task{Path: p, Expect: int64(max(len(out), in))}
	copy(t.CDB[:], cdb)
	done := make(chan struct{})
	t.Done = func(*Task) { close(done) }
	if p.Begin(t) {
		if t.Need > 0 {
			t.Buf = make([]byte, t.Need)
			copy(t.Buf, out)
		}
		p.Run(t)
		<-done
	}
	r := result{Status: t.Status, Data: t.Data[:min(len(t.Data), in)]}
	if len(t.Sense) > 12 && t.Sense[0]&0x7f == 0x70 {
		r.Key, r.Code = Key(t.Sense[2]&0xf), Code(be.Uint16(t.Sense[12:]))
	} else if len(t.Sense) >= 4 {
		r.Key, r.Code = Key(t.Sense[1]&0xf), Code(be.Uint16(t.Sense[2:]))
	}
	return r
}

func (s *stage) want(r result, status Status, k Key, c Code) {
	s.t.Helper()
	if r.Status != status || r.Key != k || r.Code != c {
		s.t.Fatalf("status %#x, sense key %x, code %04x; want %#x, %x, %04x", r.Status, r.Key, r.Code, status, k, c)
	}
}

func (s *stage) good(r result) result {
	s.t.Helper()
	s.want(r, Good, 0, 0)
	return r
}

func write10(lba, blocks int) []byte {
	return []byte{opWrite10, 0, 0, 0, byte(lba >> 8), byte(lba), 0, 0, byte(blocks), 0}
}

func read10(lba, blocks int) []byte {
	c := write10(lba, blocks)
	c[0] = opRead10
	return c
}

var flush = []byte{opSyncCache10, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func block(b byte) []byte { return bytes.Repeat([]byte{b}, 512) }

// No flush and no write succeeds for an initiator whose unflushed writes are
// gone, until it has logged out: not even after it logged in again.
func TestALostCacheIsNeverFlushed(t *testing.T) {
	s := newStage(t, Options{}, nil)
	p, idle := s.path(1), s.path(2)
	s.good(s.run(p, write10(0, 1), block(1), 0))
	s.bad.Fail(export.Read, 0, holdfast.Errorf(holdfast.LostCache, "every replica forgot"))
	s.want(s.run(p, read10(0, 1), nil, 512), CheckCondition, UnitAttention, PowerOn)
	s.want(s.run(p, flush, nil, 0), CheckCondition, UnitAttention, PowerOn)
	s.want(s.run(p, flush, nil, 0), CheckCondition, MediumError, WriteError)
	s.want(s.run(p, write10(0, 1), block(2), 0), CheckCondition, MediumError, WriteError)
	s.good(s.run(p, read10(0, 1), nil, 512))
	s.want(s.run(idle, flush, nil, 0), CheckCondition, UnitAttention, PowerOn)
	s.want(s.run(idle, flush, nil, 0), CheckCondition, MediumError, WriteError)

	p.Detach(false) // the connection was lost
	p = s.path(1)
	s.want(s.run(p, flush, nil, 0), CheckCondition, MediumError, WriteError)
	p.Detach(true) // it logged out
	p = s.path(1)
	s.good(s.run(p, flush, nil, 0))
}

// What had been flushed was not lost.
func TestALostCacheWithoutUnflushedWrites(t *testing.T) {
	s := newStage(t, Options{}, nil)
	p := s.path(1)
	s.good(s.run(p, write10(0, 1), block(1), 0))
	s.good(s.run(p, flush, nil, 0))
	s.bad.Fail(export.Read, 0, holdfast.Errorf(holdfast.LostCache, "every replica forgot"))
	s.want(s.run(p, read10(0, 1), nil, 512), CheckCondition, UnitAttention, PowerOn)
	s.want(s.run(p, flush, nil, 0), CheckCondition, UnitAttention, PowerOn)
	s.good(s.run(p, flush, nil, 0))
}

// A fail-over is a change of access state; the cache's generation tells
// whether anything was lost by it.
func TestAFailOver(t *testing.T) {
	for _, lost := range []bool{false, true} {
		now := uint64(7)
		s := newStage(t, Options{}, func(x export.Target) export.Target { return generation{x, &now} })
		p := s.path(1)
		s.good(s.run(p, write10(0, 1), block(1), 0))
		s.bad.Fail(export.Write, 0, holdfast.Errorf(holdfast.Fenced, "another host writes now"))
		if lost {
			now++
		}
		s.want(s.run(p, write10(1, 1), block(1), 0), CheckCondition, NotReady, InTransition)
		s.want(s.run(p, make([]byte, 6), nil, 0), CheckCondition, UnitAttention, AccessStateChanged)
		r := s.run(p, flush, nil, 0) // opens the next session
		if !lost {
			s.good(r)
			s.good(s.run(p, write10(1, 1), block(1), 0))
			continue
		}
		for r.Key == UnitAttention {
			r = s.run(p, flush, nil, 0)
		}
		s.want(r, CheckCondition, MediumError, WriteError)
	}
}

// A disk that does not tell its generation is not believed.
func TestAFailOverThatNobodyCanVouchFor(t *testing.T) {
	s := newStage(t, Options{}, nil)
	p := s.path(1)
	s.good(s.run(p, write10(0, 1), block(1), 0))
	s.bad.Fail(export.Read, 0, holdfast.Errorf(holdfast.Closed, "the session ended"))
	s.want(s.run(p, read10(0, 1), nil, 512), CheckCondition, NotReady, InTransition)
	s.want(s.run(p, flush, nil, 0), CheckCondition, UnitAttention, PowerOn)
	s.want(s.run(p, flush, nil, 0), CheckCondition, MediumError, WriteError)
}

func TestAFullVolume(t *testing.T) {
	s := newStage(t, Options{}, nil)
	p := s.path(1)
	s.bad.Fail(export.Write, 0, holdfast.Errorf(holdfast.NoSpace, "full"))
	s.want(s.run(p, write10(0, 1), block(1), 0), CheckCondition, DataProtect, SpaceExhausted)
}

// The initiator that asked for it is warned, once, before the volume is full.
func TestAThresholdOfSpace(t *testing.T) {
	left := int64(100 << 20)
	s := newStage(t, Options{}, func(x export.Target) export.Target { return tight{x, &left} })
	p := s.path(1)
	page := threshold{on: true, count: 20}.page() // 20 MiB
	s.good(s.run(p, []byte{opModeSelect6, 0x10, 0, 0, byte(4 + len(page)), 0}, append([]byte{0, 0, 0, 0}, page...), 0))
	s.good(s.run(p, write10(0, 1), block(1), 0))
	left = 10 << 20
	told := 0
	for range 3 * watchEvery {
		if r := s.run(p, write10(0, 1), block(1), 0); r.Status != Good {
			s.want(r, CheckCondition, UnitAttention, SoftThreshold)
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times that space runs out, want once", told)
	}
}

// Without the write cache every write is durable, and nothing can be lost.
func TestTheWriteCacheCanBeSwitchedOff(t *testing.T) {
	s := newStage(t, Options{}, nil)
	p, other := s.path(1), s.path(2)
	page := mode{}.pageOf(0x08, 0)
	s.good(s.run(p, []byte{opModeSelect6, 0x10, 0, 0, byte(4 + len(page)), 0}, append([]byte{0, 0, 0, 0}, page...), 0))
	s.want(s.run(other, make([]byte, 6), nil, 0), CheckCondition, UnitAttention, ModeChanged)
	s.good(s.run(p, write10(0, 1), block(1), 0))
	if s.unit.acked.Load() != 0 {
		t.Error("a write through the cache counts as unflushed")
	}
}

func TestSizeChanges(t *testing.T) {
	m, err := memexport.New(1<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, Options{}, func(export.Target) export.Target { return m })
	p := s.path(1)
	m.Grow(2 << 20)
	s.good(s.run(p, read10(0, 1), nil, 512)) // the size is seen
	s.want(s.run(p, make([]byte, 6), nil, 0), CheckCondition, UnitAttention, CapacityChanged)
	if r := s.good(s.run(p, []byte{opReadCapacity10, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 8)); be.Uint32(r.Data) != 4095 {
		t.Errorf("last block %d, want 4095", be.Uint32(r.Data))
	}
}

// COMPARE AND WRITE from many initiators counts without losing one.
func TestCompareAndWriteIsAtomic(t *testing.T) {
	s := newStage(t, Options{}, nil)
	s.bad.Later(clock.System{}.Go)
	const initiators, each = 4, 40
	done := make(chan int, initiators)
	var paths []*Path
	for i := range initiators {
		paths = append(paths, s.path(byte(i+1)))
	}
	for _, p := range paths {
		go func() {
			wins := 0
			for wins < each {
				now := s.run(p, read10(8, 1), nil, 512).Data
				next := bytes.Clone(now)
				be.PutUint64(next, be.Uint64(next)+1)
				cdb := make([]byte, 16)
				cdb[0], cdb[9], cdb[13] = opCompareAndWrite, 8, 1
				switch r := s.run(p, cdb, append(bytes.Clone(now), next...), 0); {
				case r.Status == Good:
					wins++
				case r.Key != Miscompare:
					wins = 1 << 20
				}
			}
			done <- wins
		}()
	}
	for range initiators {
		if n := <-done; n != each {
			t.Fatalf("a compare and write failed for another reason than a miscompare")
		}
	}
	if n := be.Uint64(s.run(paths[0], read10(8, 1), nil, 512).Data); n != initiators*each {
		t.Errorf("counted to %d, want %d", n, initiators*each)
	}
}

func TestPortsThatAreNotReady(t *testing.T) {
	state := byte(AccessOptimized)
	s := newStage(t, Options{Groups: func() []Group { return []Group{{ID: 1, State: state, Ports: []Port{{ID: 1}}}} }}, nil)
	p := s.path(1)
	for to, code := range map[byte]Code{AccessStandby: InStandby, AccessUnavailable: PathUnavailable, AccessTransition: InTransition} {
		state = to
		s.want(s.run(p, read10(0, 1), nil, 512), CheckCondition, NotReady, code)
		r := s.good(s.run(p, []byte{opMaintenanceIn, actionPortGroups, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, nil, 256))
		if len(r.Data) != 16 || r.Data[4]&0xf != to {
			t.Errorf("REPORT TARGET PORT GROUPS in state %x: % x", to, r.Data)
		}
	}
	state = AccessNonOptimized
	s.good(s.run(p, read10(0, 1), nil, 512))
}

func TestNoLogicalUnit(t *testing.T) {
	s := newStage(t, Options{}, nil)
	p := s.path(1)
	task := &Task{Path: p, LUN: [8]byte{0, 9}, Expect: 96, Done: func(*Task) {}}
	task.CDB = [16]byte{opInquiry, 0, 0, 0, 96}
	if !p.Begin(task) {
		t.Fatal("INQUIRY of no unit is refused")
	}
	p.Run(task)
	if task.Status != Good || task.Data[0] != 0x7f {
		t.Errorf("INQUIRY of no unit: status %#x, % x", task.Status, task.Data[:4])
	}
	task.CDB = [16]byte{opTestUnitReady}
	if p.Begin(task) || task.Status != CheckCondition || be.Uint16(task.Sense[12:]) != uint16(UnitNotSupported) {
		t.Error("TEST UNIT READY of no unit is not refused")
	}
}
