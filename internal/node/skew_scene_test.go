package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// skewed returns what a host says of its clock.
func (s *scene) skewed(b *box) string {
	for _, c := range s.eye.State().Alive[b.rec.ID].Val.Conditions {
		if c.ID == "clock-skew" {
			return c.Text
		}
	}
	return ""
}

func TestAHostWhoseClockIsWrongSaysSo(t *testing.T) {
	s := newScene(t, 601, 3)
	a, b, c := s.boxes[0], s.boxes[1], s.boxes[2]
	image := s.image(a)
	b.kill()
	b.skew = simclock.Skew{Wall: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)}
	b.start()
	s.until("the host in 1970 says so", func(*cluster.State) bool { return s.skewed(b) != "" })
	if text := s.skewed(b); !strings.Contains(text, "56 years behind") {
		t.Errorf("it says: %s", text)
	}
	s.run(time.Minute)
	if s.skewed(a) != "" || s.skewed(c) != "" {
		t.Errorf("hosts whose clocks are right say: %q, %q", s.skewed(a), s.skewed(c))
	}
	_ = image
	s.until("its image has its copies all the same", func(st *cluster.State) bool { return len(st.Volumes[image].Val.InSync) == 2 })

	// A second and a half is too little to be told anew, and enough to be told on.
	b.kill()
	b.skew = simclock.Skew{}
	b.start()
	s.until("its clock is right again", func(st *cluster.State) bool { return st.AliveHost(b.rec.ID) && s.skewed(b) == "" })
	s.run(time.Minute)
	if text := s.skewed(b); text != "" {
		t.Errorf("it says: %s", text)
	}

	// A clock that gains a thousandth, with NTP absent, is told after a while.
	c.kill()
	c.skew = simclock.Skew{Drift: 0.001}
	c.start()
	s.run(10 * time.Minute)
	if s.skewed(c) != "" {
		t.Errorf("after gaining 0.6 s it says: %s", s.skewed(c))
	}
	s.run(40 * time.Minute)
	if text := s.skewed(c); !strings.Contains(text, " seconds ahead of") {
		t.Errorf("after gaining 3 s it says: %q", text)
	}
}

func TestOfTwoClocksNobodyKnowsWhichIsRight(t *testing.T) {
	s := newScene(t, 602, 2)
	a, b := s.boxes[0], s.boxes[1]
	b.kill()
	b.skew = simclock.Skew{Wall: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)}
	b.start()
	s.until("both say so", func(*cluster.State) bool { return s.skewed(a) != "" && s.skewed(b) != "" })
	if text := s.skewed(a); !strings.Contains(text, "host b1 differ by 2 days; nobody knows which is right") {
		t.Errorf("it says: %s", text)
	}
}
