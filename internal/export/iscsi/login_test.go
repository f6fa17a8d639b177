package iscsi_test

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

const (
	secret = "a secret of sixteen"
	mutual = "the other one's secret"
)

// guarded lets hostName in with a secret, both ways if it asks.
func guarded() iscsi.Access {
	return iscsi.Access{Initiators: []iscsi.Initiator{{Name: hostName, User: "host1", Secret: secret, MutualUser: "holdfast", MutualSecret: mutual}}}
}

func offerGuarded(t *testing.T) *offering {
	return offer(t, newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{})), guarded(), iscsi.Limits{})
}

// wantRefused checks the status of a refused login.
func wantRefused(t *testing.T, err error, status uint16) {
	t.Helper()
	var r *initiator.Refused
	if !errors.As(err, &r) || r.Status != status {
		t.Fatalf("login: %v, want it refused with status %#04x", err, status)
	}
}

func TestNobodyIsLetInUnlessSaid(t *testing.T) {
	o := offer(t, newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{})), iscsi.Access{}, iscsi.Limits{})
	_, err := o.try(initiator.Config{Target: targetName})
	wantRefused(t, err, pdu.LoginForbidden)
	s, err := o.try(initiator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Text("SendTargets", "All"); err != nil || len(list) > 0 {
		t.Errorf("discovery tells a stranger of %v, %v", list, err)
	}
}

func TestAnUnknownTarget(t *testing.T) {
	_, err := offerGuarded(t).try(initiator.Config{Target: "iqn.2026-11.cloud.holdfast:other"})
	wantRefused(t, err, pdu.LoginNotFound)
}

func TestCHAP(t *testing.T) {
	o := offerGuarded(t)
	for _, x := range []struct {
		name   string
		cfg    initiator.Config
		status uint16
	}{
		{"the right secret", initiator.Config{User: "host1", Secret: secret}, 0},
		{"the right secret, with MD5", initiator.Config{User: "host1", Secret: secret, Algorithm: "5"}, 0},
		{"an algorithm nobody knows is passed over", initiator.Config{User: "host1", Secret: secret, Algorithm: "99,7"}, 0},
		{"only algorithms nobody knows", initiator.Config{User: "host1", Secret: secret, Algorithm: "99"}, pdu.LoginAuthFailed},
		{"both ways", initiator.Config{User: "host1", Secret: secret, MutualUser: "holdfast", MutualSecret: mutual}, 0},
		{"a wrong secret", initiator.Config{User: "host1", Secret: secret + "x"}, pdu.LoginAuthFailed},
		{"a wrong user", initiator.Config{User: "host2", Secret: secret}, pdu.LoginAuthFailed},
		{"no secret", initiator.Config{}, pdu.LoginAuthFailed},
		{"another initiator with the right secret", initiator.Config{Name: hostName + "x", User: "host1", Secret: secret}, pdu.LoginForbidden},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.cfg.Target = targetName
			s, err := o.try(x.cfg)
			if x.status != 0 {
				wantRefused(t, err, x.status)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			calm(t, s)
			s.Logout(0, 0)
		})
	}
}

// A target that does not know the secret it should prove is noticed.
func TestTheTargetProvesItself(t *testing.T) {
	_, err := offerGuarded(t).try(initiator.Config{Target: targetName, User: "host1", Secret: secret, MutualUser: "holdfast", MutualSecret: "not that secret"})
	if err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Fatalf("login: %v", err)
	}
}

func TestDiscoveryShowsWhatTheInitiatorMayUse(t *testing.T) {
	o := offerGuarded(t)
	free := iscsi.Target{Name: targetName + "-free", Access: anybody,
		Device: newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{ID: unitID(7)}))}
	if err := o.Offer(free); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		cfg  initiator.Config
		want []string
	}{
		{initiator.Config{}, []string{free.Name}},
		{initiator.Config{Name: hostName + "x"}, []string{free.Name}},
		{initiator.Config{User: "host1", Secret: secret}, []string{targetName, free.Name}},
	} {
		s, err := o.try(x.cfg)
		if err != nil {
			t.Fatal(err)
		}
		pairs, err := s.Text("SendTargets", "All")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range pairs {
			if p.Key == "TargetName" {
				names = append(names, p.Value)
			} else if p.Key != "TargetAddress" || p.Value != o.addr+",1" {
				t.Errorf("discovery says %s=%s", p.Key, p.Value)
			}
		}
		if !slices.Equal(names, x.want) {
			t.Errorf("%q is told of %v, want %v", x.cfg.User, names, x.want)
		}
		s.Close()
	}
	_, err := o.try(initiator.Config{User: "host1", Secret: "not that secret"})
	wantRefused(t, err, pdu.LoginAuthFailed)
}

// More targets than fit into one text response come in several.
func TestALongDiscovery(t *testing.T) {
	o := offerMemory(t, mib)
	for i := range 40 {
		name := targetName + "-" + strings.Repeat("x", 100) + string(rune('a'+i/26)) + string(rune('a'+i%26))
		if err := o.Offer(iscsi.Target{Name: name, Access: anybody, Device: newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{}))}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := o.try(initiator.Config{Keys: keys("MaxRecvDataSegmentLength", "512")})
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := s.Text("SendTargets", "All")
	if err != nil || len(pairs) != 82 {
		t.Fatalf("%d pairs, %v; want a name and an address of 41 targets", len(pairs), err)
	}
}

