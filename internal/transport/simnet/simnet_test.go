package simnet

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/transporttest"
	"go.uber.org/goleak"
)

// lab is a world whose hosts have skewed clocks.
type lab struct {
	w     *simclock.World
	n     *Net
	hosts []*simclock.Host
}

func newLab(t *testing.T, seed uint64, p Params) *lab {
	w := simclock.NewWorld(seed)
	l := &lab{w: w, n: New(w, p)}
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { w.Close(l.hosts...); goleak.VerifyNone(t, before) })
	return l
}

func (l *lab) Clock() clock.Clock { return l.w.Clock() }

func (l *lab) Run(t *testing.T, f func()) {
	done := false
	l.w.Clock().Go(func() {
		defer func() { done = true }()
		f()
	})
	if !l.w.RunUntil(func() bool { return done }, l.w.Now()+10*time.Minute) {
		t.Fatalf("the test's task did not end: %v", l.w)
	}
}

func (l *lab) Open(_ *testing.T, id holdfast.HostID) transport.Network {
	e, _ := l.open(id, "rack-"+id.Short())
	return e
}

func (l *lab) open(id holdfast.HostID, rack string) (*Endpoint, *simclock.Host) {
	skew := simclock.Skew{Offset: time.Duration(len(l.hosts)) * time.Hour, Drift: 0.0001 * float64(len(l.hosts))}
	h := l.w.Host(id.Short(), skew)
	l.hosts = append(l.hosts, h)
	return l.n.Open(id, rack, h), h
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Lab { return newLab(t, 1, LAN()) })
}

func TestConformanceOnSlowLinks(t *testing.T) {
	p := LAN()
	p.Latency, p.Jitter, p.Bandwidth = 20*time.Millisecond, 30*time.Millisecond, 0
	transporttest.Run(t, func(t *testing.T) transporttest.Lab { return newLab(t, 2, p) })
}
