package sim

import (
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// faults is the hand that breaks things, one fault every few seconds, and puts
// each right again some time later. Each seed plays a choice of the kinds of
// faults only, so that the others do not drown what these do together.
type faults struct {
	s     *simulation
	rng   *rand.Rand
	kinds []faultKind // those of this seed
	sum   int         // of their weights
	lasts time.Duration
	over  bool
	ended clock.Event
	wake  clock.Event
}

// faultKind is one way to break things, and how often it is chosen.
type faultKind struct {
	weight int
	strike func(*faults)
}

func faultKinds() []faultKind {
	return []faultKind{
		{16, func(f *faults) { f.killProcess(f.host()) }},
		{14, func(f *faults) { f.cutPower([]*host{f.host()}, "host") }},
		{10, (*faults).cutRack},
		{5, func(f *faults) { f.cutPower(f.s.hosts, "everything") }},
		{10, (*faults).isolateHost},
		{8, (*faults).isolateRack},
		{8, (*faults).freeze},
		{4, (*faults).freezeProcess},
		{5, (*faults).slowDisk},
		{3, (*faults).hungDisk},
		{3, (*faults).failSync},
		{4, (*faults).flakyDisk},
		{3, (*faults).fullDisk},
		{4, (*faults).pullDisk},
		{3, (*faults).kvAway},
		{3, (*faults).kvSlow},
		{4, (*faults).kvLossy},
		{2, (*faults).kvForgets},
		{3, (*faults).badNetwork},
		{3, (*faults).slowNetwork},
		{5, (*faults).blip},
		{6, (*faults).restart},
		{10, (*faults).strand},
		{8, (*faults).trap},
		{6, (*faults).standStill},
		{2, (*faults).jumpClock},
		{6, (*faults).flap},
		{5, (*faults).crashAgain},
		{3, (*faults).kvElects},
		{3, (*faults).oldCopy},
		{2, (*faults).swapDisks},
	}
}

const (
	faultSoon  = 500 * time.Millisecond  // at least, between two
	faultEvery = 2100 * time.Millisecond // on average: 0.48 a second, less what the next waits for
	faultLasts = 6 * time.Second         // on average, in most seeds
	leastKinds = 5
)

func (s *simulation) startFaults() *faults {
	f := &faults{s: s, rng: s.w.Rand("faults"), lasts: faultLasts, ended: s.c.NewEvent(), wake: s.c.NewEvent()}
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
	s.c.Go(f.run)
	return f
}

func (f *faults) stop() {
	f.over = true
	f.wake.Set()
	f.ended.Wait(clock.Forever)
}

func (f *faults) run() {
	defer f.ended.Set()
	for {
		f.wake.Wait(faultSoon + time.Duration(f.rng.Int64N(int64(2*(faultEvery-faultSoon)))))
		if f.over {
			return
		}
		if f.tooMany() {
			f.tend()
			continue
		}
		if f.s.res.Faults++; f.behind() {
			f.restart() // too few faults so far and too few operations: it costs the least
			continue
		}
		f.strike()
	}
}

// tend does what somebody does who sees that nothing goes on: a host that has
// given its disk up gets another chance with it.
func (f *faults) tend() {
	for _, h := range f.s.hosts {
		if h.computer != nil && !h.paused && h.fenced() {
			f.s.powerCycle(h)
		}
	}
}

// tooMany holds the next fault back while the clients cannot work for the last
// ones, unless there were too few so far.
func (f *faults) tooMany() bool {
	gone := (f.s.w.Now() - f.s.begun).Seconds()
	return float64(f.s.done()) < 1.5*busyOps*gone && float64(f.s.res.Faults) > 1.14*busyFaults*gone
}

// behind reports whether the clients have done hardly enough so far.
func (f *faults) behind() bool {
	return float64(f.s.done()) < 1.1*busyOps*(f.s.w.Now()-f.s.begun).Seconds()
}

// later runs undo after a while.
func (f *faults) later(undo func()) {
	d := time.Duration(1 + f.rng.Int64N(int64(2*f.lasts)))
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, d)
		undo()
	})
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

// rack returns all hosts of a random host's rack.
func (f *faults) rack() (name string, hosts []*host) {
	name = f.host().rec.Domain.Rack
	for _, h := range f.s.hosts {
		if h.rec.Domain.Rack == name {
			hosts = append(hosts, h)
		}
	}
	return name, hosts
}

// strike chooses a fault.
func (f *faults) strike() {
	n := f.rng.IntN(f.sum)
	for _, k := range f.kinds {
		if n -= k.weight; n < 0 {
			k.strike(f)
			return
		}
	}
}

func (f *faults) cutRack() {
	name, hosts := f.rack()
	f.cutPower(hosts, "rack "+name)
}

func (f *faults) killProcess(h *host) {
	f.s.tell("fault: %s's process is killed", h.name)
	h.resume()
	h.processDies()
	f.later(func() {
		if h.computer != nil {
			h.boot()
		}
	})
}

