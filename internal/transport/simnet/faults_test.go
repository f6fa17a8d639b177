package simnet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/transporttest"
)

const (
	note   transport.Kind = 1 // notes the head, replies with it
	silent transport.Kind = 2 // never replies
)

// trio is three hosts in three racks, each noting what it serves.
type trio struct {
	*lab
	t    *testing.T
	e    map[holdfast.HostID]*Endpoint
	h    map[holdfast.HostID]*simclock.Host
	seen []string
}

var a, b, c = transporttest.Host(1), transporttest.Host(2), transporttest.Host(3)

func newTrio(t *testing.T, seed uint64, p Params) *trio {
	x := &trio{lab: newLab(t, seed, p), t: t, e: make(map[holdfast.HostID]*Endpoint), h: make(map[holdfast.HostID]*simclock.Host)}
	x.start(a, "A")
	x.start(b, "B")
	x.start(c, "C")
	return x
}

func (x *trio) start(id holdfast.HostID, rack string) {
	x.e[id], x.h[id] = x.open(id, rack)
	x.e[id].Handle(note, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		x.seen = append(x.seen, string(f.Head))
		reply(f, nil)
	})
	x.e[id].Handle(silent, func(holdfast.HostID, transport.Frame, func(transport.Frame, error)) {})
	if err := x.e[id].Start(); err != nil {
		x.t.Fatal(err)
	}
}

// call makes one call from a task of the test and returns its error and how
// long it took.
func (x *trio) call(from, to holdfast.HostID, kind transport.Kind, head string, timeout time.Duration) (took time.Duration, err error) {
	began := x.w.Now()
	_, err = transport.Call(x.Clock(), x.e[from], to, transport.Frame{Kind: kind, Head: []byte(head)}, timeout)
	return x.w.Now() - began, err
}

func (x *trio) want(err error, k holdfast.Kind) {
	x.t.Helper()
	if !holdfast.IsKind(err, k) {
		x.t.Errorf("got %v, want kind %q", err, k)
	}
}

func (x *trio) works(from, to holdfast.HostID) {
	x.t.Helper()
	if _, err := x.call(from, to, note, "ok", time.Second); err != nil {
		x.t.Errorf("%s cannot call %s: %v", from.Short(), to.Short(), err)
	}
}

func TestACutOneWayBreaksOnlyWhatNeedsThatWay(t *testing.T) {
	x := newTrio(t, 1, LAN())
	x.Run(t, func() {
		x.works(a, b)
		x.works(b, a)
		x.n.Cut(b, a) // calls of a arrive, replies do not
		took, err := x.call(a, b, note, "arrives", clock.Forever)
		x.want(err, holdfast.Unavailable)
		if took > 2*LAN().Detect {
			t.Errorf("the break was noticed after %v", took)
		}
		if !slices.Contains(x.seen, "arrives") {
			t.Error("the cut stopped the way that was left open")
		}
		x.works(a, c)
		x.n.Heal()
		x.works(a, b)
		x.works(b, a)
	})
}

