package alert

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// change is what a receiver does not know yet.
type change struct {
	alerts []Alert            // the worst first
	bad    bool               // something is worse than it knows
	good   bool               // something is over, or less bad
	open   map[string]OpenOne // what it knows when it was told
}

// compare finds what a receiver does not know. It takes causes for alerts, and of what
// follows from them only what is an error for news: else every copy that is built anew
// after the loss of a rack would be some.
func compare(r *Receiver, t *Told, now []v1.Condition) change {
	c := change{open: map[string]OpenOne{}}
	room := maxOpen - len(t.Open)
	there := map[string]string{} // of each condition, what it follows from; "": from nothing
	for _, cause := range now {
		there[cause.ID] = ""
		for _, e := range cause.Effects {
			there[e.ID] = cause.ID
		}
	}
	for _, cause := range now {
		was, known := t.Open[cause.ID]
		if about(cause, r.Name) || rank(cause.Severity) > rank(r.Severity) && !known {
			continue
		}
		if !known {
			if room--; room < 0 {
				continue // what is worst comes first, and the sentence says the rest
			}
		}
		is := OpenOne{Severity: cause.Severity, Text: clip(cause.Text, maxKnown), Since: cause.Since, Worse: worse(cause)}
		if !known {
			was, known = t.effect(cause)
		}
		a := alertOf(cause)
		switch before, after := rank(was.Severity), rank(is.Severity); {
		case !known:
			a.Change, c.bad = Raised, true
		case after < before, t.newlyWorse(was, is):
			a.Change, a.Was, c.bad = Changed, was.Severity, true
		case after > before:
			a.Change, a.Was, c.good = Changed, was.Severity, true
		}
		if a.Change != "" {
			c.alerts = append(c.alerts, a)
		}
		if rank(is.Severity) <= rank(r.Severity) {
			c.open[cause.ID] = is
		}
	}
	for id, was := range t.Open {
		if cause, still := there[id]; still && (cause == "" || c.has(cause)) {
			continue // or it is known as what follows from another
		}
		c.good = true
		c.alerts = append(c.alerts, Alert{ID: id, Change: Cleared, Severity: was.Severity, Text: was.Text, Since: was.Since, Runbook: runbook(id)})
	}
	slices.SortFunc(c.alerts, inOrder)
	return c
}

func (c *change) has(id string) bool {
	_, ok := c.open[id]
	return ok
}

// inOrder puts what is over last, and of the rest the worst first.
func inOrder(a, b Alert) int {
	over := func(x Alert) int {
		if x.Change == Cleared {
			return 1
		}
		return 0
	}
	return cmp.Or(over(a)-over(b), rank(a.Severity)-rank(b.Severity), strings.Compare(a.ID, b.ID))
}

// about reports whether a condition is that this receiver cannot be reached, which it
// would learn when it is over.
func about(c v1.Condition, receiver string) bool {
	name, ok := strings.CutPrefix(c.ID, ConditionPrefix)
	if name, _, _ = strings.Cut(name, "@"); ok && name == receiver {
		return true
	}
	return false
}

// worse are the effects of a cause that are errors.
func worse(cause v1.Condition) (ids []string) {
	for _, e := range cause.Effects {
		if e.Severity == "error" && len(ids) < maxWorse {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// effect reports whether a cause is known as what followed from another.
func (t *Told) effect(cause v1.Condition) (OpenOne, bool) {
	for _, o := range t.Open {
		if slices.Contains(o.Worse, cause.ID) {
			return OpenOne{Severity: "error", Worse: o.Worse}, true
		}
	}
	return OpenOne{}, false
}

// newlyWorse reports whether more follows from a cause than is known.
func (t *Told) newlyWorse(was, is OpenOne) bool {
	if len(was.Worse) == maxWorse {
		return false // not all of them are known
	}
	return slices.ContainsFunc(is.Worse, func(id string) bool {
		_, alone := t.Open[id]
		return !alone && !slices.Contains(was.Worse, id)
	})
}

// silent reports whether there is something to remember, and nothing to tell.
func (c *change) silent(t *Told) bool {
	return !c.bad && !c.good && !maps.EqualFunc(c.open, t.Open, func(a, b OpenOne) bool {
		return a.Severity == b.Severity && slices.Equal(a.Worse, b.Worse)
	})
}

func alertOf(c v1.Condition) Alert {
	a := Alert{ID: c.ID, Severity: c.Severity, Text: clip(c.Text, maxText), Since: c.Since, Runbook: runbook(c.ID)}
	effects := slices.Clone(c.Effects)
	slices.SortStableFunc(effects, func(x, y v1.Condition) int { return rank(x.Severity) - rank(y.Severity) })
	for _, e := range effects {
		if len(a.Effects) == maxEffects {
			a.More++
			continue
		}
		a.Effects = append(a.Effects, Effect{ID: e.ID, Severity: e.Severity, Text: clip(e.Text, maxText)})
	}
	return a
}

// runbook is the page about a condition: what stands before the names in its id.
func runbook(id string) string {
	page, _, _ := strings.Cut(id, "/")
	page, _, _ = strings.Cut(page, "@")
	return page
}

// reminds returns what is still wrong, if it is time to say so again.
func reminds(r *Receiver, t *Told, now []v1.Condition, at time.Time) (alerts []Alert) {
	if r.Remind == 0 || len(t.Open) == 0 {
		return nil
	}
	if since := at.Sub(t.At); since < r.Remind && since > -r.Remind { // a calendar that was set back does not silence it
		return nil
	}
	for _, c := range now {
		if _, known := t.Open[c.ID]; known {
			a := alertOf(c)
			a.Change = Open
			alerts = append(alerts, a)
		}
	}
	slices.SortFunc(alerts, inOrder)
	return alerts
}
