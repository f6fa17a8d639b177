package backup

import "time"

// Retry is how soon a run that failed is tried again, if its turn does not come
// sooner.
const Retry = 10 * time.Minute

// Turn is what is known of the last run of something that is done every so often.
type Turn struct {
	Every time.Duration
	Began time.Time // the last run, by the calendar; zero: there was none
	Bad   bool      // it failed, or was cut off
	// Since is the time since the last run, or since this process was told of the
	// schedule, by a clock that only ever runs forward.
	Since time.Duration
	Ran   bool // the last run was this process's, so Since counts from it
}

// Wait says how long it is to the next run. Once a run was this process's, only
// the clock counts that runs forward: calendars that jump, either way, make
// nobody run twice or wait for years. After a restart the calendar is all there
// is: a missed run is run once, and one from the future at once.
func (t Turn) Wait(now time.Time) time.Duration {
	every := t.Every
	if t.Bad {
		every = min(every, Retry)
	}
	if t.Ran {
		return max(0, every-t.Since)
	}
	passed := now.Sub(t.Began)
	if t.Began.IsZero() || passed < 0 || passed >= every {
		return 0
	}
	// The calendar may be set back after this; the other clock goes on.
	return max(0, min(every-passed, every-t.Since))
}
