package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type scene struct {
	*testing.T
	w   *simclock.World
	srv *memkv.Server
	clk [2]*simclock.Host
	kv  [2]*memkv.Handle
	l   [2]*Log

	said bytes.Buffer // the hosts' own logs
}

func newScene(t *testing.T, change func(*memkv.Config)) *scene {
	sc := &scene{T: t, w: simclock.NewWorld(7)}
	cfg := memkv.Config{Clock: sc.w.Clock(), Rand: sc.w.Rand}
	change(&cfg)
	sc.srv = memkv.NewServer(cfg)
	for i := range sc.l {
		name := string(rune('a' + i))
		sc.clk[i] = sc.w.Host(name, simclock.Skew{Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
		sc.kv[i] = sc.srv.Handle(name, sc.clk[i])
		sc.l[i] = Open(Config{KV: sc.kv[i], Clock: sc.clk[i], Host: name, Log: slog.New(slog.NewTextHandler(&sc.said, nil))})
	}
	t.Cleanup(func() { sc.w.Close(sc.clk[:]...) })
	return sc
}

func (sc *scene) do(f func()) {
	sc.Helper()
	done := false
	sc.clk[0].Go(func() { f(); done = true })
	if !sc.w.RunUntil(func() bool { return done }, sc.w.Now()+time.Hour) {
		sc.Fatal("the task did not end")
	}
}

// add has a host note n things and lets them be written.
func (sc *scene) add(host, n int) {
	for i := range n {
		sc.l[host].Add(v1.AuditEntry{Who: "user ann", From: "192.0.2.1", Op: "vm-start", Object: fmt.Sprintf("vm=v%d", i), Status: 200})
	}
}

// all reads and verifies everything, from the oldest entry that is there.
func (sc *scene) all() (n int, last v1.AuditPage, err error) {
	sc.do(func() {
		before, from := "", int64(-1)
		for {
			page := v1.AuditPage{}
			if page, err = sc.l[1].Read(max(from, 0), 100); err != nil {
				return
			}
			if from < 0 {
				from, before = page.First, page.Before
			}
			if len(page.Entries) == 0 {
				last = page
				if before != page.Head {
					err = &v1.BrokenLink{Seq: from, Why: "the end is missing"}
				}
				return
			}
			if before, err = v1.VerifyChain(before, from, page.Entries); err != nil {
				return
			}
			n += len(page.Entries)
			from += int64(len(page.Entries))
		}
	})
	return n, last, err
}

func TestTwoHostsWriteOneChain(t *testing.T) {
	for what, change := range map[string]func(*memkv.Config){
		"a good line": func(*memkv.Config) {},
		"a bad one":   func(c *memkv.Config) { c.LoseRequest, c.LoseReply = 0.1, 0.1 },
	} {
		t.Run(what, func(t *testing.T) {
			sc := newScene(t, change)
			for range 10 {
				sc.add(0, 20)
				sc.add(1, 13)
				sc.w.Run(sc.w.Now() + 10*time.Second)
			}
			sc.srv.SetLoss(0, 0)
			sc.w.Run(sc.w.Now() + 10*time.Minute)
			if n, _, err := sc.all(); err != nil || n != 330 {
				t.Fatalf("%d entries, %v", n, err)
			}
			if strings.Contains(sc.said.String(), "changed by somebody else") { // who else wrote was the other host
				t.Errorf("nobody changed it, and yet:\n%s", sc.said.String())
			}
		})
	}
}

func TestTheOldestGoAndTheChainGoesOn(t *testing.T) {
	sc := newScene(t, func(c *memkv.Config) { c.MaxLatency = 1 })
	for range 9000 / 500 {
		sc.add(0, 500)
		sc.w.Run(sc.w.Now() + time.Minute)
	}
	n, p, err := sc.all()
	if err != nil || p.Next != 9000 || n != int(p.Next-p.First) || n > MaxSegments*PerSegment || n < (MaxSegments-1)*PerSegment {
		t.Fatalf("%d entries of %d from %d: %v", n, p.Next, p.First, err)
	}
	sc.do(func() {
		items, _, err := sc.kv[0].Range(root)
		if err != nil || len(items) != MaxSegments+1 {
			t.Fatalf("%d records, %v", len(items), err)
		}
	})
}

func TestWhatIsChangedIsFound(t *testing.T) {
	for what, c := range map[string]struct {
		do   func(*segment)
		want int64
	}{
		"who":  {func(s *segment) { s.Entries[10].Who = "user bob" }, 74},
		"when": {func(s *segment) { s.Entries[0].At = s.Entries[0].At.Add(1) }, 64},
		"with a hash": {func(s *segment) {
			s.Entries[10].Who = "bob"
			s.Entries[10].Hash = s.Entries[10].Chain(s.Entries[9].Hash)
		}, 75},
		"one gone":    {func(s *segment) { s.Entries = append(s.Entries[:5:5], s.Entries[6:]...) }, 69},
		"two swapped": {func(s *segment) { s.Entries[3], s.Entries[4] = s.Entries[4], s.Entries[3] }, 67},
		"all gone":    {func(s *segment) { s.Entries = nil }, 64},
	} {
		t.Run(what, func(t *testing.T) {
			sc := newScene(t, func(c *memkv.Config) { c.MaxLatency = 1 })
			sc.add(0, 200)
			sc.w.Run(sc.w.Now() + time.Minute)
			sc.do(func() {
				seg, mod, err := sc.l[0].segment(1)
				if err != nil || len(seg.Entries) != PerSegment {
					t.Fatal(len(seg.Entries), err)
				}
				c.do(&seg)
				b, _ := json.Marshal(seg)
				if _, err := sc.kv[0].Commit([]kv.Cond{{Key: segmentKey(1), Mod: mod}}, []kv.Op{{Key: segmentKey(1), Value: b}}); err != nil {
					t.Fatal(err)
				}
			})
			_, _, err := sc.all()
			var b *v1.BrokenLink
			if !errors.As(err, &b) || b.Seq != c.want {
				t.Errorf("%v, want a broken link at %d", err, c.want)
			}
		})
	}
}

func TestAChainWhoseEndIsGoneGoesOnAndShowsIt(t *testing.T) {
	for what, ops := range map[string][]kv.Op{
		"the last segment": {{Key: segmentKey(3), Delete: true}},
		"rubbish":          {{Key: segmentKey(3), Value: []byte("x")}},
		"head and segment": {{Key: segmentKey(3), Delete: true}, {Key: keyHead, Value: []byte("x")}},
	} {
		t.Run(what, func(t *testing.T) {
			sc := newScene(t, func(c *memkv.Config) { c.MaxLatency = 1 })
			sc.add(0, 200)
			sc.w.Run(sc.w.Now() + time.Minute)
			var known v1.AuditPage
			sc.do(func() {
				known, _ = sc.l[0].Read(-1, 1)
				if _, err := sc.kv[0].Commit(nil, ops); err != nil {
					t.Fatal(err)
				}
			})
			sc.add(1, 100)
			sc.w.Run(sc.w.Now() + time.Minute)
			sc.do(func() {
				p, err := sc.l[1].Read(-1, 10)
				if err != nil || len(p.Entries) != 10 || p.Entries[9].Host != "b" {
					t.Fatalf("the log does not go on: %+v, %v", p, err)
				}
				old, err := sc.l[1].Read(known.Next-1, 1)
				if err == nil && len(old.Entries) == 1 && old.Entries[0].Hash == known.Head {
					t.Error("what was taken away is there")
				}
			})
			if _, _, err := sc.all(); err == nil && what != "head and segment" {
				t.Error("nobody would notice")
			}
			if tells := strings.Contains(sc.said.String(), "changed by somebody else"); tells != (what != "head and segment") {
				t.Errorf("the host that writes behind it tells of it: %v", tells)
			}
		})
	}
}

func TestNothingIsWaitedForAndWhatIsLostIsTold(t *testing.T) {
	sc := newScene(t, func(*memkv.Config) {})
	sc.srv.SetDown(true)
	sc.add(0, maxQueue+50)
	sc.w.Run(sc.w.Now() + time.Minute)
	sc.srv.SetDown(false)
	sc.w.Run(sc.w.Now() + 10*time.Minute)
	n, _, err := sc.all()
	if err != nil || n != maxQueue+1 {
		t.Fatalf("%d entries, %v", n, err)
	}
	sc.do(func() {
		p, err := sc.l[0].Read(-1, 1)
		if err != nil || !strings.Contains(p.Entries[0].Note, "50 entries found no room") {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func FuzzSegment(f *testing.F) {
	f.Add([]byte(`{"before":"aa","entries":[{"seq":1,"who":"ann"}]}`))
	f.Add([]byte(`{"entries":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSegment(b)
		if err != nil {
			return
		}
		if len(s.Entries) > PerSegment {
			t.Fatal(len(s.Entries))
		}
		_, err = v1.VerifyChain(s.Before, 0, s.Entries)
		var broken *v1.BrokenLink
		if err != nil && !errors.As(err, &broken) {
			t.Fatal(err)
		}
	})
}
