package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// watchAgain is how long a stream that broke off is left alone.
const watchAgain = time.Second

func (a *app) eventsCmd() *cobra.Command {
	var follow bool
	cols := []column[v1.Step]{
		{"TIME", false, func(s v1.Step) any { return s.At }},
		{"WHAT", true, func(s v1.Step) any { return s.What }},
		{"TEXT", false, func(s v1.Step) any { return s.Text }},
	}
	events := &cobra.Command{Use: "events", Short: "What happened, and what happens", Args: args(),
		Long: "Print what was done about losses of hosts, the oldest first. With --follow go on with everything that changes, as it changes: hosts, disks,\n" +
			"volumes, VMs and conditions. It ends with Ctrl-C; when the host goes that is asked, it waits for it to come back, and misses nothing.\n" +
			"With --follow -o json there is a line of JSON for each event of the watch stream (GET /v1/watch), beginning with everything there is.",
		Example: "  holdfast events\n  holdfast events --follow\n  holdfast events --follow -o json | jq -c 'select(.vm) | [.vm.name, .vm.state]'",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if follow && a.format == "json" {
				return a.follow(ctx, c, func(e v1.Event) error {
					b, err := json.Marshal(e)
					if err == nil {
						_, err = fmt.Fprintf(a.Stdout, "%s\n", b)
					}
					return err
				})
			}
			if follow && a.format != "table" && a.format != "wide" {
				return holdfast.Errorf(holdfast.Invalid, "--output %s: what is followed can be printed as table or json", a.format)
			}
			all, err := c.Incidents(ctx)
			if err != nil {
				return err
			}
			var steps []v1.Step
			for _, i := range slices.Backward(all) { // they are told newest first
				steps = append(steps, i.Steps...)
			}
			if !follow {
				return printAll(a, steps, cols, func(s v1.Step) string { return s.What })
			}
			for _, s := range steps {
				a.tell(s.At, s.Text)
			}
			n := newNarrator()
			return a.follow(ctx, c, func(e v1.Event) error {
				for _, line := range n.hear(e) {
					a.tell(time.Now(), line)
				}
				return nil
			})
		})}
	events.Flags().BoolVarP(&follow, "follow", "f", false, "go on with everything that changes")
	return events
}

func (a *app) tell(at time.Time, text string) {
	fmt.Fprintf(a.Stdout, "%s  %s\n", at.UTC().Format("2006-01-02 15:04:05Z"), plain(text))
}

// follow watches, and goes on where a stream broke off, until ctx ends.
func (a *app) follow(ctx context.Context, c *client.Client, each func(v1.Event) error) error {
	at, silent := "", false
	for {
		err := c.Watch(ctx, at, func(e v1.Event) error {
			if e.At != "" {
				at = e.At
			}
			silent = false
			return each(e)
		})
		if ctx.Err() != nil || !holdfast.IsKind(err, holdfast.Unavailable) || at == "" {
			return err // ended by whoever asked, or it never began
		}
		if !silent {
			silent = true
			fmt.Fprintln(a.Stderr, plain(err.Error()+"; waiting for it"))
		}
		select {
		case <-time.After(watchAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// narrator puts what changes into words. What it hears at first is how things
// are, of which it says only the sentence.
type narrator struct {
	begun  bool
	state  map[string]string // of a thing, by its kind and identity, as it was told last
	called map[string]string // its name
	steps  map[string]int    // that were told of an incident
	held   map[string]bool   // conditions
	truth  string            // the sentence
	fresh  map[string]bool   // what there is, while everything is told again
}

func newNarrator() *narrator {
	return &narrator{state: map[string]string{}, called: map[string]string{}, steps: map[string]int{}, held: map[string]bool{}}
}

// hear returns what there is to say about an event.
func (n *narrator) hear(e v1.Event) []string {
	switch {
	case e.Kind == "all":
		n.fresh = map[string]bool{}
	case e.Kind == "ready":
		out := n.missing()
		n.fresh = nil
		if !n.begun {
			n.begun = true
			out = append(out, n.truth)
		}
		return out
	case e.Status != nil:
		return n.sentence(*e.Status)
	case e.Incident != nil:
		return n.incident(*e.Incident)
	default:
		return n.thing(e)
	}
	return nil
}

// thing tells of a host, disk, volume, VM or export.
func (n *narrator) thing(e v1.Event) []string {
	key := e.Kind + " " + e.ID
	if e.Gone {
		return n.went(key)
	}
	name, state := inWords(e)
	if name == "" {
		return nil // of a kind that a newer host tells of
	}
	if n.fresh != nil {
		n.fresh[key] = true
	}
	was, known := n.state[key]
	n.state[key], n.called[key] = state, e.Kind+" "+name
	switch {
	case !n.begun || was == state && known:
		return nil
	case !known:
		return []string{n.called[key] + ": new, " + state}
	}
	return []string{fmt.Sprintf("%s: %s (was %s)", n.called[key], state, was)}
}

func (n *narrator) went(key string) []string {
	name, known := n.called[key]
	delete(n.state, key)
	delete(n.called, key)
	if !known || !n.begun {
		return nil
	}
	return []string{name + ": gone"}
}

// missing tells what is no more after everything was told again.
func (n *narrator) missing() (out []string) {
	if n.fresh == nil {
		return nil
	}
	for key := range n.state {
		if !n.fresh[key] {
			out = append(out, n.went(key)...)
		}
	}
	slices.Sort(out)
	return out
}

// sentence tells which conditions came and went, and the sentence if it is
// another one.
func (n *narrator) sentence(s v1.Status) (out []string) {
	now := map[string]bool{}
	for _, c := range s.Conditions {
		if now[c.ID] = true; !n.held[c.ID] && n.begun {
			out = append(out, fmt.Sprintf("%s: %s (holdfast runbook %s)", c.Severity, c.Text, runbooks.Name(c.ID)))
		}
	}
	for id := range n.held {
		if !now[id] {
			out = append(out, "over: "+id)
		}
	}
	slices.Sort(out)
	n.held = now
	if n.begun && s.Sentence != n.truth {
		out = append(out, s.Sentence)
	}
	n.truth = s.Sentence
	return out
}

// incident tells the steps that were not told yet.
func (n *narrator) incident(i v1.Incident) (out []string) {
	told := n.steps[i.ID]
	n.steps[i.ID] = len(i.Steps)
	if !n.begun || told > len(i.Steps) {
		return nil
	}
	for _, s := range i.Steps[told:] {
		out = append(out, s.Text)
	}
	return out
}

// inWords is the name of a thing and what can be said of it.
func inWords(e v1.Event) (name, state string) {
	switch {
	case e.Host != nil:
		return e.Host.Name, e.Host.State
	case e.Disk != nil:
		return e.Disk.Host + ":" + e.Disk.Path, e.Disk.State
	case e.Volume != nil:
		in := 0
		for _, r := range e.Volume.Replicas {
			if r.InSync {
				in++
			}
		}
		return e.Volume.Name, fmt.Sprintf("%s, %d of %d copies in sync", e.Volume.State, in, e.Volume.Copies)
	case e.VM != nil:
		state = e.VM.State
		if e.VM.Host != "" && e.VM.State != "off" {
			state += " on " + e.VM.Host
		}
		if e.VM.Reason != "" {
			state += ", " + e.VM.Reason
		}
		return e.VM.Name, state
	case e.Export != nil:
		return e.Export.Name, strings.TrimSuffix(e.Export.State+" on "+e.Export.Host, " on ")
	}
	return "", ""
}
