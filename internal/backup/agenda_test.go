package backup

import (
	"math/rand/v2"
	"testing"
	"time"
)

// runner is a host with a schedule, and clocks: one runs forward, and one is
// turned at will.
type runner struct {
	agenda Agenda
	entry  Entry
	mono   time.Duration
	wall   time.Time
	runs   int
	late   bool
	bad    bool // runs fail
}

// pass lets time go by in the steps in which a host looks.
func (r *runner) pass(d time.Duration) {
	const step = 5 * time.Second
	for end := r.mono + d; r.mono < end; r.mono, r.wall = r.mono+step, r.wall.Add(step) {
		due := r.agenda.Look([]Entry{r.entry}, r.mono, r.wall)[0]
		r.late = due.Late > 0
		if !due.Now {
			continue
		}
		r.runs++
		r.agenda.Began(r.entry)
		r.entry.Began, r.entry.Bad, r.entry.Asked = r.wall, r.bad, time.Time{}
		r.agenda.Ended(r.entry.Name, !r.bad, r.mono)
	}
}

// restart is another process, or another host, with what lasts.
func (r *runner) restart(wall time.Time) { r.agenda, r.mono, r.wall = Agenda{}, 0, wall }

func scheduled(every time.Duration) *runner {
	return &runner{entry: Entry{Name: "nightly", Every: every}, wall: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
}

// TestAScheduleGoesOnWhateverTheCalendarSays: once a period, neither more nor less.
func TestAScheduleGoesOnWhateverTheCalendarSays(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := scheduled(6 * time.Hour)
		for range 40 {
			switch rnd.IntN(5) {
			case 0:
				r.wall = time.Unix(rnd.Int64N(1e6), 0)
			case 1:
				r.wall = time.Date(2099, 1, 1, 0, 0, rnd.IntN(1e6), 0, time.UTC)
			case 2:
				r.wall = r.wall.Add(time.Duration(rnd.IntN(48)-24) * time.Hour)
			}
			r.pass(3 * time.Hour)
		}
		if r.runs != 20 {
			t.Errorf("seed %d: %d runs in 120 hours, of one every 6", seed, r.runs)
		}
	}
}

// TestStartsAreNoStorm: a host that starts again and again, or schedules that are
// handed to and fro, with any calendar, run it at most once a start, and when the
// calendar stands still, once.
func TestStartsAreNoStorm(t *testing.T) {
	dead := time.Unix(300, 0)
	r := scheduled(24 * time.Hour)
	r.pass(time.Minute)
	for range 50 { // it begins in 1970 every time, and lives for ten minutes
		r.restart(dead)
		r.pass(10 * time.Minute)
	}
	if r.runs != 2 {
		t.Errorf("%d runs: the first, and one when the last lay in the future", r.runs)
	}
	r.restart(dead)
	r.pass(49 * time.Hour)
	if r.runs != 4 {
		t.Errorf("%d runs, two more in two days that it lives", r.runs)
	}
	other := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	was := r.runs
	for i := range 10 { // between a host in 1970 and one in 2099
		r.restart([]time.Time{dead, other}[i%2])
		r.pass(time.Hour)
	}
	if n := r.runs - was; n > 10 {
		t.Errorf("%d runs of 10 times that it was handed over", n)
	}
	was = r.runs
	r.restart(other.AddDate(30, 0, 0))
	r.pass(24*time.Hour - time.Minute)
	if r.runs != was+1 {
		t.Errorf("%d runs after it was taken over decades later", r.runs-was)
	}
}

// TestWhatFailsIsTriedAgainAndSaidToBeLate: and is not late once it went well.
func TestWhatFailsIsTriedAgainAndSaidToBeLate(t *testing.T) {
	r := scheduled(time.Hour)
	r.bad = true
	r.pass(30 * time.Minute)
	if r.runs != 3 || r.late {
		t.Errorf("%d runs in half an hour, late: %v", r.runs, r.late)
	}
	r.wall = time.Unix(0, 0)
	r.pass(40 * time.Minute)
	if !r.late {
		t.Error("it did not go well for more than an hour, and is not late")
	}
	r.bad = false
	r.pass(15 * time.Minute)
	if r.late {
		t.Error("it went well, and is late")
	}
	runs := r.runs
	r.entry.Asked = r.wall
	r.pass(time.Minute)
	if r.runs != runs+1 {
		t.Errorf("asked for once, it was run %d times", r.runs-runs)
	}
}

// TestAWishIsFollowedOnce: also if it could not be taken back.
func TestAWishIsFollowedOnce(t *testing.T) {
	a := Agenda{}
	e := Entry{Name: "x", Every: time.Hour, Began: time.Unix(1000, 0), Asked: time.Unix(1001, 0)}
	if d := a.Look([]Entry{e}, 0, time.Unix(1002, 0)); !d[0].Now {
		t.Fatal("it is not run")
	}
	a.Began(e)
	a.Ended("x", true, time.Second)
	if d := a.Look([]Entry{e}, 2*time.Second, time.Unix(1004, 0)); d[0].Now {
		t.Error("it is run again")
	}
}
