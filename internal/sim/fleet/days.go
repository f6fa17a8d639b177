package fleet

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// How often something happens by itself, about.
const (
	hourly   = 4 * time.Second // a VM is stopped or started
	lossly   = 5 * time.Minute // a rack is lost
	lossFor  = 75 * time.Second
	dayBegun = 45 * time.Second // before the first rack is
)

// days has things happen: VMs are stopped and started, and now and then a rack loses
// its power and comes back.
func (f *Fleet) days() {
	next, loss := time.NewTimer(hourly), time.NewTimer(dayBegun)
	defer next.Stop()
	defer loss.Stop()
	var lost string // the rack that is away
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-next.C:
			f.turnOne()
			next.Reset(hourly/2 + rand.N(hourly))
		case <-loss.C:
			if lost != "" {
				f.riseAgain()
				lost = ""
				loss.Reset(lossly/2 + rand.N(lossly))
				continue
			}
			if lost = f.aRack(); lost != "" {
				f.log.Info("a rack of the fleet loses its power", "rack", lost)
				f.fall(func(h cluster.Host) bool { return h.Domain.Rack == lost })
			}
			loss.Reset(lossFor/2 + rand.N(lossFor))
		}
	}
}

// riseAgain has every host live that does not, in another life than before.
func (f *Fleet) riseAgain() {
	st := f.Records.State()
	for i, h := range f.plan.hosts {
		f.mu.Lock()
		up := f.lives[h.ID] != nil
		f.mu.Unlock()
		if _, member := st.Hosts[h.ID]; up || !member {
			continue
		}
		a := f.plan.alive[i]
		u, err := newUUID()
		if err != nil {
			return
		}
		a.Boot = holdfast.BootID{UUID: u}
		f.rise(a, time.Now())
	}
}

// aRack is one that may be lost, "" if none: never the one that answers, and only
// while everything is well.
func (f *Fleet) aRack() string {
	st := f.Records.State()
	for _, i := range st.Incidents {
		if i.Val.Closed == nil {
			return ""
		}
	}
	if len(f.plan.racks) < 3 || len(st.Alive) < len(st.Hosts) {
		return ""
	}
	return rackName(1 + rand.IntN(len(f.plan.racks)-1))
}

// turnOne stops a VM that runs, or starts one that does not, so that about as many
// run as before.
func (f *Fleet) turnOne() {
	st := f.Records.State()
	var on, off []holdfast.VMID
	for id, v := range st.VMs {
		switch {
		case v.Val.Deleted || !st.AliveHost(v.Val.Host):
		case v.Val.Power == cluster.On:
			on = append(on, id)
		default:
			off = append(off, id)
		}
	}
	var err error
	switch {
	case len(off) > 0 && len(off)*100 > 7*(len(on)+len(off)):
		err = f.Make.StartVM(off[rand.IntN(len(off))])
	case len(on) > 0:
		err = f.Make.StopVM(on[rand.IntN(len(on))], false)
	}
	if err != nil {
		f.log.Debug("a VM of the fleet was not turned on or off", "err", fmt.Sprint(err))
	}
}