func TestNothingArrivesBehindALostFrame(t *testing.T) {
	x := newTrio(t, 1, LAN())
	x.Run(t, func() {
		x.works(a, b)
		ends := 0
		ev := x.Clock().NewEvent()
		for i := range 30 {
			x.n.path(a, b).cut = i == 10 // one frame only
			x.e[a].Send(b, transport.Frame{Kind: note, Head: fmt.Append(nil, i)}, clock.Forever, func(_ transport.Frame, err error) {
				if i >= 10 {
					x.want(err, holdfast.Unavailable)
				}
				if ends++; ends == 30 {
					ev.Set()
				}
			})
		}
		ev.Wait(clock.Forever)
		if got := strings.Join(x.seen, " "); got != "ok 0 1 2 3 4 5 6 7 8 9" {
			t.Errorf("handled %s", got)
		}
		x.works(a, b) // over a new connection
		if s := x.n.Stats(); s.Broken != 1 || s.Lost == 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestARackThatIsCutOffStillTalksWithin(t *testing.T) {
	x := newTrio(t, 1, LAN())
	d := transporttest.Host(4)
	x.start(d, "A")
	x.Run(t, func() {
		x.n.CutRack("A", true, true)
		x.works(a, d)
		x.works(b, c)
		_, err := x.call(b, a, note, "x", time.Second)
		x.want(err, holdfast.Unavailable)
		_, err = x.call(a, b, note, "x", time.Second)
		x.want(err, holdfast.Unavailable)
		x.n.CutRack("A", false, false)
		clock.Sleep(x.Clock(), LAN().Detect) // until a knows its old connection for lost
		x.works(a, b)
		x.n.CutHost(b, true, false)
		_, err = x.call(a, b, note, "x", time.Second)
		x.want(err, holdfast.Unavailable)
		x.n.Heal()
		x.works(b, a)
	})
}

func TestADeadHostIsSilentAndItsNextLifeIsReached(t *testing.T) {
	x := newTrio(t, 1, LAN())
	x.Run(t, func() {
		x.works(a, b)
		x.h[b].Kill() // power cut
		took, err := x.call(a, b, note, "x", 500*time.Millisecond)
		x.want(err, holdfast.Unavailable)
		if took < 400*time.Millisecond {
			t.Errorf("a host without power answered after %v", took)
		}
		_, err = x.call(a, b, note, "x", clock.Forever)
		x.want(err, holdfast.Unavailable)
		x.start(b, "B")
		x.works(a, b)
		x.h[b].Kill() // kill -9: the kernel hangs up
		x.n.HangUp(b)
		took, err = x.call(a, b, note, "x", clock.Forever)
		x.want(err, holdfast.Unavailable)
		if took > 10*time.Millisecond {
			t.Errorf("a refused connection was noticed after %v", took)
		}
		x.start(b, "B")
		x.works(a, b)
		x.works(b, a)
	})
}

func TestAPausedHostServesWhatItMissedWhenItResumes(t *testing.T) {
	x := newTrio(t, 1, LAN())
	x.Run(t, func() {
		x.works(a, b)
		x.h[b].Pause()
		_, err := x.call(a, b, note, "while paused", time.Second)
		x.want(err, holdfast.Unavailable)
		if slices.Contains(x.seen, "while paused") {
			t.Error("a paused host served a call")
		}
		x.h[b].Resume()
		x.works(a, b)
		if got := strings.Join(x.seen, ","); got != "ok,while paused,ok" {
			t.Errorf("handled %s", got)
		}
	})
}

func TestASlowLinkIsSlowOneWay(t *testing.T) {
	x := newTrio(t, 1, LAN())
	x.Run(t, func() {
		x.n.Slow(a, b, 300*time.Millisecond)
		took, err := x.call(a, b, note, "x", time.Second)
		if err != nil || took < 300*time.Millisecond || took > 320*time.Millisecond {
			t.Errorf("took %v, %v", took, err)
		}
		p := LAN()
		p.Bandwidth = 1 << 20
		x.n.Heal()
		x.n.SetPath(a, b, p)
		took, _ = x.call(a, b, note, strings.Repeat("x", 1<<16), time.Second)
		if took < time.Second/16 {
			t.Errorf("64 KiB over 1 MiB/s took %v", took)
		}
	})
}

func TestAStormLosesDoublesAndReordersButEveryCallEndsOnce(t *testing.T) {
	x := newTrio(t, 5, Storm())
	const calls = 3000
	ends := make([]int, calls)
	good := 0
	x.Run(t, func() {
		for i := range calls {
			x.e[a].Send(b, transport.Frame{Kind: note, Head: fmt.Appendf(nil, "%04d", i)}, time.Second, func(f transport.Frame, err error) {
				ends[i]++
				if err == nil {
					good++
					if string(f.Head) != fmt.Sprintf("%04d", i) {
						t.Errorf("call %d got the reply %q", i, f.Head)
					}
				}
			})
		}
		clock.Sleep(x.Clock(), 5*time.Second)
	})
	for i, n := range ends {
		if n != 1 {
			t.Fatalf("call %d ended %d times", i, n)
		}
	}
	s := x.n.Stats()
	if good < calls*9/10 || good == calls || s.Duplicated == 0 || s.Lost == 0 {
		t.Errorf("%d of %d calls succeeded, %+v", good, calls, s)
	}
	once := slices.Compact(slices.Sorted(slices.Values(x.seen)))
	if slices.IsSorted(x.seen) || len(once) == len(x.seen) {
		t.Error("nothing was reordered or doubled")
	}
}

func TestFramesAreOverwrittenWhenTheirTimeIsOver(t *testing.T) {
	x := newTrio(t, 1, LAN())
	x.Run(t, func() {
		var kept transport.Frame
		ev := x.Clock().NewEvent()
		x.e[a].Send(b, transport.Frame{Kind: note, Head: []byte("head"), Bulk: [][]byte{[]byte("bulk")}}, time.Second, func(f transport.Frame, err error) {
			kept = f
			ev.Set()
		})
		ev.Wait(clock.Forever)
		if s := string(kept.Head) + string(kept.Bulk[0]); strings.ContainsAny(s, "headbulk") {
			t.Errorf("a reply outlived done as %q", s)
		}
	})
}

func TestAHandlerThatWaitsIsFoundOut(t *testing.T) {
	x := newTrio(t, 1, LAN())
	const slow transport.Kind = 9
	d := transporttest.Host(4)
	e, h := x.open(d, "D")
	e.Handle(slow, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		clock.Sleep(h, time.Millisecond)
		reply(f, nil)
	})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	x.Run(t, func() {
		x.works(a, b)
		if n := x.n.Stats().Blocked; n != 0 {
			t.Errorf("%d handlers blocked where none did", n)
		}
		if _, err := x.call(a, d, slow, "x", time.Second); err != nil {
			t.Error(err)
		}
		if n := x.n.Stats().Blocked; n != 1 {
			t.Errorf("%d handlers blocked, want 1", n)
		}
	})
}

// TestOneSeedOneHistory runs a bad day on lossy links and compares every
// delivery's instant.
func TestOneSeedOneHistory(t *testing.T) {
	day := func(seed uint64, datagrams bool) string {
		p := LAN()
		p.Loss, p.Datagrams, p.Duplicate = 0.01, datagrams, 0.05
		x := newTrio(t, seed, p)
		var log strings.Builder
		all := []holdfast.HostID{a, b, c}
		for i, from := range all {
			h, e, r := x.h[from], x.e[from], x.w.Rand("test"+from.String())
			h.Go(func() {
				for j := range 200 {
					clock.Sleep(h, time.Duration(r.Int64N(int64(30*time.Millisecond))))
					e.Send(all[r.IntN(3)], transport.Frame{Kind: note, Head: fmt.Append(nil, i, ".", j)}, time.Second, func(_ transport.Frame, err error) {
						fmt.Fprintf(&log, "%v %d.%d %v\n", x.w.Now(), i, j, err)
					})
				}
			})
		}
		x.Run(t, func() {
			clock.Sleep(x.Clock(), time.Second)
			x.n.CutRack("A", true, true)
			clock.Sleep(x.Clock(), time.Second)
			x.n.CutRack("A", false, false)
			x.h[c].Kill()
			clock.Sleep(x.Clock(), 8*time.Second)
		})
		fmt.Fprintf(&log, "%v\n%+v", x.seen, x.n.Stats())
		return log.String()
	}
	for _, datagrams := range []bool{false, true} {
		one, two, other := day(7, datagrams), day(7, datagrams), day(8, datagrams)
		if one != two {
			t.Error("one seed gave two histories")
		}
		if one == other {
			t.Error("two seeds gave one history")
		}
		if n := strings.Count(one, "cannot be reached") + strings.Count(one, "did not reply"); n < 10 {
			t.Errorf("only %d calls failed on a bad day", n)
		}
	}
}

// BenchmarkCall is one simulated call with its reply, scheduler included.
func BenchmarkCall(b *testing.B) {
	w := simclock.NewWorld(1)
	n := New(w, LAN())
	ha, hb := w.Host("a", simclock.Skew{}), w.Host("b", simclock.Skew{})
	ea, eb := n.Open(a, "A", ha), n.Open(transporttest.Host(2), "B", hb)
	eb.Handle(note, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) { reply(f, nil) })
	if ea.Start() != nil || eb.Start() != nil {
		b.Fatal("Start failed")
	}
	defer w.Close(ha, hb)
	ended := false
	ha.Go(func() {
		for range b.N {
			if _, err := transport.Call(ha, ea, transporttest.Host(2), transport.Frame{Kind: note, Head: []byte("x")}, time.Second); err != nil {
				b.Error(err)
			}
		}
		ended = true
	})
	b.ReportAllocs()
	if !w.RunUntil(func() bool { return ended }, 1<<62) {
		b.Error("the calls did not end")
	}
}
