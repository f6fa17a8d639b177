package backup

import "time"

// Entry is what lasts of something that is done again and again.
type Entry struct {
	Name  string
	Every time.Duration
	Began time.Time // the last run, by the calendar; zero: there was none
	Bad   bool      // it failed, or was cut off
	Asked time.Time // somebody wants it run now, since then; zero: nobody does
}

// Due says how one entry stands.
type Due struct {
	Name string
	Now  bool          // it is to be run
	Wait time.Duration // to its turn, if nobody asks sooner
	Late time.Duration // for so long it should have been run, and was not, or not well; zero: it is not late
}

// Agenda tells when entries are run. Of what happens in its life it counts time by
// a clock that only ever runs forward; the calendar decides only what is due when
// it begins (Turn). It decides and does nothing, and belongs to one task.
type Agenda struct {
	known map[string]*remembered
}

// remembered is what an agenda knows of an entry. Times are of the clock that
// runs forward.
type remembered struct {
	seen time.Duration // when it was first heard of, or last run
	ran  bool          // here
	bad  bool
	asks time.Time     // the last wish that was followed
	due  time.Duration // when its turn came; below zero: it has not
}

// patience is how late something is at least before that is said.
const patience = 15 * time.Minute

// Look says how entries stand, in their order. mono is of the clock that runs
// forward, wall the calendar. What is no entry any more is forgotten.
func (a *Agenda) Look(list []Entry, mono time.Duration, wall time.Time) []Due {
	known := make(map[string]*remembered, len(list))
	out := make([]Due, 0, len(list))
	for _, e := range list {
		r := a.known[e.Name]
		if r == nil {
			r = &remembered{seen: mono, due: -1}
		}
		known[e.Name] = r
		turn := Turn{Every: e.Every, Began: e.Began, Bad: e.Bad || r.bad, Since: mono - r.seen, Ran: r.ran}
		d := Due{Name: e.Name, Wait: turn.Wait(wall)}
		if d.Wait == 0 && r.due < 0 {
			r.due = mono
		}
		if r.due >= 0 && mono-r.due > max(e.Every, patience) {
			d.Late = mono - r.due
		}
		d.Now = d.Wait == 0 || !e.Asked.IsZero() && !e.Asked.Equal(r.asks)
		out = append(out, d)
	}
	a.known = known
	return out
}

// Began notes that an entry is being run.
func (a *Agenda) Began(e Entry) {
	if r := a.known[e.Name]; r != nil {
		r.asks = e.Asked
	}
}

// Ended notes how a run ended.
func (a *Agenda) Ended(name string, good bool, mono time.Duration) {
	r := a.known[name]
	if r == nil {
		return
	}
	r.seen, r.ran, r.bad = mono, true, !good
	if good {
		r.due = -1
	}
}
