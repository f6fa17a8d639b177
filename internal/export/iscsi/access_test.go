package iscsi_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// told collects refusals.
type told struct {
	mu  sync.Mutex
	all []iscsi.Refusal
}

func (r *told) add(x iscsi.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

// one returns the only refusal.
func (r *told) one(t *testing.T) iscsi.Refusal {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) != 1 {
		t.Fatalf("%d refusals were told: %+v", len(r.all), r.all)
	}
	return r.all[0]
}

// serveWith offers a memory volume on a server of its own.
func serveWith(t *testing.T, cfg iscsi.Config, access iscsi.Access, dev *scsi.Device) *offering {
	t.Helper()
	s := iscsi.New(cfg)
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Offer(iscsi.Target{Name: targetName, Device: dev, Access: access}); err != nil {
		t.Fatal(err)
	}
	return &offering{s, t, addr.String()}
}

// Who is turned away is told with the address that the first portal saw, also
// by the host that a connection was carried to.
func TestARefusalIsTold(t *testing.T) {
	var here, first told
	secret := iscsi.Access{Initiators: []iscsi.Initiator{{Name: hostName, User: "host1", Secret: "a long enough secret"}}}
	o := serveWith(t, iscsi.Config{Refused: here.add}, secret, newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{})))
	portal := serveWith(t, iscsi.Config{Refused: first.add, Forward: func(_ string, group uint16, from string) (net.Conn, error) {
		a, b := net.Pipe()
		o.ServeConn(b, group, from)
		return a, nil
	}}, secret, nil)
	nc := portal.dial()
	_, err := initiator.Login(nc, initiator.Config{Name: hostName, Target: targetName, ISID: [6]byte{1}, User: "host1", Secret: "not what it should be"})
	wantRefused(t, err, pdu.LoginAuthFailed)
	if r := here.one(t); r.From != nc.LocalAddr().String() || r.Initiator != hostName || r.Target != targetName || !strings.Contains(r.Why, "secret") {
		t.Errorf("told %+v", r)
	}
	_, err = portal.try(initiator.Config{Name: "iqn.2026-11.org.example:stranger", Target: targetName})
	wantRefused(t, err, pdu.LoginForbidden)
	if r := first.one(t); !strings.HasSuffix(r.Initiator, "stranger") {
		t.Errorf("told %+v", r)
	}
}

// A list that changes puts out who is not on it any more, and nobody else.
func TestTheListChangesUnderItsSessions(t *testing.T) {
	o := offerMemory(t, mib)
	a := o.login(initiator.Config{})
	if err := o.SetAccess(targetName, iscsi.Access{Initiators: []iscsi.Initiator{{Name: "*"}, {Name: "iqn.2026-11.org.example:more"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ping(nil); err != nil {
		t.Errorf("an initiator that still may was put out: %v", err)
	}
	if err := o.SetAccess(targetName, iscsi.Access{Initiators: []iscsi.Initiator{{Name: hostName, User: "u", Secret: "a long enough secret"}}}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := a.Ping(nil); err != nil {
			break
		}
	}
	_, err := o.try(initiator.Config{Target: targetName})
	wantRefused(t, err, pdu.LoginAuthFailed)
	if err := o.SetAccess("iqn.2026-11.org.example:none", anybody); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("the list of no target: %v", err)
	}
}

// A login that would be refused has the target looked for once more; it may be
// offered here by then.
func TestATargetIsSettledAtItsFirstLogin(t *testing.T) {
	var s *iscsi.Server
	dev := newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{}))
	asked := 0
	s = iscsi.New(iscsi.Config{Settle: func(target string) {
		if asked++; asked == 1 {
			if err := s.Offer(iscsi.Target{Name: target, Device: dev, Access: anybody}); err != nil {
				t.Error(err)
			}
		}
	}})
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	o := &offering{s, t, addr.String()}
	o.login(initiator.Config{})
	o.login(initiator.Config{ISID: [6]byte{2}})
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	_, err = o.try(initiator.Config{Target: "iqn.2026-11.org.example:none"})
	wantRefused(t, err, pdu.LoginNotFound)
}
