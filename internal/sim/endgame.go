package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// endgame is what comes after the free faults of a seed: a few situations
// (situations.go), drawn from it, that each bring the cluster into one of the narrow
// windows in which a single rule of the protocol is all that keeps a promise, and
// strike there. Free faults come by such a window in one seed of many thousands.
// What it strikes are lines of the story like all others; it draws from a stream of
// its own, so that nothing before it depends on it.
type endgame struct {
	s   *simulation
	rng *rand.Rand
}

// situation is one of them; it reports whether there was what it needs.
type situation struct {
	name string
	play func(*endgame) bool
}

const (
	endgameEach = 1 // situations in a seed, unless more are asked for
	endgameLook = 2 * time.Millisecond
	calmLimit   = 8 * time.Second // for the cluster to be whole between two situations
)

// newEndgame is that of the run; nil: it has none, since a story says what happens,
// or since it is short. Of runs with a third of the usual operations every third has
// one, so that it takes about a tenth of the time of all.
func (s *simulation) newEndgame() *endgame {
	e := &endgame{s: s, rng: s.w.Rand("endgame")}
	short := s.o.Situations == 0 && s.o.Steps > 0 && s.o.Steps <= e.rng.IntN(defaultSteps)
	if short || len(s.story.Lines) > 0 || !s.with("endgame") || s.said("mix") || s.said("pace") {
		return nil
	}
	return e
}

// play waits until the free part of the run is over, and plays.
func (e *endgame) play() {
	for !e.s.asked() && !e.failed() {
		clock.Sleep(e.s.c, endgameLook)
	}
	e.s.faults.end()
	e.s.busy()
	e.aim()
	e.s.over = e.s.sinceBegun() + time.Millisecond
}

func (e *endgame) aim() {
	all := situations()
	left := max(e.s.o.Situations, endgameEach)
	for _, i := range e.rng.Perm(len(all)) {
		e.calm()
		if left == 0 || e.failed() {
			break
		}
		fmt.Fprintf(e.s.o.Out, "%12s  situation: %s\n", "", all[i].name) // not of the history, which the lines make
		if all[i].play(e) {
			left--
			e.s.res.Situations[all[i].name]++
		}
	}
	if !e.failed() {
		e.lastly()
	}
}

func (e *endgame) failed() bool { return len(e.s.res.Failures) > 0 }

// calm puts right what there is of faults, and waits until the clients' volumes have
// all their copies.
func (e *endgame) calm() {
	e.strike("heal")
	for _, h := range e.s.hosts {
		switch {
		case h.computer == nil:
			e.strike("power on host %s", h.name)
		case h.paused:
			e.strike("thaw host %s", h.name)
		case h.agent == nil:
			e.strike("start host %s", h.name)
		}
	}
	e.await(calmLimit, e.whole)
}

// whole reports whether every host is there and the clients' volumes are whole.
func (e *endgame) whole() bool {
	st := e.s.eye.State()
	for _, h := range e.s.hosts {
		if !h.serving() || !st.AliveHost(h.rec.ID) {
			return false
		}
	}
	for _, c := range e.s.clients {
		if v := st.Volumes[c.vol.ID].Val; c.disk == nil || len(v.InSync) < v.Copies || len(v.Others) > 0 {
			return false
		}
	}
	return true
}

// strike has a line happen now.
func (e *endgame) strike(format string, args ...any) { e.s.strike(e.s.say(format, args...)) }

// await waits until something is so, and reports whether it was in time.
func (e *endgame) await(limit time.Duration, is func() bool) bool {
	for end := e.s.w.Now() + limit; !is(); clock.Sleep(e.s.c, endgameLook) {
		if e.s.w.Now() >= end || e.failed() {
			return false
		}
	}
	return true
}

// sleep lets time pass.
func (e *endgame) sleep(d time.Duration) {
	e.await(d, func() bool { return false })
}

// between draws a time, in milliseconds.
func (e *endgame) between(least, most time.Duration) time.Duration {
	return least + time.Duration(e.rng.Int64N(int64((most-least)/time.Millisecond)+1))*time.Millisecond
}

// scene is a client's volume, the host that writes it, and another one that has a
// copy in sync.
type scene struct {
	c              *blockClient
	v              cluster.Volume
	writer, member *host
}

// scene draws one that is as it should be; nil: there is none.
func (e *endgame) scene(should func(*scene) bool) *scene {
	for _, i := range e.rng.Perm(len(e.s.clients)) {
		c := e.s.clients[i]
		v, err := cluster.PeekVolume(e.s.peek, c.vol.ID)
		w := e.s.byID(v.Writer)
		if err != nil || w == nil || !w.serving() || len(v.Others) > 0 {
			continue
		}
		for _, k := range e.rng.Perm(len(v.InSync)) {
			x := &scene{c: c, v: v, writer: w, member: e.s.byID(v.InSync[k].Host)}
			if x.member != nil && x.member != w && x.member.serving() && should(x) {
				return x
			}
		}
	}
	return nil
}

func whichever(*scene) bool { return true }

// record is the volume's as it is known now.
func (x *scene) record(e *endgame) cluster.Volume { return e.s.eye.State().Volumes[x.c.vol.ID].Val }

// claimed reports whether somebody has begun to open the volume since.
func (x *scene) claimed(e *endgame) func() bool {
	return func() bool { return x.record(e).Epoch > x.v.Epoch }
}

// copies are the hosts with copies in sync, but for one.
func (x *scene) copies(e *endgame, but *host) (hosts []*host) {
	for _, r := range x.v.InSync {
		if h := e.s.byID(r.Host); h != nil && h != but {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// but names all hosts but some, as a story does.
func (e *endgame) but(some ...*host) string {
	var names []string
	for _, h := range e.s.hosts {
		if !slices.Contains(some, h) {
			names = append(names, h.name)
		}
	}
	return strings.Join(names, ",")
}

// isIn reports whether a replica on a host is among some.
func isIn(refs []cluster.Replica, id holdfast.HostID) bool {
	return slices.ContainsFunc(refs, func(r cluster.Replica) bool { return r.Host == id })
}
