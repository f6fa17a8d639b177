package sim

import (
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// faults is the hand that breaks things, one fault every few seconds, and puts
// each right again some time later.
type faults struct {
	s     *simulation
	rng   *rand.Rand
	over  bool
	ended clock.Event
	wake  clock.Event
}

const (
	faultSoon  = 500 * time.Millisecond  // at least, between two
	faultEvery = 2500 * time.Millisecond // on average: 0.4 a second
	faultLasts = 6 * time.Second         // on average
)

func (s *simulation) startFaults() *faults {
	f := &faults{s: s, rng: s.w.Rand("faults"), ended: s.c.NewEvent(), wake: s.c.NewEvent()}
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
		f.strike()
	}
}

// later runs undo after a while.
func (f *faults) later(undo func()) {
	d := time.Duration(1 + f.rng.Int64N(int64(2*faultLasts)))
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, d)
		undo()
	})
}

func (f *faults) host() *host { return f.s.hosts[f.rng.IntN(len(f.s.hosts))] }

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
	f.s.res.Faults++
	switch k := f.rng.IntN(100); {
	case k < 18:
		f.killProcess(f.host())
	case k < 32:
		f.cutPower([]*host{f.host()}, "host")
	case k < 44:
		name, hosts := f.rack()
		f.cutPower(hosts, "rack "+name)
	case k < 49:
		f.cutPower(f.s.hosts, "everything")
	case k < 60:
		f.isolateHost()
	case k < 68:
		f.isolateRack()
	case k < 76:
		f.freeze()
	case k < 80:
		f.slowDisk()
	case k < 83:
		f.hungDisk()
	case k < 86:
		f.failSync()
	case k < 89:
		f.fullDisk()
	case k < 93:
		f.kvTrouble()
	case k < 97:
		f.badNetwork()
	default:
		f.blip()
	}
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

// blip is a power cut of two seconds that may go unnoticed.
func (f *faults) blip() {
	h := f.host()
	f.s.tell("fault: %s loses power for two seconds", h.name)
	h.powerCut()
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, time.Duration(f.rng.Int64N(int64(2*time.Second))))
		h.powerOn()
	})
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

func (f *faults) slowDisk() {
	h := f.host()
	f.s.tell("fault: %s's disk is slow", h.name)
	h.disk.SetSlow(50 + 200*f.rng.Float64())
	f.later(func() { h.disk.SetSlow(1) })
}

func (f *faults) kvTrouble() {
	if f.rng.IntN(2) == 0 {
		f.s.tell("fault: the control plane is away")
		f.s.kv.SetDown(true)
		f.later(func() { f.s.kv.SetDown(false) })
		return
	}
	f.s.tell("fault: the control plane changes its leader")
	f.s.kv.ChangeLeader(time.Duration(f.rng.Int64N(int64(3 * time.Second))))
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
	for _, h := range s.hosts {
		s.kv.Cut(h.name, false, false)
		h.disk.SetSlow(1)
		h.disk.SetHung(false)
		h.disk.SetFull(false)
		h.disk.FailNext(memdisk.Sync, 0)
		h.resume()
		if h.fenced() {
			s.powerCycle(h)
		}
		h.powerOn()
	}
}