func (f *faults) cutPower(hosts []*host, what string) {
	f.s.tell("fault: power of %s is cut (%d hosts)", what, len(hosts))
	for _, h := range hosts {
		h.powerCut()
	}
	for _, h := range hosts {
		f.later(h.powerOn)
	}
}

// blip is a power cut of up to two seconds that may go unnoticed.
func (f *faults) blip() {
	h := f.replicaHost()
	f.s.tell("fault: %s loses power for a moment", h.name)
	h.powerCut()
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, time.Duration(f.rng.Int64N(int64(2*time.Second))))
		h.powerOn()
	})
}

// restart is the end of a process whose next life begins at once.
func (f *faults) restart() {
	h := f.replicaHost()
	if h.computer == nil {
		return
	}
	f.s.tell("fault: %s's process is killed and starts again", h.name)
	h.resume()
	h.processDies()
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, time.Duration(f.rng.Int64N(int64(300*time.Millisecond))))
		if h.computer != nil {
			h.boot()
		}
	})
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
	h := f.host()
	in, out := true, true
	switch f.rng.IntN(3) {
	case 0:
		in = false
	case 1:
		out = false
	}
	f.s.tell("fault: %s is cut off (in %v, out %v)", h.name, in, out)
	f.s.net.CutHost(h.rec.ID, in, out)
	f.s.res.Partitions++
	withKV := f.rng.IntN(2) == 0
	if withKV {
		f.s.kv.Cut(h.name, out, in)
	}
	f.later(func() { f.mend(h) })
}

func (f *faults) isolateRack() {
	name, hosts := f.rack()
	f.s.tell("fault: rack %s is cut off", name)
	f.s.net.CutRack(name, true, true)
	f.s.res.Partitions++
	for _, h := range hosts {
		f.s.kv.Cut(h.name, true, true)
	}
	f.later(func() {
		f.s.net.Heal()
		for _, h := range hosts {
			f.mend(h)
		}
	})
}

func (f *faults) mend(h *host) {
	f.s.net.CutHost(h.rec.ID, false, false)
	for _, o := range f.s.hosts {
		if o != h {
			f.s.net.Mend(h.rec.ID, o.rec.ID)
			f.s.net.Mend(o.rec.ID, h.rec.ID)
		}
	}
	f.s.kv.Cut(h.name, false, false)
}

func (f *faults) freeze() {
	h := f.host()
	f.s.tell("fault: %s is frozen", h.name)
	h.pause()
	f.later(h.resume)
}

// freezeProcess stops the host's process alone; its machines go on.
func (f *faults) freezeProcess() {
	h := f.host()
	f.s.tell("fault: %s's process is frozen", h.name)
	h.pauseProcess()
	f.later(h.resume)
}

func (f *faults) slowDisk() {
	h := f.host()
	f.s.tell("fault: %s's disk is slow", h.name)
	h.disk.SetSlow(50 + 200*f.rng.Float64())
	f.later(func() { h.disk.SetSlow(1) })
}

// slowNetwork delays frames, one way, between a host and all others.
func (f *faults) slowNetwork() {
	h := f.host()
	out, by := f.rng.IntN(2) == 0, time.Duration(1+f.rng.Int64N(int64(1500*time.Millisecond)))
	f.s.tell("fault: frames of %s take %.3f s longer (out %v)", h.name, by.Seconds(), out)
	slow := func(by time.Duration) {
		for _, o := range f.s.hosts {
			switch {
			case o == h:
			case out:
				f.s.net.Slow(h.rec.ID, o.rec.ID, by)
			default:
				f.s.net.Slow(o.rec.ID, h.rec.ID, by)
			}
		}
	}
	slow(by)
	f.later(func() { slow(0) })
}

func (f *faults) badNetwork() {
	f.s.tell("fault: the network loses and reorders frames")
	f.s.net.SetParams(simnet.Storm())
	f.later(func() { f.s.net.SetParams(simnet.LAN()) })
}

// heal puts everything right.
func (s *simulation) heal() {
	s.tell("everything is put right")
	s.net.SetParams(simnet.LAN())
	s.net.Heal()
	s.kv.SetDown(false)
	s.kv.SetLoss(0, 0)
	s.kv.SetLatency(memkv.LeastLatency, memkv.MostLatency)
	for _, h := range s.hosts {
		s.swapBack(h)
		s.kv.Cut(h.name, false, false)
		h.disk.SetSlow(1)
		h.disk.SetHung(false)
		h.disk.SetFull(false)
		h.disk.FailNext(memdisk.Sync, 0)
		for _, d := range h.media() {
			d.SetChances(memdisk.Chances{})
		}
		h.resume()
		if h.rests() {
			s.powerCycle(h)
		}
		h.powerOn()
	}
}
