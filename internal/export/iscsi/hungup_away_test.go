package iscsi_test

import (
	"net"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// carrier is a second host's portal, from which sockets lead to the first.
func carrier(t *testing.T, o *offering) *offering {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	forward := func(_ string, group uint16, from string) (net.Conn, error) {
		a, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		b, err := ln.Accept()
		if err != nil {
			a.Close()
			return nil, err
		}
		o.ServeConn(b, group, from)
		return a, nil
	}
	s := iscsi.New(iscsi.Config{Forward: forward})
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0", "", 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Offer(iscsi.Target{Name: targetName, Access: anybody}); err != nil {
		t.Fatal(err)
	}
	return &offering{s, t, addr.String()}
}

// An initiator that vanishes and comes back at once, as another port, finds its
// old nexus gone by the portal of a host that only carries it, too.
func TestAnInitiatorThatComesBackByAnotherHost(t *testing.T) {
	here := offerMemory(t, mib)
	there := carrier(t, here)
	for i := range 300 {
		old := there.login(initiator.Config{ISID: [6]byte{0x80, 1}})
		must(t, old, initiator.Command{CDB: []byte{0x16, 0, 0, 0, 0, 0}}) // RESERVE
		old.Close()
		s := there.login(initiator.Config{ISID: [6]byte{0x80, 2}})
		if r := run(t, s, writeCmd(0, make([]byte, 512))); r.Status == byte(scsi.ReservationConflict) {
			t.Fatalf("round %d: what the old nexus reserved stands in the way of the new one", i)
		}
		s.Close()
	}
}
