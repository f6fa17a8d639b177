package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// operator is somebody who works on the cluster at bad moments: stops, resets
// and starts VMs, makes and deletes others, keeps snapshots and lets them go.
// What fails is left alone; at the end everything is set as it should be.
type operator struct {
	s     *simulation
	rng   *rand.Rand
	over  bool
	ended clock.Event
	wake  clock.Event
	snaps []*keptSnapshot
	made  int
	done  int // what succeeded
}

// keptSnapshot is a snapshot and what its blocks may hold: all that its volume
// may have held from the moment it was asked for to the moment it was there.
type keptSnapshot struct {
	c    *blockClient
	snap cluster.Snapshot
	may  [][]uint64
}

// snapshotsTravel is set when a replica that joins gets the snapshots too that
// it does not have.
const snapshotsTravel = false

const (
	operatorEvery = 3 * time.Second // on average
	operatorLimit = 20 * time.Second
	maxSnapshots  = 6
)

func (s *simulation) startOperator() *operator {
	o := &operator{s: s, rng: s.w.Rand("operator"), ended: s.c.NewEvent(), wake: s.c.NewEvent()}
	s.c.Go(o.run)
	return o
}

func (o *operator) stop() {
	o.over = true
	o.wake.Set()
	o.ended.Wait(clock.Forever)
}

func (o *operator) run() {
	defer o.ended.Set()
	for {
		o.wake.Wait(time.Duration(1 + o.rng.Int64N(int64(2*operatorEvery))))
		if o.over {
			return
		}
		what, err := o.act()
		if err != nil {
			o.s.tell("operator: %s: %v", what, err)
			continue
		}
		o.done++
		o.s.tell("operator: %s: done", what)
	}
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
	vm := o.s.vms.vms[o.rng.IntN(len(o.s.vms.vms))]
	switch k := o.rng.IntN(10); {
	case k < 2:
		return "stop " + vm.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.StopVM(vm.ID, true) })
	case k < 4:
		return "start " + vm.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.StartVM(vm.ID) })
	case k < 5:
		return "reset " + vm.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.ResetVM(vm.ID) })
	case k < 6:
		return o.passing()
	case k < 9 && snapshotsTravel:
		return o.snapshot()
	case snapshotsTravel:
		return o.dropSnapshot()
	}
	return o.passing()
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
		return p.DeleteVM(vm.ID, true, false)
	})
}

// snapshot keeps a client's volume as it is, on the host that writes it.
func (o *operator) snapshot() (string, error) {
	c := o.s.clients[o.rng.IntN(len(o.s.clients))]
	name := fmt.Sprintf("s%d", o.made)
	what := fmt.Sprintf("snapshot %s of %s", name, c.vol.Name)
	if len(o.snaps) >= maxSnapshots {
		return what, holdfast.Errorf(holdfast.NoSpace, "there are %d already", len(o.snaps))
	}
	for _, h := range o.s.hosts {
		if !h.serving() || h.node.Volumes.Opened(c.vol.ID) == nil {
			continue
		}
		o.made++
		k := &keptSnapshot{c: c, may: c.model.watch()}
		err := o.on(h, func(p *provision.Provisioner) (err error) {
			k.snap, err = p.Snapshot(c.vol.ID, name)
			return err
		})
		c.model.unwatch(k.may)
		if err == nil {
			o.snaps = append(o.snaps, k)
		}
		return what, err
	}
	return what, holdfast.Errorf(holdfast.Unavailable, "nobody writes it")
}

func (o *operator) dropSnapshot() (string, error) {
	if len(o.snaps) == 0 {
		return "delete a snapshot", holdfast.Errorf(holdfast.NotFound, "there is none")
	}
	i := o.rng.IntN(len(o.snaps))
	k := o.snaps[i]
	what := fmt.Sprintf("delete snapshot %s of %s", k.snap.Name, k.c.vol.Name)
	for _, h := range o.s.hosts {
		if h.serving() && h.node.Volumes.Opened(k.c.vol.ID) != nil {
			o.snaps = slices.Delete(o.snaps, i, i+1) // whatever comes of it
			return what, o.on(h, func(p *provision.Provisioner) error { return p.DeleteSnapshot(k.c.vol.ID, k.snap.ID) })
		}
	}
	return what, holdfast.Errorf(holdfast.Unavailable, "nobody writes it")
}

// settle starts what should run and deletes what should not be there.
func (o *operator) settle() error {
	return o.on(o.s.hosts[0], func(p *provision.Provisioner) error {
		st, err := p.Cluster.Refresh()
		if err != nil {
			return err
		}
		for _, vm := range st.SortedVMs() {
			lasting := slices.ContainsFunc(o.s.vms.vms, func(x cluster.VM) bool { return x.ID == vm.Val.ID })
			switch {
			case lasting && vm.Val.Power != cluster.On:
				err = p.StartVM(vm.Val.ID)
			case !lasting && !vm.Val.Deleted:
				err = p.DeleteVM(vm.Val.ID, true, false)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// check reads the snapshots that are there, from every replica that has them.
func (o *operator) check() {
	for _, k := range o.snaps {
		v := o.s.hosts[0].node.Cluster.State().Volumes[k.c.vol.ID].Val
		var first []byte
		for _, ref := range v.InSync {
			got, err := o.s.read(ref, volumeBlocks, func(r *store.Replica, buf []byte) error {
				return r.ReadSnapshot(k.snap.ID, buf, 0)
			})
			switch {
			case holdfast.IsKind(err, holdfast.NotFound):
				o.s.fail("snapshot %s of %s: the replica on %s does not have it (invariant 7)", k.snap.Name, v.Name, o.s.nameOf(ref.Host))
				return
			case err != nil:
				o.s.fail("snapshot %s of %s: replica on %s: %v", k.snap.Name, v.Name, o.s.nameOf(ref.Host), err)
				return
			case first == nil:
				first = got
				k.check(got)
			case !bytes.Equal(first, got):
				o.s.fail("snapshot %s of %s: the replicas differ (invariant 7)", k.snap.Name, v.Name)
			}
		}
	}
}

func (k *keptSnapshot) check(content []byte) {
	for b := range k.may {
		tag, ok := tagOf(content[b*holdfast.BlockSize:(b+1)*holdfast.BlockSize], k.c.n, b)
		if !ok || !slices.Contains(k.may[b], tag) {
			k.c.s.fail("snapshot %s of %s: block %d holds write %d, it may only hold %v (invariants 1, 8)", k.snap.Name, k.c.vol.Name, b, tag, k.may[b])
			return
		}
	}
}
