// Package sim runs a whole cluster of the product's own node code in one
// simulated world and checks what it promises (docs/INVARIANTS.md): a seed
// gives the topology, the clients' operations and the faults, and the same
// seed gives the same history, byte for byte.
//
// A run is a story (internal/story, docs/adr/0079): whatever breaks or mends
// something while clients go on is a line, such as "power off rack b for 6s",
// which simulation.strike has happen and writes down. Nobody else touches disks,
// network, power or control plane meanwhile. To add a fault: give its line a form
// in internal/story/forms.go; have deeds.go do it, and undo it, without drawing
// anything; and add a kind to faultKinds in faults.go that draws whom it strikes
// and calls faults.strike("disk slow %s x%d for %v", …), later ones by
// faults.after. The line then is played again from a recorded run, left out by
// the reducer and written in stories by hand.
package sim

import (
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// Options choose a run.
type Options struct {
	Seed  uint64
	Steps int           // client operations, before the endgame; 0: as the story says, or 10000
	Lasts time.Duration // clients and faults go on for so long; 0: until Steps are done
	Story *story.Story  // what is not left to the seed; nil: nothing
	Trace slog.Level    // of the product's own log, with Log
	Log   io.Writer     // the product's log; nil: none
	Out   io.Writer     // the history: faults, findings, summary

	Situations int // of the endgame, also of a run that is short; 0: one, of some short ones none
}

// Result is what a run came to.
type Result struct {
	Seed       uint64
	Ops        int
	Faults     int
	Opened     int               // sessions that clients opened
	Observed   int               // reads by who is not the volume's client
	Lost       int               // cache losses, each after power was lost everywhere
	Judged     int               // reads that Porcupine has judged
	Kinds      map[string]int    // of faults
	Situations map[string]int    // of the endgame, that were played
	Visits     map[string]uint64 // of the protocol's machines: state, event
	// TakeOvers are the sessions of clients at a new epoch over one that was there,
	// Recoveries the disks that were opened after their process or power had gone,
	// Partitions the cuts of the network, whole or in one direction.
	TakeOvers, Recoveries, Partitions int
	Time                              time.Duration // simulated
	Busy                              time.Duration // of it, before everything was put right
	Hash                              uint64        // of the history
	Failures                          []string
	Story                             *story.Story // the run, written down: with its seed it is the same again
}

// rate is how often something happened in a second of the time that clients
// and faults went on.
func (r *Result) rate(n int) float64 {
	if r.Busy == 0 {
		return 0
	}
	return float64(n) / r.Busy.Seconds()
}

// simulation is one run.
type simulation struct {
	o    Options
	w    *simclock.World
	c    clock.Clock
	rng  *rand.Rand
	net  *simnet.Net
	kv   *memkv.Server
	log  *slog.Logger
	hist interface {
		io.Writer
		Sum64() uint64
	}

	hosts    []*host
	clients  []*blockClient
	vms      *vmCheck
	vmDisks  *vmDisks
	image    holdfast.VolumeID
	eye      *cluster.Client // sees the records, for faults and checks that aim
	op       *operator
	sealings *sealings
	members  *members
	telling  *telling
	limits   *limiting
	groups   *grouping
	drains   *drains
	forcing  *forcing
	memories *memories
	acting   int  // orders that are being carried out
	judged   bool // the clients' histories
	observer *observer
	promises *promises
	endgame  *endgame // nil: there is none
	faults   *faults
	lang     *story.Language
	story    *story.Story // as it was given
	quiet    bool         // nothing goes on that the story does not say
	setup    []story.Line // as it was played
	plan     plan
	struck   []story.Line  // what was done so far
	cuts     []*cutting    // of the network, which last
	toldAll  bool          // the story is at its end
	over     time.Duration // when clients stop at the earliest, since they began
	visited  *visited
	res      Result
	ending   bool
	healed   bool          // no fault stands any more,
	healedAt time.Duration // since then
	settled  bool          // the operator has set everything right
	begun    time.Duration // of clients and faults

	copied     int  // disks
	oldCopies  int  // of disks that came in their place
	kvTroubled bool // the control plane was away, or without a leader, since somebody looked
	audits     int  // of what a loss of the cache has left

	mapMemory int64 // of every disk's store

	keyless bool // a host that starts again has no cluster key, and asks others for it

	twoDisks bool       // the hosts have two disks each
	disks    *rand.Rand // decides on them
}

const (
	defaultSteps = 10000
	busyOps      = 100             // operations in every simulated second of clients and faults, on average over a run
	busyFaults   = 0.2             // faults
	runLimit     = time.Hour       // of simulated time: a run that needs more hangs
	healLimit    = 3 * time.Minute // for everything to be whole again after the last fault
)

// Run plays one seed.
func Run(o Options) Result {
	if o.Out == nil {
		o.Out = io.Discard
	}
	s := newSimulation(o.seeded())
	s.play(s.script)
	s.judge()
	s.res.Visits = s.visits()
	s.res.Time = s.w.Now()
	s.close()
	s.res.Hash = s.hist.Sum64()
	s.summary()
	s.res.Story = s.written()
	return s.res
}

// seeded has the story's seed where there is no other.
func (o Options) seeded() Options {
	if seed := o.Story.Of("seed"); o.Seed == 0 && len(seed) > 0 {
		o.Seed = seed[0].Seed("seed")
	}
	return o
}

// Check says what of the story cannot be: kind Invalid, with its file and line.
func (o Options) Check() error {
	s := newSimulation(o.seeded())
	defer s.w.Close()
	return s.prepare()
}

// newSimulation makes the world of a run, without hosts.
func newSimulation(o Options) *simulation {
	w := simclock.NewWorld(o.Seed)
	s := &simulation{o: o, w: w, c: w.Clock(), rng: w.Rand("script"), hist: fnv.New64a(), mapMemory: mapMemory}
	s.res.Seed, s.res.Kinds, s.res.Situations = o.Seed, make(map[string]int), make(map[string]int)
	s.log, s.visited = s.logger(), newVisited()
	s.lang, s.disks = story.NewLanguage(), w.Rand("second disks")
	if s.story = o.Story; s.story == nil {
		s.story = &story.Story{}
	}
	s.memories = s.newMemories()
	s.net = simnet.New(w, simnet.LAN())
	s.promises = newPromises(s)
	s.net.OnReply(s.promises.replied)
	s.kv = memkv.NewServer(memkv.Config{Clock: s.c, Rand: w.Rand})
	return s
}

// play runs a script to its end, or until it stops for a failure.
func (s *simulation) play(script func()) {
	done := false
	s.c.Go(func() {
		defer func() { done = true }()
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(stop); !ok {
					panic(r)
				}
			}
		}()
		script()
	})
	if !s.w.RunUntil(func() bool { return done }, runLimit) {
		s.fail("the run hangs: %v", s.w)
	}
}

