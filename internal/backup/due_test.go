package backup

import (
	"testing"
	"time"
)

func TestClocksThatJumpNeitherStormNorStarve(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const h = time.Hour
	for _, c := range []struct {
		name string
		turn Turn
		want time.Duration
	}{
		{"never yet", Turn{Every: 6 * h}, 0},
		{"an hour ago, in this life", Turn{Every: 6 * h, Began: now.Add(-h), Since: h, Ran: true}, 5 * h},
		{"an hour ago, and then the calendar jumped to 2099", Turn{Every: 6 * h, Began: now.AddDate(-73, 0, 0), Since: h, Ran: true}, 5 * h},
		{"an hour ago, and then the calendar fell to 1970", Turn{Every: 6 * h, Began: now.AddDate(56, 0, 0), Since: h, Ran: true}, 5 * h},
		{"long ago by the clock that runs forward", Turn{Every: 6 * h, Began: now.Add(time.Hour), Since: 7 * h, Ran: true}, 0},
		{"ten runs missed while the host was off", Turn{Every: 6 * h, Began: now.Add(-60 * h), Since: time.Minute}, 0},
		{"restarted an hour after a run", Turn{Every: 6 * h, Began: now.Add(-h), Since: 0}, 5 * h},
		{"restarted, and the last run was in the future", Turn{Every: 6 * h, Began: now.AddDate(30, 0, 0)}, 0},
		{"restarted, then the calendar fell to just after the run, for six hours now", Turn{Every: 6 * h, Began: now.Add(-time.Second), Since: 6 * h}, 0},
		{"failed five minutes ago", Turn{Every: 6 * h, Began: now.Add(-5 * time.Minute), Bad: true, Since: 5 * time.Minute, Ran: true}, 5 * time.Minute},
		{"failed, and is due sooner than tried again", Turn{Every: 3 * time.Minute, Bad: true, Since: time.Minute, Ran: true, Began: now.Add(-time.Minute)}, 2 * time.Minute},
	} {
		if got := c.turn.Wait(now); got != c.want {
			t.Errorf("%s: wait %v, want %v", c.name, got, c.want)
		}
	}
}
