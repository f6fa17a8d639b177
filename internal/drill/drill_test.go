package drill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatTheConsoleShowsIsReadAsTheGuestMeansIt(t *testing.T) {
	g := &probeGuest{d: &drill{cloud: &cloud{}}}
	g.read(strings.NewReader("shed 7\nprobe start\n" + probe.VerifiedLine(3, 41) + "probe ready\nflushed 42\nflushed 43\nflu"))
	s := g.look()
	if s.starts != 1 || s.verified.Counter != 41 || s.flushed != 43 || !s.ended || len(s.bad) != 0 {
		t.Fatalf("%+v", s)
	}
	g.read(strings.NewReader(probe.CorruptLine(9, 40)))
	if _, err := g.wait(context.Background(), "anything", time.Hour, func(sight) bool { return false }); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Fatalf("damage was passed over: %v", err)
	}
	if g.former.flushed != 43 {
		t.Fatalf("what the former connection showed is lost: %+v", g.former)
	}
}

func TestRedundancyIsBackOnlyOutsideTheDeadRack(t *testing.T) {
	v := v1.Volume{Copies: 2, Replicas: []v1.Replica{{Rack: "a", InSync: true, Alive: true}, {Rack: "b", InSync: true, Alive: true}}}
	if mended(v, "a") {
		t.Fatal("a replica in the dead rack was counted, before its loss was noticed")
	}
	v.Replicas = append(v.Replicas, v1.Replica{Rack: "c", Alive: true})
	if mended(v, "a") {
		t.Fatal("a replica that is being built was counted")
	}
	v.Replicas[2].InSync = true
	if !mended(v, "a") {
		t.Fatal("two replicas in sync outside were not enough")
	}
}

func TestAReportReadsLikeAStory(t *testing.T) {
	r := Report{Guest: "probe", VM: "drill-probe", Rack: "b", From: "b1", To: "c1", Resent: 3 << 20, ColdBoot: 1.5, Acked: 41, Found: 42,
		Timeline: []Mark{{"loss detected", 6.04, "rack b whole: b1"}, {"service answering", 7.5, "flushed 43"}},
		Checks:   []Check{{"nothing acknowledged lost", false, "41 > 40"}}}
	var b bytes.Buffer
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	const want = `Rack b was killed while it ran VM drill-probe on host b1.

    +6.0 s  loss detected      rack b whole: b1
    +7.5 s  service answering  flushed 43

Sent again to restore redundancy: 3.0 MiB. Acknowledged before the loss: 41; there afterwards: 42.
From the loss to the first answer: 7.5 s; a first boot took 1.5 s (ratio 5.00).

FAIL  nothing acknowledged lost: 41 > 40
`
	if b.String() != want {
		t.Fatalf("it reads\n%s", b.String())
	}
}

// answer is a server's message.
func answer(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))) + body
}

// speak plays a server that says a text after each thing the client says.
func speak(t *testing.T, says ...string) *pgConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		for _, s := range says {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(c, s); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	p, err := pgDial(context.Background(), l.Addr().String(), "u", "p", "d", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func TestTheDatabaseIsSpokenTo(t *testing.T) {
	ready := answer('Z', "I")
	row := answer('D', "\x00\x02"+"\x00\x00\x00\x01"+"7"+"\xff\xff\xff\xff")
	refused := answer('E', "SERROR\x00C23505\x00Mduplicate key\x00\x00")
	down := answer('E', "SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00")
	p := speak(t, answer('R', "\x00\x00\x00\x03"), answer('R', "\x00\x00\x00\x00")+ready, row+answer('C', "SELECT 1\x00")+ready,
		refused+ready, down+ready, "D\x00\x00\x00\x01")
	rows, err := p.query("SELECT", time.Minute)
	if err != nil || len(rows) != 1 || len(rows[0]) != 2 || rows[0][0] != "7" || rows[0][1] != "" {
		t.Fatalf("%q, %v", rows, err)
	}
	if _, err := p.query("INSERT", time.Minute); err == nil || holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "duplicate key") {
		t.Fatalf("a refusal: %v", err)
	}
	if _, err := p.query("INSERT", time.Minute); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("a server that starts: %v", err)
	}
	if _, err := p.query("SELECT", time.Minute); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Fatalf("a message of length 1: %v", err)
	}
}

func TestALostConnectionIsNotARefusal(t *testing.T) {
	p := speak(t, answer('R', "\x00\x00\x00\x00")+answer('Z', "I"))
	if _, err := p.query("INSERT", time.Minute); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("got %v; the outcome is not known", err)
	}
}

func FuzzPGRow(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x00\x017"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := pgRow(b); err != nil && !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Fatal(err)
		}
		if pgError(b) == nil || errors.Is(pgError(b), io.EOF) {
			t.Fatal("an error message that is no error")
		}
	})
}
