package serve

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// The path of an initiator whose portal is not at the host that serves.

const carriedTarget = "iqn.2026-11.cloud.holdfast:vol"

// far is a network whose calls and replies take a while, in order.
type far struct {
	*wires
	delay       time.Duration
	there, back chan late
}

type late struct {
	due time.Time
	do  func()
}

func newFar(tb testing.TB, n *wires, delay time.Duration) *far {
	f := &far{wires: n, delay: delay, there: make(chan late, 1<<12), back: make(chan late, 1<<12)}
	for _, c := range []chan late{f.there, f.back} {
		go func() {
			for l := range c {
				time.Sleep(time.Until(l.due))
				l.do()
			}
		}()
	}
	return f
}

func (f *far) Send(to holdfast.HostID, fr transport.Frame, wait time.Duration, done func(transport.Frame, error)) {
	fr = fr.Clone()
	f.there <- late{time.Now().Add(f.delay), func() {
		f.wires.Send(to, fr, wait, func(r transport.Frame, err error) {
			r = r.Clone()
			f.back <- late{time.Now().Add(f.delay), func() { done(r, err) }}
		})
	}}
}

// serving is a target in memory whose connections are carried over n.
func serving(tb testing.TB, n *wires, net transport.Network) func() (io.ReadWriteCloser, error) {
	tb.Helper()
	m, err := memexport.New(32<<20, false)
	if err != nil {
		tb.Fatal(err)
	}
	u, err := scsi.New(m, scsi.Options{ID: holdfast.VolumeID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 1}}, Name: "vol"})
	if err != nil {
		tb.Fatal(err)
	}
	d, err := scsi.NewDevice(map[uint16]*scsi.Unit{0: u})
	if err != nil {
		tb.Fatal(err)
	}
	srv := iscsi.New(iscsi.Config{})
	tb.Cleanup(srv.Close)
	if err := srv.Offer(iscsi.Target{Name: carriedTarget, Device: d, Access: iscsi.Access{Initiators: []iscsi.Initiator{{Name: "*"}}}}); err != nil {
		tb.Fatal(err)
	}
	s := &streams{open: map[uint64]*stream{}, target: func(_ holdfast.ExportID, group uint16, from string) (io.ReadWriteCloser, error) {
		near, end, err := pair()
		if err != nil {
			return nil, err
		}
		srv.ServeConn(near, group, from)
		return end, nil
	}}
	s.install(n)
	return func() (io.ReadWriteCloser, error) {
		far, err := openFar(net, n.self, kindStreamTarget, holdfast.UUID{}, 1, targetDial, []byte("a portal")...)
		if err != nil {
			return nil, err
		}
		far.chunk = targetChunk
		return far, nil
	}
}

// login logs in over a carried connection.
func login(tb testing.TB, open func() (io.ReadWriteCloser, error)) *initiator.Session {
	tb.Helper()
	far, err := open()
	if err != nil {
		tb.Fatal(err)
	}
	near, end, err := pair()
	if err != nil {
		tb.Fatal(err)
	}
	var spliced sync.WaitGroup
	spliced.Go(func() { splice(end.(io.ReadWriteCloser), far) })
	s, err := initiator.Login(near, initiator.Config{Name: "iqn.2026-11.org.example:host", Target: carriedTarget, ISID: [6]byte{0x80, 1},
		Keys: []pdu.Pair{{Key: "InitialR2T", Value: "No"}, {Key: "ImmediateData", Value: "Yes"}, {Key: "MaxBurstLength", Value: "1048576"},
			{Key: "FirstBurstLength", Value: "65536"}, {Key: "MaxOutstandingR2T", Value: "8"}, {Key: "MaxRecvDataSegmentLength", Value: "262144"}}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close(); spliced.Wait() })
	for range 10 { // unit attentions of a new login
		if r, err := s.Do(initiator.Command{CDB: make([]byte, 6)}); err != nil {
			tb.Fatal(err)
		} else if r.Status == 0 {
			return s
		}
	}
	tb.Fatal("the unit does not become ready")
	return nil
}

func transfer(write bool, off int, b []byte) initiator.Command {
	cdb := make([]byte, 10)
	binary.BigEndian.PutUint32(cdb[2:], uint32(off/512))
	binary.BigEndian.PutUint16(cdb[7:], uint16(len(b)/512))
	if write {
		cdb[0] = 0x2a
		return initiator.Command{CDB: cdb, Out: b}
	}
	cdb[0] = 0x28
	return initiator.Command{CDB: cdb, In: b}
}

func TestACarriedPathCarriesWhatTheTargetHolds(t *testing.T) {
	n := newWires()
	s := login(t, serving(t, n, n))
	sent, got := make([]byte, 8<<20), make([]byte, 8<<20)
	rand.Read(sent)
	for _, c := range []initiator.Command{transfer(true, 0, sent), {CDB: []byte{0x35, 9: 0}}, transfer(false, 0, got)} {
		if r, err := s.Do(c); err != nil || r.Status != 0 {
			t.Fatalf("%x: status %d, %v", c.CDB[0], r.Status, err)
		}
	}
	if !bytes.Equal(sent, got) {
		t.Error("what was read is not what was written")
	}
}

// BenchmarkCarried is a path with a millisecond between the hosts.
func BenchmarkCarried(b *testing.B) {
	for _, k := range []struct {
		write       bool
		size, depth int
	}{{false, 1 << 20, 1}, {true, 1 << 20, 1}, {false, 1 << 20, 4}, {true, 1 << 20, 4}, {false, 4 << 10, 32}, {true, 4 << 10, 32}, {false, 4 << 10, 1}, {true, 4 << 10, 1}} {
		name := map[bool]string{false: "read", true: "write"}[k.write]
		b.Run(fmt.Sprintf("%s/%dKiB/depth%d", name, k.size>>10, k.depth), func(b *testing.B) {
			n := newWires()
			s := login(b, serving(b, n, newFar(b, n, 500*time.Microsecond)))
			b.SetBytes(int64(k.size))
			b.ResetTimer()
			var all sync.WaitGroup
			for d := range k.depth {
				all.Go(func() {
					buf := make([]byte, k.size)
					for i := d; i < b.N; i += k.depth {
						if r, err := s.Do(transfer(k.write, i*k.size%(32<<20), buf)); err != nil || r.Status != 0 {
							b.Errorf("status %d, %v", r.Status, err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
