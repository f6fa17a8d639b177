package sim

import (
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// drains is somebody who drains hosts and takes that back, in one seed of two:
// what a host writes is handed over while clients write it, and VMs move, in the
// middle of whatever else goes on.
type drains struct {
	s      *simulation
	rng    *rand.Rand
	on     bool
	over   bool
	ended  clock.Event
	wake   clock.Event
	orders int // to drain a host
	handed int // volumes whose writer was another afterwards
}

const (
	drainEvery = 6 * time.Second // on average, one after the other
	drainLasts = 5 * time.Second // on average
)

func (s *simulation) newDrains() *drains {
	d := &drains{s: s, rng: s.w.Rand("drains"), ended: s.c.NewEvent(), wake: s.c.NewEvent()}
	d.on = d.rng.IntN(2) == 0 && s.with("drains")
	return d
}

func (d *drains) start() {
	if d.on {
		d.s.c.Go(d.run)
	}
}

func (d *drains) stop() {
	d.over = true
	d.wake.Set()
	if d.on {
		d.ended.Wait(clock.Forever)
	}
}

func (d *drains) run() {
	defer d.ended.Set()
	for !d.over {
		d.wake.Wait(time.Duration(1 + d.rng.Int64N(int64(2*drainEvery))))
		if d.over {
			return
		}
		d.one()
	}
}

// one drains a host for a while; mostly one that writes a client's volume.
func (d *drains) one() {
	h := d.s.hosts[d.rng.IntN(len(d.s.hosts))]
	v := d.s.clients[d.rng.IntN(len(d.s.clients))].vol.ID
	if w := d.s.byID(d.s.eye.State().Volumes[v].Val.Writer); w != nil && d.rng.IntN(4) > 0 {
		h = w
	}
	was := d.writes(h)
	if !d.order(h, true) {
		return
	}
	d.orders++
	d.wake.Wait(time.Duration(1 + d.rng.Int64N(int64(2*drainLasts))))
	d.handed += max(0, was-d.writes(h))
	d.order(h, false)
}

// writes counts the clients' volumes that a host writes.
func (d *drains) writes(h *host) (n int) {
	for _, c := range d.s.clients {
		if d.s.eye.State().Volumes[c.vol.ID].Val.Writer == h.rec.ID {
			n++
		}
	}
	return n
}

// order has a host drained or not; it may fail while the control plane is away.
func (d *drains) order(h *host, on bool) bool {
	st, err := d.s.eye.Refresh()
	if err == nil {
		rec := st.Hosts[h.rec.ID]
		rec.Val.Drained, rec.Val.DrainSeconds = on, 2
		tx := d.s.eye.Begin()
		tx.PutHost(rec.Val, rec.Mod)
		_, err = tx.Commit()
	}
	d.s.tell("%s is to be drained (%v): %v", h.name, on, err)
	return err == nil
}

// settle takes back what an order that failed has left.
func (d *drains) settle() error {
	st, err := d.s.eye.Refresh()
	if err != nil {
		return err
	}
	for _, h := range st.SortedHosts() {
		if h.Val.Drained {
			h.Val.Drained = false
			tx := d.s.eye.Begin()
			tx.PutHost(h.Val, h.Mod)
			if _, err := tx.Commit(); err != nil {
				return err
			}
		}
	}
	return nil
}

// following is a target whose sessions go with the volume, as those of iSCSI do,
// in every second session.
func (c *blockClient) following(t export.Target) export.Target {
	if v, ok := t.(*volume.Target); ok && c.s.drains.on && c.rng.IntN(2) == 0 {
		return v.Following()
	}
	return t
}
