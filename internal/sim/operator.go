package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// operator is somebody who works on the cluster at bad moments: stops, resets
// and starts VMs, makes and deletes others, keeps snapshots, clones them, sets
// volumes back to them, lets them go, and makes volumes larger. What fails is
// left alone; at the end everything is set as it should be.
type operator struct {
	s      *simulation
	rng    *rand.Rand
	works  bool
	over   bool
	ended  clock.Event
	wake   clock.Event
	snaps  []*keptSnapshot
	clones []*keptClone
	worst  *worst
	made   int
	done   int // what succeeded
}

const (
	operatorEvery = 3 * time.Second // on average
	operatorLimit = 20 * time.Second
)

func (s *simulation) startOperator() *operator {
	o := &operator{s: s, rng: s.w.Rand("operator"), worst: s.newWorst(), ended: s.c.NewEvent(), wake: s.c.NewEvent()}
	if o.works = s.with("operator"); o.works {
		s.c.Go(o.run)
	}
	return o
}

func (o *operator) stop() {
	o.over = true
	o.wake.Set()
	if o.works {
		o.ended.Wait(clock.Forever)
	}
}

func (o *operator) run() {
	defer o.ended.Set()
	for {
		what, err := o.next()
		if o.over {
			return
		}
		if err != nil {
			o.s.tell("operator: %s: %v", what, err)
			continue
		}
		o.done++
		o.s.tell("operator: %s: done", what)
	}
}

// next waits, and does something.
func (o *operator) next() (what string, err error) {
	if o.worst.on && o.worst.rng.IntN(2) == 0 {
		if c := o.moment(); c != nil && !o.over {
			return o.strikeAt(c)
		}
	} else {
		o.wake.Wait(time.Duration(1 + o.rng.Int64N(int64(2*operatorEvery))))
	}
	if o.over {
		return "", nil
	}
	if o.worst.rng.IntN(8) == 0 {
		return o.lookAgain()
	}
	return o.act()
}

// on runs f on a host that serves.
func (o *operator) on(h *host, f func(*provision.Provisioner) error) error {
	if !h.serving() {
		return holdfast.Errorf(holdfast.Unavailable, "%s does not serve", h.name)
	}
	err := holdfast.Errorf(holdfast.Unknown, "%s went away or took too long", h.name)
	maker := h.node.Make
	out := err
	o.s.runOn(h, operatorLimit, func() { out = f(maker) })
	return out
}

func (o *operator) host() *host { return o.s.hosts[o.rng.IntN(len(o.s.hosts))] }

func (o *operator) act() (what string, err error) {
	if o.s.twoDisks && o.s.disks.IntN(2) == 0 {
		return o.arrange(o.s.disks)
	}
	if o.s.limits.turn() {
		return o.limit()
	}
	if o.s.vmDisks.turn() {
		return o.secondDisk()
	}
	if o.s.groups.turn() {
		return o.group()
	}
	if len(o.s.vms.vms) == 0 {
		return "do anything", holdfast.Errorf(holdfast.NotFound, "there is no VM")
	}
	vm := o.s.vms.vms[o.rng.IntN(len(o.s.vms.vms))]
	switch k := o.rng.IntN(24); {
	case k < 3:
		return "stop " + vm.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.StopVM(vm.ID, true) })
	case k < 6:
		return "start " + vm.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.StartVM(vm.ID) })
	case k < 8:
		return "reset " + vm.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.ResetVM(vm.ID) })
	case k < 10:
		return o.passing()
	case k < 15:
		return o.snapshot()
	case k < 17:
		return o.dropSnapshot()
	case k < 19:
		return o.revert()
	case k < 21:
		return o.clone()
	case k < 22:
		return o.dropClone()
	}
	return o.grow()
}

// passing makes a VM, from a clone of the image, that is deleted again.
func (o *operator) passing() (string, error) {
	o.made++
	name := fmt.Sprintf("passing%d", o.made)
	return "make and delete " + name, o.on(o.host(), func(p *provision.Provisioner) error {
		vm, err := p.CreateVM(provision.VMSpec{Image: o.s.image, VM: cluster.VM{Name: name, CPUs: 1, MemoryMiB: 64, Power: cluster.On}})
		if err != nil {
			return err
		}
		return p.DeleteVM(vm.ID, cluster.VMRemoval{Force: true})
	})
}

// settle starts what should run and deletes what should not be there.
func (o *operator) settle() error {
	return o.on(o.s.hosts[0], func(p *provision.Provisioner) error {
		st, err := p.Cluster.Refresh()
		if err != nil {
			return err
		}
		if err := o.unarrange(p, st); err != nil {
			return err
		}
		for _, vm := range st.SortedVMs() {
			lasting := slices.ContainsFunc(o.s.vms.vms, func(x cluster.VM) bool { return x.ID == vm.Val.ID })
			switch {
			case lasting && vm.Val.Power != cluster.On:
				err = p.StartVM(vm.Val.ID)
			case !lasting && !vm.Val.Deleted:
				err = p.DeleteVM(vm.Val.ID, cluster.VMRemoval{Force: true})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
