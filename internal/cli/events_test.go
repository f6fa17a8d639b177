package cli

import (
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// What changes is told in a sentence, once; how things are at first, and what a
// stream repeats after a break, is not.
func TestWhatHappensIsToldInWords(t *testing.T) {
	n := newNarrator()
	vm := func(state, host string) v1.Event {
		return v1.Event{Kind: "vm", ID: "1", VM: &v1.VM{Name: "db1", State: state, Host: host}}
	}
	status := func(sentence string, conditions ...v1.Condition) v1.Event {
		return v1.Event{Kind: "status", Status: &v1.Status{Sentence: sentence, Conditions: conditions}}
	}
	away := v1.Condition{ID: "rack-away/b", Severity: "warning", Text: "rack b is away"}
	incident := v1.Incident{ID: "i", Steps: []v1.Step{{At: time.Now(), Text: "rack b was lost"}}}
	longer := v1.Incident{ID: "i", Steps: append(incident.Steps, v1.Step{Text: "db1 is started on c1"})}
	host := v1.Event{Kind: "host", ID: "h", Host: &v1.Host{Name: "b1", State: "alive"}}
	volume := v1.Event{Kind: "volume", ID: "v", Volume: &v1.Volume{Name: "db1", State: "degraded", Copies: 2, Replicas: []v1.Replica{{InSync: true}, {}}}}
	for _, s := range []struct {
		e    v1.Event
		says string
	}{
		{v1.Event{Kind: "all"}, ""}, {host, ""}, {vm("running", "b1"), ""}, {v1.Event{Kind: "incident", Incident: &incident}, ""}, {status("All is well."), ""},
		{v1.Event{Kind: "ready"}, "All is well."},
		{vm("running", "b1"), ""},
		{vm("starting", "c1"), "vm db1: starting on c1 (was running on b1)"},
		{volume, "volume db1: new, degraded, 1 of 2 copies in sync"},
		{v1.Event{Kind: "incident", Incident: &longer}, "db1 is started on c1"},
		{status("The 1 VM starts.", away), "The 1 VM starts.|warning: rack b is away (holdfast runbook rack-away)"},
		{status("The 1 VM starts.", away), ""},
		{status("All is well."), "over: rack-away/b|All is well."},
		// the stream broke off, and another host tells everything
		{v1.Event{Kind: "all"}, ""}, {vm("running", "c1"), "vm db1: running on c1 (was starting on c1)"}, {volume, ""}, {status("All is well."), ""},
		{v1.Event{Kind: "ready"}, "host b1: gone"},
		{v1.Event{Kind: "vm", ID: "1", Gone: true}, "vm db1: gone"},
		{v1.Event{Kind: "vm", ID: "1", Gone: true}, ""},
		{v1.Event{Kind: "something-new"}, ""},
	} {
		said := n.hear(s.e)
		if got := strings.Join(said, "|"); got != s.says && !sameWords(got, s.says) {
			t.Errorf("%+v: said %q, want %q", s.e, got, s.says)
		}
	}
}

// sameWords compares sentences in any order.
func sameWords(a, b string) bool {
	count := map[string]int{}
	for _, x := range strings.Split(a, "|") {
		count[x]++
	}
	for _, x := range strings.Split(b, "|") {
		count[x]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
