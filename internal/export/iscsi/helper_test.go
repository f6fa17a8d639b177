package iscsi_test

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mib        = 1 << 20
	targetName = "iqn.2026-11.cloud.holdfast:vol"
	hostName   = "iqn.2026-11.org.example:host1"
)

var be = binary.BigEndian

// anybody lets everybody in.
var anybody = iscsi.Access{Initiators: []iscsi.Initiator{{Name: "*"}}}

// offering is a server with one target on a portal of 127.0.0.1.
type offering struct {
	*iscsi.Server
	t    *testing.T
	addr string
}

func newMemory(t *testing.T, size int64) *memexport.Target {
	m, err := memexport.New(size, false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// unitID makes the id of the n-th unit of a test.
func unitID(n byte) holdfast.VolumeID {
	return holdfast.VolumeID{UUID: holdfast.UUID{0xab, n, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}}
}

func newUnit(t *testing.T, target export.Target, o scsi.Options) *scsi.Unit {
	t.Helper()
	if o.ID.IsZero() {
		o.ID = unitID(1)
	}
	o.Name = "vol"
	u, err := scsi.New(target, o)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func newDevice(t *testing.T, units ...*scsi.Unit) *scsi.Device {
	t.Helper()
	m := map[uint16]*scsi.Unit{}
	for i, u := range units {
		m[uint16(i)] = u
	}
	d, err := scsi.NewDevice(m)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// offer serves a device until the test ends.
func offer(t *testing.T, d *scsi.Device, access iscsi.Access, lim iscsi.Limits) *offering {
	t.Helper()
	s := iscsi.New(iscsi.Config{Limits: lim})
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Offer(iscsi.Target{Name: targetName, Device: d, Access: access}); err != nil {
		t.Fatal(err)
	}
	return &offering{s, t, addr.String()}
}

// offerMemory offers a memory volume to everybody.
func offerMemory(t *testing.T, size int64) *offering {
	return offer(t, newDevice(t, newUnit(t, newMemory(t, size), scsi.Options{})), anybody, iscsi.Limits{})
}

func (o *offering) dial() net.Conn {
	o.t.Helper()
	nc, err := net.Dial("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	return nc
}

// try logs in and returns the error.
func (o *offering) try(cfg initiator.Config) (*initiator.Session, error) {
	o.t.Helper()
	if cfg.Name == "" {
		cfg.Name = hostName
	}
	if cfg.ISID == [6]byte{} {
		cfg.ISID = [6]byte{0x80, 0, 0, 0, 0, 1}
	}
	s, err := initiator.Login(o.dial(), cfg)
	if err == nil {
		o.t.Cleanup(s.Close)
	}
	return s, err
}

// login logs in to the target and takes the unit attention of a new nexus.
func (o *offering) login(cfg initiator.Config) *initiator.Session {
	o.t.Helper()
	cfg.Target = targetName
	s, err := o.try(cfg)
	if err != nil {
		o.t.Fatal(err)
	}
	calm(o.t, s)
	return s
}

// calm runs TEST UNIT READY until no unit attention is left.
func calm(t *testing.T, s *initiator.Session) (seen []uint16) {
	t.Helper()
	for range 10 {
		r := run(t, s, initiator.Command{CDB: make([]byte, 6)})
		if r.Status == 0 {
			return seen
		}
		key, code := r.SenseKey()
		if key != 6 {
			t.Fatalf("TEST UNIT READY: status %#x, sense key %x, code %04x", r.Status, key, code)
		}
		seen = append(seen, code)
	}
	t.Fatal("unit attentions without end")
	return nil
}

// run runs a command that gets an answer.
func run(t *testing.T, s *initiator.Session, c initiator.Command) initiator.Reply {
	t.Helper()
	r, err := s.Do(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must runs a command that ends well.
func must(t *testing.T, s *initiator.Session, c initiator.Command) initiator.Reply {
	t.Helper()
	r := run(t, s, c)
	if r.Status != 0 {
		key, code := r.SenseKey()
		t.Fatalf("command % x ended with status %#x, sense key %x, code %04x", c.CDB, r.Status, key, code)
	}
	return r
}

// wantSense runs a command that ends with CHECK CONDITION.
func wantSense(t *testing.T, s *initiator.Session, c initiator.Command, key byte, code uint16) {
	t.Helper()
	r := run(t, s, c)
	k, a := r.SenseKey()
	if r.Status != 2 || k != key || a != code {
		t.Fatalf("command % x ended with status %#x, sense key %x, code %04x; want CHECK CONDITION, %x, %04x", c.CDB, r.Status, k, a, key, code)
	}
}

// rw16 is READ(16) or WRITE(16) of blocks of 512 bytes.
func rw16(op byte, lba uint64, blocks int, fua bool) []byte {
	cdb := make([]byte, 16)
	cdb[0] = op
	if fua {
		cdb[1] = 8
	}
	be.PutUint64(cdb[2:], lba)
	be.PutUint32(cdb[10:], uint32(blocks))
	return cdb
}

const (
	read16, write16 = 0x88, 0x8a
	syncCache       = 0x35
)

func writeCmd(lba uint64, data []byte) initiator.Command {
	return initiator.Command{CDB: rw16(write16, lba, len(data)/512, false), Out: data}
}

func readCmd(lba uint64, into []byte) initiator.Command {
	return initiator.Command{CDB: rw16(read16, lba, len(into)/512, false), In: into}
}

func syncCmd() initiator.Command {
	return initiator.Command{CDB: []byte{syncCache, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
}

// noise returns n bytes that depend on seed.
func noise(seed, n int) []byte {
	p := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}
