package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// faults is the hand that breaks things: it has the lines of a story happen, or
// draws lines, one fault every few seconds, each of which is put right again
// some time later. Each seed draws from a choice of the kinds of faults only, so
// that the others do not drown what these do together.
type faults struct {
	s       *simulation
	rng     *rand.Rand
	kinds   []faultKind // those of this seed
	sum     int         // of their weights
	every   time.Duration
	lasts   time.Duration
	drawn   int  // times that a kind was chosen
	over    bool // none is drawn any more
	stopped bool // nor is anything played
	ended   clock.Event
	told    clock.Event // the story is at its end
	wake    clock.Event
}

// faultKind is one way to break things, and how often it is chosen. It draws
// whom it strikes, and for how long, and has that happen by faults.strike, at
// once or later: it touches nothing itself.
type faultKind struct {
	name   string
	weight int
	strike func(*faults)
}

func faultKinds() []faultKind {
	return []faultKind{
		{"kill", 16, func(f *faults) { f.strike("kill host %s for %v", f.host().name, f.length()) }},
		{"power-host", 14, func(f *faults) { f.strike("power off host %s for %v", f.host().name, f.length()) }},
		{"power-rack", 10, func(f *faults) { f.powerOff("rack " + f.rack()) }},
		{"power-everything", 5, func(f *faults) { f.powerOff("everything") }},
		{"isolate-host", 10, (*faults).isolateHost},
		{"isolate-rack", 8, func(f *faults) { f.strike("cut rack %s for %v", f.rack(), f.length()) }},
		{"freeze", 8, func(f *faults) { f.strike("freeze host %s for %v", f.host().name, f.length()) }},
		{"freeze-process", 4, func(f *faults) { f.strike("freeze process %s for %v", f.host().name, f.length()) }},
		{"slow-disk", 5, func(f *faults) { f.strike("disk slow %s x%d for %v", f.host().name, 50+f.rng.IntN(200), f.length()) }},
		{"hung-disk", 3, func(f *faults) { f.strike("disk hang %s for %v", f.host().name, f.length()) }},
		{"failed-sync", 3, (*faults).failSync},
		{"flaky-disk", 4, (*faults).flakyDisk},
		{"full-disk", 3, (*faults).fullDisk},
		{"pulled-disk", 4, (*faults).pullDisk},
		{"kv-away", 3, (*faults).kvAway},
		{"kv-slow", 3, func(f *faults) {
			f.strike("kv slow %v for %v", time.Duration(1+f.rng.IntN(30))*100*time.Millisecond, f.length())
		}},
		{"kv-lossy", 4, func(f *faults) { f.strike("kv lossy %d%% for %v", 20+f.rng.IntN(81), f.length()) }},
		{"kv-forgets", 2, func(f *faults) { f.strike("kv forget") }},
		{"bad-network", 3, func(f *faults) { f.strike("storm for %v", f.length()) }},
		{"slow-network", 3, (*faults).slowNetwork},
		{"blip", 5, func(f *faults) { f.strike("power off host %s for %v", f.replicaHost().name, f.upTo(2*time.Second)) }},
		{"restart", 6, (*faults).restart},
		{"strand", 10, (*faults).strand},
		{"trap", 8, (*faults).trap},
		{"stand-still", 6, (*faults).standStill},
		{"jump-clock", 2, (*faults).jumpClock},
		{"flap", 6, (*faults).flap},
		{"crash-again", 5, (*faults).crashAgain},
		{"kv-elects", 3, (*faults).kvElects},
		{"old-copy", 3, (*faults).oldCopy},
		{"swap-disks", 2, (*faults).swapDisks},
	}
}

// kindNames are the names of all kinds of faults.
func kindNames() (list string) {
	for i, k := range faultKinds() {
		if i > 0 {
			list += ", "
		}
		list += k.name
	}
	return list
}

const (
	faultSoon  = 500 * time.Millisecond  // at least, between two
	faultEvery = 2100 * time.Millisecond // on average: 0.48 a second, less what the next waits for
	faultLasts = 6 * time.Second         // on average, in most seeds
	leastKinds = 5
)

func (s *simulation) startFaults() *faults {
	f := &faults{s: s, rng: s.w.Rand("faults"), every: faultEvery, lasts: faultLasts, ended: s.c.NewEvent(), told: s.c.NewEvent(), wake: s.c.NewEvent()}
	if len(s.story.Lines) > 0 || s.quiet {
		s.c.Go(func() { f.playLines(s.story.Lines) })
		return f
	}
	if f.rng.IntN(3) == 0 {
		f.lasts /= 4
	}
	for all := faultKinds(); len(f.kinds) < leastKinds; {
		f.kinds, f.sum = nil, 0
		for _, k := range all {
			if f.rng.IntN(2) == 0 {
				f.kinds, f.sum = append(f.kinds, k), f.sum+k.weight
			}
		}
	}
	f.mix(s.story.Setup)
	s.forcing.start(f)
	s.memories.start(f)
	s.c.Go(f.run)
	return f
}

// mix has the story say what is drawn instead.
func (f *faults) mix(setup []story.Line) {
	named := false
	for _, l := range setup {
		switch {
		case l.Kind == "pace":
			f.every, f.lasts = max(l.Time("every"), faultSoon+time.Millisecond), max(l.Time("lasting"), time.Millisecond)
		case l.Kind == "mix":
			if !named {
				f.kinds, f.sum, named = nil, 0, true
			}
			for _, k := range faultKinds() {
				if k.name == l.Text("kind") {
					k.weight = l.Count("weight")
					f.kinds, f.sum = append(f.kinds, k), f.sum+k.weight
				}
			}
		}
	}
}

