package drill

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// lossOf is a round of two guests that had reported 30 and 40 flushed blocks and
// found so many.
func lossOf(found ...uint32) *powerLoss {
	d := &drill{}
	p := newProbes(d, "power", 2)
	for i, n := range found {
		p.list[i].acks = uint32(30 + 10*i)
		p.list[i].boot.verified = &probe.Line{Counter: n}
	}
	d.report.Timeline = []Mark{{"guest verified", 6.5, ""}, {"host answers", 2, "a1"}}
	return &powerLoss{d: d, guests: p, report: PowerReport{Seed: 7, Order: []string{"b1", "a1"}, Guests: 2, CutAt: time.Unix(1, 0), LastUp: 2, Verified: 4.5}}
}

func TestALossOfAllPowerIsPassedOnlyIfNothingIsMissing(t *testing.T) {
	for _, c := range []struct {
		what  string
		round *powerLoss
		err   error
		lost  int64
		ok    bool
	}{
		{"all is there", lossOf(31, 40), nil, 0, true},
		{"three blocks of one guest are not", lossOf(27, 45), nil, 3, false},
		{"a guest never came back", lossOf(31), errors.New("waited in vain"), 0, false},
	} {
		c.round.conclude(c.err)
		r := c.round.report
		if r.Lost != c.lost || r.OK != c.ok || len(r.Checks) != 2 {
			t.Errorf("%s: lost %d, passed %v, checks %+v", c.what, r.Lost, r.OK, r.Checks)
		}
		if r.Timeline[0].What != "host answers" {
			t.Errorf("%s: the timeline begins with %q", c.what, r.Timeline[0].What)
		}
	}
}

func TestASeriesOfLossesOfPower(t *testing.T) {
	var s PowerSeries
	for _, verified := range []float64{4.5, 9, 6} {
		r := lossOf(30, 41)
		r.report.Verified = verified
		r.conclude(nil)
		s.Rounds = append(s.Rounds, r.report)
	}
	s.conclude(3)
	if !s.OK || s.Figures[1].Median != 6 || s.Figures[1].Worst != 9 {
		t.Errorf("passed %v, figures %+v", s.OK, s.Figures)
	}
	s.Figures = nil
	s.conclude(4) // one was not played
	if s.OK {
		t.Error("three of four rounds are not all")
	}
	var b bytes.Buffer
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"b1,a1", "+9.0 s", "last host up → all guests verified"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
}

func TestAWipeIsToldAsItWas(t *testing.T) {
	r := WipeReport{Rack: "b", Hosts: []string{"b1"}, Replaced: true, Guests: 3, Moved: 1, KilledAt: time.Unix(1, 0), OK: true,
		Timeline: []Mark{{"rack struck: it will not come back", 5, "b"}}, Checks: []Check{{"all copies are equal", true, "9 blocks compared"}}}
	var b bytes.Buffer
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Rack b (b1) was killed with 1 of 3 guests", "replaced by new hosts", "rack struck", "ok    all copies are equal: 9 blocks compared", "The drill is passed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
}

// A guest whose host was never lost is judged by what it wrote alone.
func TestAGuestThatRanOnIsJudged(t *testing.T) {
	g, before := &probeGuest{}, sight{flushed: 40}
	for found, ok := range map[uint32]bool{39: false, 40: true} {
		checks := g.judge(before, sight{verified: &probe.Line{Counter: found}})
		if n := len(checks); n != 2 || checks[n-1].OK != ok {
			t.Errorf("40 blocks reported, %d found: %+v", found, checks)
		}
	}
	g.boot.verified, g.acks = &probe.Line{Counter: 20}, 21
	if checks := g.judge(before, sight{verified: &probe.Line{Counter: 40}}); len(checks) != 3 || checks[0].OK {
		t.Errorf("21 blocks reported before the loss, 20 found after it: %+v", checks)
	}
}