// busy fails a run in which too little happened to mean anything, in the part of it
// that is drawn freely.
func (s *simulation) busy() {
	r := &s.res
	r.Ops, r.Busy = s.done(), s.sinceBegun()
	if len(s.story.Lines) == 0 && s.o.Steps >= defaultSteps && len(r.Failures) == 0 && (r.rate(r.Ops) < busyOps || r.rate(r.Faults) < busyFaults) {
		s.fail("too little happened: %.0f operations and %.2f faults a second", r.rate(r.Ops), r.rate(r.Faults))
	}
}

// asked reports whether the clients have done what was asked for.
func (s *simulation) asked() bool {
	return s.o.Steps > 0 && s.done() >= s.o.Steps || s.o.Lasts > 0 && s.sinceBegun() >= s.o.Lasts
}

// enough reports whether the clients are to stop: an endgame goes on a while.
func (s *simulation) enough() bool {
	if s.toldAll || len(s.res.Failures) > 0 {
		return true
	}
	return s.asked() && s.sinceBegun() >= s.over && (s.over > 0 || s.endgame == nil)
}

// done counts the clients' operations.
func (s *simulation) done() (n int) {
	for _, c := range s.clients {
		n += c.ops
	}
	return n
}

// stop ends the script after a failure that makes going on pointless.
type stop struct{}

