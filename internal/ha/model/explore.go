package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Result is what an exploration found.
type Result struct {
	Config      Config
	States      int           // different ones that were reached
	Transitions int           // ways from one to another
	Depth       int           // events on the longest of the shortest ways to a state
	Complete    bool          // there are no others
	Settled     int           // states from which it was followed up that the VM runs again
	Longest     time.Duration // that took, at most
	Broken      string        // the promise that is broken; "": none
	History     []string      // how
}

// from is how a state was reached first.
type from struct {
	parent int32
	name   string
}

// explorer goes through all states, the nearest first.
type explorer struct {
	w     *world
	seen  map[key]int32
	ways  []from
	queue []*state
	at    []int32 // the numbers of those in the queue
	fine  map[key]bool
	tail  []string // what was followed up last
	res   Result
}

// Explore goes through every state that can be reached, until one breaks a promise.
func Explore(c Config) (Result, error) {
	w, first, err := newWorld(c)
	if err != nil {
		return Result{}, err
	}
	x := &explorer{w: w, seen: map[key]int32{}, fine: map[key]bool{}, res: Result{Config: c}}
	if err := w.prelude(first); err != nil {
		return Result{}, err
	}
	x.reach(first, from{-1, "everything is well"})
	level := 1
	for len(x.queue) > 0 && x.res.Broken == "" && len(x.ways) < c.MaxStates {
		if level--; level == 0 {
			level = len(x.queue)
			x.res.Depth++
		}
		s, n := x.queue[0], x.at[0]
		x.queue[0] = nil
		x.queue, x.at = x.queue[1:], x.at[1:]
		x.expand(s, n)
	}
	x.res.States, x.res.Complete = len(x.ways), len(x.queue) == 0
	return x.res, nil
}

func (x *explorer) expand(s *state, n int32) {
	held := false
	for _, m := range x.w.moves(s) {
		held = held || s.urgent(m)
		next := s.clone()
		if m.costs {
			next.left--
			next.only |= m.only
		}
		m.execute(next)
		x.w.settle(next)
		x.res.Transitions++
		x.reach(next, from{n, m.name})
		if x.res.Broken != "" {
			return
		}
	}
	if held {
		return
	}
	next := s.clone()
	if x.w.pass(next) {
		x.w.settle(next)
		x.res.Transitions++
		x.reach(next, from{n, ""})
	}
}

// reach takes a state in, if it is new.
func (x *explorer) reach(s *state, way from) {
	k := x.w.key(s)
	if _, ok := x.seen[k]; ok {
		return
	}
	n := int32(len(x.ways))
	x.seen[k] = n
	x.ways = append(x.ways, way)
	if x.res.Broken = x.w.broken(s); x.res.Broken == "" {
		x.res.Broken = x.settles(s)
	}
	if x.res.Broken != "" {
		x.res.History = append(x.history(n), x.tail...)
		return
	}
	x.queue, x.at = append(x.queue, s), append(x.at, n)
}

// settles follows a state without any further disturbance, and with what was
// disturbed mended but for a computer that is lost, until its VM runs.
func (x *explorer) settles(s *state) string {
	if s.left > 0 && x.w.Kinds&Deaths == 0 {
		return "" // it is a part of what those with none left are asked
	}
	for lost := -1; lost < len(s.hosts); lost++ {
		if lost >= 0 && (s.hosts[lost].power || !x.w.inSync(s.records.Volumes[x.w.vol].Val, 1-lost)) {
			continue // it is alive, or has what nobody else has
		}
		if why := x.follow(s, lost); why != "" {
			return why
		}
	}
	return ""
}

func (x *explorer) follow(s *state, lost int) string {
	s = s.clone()
	s.left, s.only, s.slow = 0, lateSome, 0
	begun := s.now
	var path []key
	x.tail = nil
	for !x.w.runs(s) {
		k := x.w.key(s)
		k[0] ^= byte(lost + 1)
		if x.fine[k] {
			break
		}
		path = append(path, k)
		if s.now-begun > within {
			return fmt.Sprintf("the VM does not run again within %v after the last disturbance", within)
		}
		name := x.benign(s, lost)
		if name == "" && !x.w.pass(s) {
			return "the VM does not run again, and nothing happens any more"
		}
		x.w.settle(s)
		x.tail = append(x.tail, x.w.line(s, name))
		if why := x.w.broken(s); why != "" {
			return why
		}
	}
	for _, k := range path {
		x.fine[k] = true
	}
	x.res.Settled++
	x.res.Longest = max(x.res.Longest, s.now-begun)
	return ""
}

// benign does the first thing that happens by itself.
func (x *explorer) benign(s *state, lost int) string {
	for _, m := range x.w.moves(s) {
		if m.benign && (lost < 0 || m.name != hostNames[lost]+" comes back") {
			m.execute(s)
			return m.name
		}
	}
	return ""
}

// history tells the way to a state, by playing it again.
func (x *explorer) history(n int32) []string {
	var names []string
	for ; n >= 0; n = x.ways[n].parent {
		names = append(names, x.ways[n].name)
	}
	_, s, err := newWorld(x.w.Config)
	if err == nil {
		err = x.w.prelude(s)
	}
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, name := range x.w.Begin {
		out = append(out, x.w.line(s, name))
	}
	for i := len(names) - 2; i >= 0; i-- {
		if names[i] == "" {
			x.w.pass(s)
		} else {
			for _, m := range x.w.moves(s) {
				if m.name == names[i] {
					if m.costs {
						s.left--
						s.only |= m.only
					}
					m.execute(s)
					break
				}
			}
		}
		x.w.settle(s)
		out = append(out, x.w.line(s, names[i]))
	}
	return out
}

// prelude does what an exploration begins with.
func (w *world) prelude(s *state) error {
	left, kinds := s.left, w.Kinds
	defer func() { w.Kinds, s.left = kinds, left }()
	w.Kinds = AllOfIt
next:
	for _, name := range w.Begin {
		s.left = 1
		for _, m := range w.moves(s) {
			if m.name == name {
				s.only |= m.only
				m.execute(s)
				w.settle(s)
				continue next
			}
		}
		return holdfast.Errorf(holdfast.Invalid, "it cannot begin with %q", name)
	}
	return nil
}

// line is what has just happened, and what two hosts do, for people.
func (w *world) line(s *state, what string) string {
	if what == "" {
		what = "time goes on"
	}
	var parts []string
	acts := [...]string{"no machine", "starting", "running", "stopping", "paused"}
	for h := range s.hosts {
		x := &s.hosts[h]
		t := hostNames[h] + ": " + acts[x.m.act]
		if !x.up {
			t += ", process down"
		}
		if x.w.on {
			t += fmt.Sprintf(", writes epoch %d", x.w.epoch)
		}
		if x.o.stage != 0 {
			t += fmt.Sprintf(", opens epoch %d", x.o.epoch)
		}
		parts = append(parts, t)
	}
	return fmt.Sprintf("%8.3f s  %-50s %s", (s.now - 10*time.Second).Seconds(), what, strings.Join(parts, " | "))
}
