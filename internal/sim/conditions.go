package sim

import (
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

// telling checks that what is wrong is told for as long as it is, and no longer:
// the conditions that anybody who asks for the status gets.
type telling struct {
	s      *simulation
	kvGood time.Duration // the control plane has answered since
	checks int
}

const (
	conditionsEvery = time.Second
	// toldWithin is how long after a host has lost its power people are told: its
	// lease of 4 s has ended, and the records have been read.
	toldWithin = 8 * time.Second
)

func (s *simulation) watchConditions() {
	t := &telling{s: s}
	s.telling = t
	s.c.Go(func() {
		for !s.ending {
			clock.Sleep(s.c, conditionsEvery)
			t.look()
		}
	})
}

// look holds what is told against what is so.
func (t *telling) look() {
	st, err := t.s.eye.Refresh()
	now := t.s.w.Now()
	if err != nil || t.s.kvTroubled {
		t.kvGood, t.s.kvTroubled = now, false // a new leader gives every lease its whole time again
	}
	if t.s.ending || now-t.kvGood < toldWithin || err != nil {
		return
	}
	told := health.Summary(st, nil).Conditions
	for _, h := range t.s.hosts {
		if h.computer != nil || now-h.offAt < toldWithin {
			continue
		}
		t.checks++
		if !tells(told, h) {
			t.s.fail("nothing tells that %s is away, which has had no power for %v", h.name, now-h.offAt)
		}
	}
}

// tells reports whether a condition says that a host, or its rack, is away.
func tells(told []health.Condition, h *host) bool {
	for _, c := range told {
		if c.ID == "host-away/"+h.name || strings.HasPrefix(c.ID, "rack-away/") && strings.HasSuffix(c.ID, h.rec.Domain.Rack) {
			return true
		}
	}
	return false
}

// cleared waits until nothing is told any more that is over.
func (s *simulation) cleared() {
	var left string
	for end := s.w.Now() + clearLimit; s.w.Now() < end; clock.Sleep(s.c, time.Second) {
		st, err := s.eye.Refresh()
		if err != nil {
			continue
		}
		left = ""
		for _, c := range health.Summary(st, nil).Conditions {
			if c.Severity != health.Info && !lasting(c) {
				left = c.ID + ": " + c.Text
			}
		}
		if left == "" {
			return
		}
	}
	s.fail("everything was put right and it is still told: %s", left)
}

// clearLimit is how long after everything is whole a condition may stand: bad blocks
// that no copy could be asked for are tried again every 30 s.
const clearLimit = time.Minute

// lasting reports whether a condition tells of what is not over: disks that have
// failed too often, or gave bytes that failed their hash, are told for an hour, disks are as full as they are, the hosts'
// calendars are years apart, and there may be no room to lose a rack. A block that no
// copy has any more is told as lost until the next checkpoint of its disk finds that
// nothing refers to it.
func lasting(c health.Condition) bool {
	if strings.HasPrefix(c.ID, "volume-rot/") && c.Severity == health.Error {
		return true
	}
	for _, p := range []string{"disk-failing/", "disk-rot/", "disk-fill", "disk-full/", "clock", "calendar", "capacity", "pool-"} {
		if strings.HasPrefix(c.ID, p) {
			return true
		}
	}
	return false
}
