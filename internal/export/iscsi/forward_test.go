package iscsi_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// away is a second host's portal for the target that o serves.
func away(t *testing.T, o *offering, reachable *bool) *offering {
	forward := func(target string, group uint16, from string) (net.Conn, error) {
		if target != targetName || group != 2 || !*reachable {
			return nil, holdfast.Errorf(holdfast.Unavailable, "the host is gone")
		}
		a, b := net.Pipe()
		o.ServeConn(b, group, from)
		return a, nil
	}
	s := iscsi.New(iscsi.Config{Forward: forward, Elsewhere: func(string) []iscsi.Address { return []iscsi.Address{{Addr: o.addr, Group: 1}} }})
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0", "", 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Offer(iscsi.Target{Name: targetName, Access: guarded()}); err != nil {
		t.Fatal(err)
	}
	return &offering{s, t, addr.String()}
}

// Both hosts' portals lead to one unit: its data, its reservations, its
// access states.
func TestAPortalOfAnotherHost(t *testing.T) {
	groups := func() []scsi.Group {
		return []scsi.Group{{ID: 1, Ports: []scsi.Port{{ID: 1}}}, {ID: 2, State: scsi.AccessNonOptimized, Ports: []scsi.Port{{ID: 2}}}}
	}
	here := offer(t, newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{Groups: groups})), guarded(), iscsi.Limits{})
	reachable := true
	there := away(t, here, &reachable)
	cfg := initiator.Config{User: "host1", Secret: secret, Digests: true}
	a, b := here.login(cfg), there.login(cfg)

	must(t, a, writeCmd(0, noise(1, 200<<10)))
	got := make([]byte, 200<<10)
	must(t, b, readCmd(0, got))
	if !bytes.Equal(got, noise(1, 200<<10)) {
		t.Error("the other portal shows other data")
	}
	ids := make([]byte, 255)
	r := must(t, b, initiator.Command{CDB: []byte{0x12, 1, 0x83, 0, 255, 0}, In: ids})
	if !bytes.Contains(ids[:r.Got], []byte{0x51, 0x94, 0, 4, 0, 0, 0, 2}) {
		t.Errorf("the second path does not say that it is port 2: % x", ids[:r.Got])
	}
	must(t, a, initiator.Command{CDB: []byte{0x16, 0, 0, 0, 0, 0}}) // RESERVE
	if r := run(t, b, writeCmd(0, make([]byte, 512))); r.Status != byte(scsi.ReservationConflict) {
		t.Errorf("status %#x by the other portal, want RESERVATION CONFLICT", r.Status)
	}
	must(t, a, initiator.Command{CDB: []byte{0x17, 0, 0, 0, 0, 0}})
	if err := b.Add(there.dial()); err != nil { // a connection more, by the same way
		t.Fatal(err)
	}
	if r, err := b.DoOn(1, readCmd(0, got)); err != nil || r.Status != 0 {
		t.Fatalf("read by the second connection: status %#x, %v", r.Status, err)
	}

	_, err := there.try(initiator.Config{Target: targetName})
	wantRefused(t, err, pdu.LoginAuthFailed)
	_, err = there.try(initiator.Config{Target: targetName, Name: hostName + "x"})
	wantRefused(t, err, pdu.LoginForbidden)
	reachable = false
	cfg.Target = targetName
	_, err = there.try(cfg)
	wantRefused(t, err, pdu.LoginUnavailable)
}