// end has no more faults happen.
func (f *faults) end() {
	f.over = true
	f.wake.Set()
}

func (f *faults) stop() {
	f.end()
	f.stopped = true
	f.ended.Wait(clock.Forever)
}

func (f *faults) run() {
	defer f.ended.Set()
	for {
		f.wake.Wait(faultSoon + f.upTo(2*(f.every-faultSoon)))
		if f.over {
			return
		}
		if f.tooMany() {
			f.tend()
			continue
		}
		if f.drawn++; f.behind() {
			f.restart() // too few faults so far and too few operations: it costs the least
			continue
		}
		f.choose()
	}
}

// strike has a fault happen now, and writes it down.
func (f *faults) strike(format string, args ...any) { f.s.strike(f.s.say(format, args...)) }

// strikeUnlessOver is strike while clients still go on.
func (f *faults) strikeUnlessOver(format string, args ...any) {
	if !f.over {
		f.strike(format, args...)
	}
}

// after runs something that strikes in a while, if clients still go on then.
func (f *faults) after(d time.Duration, then func()) {
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, d)
		if !f.over {
			then()
		}
	})
}

// upTo draws a time, in milliseconds.
func (f *faults) upTo(most time.Duration) time.Duration {
	return time.Duration(f.rng.Int64N(max(1, int64(most/time.Millisecond)))) * time.Millisecond
}

// length draws how long a fault lasts.
func (f *faults) length() time.Duration { return time.Millisecond + f.upTo(2*f.lasts) }

// lengths draws it for several hosts, each by itself.
func (f *faults) lengths(n int) (list string) {
	for i := range n {
		if i > 0 {
			list += ","
		}
		list += f.length().String()
	}
	return list
}

// tend does what somebody does who sees that nothing goes on: a host that has
// given its disk up gets another chance with it.
func (f *faults) tend() {
	for _, h := range f.s.hosts {
		if h.computer != nil && !h.paused && h.fenced() {
			f.strike("power cycle host %s", h.name)
		}
	}
}

// tooMany holds the next fault back while the clients cannot work for the last
// ones, unless there were too few so far.
func (f *faults) tooMany() bool {
	gone := f.s.sinceBegun().Seconds()
	return float64(f.s.done()) < 1.5*busyOps*gone && float64(f.drawn) > 1.14*busyFaults*gone
}

// behind reports whether the clients have done hardly enough so far.
func (f *faults) behind() bool {
	return float64(f.s.done()) < 1.1*busyOps*f.s.sinceBegun().Seconds()
}

// host chooses a host; often one whose loss is felt.
func (f *faults) host() *host {
	any := f.s.hosts[f.rng.IntN(len(f.s.hosts))]
	switch f.rng.IntN(8) {
	case 0, 1:
		if w, _ := f.writer(); w != nil {
			return w
		}
	case 2:
		if _, h, _ := f.joining(); h != nil {
			return h
		}
	}
	return any
}

// rack returns the rack of a random host.
func (f *faults) rack() string { return f.host().rec.Domain.Rack }

// disk returns one of a host's disks, as a story names it.
func (f *faults) disk(h *host) string {
	return fmt.Sprintf("%s/%d", h.name, 1+f.rng.IntN(len(h.media())))
}

// choose draws a fault.
func (f *faults) choose() {
	n := f.rng.IntN(f.sum)
	for _, k := range f.kinds {
		if n -= k.weight; n < 0 {
			k.strike(f)
			return
		}
	}
}

// powerOff takes the power of several hosts, which come back one by one.
func (f *faults) powerOff(place string) {
	c := f.s.say("power off %s", place)
	f.strike("power off %s for %s", place, f.lengths(min(len(f.s.at(c)), 30)))
}

// restart is the end of a process whose next life begins at once.
func (f *faults) restart() {
	f.strike("kill host %s for %v", f.replicaHost().name, f.upTo(300*time.Millisecond))
}

// replicaHost chooses a host; mostly one that has a replica of a volume that
// another host writes.
func (f *faults) replicaHost() *host {
	if w, v := f.writer(); w != nil && f.rng.IntN(4) > 0 {
		for _, r := range v.InSync {
			if r.Host != w.rec.ID {
				return f.s.byID(r.Host)
			}
		}
	}
	return f.host()
}

func (f *faults) isolateHost() {
	h, way, plane := f.host(), "", " data"
	switch f.rng.IntN(3) {
	case 0:
		way = " out"
	case 1:
		way = " in"
	}
	if f.rng.IntN(2) == 0 {
		plane = ""
	}
	f.strike("cut host %s%s%s for %v", h.name, way, plane, f.length())
}

// slowNetwork delays frames, one way, between a host and all others.
func (f *faults) slowNetwork() {
	h, way := f.host(), "in"
	if f.rng.IntN(2) == 0 {
		way = "out"
	}
	f.strike("slow %s %s by %v for %v", h.name, way, time.Millisecond+f.upTo(1500*time.Millisecond), f.length())
}

// kvAway takes the control plane away, or has it change its leader.
func (f *faults) kvAway() {
	if f.rng.IntN(2) == 0 {
		f.strike("kv away for %v", f.length())
		return
	}
	f.strike("kv leader after %v", f.upTo(3*time.Second))
}