func TestParametersAreNegotiated(t *testing.T) {
	o := offer(t, newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{})), anybody, iscsi.Limits{PerSession: 3})
	s := o.login(initiator.Config{Keys: keys("MaxConnections", "8", "InitialR2T", "No", "ImmediateData", "No", "MaxBurstLength", "16777215",
		"FirstBurstLength", "512", "MaxOutstandingR2T", "100", "ErrorRecoveryLevel", "2", "DefaultTime2Wait", "7", "DefaultTime2Retain", "60",
		"DataPDUInOrder", "No", "DataSequenceInOrder", "No", "HeaderDigest", "None,CRC32C", "DataDigest", "X,None", "OFMarker", "Yes", "IFMarker", "No",
		"OFMarkInt", "1~9", "TaskReporting", "FastAbort,RFC3720", "iSCSIProtocolLevel", "2", "X-com.example.key", "1", "NewKey", "x", "MaxRecvDataSegmentLength", "0x1000")})
	for key, want := range map[string]string{
		"MaxConnections": "3", "InitialR2T": "No", "ImmediateData": "No", "MaxBurstLength": "1048576", "FirstBurstLength": "512",
		"MaxOutstandingR2T": "8", "ErrorRecoveryLevel": "0", "DefaultTime2Wait": "7", "DefaultTime2Retain": "0", "DataPDUInOrder": "Yes",
		"DataSequenceInOrder": "Yes", "HeaderDigest": "None", "DataDigest": "None", "OFMarker": "No", "IFMarker": "No", "OFMarkInt": "Irrelevant",
		"TaskReporting": "RFC3720", "iSCSIProtocolLevel": "1", "X-com.example.key": "NotUnderstood", "NewKey": "NotUnderstood",
		"MaxRecvDataSegmentLength": "262144", "TargetPortalGroupTag": "1",
	} {
		if got := s.Answers[key]; got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
}

func TestImpossibleValuesAreRejected(t *testing.T) {
	o := offerMemory(t, mib)
	s := o.login(initiator.Config{Keys: keys("MaxBurstLength", "511", "MaxConnections", "0", "InitialR2T", "Maybe", "HeaderDigest", "MD5", "MaxOutstandingR2T", "-1")})
	for _, key := range []string{"MaxBurstLength", "MaxConnections", "InitialR2T", "HeaderDigest", "MaxOutstandingR2T"} {
		if s.Answers[key] != "Reject" {
			t.Errorf("%s=%s, want Reject", key, s.Answers[key])
		}
	}
	_, err := o.try(initiator.Config{Target: targetName, ISID: [6]byte{1}, Keys: keys("MaxBurstLength", "512", "MaxBurstLength", "512")})
	wantRefused(t, err, pdu.LoginInitiatorError)
}

func TestTheSameInitiatorPortAgainEndsItsOldSession(t *testing.T) {
	o := offerMemory(t, mib)
	first := o.login(initiator.Config{})
	second, err := o.try(initiator.Config{Target: targetName})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Do(initiator.Command{CDB: make([]byte, 6)}); err == nil {
		t.Error("the old session goes on")
	}
	if seen := calm(t, second); !slices.Contains(seen, 0x2907) {
		t.Errorf("the new session is told %04x, want I_T NEXUS LOSS OCCURRED", seen)
	}
	third := o.login(initiator.Config{ISID: [6]byte{0x80, 0, 0, 0, 0, 2}})
	calm(t, third)
	calm(t, second) // another ISID is another port
}

func TestConnectionsBeyondTheLimitAreRefused(t *testing.T) {
	o := offer(t, newDevice(t, newUnit(t, newMemory(t, mib), scsi.Options{})), anybody, iscsi.Limits{PerSession: 2, Connections: 3})
	s := o.login(initiator.Config{})
	if err := s.Add(o.dial()); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, s.Add(o.dial()), pdu.LoginTooMany)
}

// A target is withdrawn while an initiator that logs in does not take its last
// answer.
func TestWithdrawingATargetDuringALogin(t *testing.T) {
	u := newUnit(t, newMemory(t, mib), scsi.Options{})
	s := iscsi.New(iscsi.Config{})
	defer s.Close()
	if err := s.Offer(iscsi.Target{Name: targetName, Device: newDevice(t, u), Access: anybody}); err != nil {
		t.Fatal(err)
	}
	nc, theirs := net.Pipe()
	defer nc.Close()
	s.ServeConn(theirs, 1, "pipe")
	var h pdu.Header
	h[0], h[1] = byte(pdu.LoginRequest)|pdu.Immediate, pdu.Transit|pdu.StageOperational<<2|pdu.StageFull
	text := pdu.AppendPair(pdu.AppendPair(nil, "InitiatorName", hostName), "TargetName", targetName)
	h.SetDataLength(len(text))
	if _, err := nc.Write(append(append(h[:], text...), make([]byte, pdu.Padding(len(text)))...)); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(nc, one); err != nil || pdu.Opcode(one[0]) != pdu.LoginResponse { // the session exists
		t.Fatalf("opcode %#x, %v", one[0], err)
	}
	gone := make(chan struct{})
	go func() {
		s.Withdraw(targetName)
		close(gone)
	}()
	for {
		again, err := initiator.Login(dialTo(s), initiator.Config{Name: hostName + "x", Target: targetName})
		if err != nil {
			break // the withdrawal has begun
		}
		again.Close()
	}
	io.Copy(io.Discard, nc)
	<-gone
}

func dialTo(s *iscsi.Server) net.Conn {
	a, b := net.Pipe()
	s.ServeConn(b, 1, "pipe")
	return a
}