func (s *simulation) logger() *slog.Logger {
	if s.o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(s.o.Log, &slog.HandlerOptions{Level: s.o.Trace, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.String("at", s.w.Now().String())
		}
		return a
	}}))
}

// tell writes a line of history.
func (s *simulation) tell(format string, args ...any) {
	line := fmt.Sprintf("%12.6f  %s\n", s.w.Now().Seconds(), fmt.Sprintf(format, args...))
	io.WriteString(s.hist, line)
	io.WriteString(s.o.Out, line)
}

// note adds to the history's hash without printing.
func (s *simulation) note(format string, args ...any) {
	fmt.Fprintf(s.hist, "%d ", s.w.Now())
	fmt.Fprintf(s.hist, format, args...)
}

func (s *simulation) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.tell("FAILURE: %s", text)
	s.res.Failures = append(s.res.Failures, text)
}

func (s *simulation) must(err error, what string) {
	if err != nil {
		s.fail("%s: %v", what, err)
		panic(stop{})
	}
}

func (s *simulation) summary() {
	r := s.res
	fmt.Fprintf(s.o.Out, "seed %d: %d operations (%.0f a second), %d faults (%.2f a second), %d sessions, %d reads beside them, %d cache losses in %.1f simulated seconds; history %016x\n",
		r.Seed, r.Ops, r.rate(r.Ops), r.Faults, r.rate(r.Faults), r.Opened, r.Observed, r.Lost, r.Time.Seconds(), r.Hash)
	if len(r.Failures) > 0 {
		fmt.Fprintf(s.o.Out, "FAILED: %d findings; again with: %s\n", len(r.Failures), s.again())
	}
}

// again is the command that plays the same run.
func (s *simulation) again() string {
	switch {
	case s.o.Story != nil && len(s.o.Story.Lines) > 0:
		return "holdfast sim play " + s.story.Name
	case s.o.Lasts > 0:
		return fmt.Sprintf("holdfast sim --seed %d --minutes %g", s.o.Seed, s.o.Lasts.Minutes())
	}
	return fmt.Sprintf("holdfast sim --seed %d --steps %d", s.o.Seed, s.o.Steps)
}

// script is the run: found the cluster, let clients and faults go, heal, check.
func (s *simulation) script() {
	s.found()
	s.begun = s.w.Now()
	s.endgame = s.newEndgame()
	s.faults = s.startFaults()
	s.op = s.startOperator()
	s.observer = s.startObserver()
	s.watchAwake()
	s.watchConditions()
	s.drains.start()
	for _, c := range s.clients {
		s.c.Go(c.run)
	}
	if s.endgame != nil {
		s.endgame.play()
	}
	for _, c := range s.clients {
		c.wait()
	}
	s.faults.wait()
	s.faults.stop()
	s.acted()
	if s.endgame == nil {
		s.busy()
	}
	s.res.Busy = s.sinceBegun() // the operator may still wait for a host that is gone
	s.op.stop()
	s.drains.stop()
	s.ending = true
	s.res.Ops = s.done()
	s.heal()
	s.converge()
	s.vms.goOn()
	s.verify()
	s.res.Observed = s.observer.reads
}

func (s *simulation) close() {
	var clocks []*simclock.Host
	for _, h := range s.hosts {
		clocks = append(clocks, h.agent, h.computer)
	}
	var live []*simclock.Host
	for _, c := range clocks {
		if c != nil {
			live = append(live, c)
		}
	}
	s.w.Close(live...)
}
