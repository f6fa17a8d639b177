package drill

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// The kinds of faults of a torture.
const (
	killRack     = "rack killed"             // all processes of a rack end at once; volatile hosts forget what was not synced
	killHost     = "host killed"             // of one host
	killServe    = "process killed"          // a host's own; its machines go on
	killMachine  = "machine killed"          // one VM's emulator
	freezeRack   = "rack frozen"             // stopped where it stands, then let go on
	freezeServe  = "process frozen"          // a host's own; its machines go on
	restartRack  = "rack restarted"          // in order, as by an upgrade
	powerAll     = "all power lost"          // every host at once
	cutRack      = "rack cut off"            // from all others
	cutHost      = "host cut off"            // from all others
	cutPair      = "racks cut apart"         // two of them from each other
	cutOneWay    = "one direction cut"       // what one rack sends to another
	cutData      = "replicas cut apart"      // not the control plane
	cutLeader    = "leader's etcd cut off"   // the control plane's leader from the other members
	cutLeaderOut = "leader's etcd gone deaf" // only what others send to the leader
	cutMajority  = "etcd's majority away"    // every member from every other
	flapRack     = "link flaps"              // a rack is cut off and connected again and again
	shapeRack    = "links shaped"            // slow, long or lossy
	fillDisks    = "disks filled"            // until nothing more can be written
	rotBlocks    = "bytes flipped"           // in the blocks of one host's disk
	operate      = "snapshots come and go"   // of volumes in use
)

// tortureKind is what is drawn from: how long a fault lasts, and what it excludes.
type tortureKind struct {
	name        string
	least, most time.Duration
	process     bool // it acts on processes: of two in an episode each has racks of its own
	alone       bool // nothing else goes on meanwhile
	slow        bool // too slow for a short torture
}

func tortureKinds() []tortureKind {
	const s = time.Second
	return []tortureKind{
		{name: killRack, least: 2 * s, most: 15 * s, process: true},
		{name: freezeRack, least: 1 * s, most: 14 * s, process: true},
		{name: cutRack, least: 2 * s, most: 15 * s},
		{name: shapeRack, least: 5 * s, most: 20 * s},
		{name: killServe, least: 0, most: 6 * s, process: true},
		{name: cutLeader, least: 3 * s, most: 15 * s},
		{name: rotBlocks, alone: true},
		{name: killHost, least: 2 * s, most: 15 * s, process: true},
		{name: cutOneWay, least: 3 * s, most: 15 * s},
		{name: killMachine, process: true},
		{name: cutMajority, least: 3 * s, most: 20 * s},
		{name: powerAll, least: 0, most: 3 * s, alone: true},
		{name: freezeServe, least: 1 * s, most: 10 * s, process: true},
		{name: cutPair, least: 3 * s, most: 15 * s},
		{name: cutData, least: 3 * s, most: 15 * s},
		{name: operate, least: 3 * s, most: 10 * s},
		{name: restartRack, process: true},
		{name: cutHost, least: 2 * s, most: 15 * s},
		{name: cutLeaderOut, least: 3 * s, most: 15 * s},
		{name: flapRack, least: 4 * s, most: 12 * s},
		{name: fillDisks, least: 3 * s, most: 6 * s, alone: true, slow: true},
	}
}

// torment is one fault of an episode.
type torment struct {
	kind  string
	after time.Duration // since the episode began
	lasts time.Duration
	racks []string // what it is about: one, or two
	host  string   // in the first of them
	shape link.Shape
	seed  uint64 // of what is left to chance when it happens
}

func (f torment) String() string {
	what := "rack " + strings.Join(f.racks, " and ")
	switch f.kind {
	case killHost, killServe, freezeServe, cutHost, rotBlocks:
		what = "host " + f.host
	case cutOneWay:
		what = "from " + f.racks[0] + " to " + f.racks[1]
	case shapeRack:
		what = fmt.Sprintf("rack %s: %v", f.racks[0], f.shape)
	case killMachine, powerAll, cutLeader, cutLeaderOut, cutMajority, fillDisks, operate:
		what = ""
	}
	if f.lasts > 0 {
		what = strings.TrimSpace(what + " for " + f.lasts.Round(100*time.Millisecond).String())
	}
	return what
}

// planner draws faults by a seed. Kinds are dealt like cards: each comes once
// before any comes again.
type planner struct {
	rng   *rand.Rand
	racks map[string][]string // hosts by racks
	kinds []tortureKind
	deck  []tortureKind
}

func newPlanner(seed uint64, racks map[string][]string, only []string, short bool) (*planner, error) {
	p := &planner{rng: rand.New(rand.NewPCG(seed, 0x746f7274757265)), racks: racks}
	for _, k := range tortureKinds() {
		if len(only) > 0 && !slices.Contains(only, k.name) || len(only) == 0 && short && k.slow {
			continue
		}
		p.kinds = append(p.kinds, k)
	}
	for _, name := range only {
		if !slices.ContainsFunc(tortureKinds(), func(k tortureKind) bool { return k.name == name }) {
			var names []string
			for _, k := range tortureKinds() {
				names = append(names, k.name)
			}
			return nil, holdfast.Errorf(holdfast.Invalid, "--faults %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	return p, nil
}

const (
	mostTorments   = 3                // in an episode
	episodeStagger = 10 * time.Second // all of them begin within it
)

// episode draws one to three faults that go on side by side.
func (p *planner) episode() (out []torment) {
	want := 1 + p.rng.IntN(mostTorments)
	free := p.names() // racks whose processes nothing is planned for
	p.rng.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for len(out) < want {
		if len(p.deck) == 0 {
			p.deck = slices.Clone(p.kinds)
			p.rng.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
			if len(out) > 0 {
				break
			}
		}
		k := p.deck[0]
		if k.alone && len(out) > 0 || k.process && len(free) == 0 {
			break
		}
		p.deck = p.deck[1:]
		racks := free
		if k.process {
			racks, free = free[:1], free[1:]
		} else {
			racks = p.names()
			p.rng.Shuffle(len(racks), func(i, j int) { racks[i], racks[j] = racks[j], racks[i] })
		}
		out = append(out, p.draw(k, racks))
		if k.alone {
			break
		}
	}
	return out
}

func (p *planner) names() (out []string) {
	for r := range p.racks {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

func (p *planner) draw(k tortureKind, racks []string) torment {
	f := torment{kind: k.name, after: time.Duration(p.rng.Int64N(int64(episodeStagger))), lasts: k.least, seed: p.rng.Uint64()}
	if k.most > k.least {
		f.lasts += time.Duration(p.rng.Int64N(int64(k.most - k.least)))
	}
	f.racks = slices.Clone(racks[:1])
	if k.name == cutPair || k.name == cutOneWay || k.name == cutData {
		f.racks = slices.Clone(racks[:2])
	}
	hosts := p.racks[racks[0]]
	f.host = hosts[p.rng.IntN(len(hosts))]
	if k.name == shapeRack {
		f.shape = p.shape()
	}
	return f
}

// shape is a bad line, one of three kinds.
func (p *planner) shape() link.Shape {
	ms := func(n int) time.Duration { return time.Duration(1+p.rng.IntN(n)) * time.Millisecond }
	switch p.rng.IntN(3) {
	case 0:
		return link.Shape{Delay: ms(80), Jitter: ms(20)}
	case 1:
		return link.Shape{Loss: 0.001 + 0.03*p.rng.Float64()}
	}
	return link.Shape{Rate: int64(2+p.rng.IntN(40)) * 1e6, Delay: ms(10)}
}
