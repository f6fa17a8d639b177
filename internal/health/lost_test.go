package health_test

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// A host was lost twice, the second time under a leader whose clock is decades
// behind: it is away since the second loss.
func TestALossIsTheNewestByTheRecords(t *testing.T) {
	c := sketch.New()
	for _, line := range []string{"host a1 rack=a voter", "host b1 rack=b voter", "host c1 rack=c voter", "lose b1"} {
		if err := c.Do(line); err != nil {
			t.Fatal(err)
		}
	}
	s := c.State()
	now := sketch.Wall()
	for id, inc := range map[string]cluster.Incident{"000000000100-b1": {Opened: now}, "000000000200-b1": {Opened: now.AddDate(-56, 0, 0)}} {
		inc.ID, inc.Hosts = id, []holdfast.HostID{sketch.Host("b1")}
		s.Incidents[id] = cluster.Versioned[cluster.Incident]{Mod: 1, Val: inc}
	}
	for _, cond := range health.Summary(s, nil).Conditions {
		if !cond.Since.IsZero() && !cond.Since.Equal(now.AddDate(-56, 0, 0)) {
			t.Errorf("%s since %v", cond.ID, cond.Since)
		}
	}
}
