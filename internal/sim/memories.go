package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/fakevm"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// memories has, in one seed of four, somebody keep VMs with their memory, set them
// back to that, on whatever host they are given then, and let it go (ADR 0074). A
// guest that goes on with its memory goes on counting where it stood, on all its
// disks, without a boot.
type memories struct {
	s     *simulation
	rng   *rand.Rand
	drawn bool
	made  int
	kept  []*keptMemory
	woke  int // guests that went on
}

// keptMemory is a snapshot of a VM with its memory, and where its guest stood.
type keptMemory struct {
	vm            cluster.VM
	of            cluster.VMSnapshot
	first, second between // by disk
}

// between is a counter that is known to be from lo to hi.
type between struct{ lo, hi uint32 }

func (b *between) has(n uint32) bool { return b.lo <= n && n <= b.hi }

// two reports whether a second disk was kept too.
func (k *keptMemory) two() bool { return len(k.of.Disks) > 1 }

// comeBack is a VM that is set back: what its guest says next is of then.
type comeBack struct {
	k     *keptMemory
	boots bool // it is to boot from its disks
}

const (
	memorySeeds = 4                // of how many one has this
	memoryEvery = 10 * time.Second // on average
	memoryMiB   = 8                // of a VM: the disks are small
	maxMemories = 3
	stillLook   = 5 * time.Millisecond
)

func (s *simulation) newMemories() *memories {
	x := &memories{s: s, rng: s.w.Rand("memories")}
	x.drawn = x.rng.IntN(memorySeeds) == 0
	return x
}

// on reports whether VMs are kept with their memory in this run.
func (x *memories) on() bool { return x.drawn && x.s.with("memories") }

// roomy is what a host's disk has, in MiB, of size in other seeds: the smallest
// could not hold the volume of a memory.
func (x *memories) roomy(size int) int {
	if x.drawn && !x.s.quiet {
		return 64
	}
	return size
}

// memoryOf is how much memory VMs have.
func (x *memories) memoryOf() int {
	if x.on() || x.s.quiet {
		return memoryMiB
	}
	return 64
}

// start has it go on beside the faults; from a story it is played like them.
func (x *memories) start(f *faults) {
	if x.on() {
		x.s.c.Go(func() { x.run(f) })
	}
}

func (x *memories) run(f *faults) {
	for !f.over {
		clock.Sleep(x.s.c, time.Millisecond*time.Duration(1+x.rng.Int64N(int64(2*memoryEvery/time.Millisecond))))
		if f.over || len(x.s.vms.vms) == 0 {
			return
		}
		vm := x.s.vms.vms[x.rng.IntN(len(x.s.vms.vms))]
		var of *keptMemory
		if len(x.kept) > 0 {
			of = x.kept[x.rng.IntN(len(x.kept))]
		}
		switch k := x.rng.IntN(8); {
		case of == nil || k < 3 && len(x.kept) < maxMemories:
			x.made++
			x.s.act(x.s.line("keep vm %s as m%d with memory", vm.Name, x.made)).Wait(clock.Forever)
		case k < 6:
			x.s.act(x.s.line("set vm %s back to %s", of.vm.Name, of.of.Name)).Wait(clock.Forever)
		case k < 7:
			x.s.act(x.s.line("set vm %s back to %s without memory", of.vm.Name, of.of.Name)).Wait(clock.Forever)
		default:
			x.s.act(x.s.line("forget %s of vm %s", of.of.Name, of.vm.Name)).Wait(clock.Forever)
		}
		clock.Sleep(x.s.c, x.s.wholeMillisecond())
	}
}

// named finds a snapshot by its VM and name.
func (x *memories) named(vm, name string) *keptMemory {
	for _, k := range x.kept {
		if k.vm.Name == vm && k.of.Name == name {
			return k
		}
	}
	return nil
}

// keep keeps a VM with its memory.
func (x *memories) keep(h *host, vm cluster.VM, name string) error {
	v := x.s.vms.of(vm.ID)
	k := &keptMemory{vm: vm, first: between{lo: v.flushed}, second: between{lo: v.second.flushed}}
	still := x.watchStill(vm.ID)
	err := x.s.op.wholly(h, func(p *provision.Provisioner) error {
		_, err := p.SnapshotVMMemory(vm.ID, name)
		return err
	})
	seen := still()
	st, rerr := x.refreshed()
	if rerr != nil {
		return rerr
	}
	i := slices.IndexFunc(st.VMs[vm.ID].Val.Snapshots, func(o cluster.VMSnapshot) bool { return o.Name == name })
	if i < 0 {
		return err
	}
	k.of = st.VMs[vm.ID].Val.Snapshots[i]
	k.first.hi, k.second.hi = max(v.flushed, v.found), max(v.second.flushed, v.second.found)
	if v.back != nil {
		return nil // it is not known how it counts
	}
	if seen != nil {
		k.first, k.second = seen[0], seen[1]
	}
	x.s.tell("%s is kept with its memory as %s at %d to %d", vm.Name, name, k.first.lo, k.first.hi)
	x.kept = append(x.kept, k)
	return nil
}

// watchStill looks at a VM until it is told to end, and returns how far its guest
// had come on its disks when all of its memory was kept; nil if that was not seen. A
// guest that has booted goes on from what it found, flushed or not.
func (x *memories) watchStill(id holdfast.VMID) (end func() []between) {
	over := false
	var seen []between
	x.s.c.Go(func() {
		for ; !over; clock.Sleep(x.s.c, stillLook) {
			kept, of := x.s.eye.State().Machines[id].Val.Kept, x.s.eye.State().VMs[id].Val.Keeping
			if kept == nil || of == nil || kept.Volume != of.Volume || !kept.Whole || !x.paused(id) {
				continue
			}
			v := x.s.vms.of(id)
			seen = []between{{v.flushed, max(v.flushed, v.found)}, {v.second.flushed, max(v.second.flushed, v.second.found)}}
		}
	})
	return func() []between { over = true; return seen }
}

// paused reports whether a VM has machines, and all stand still.
func (x *memories) paused(id holdfast.VMID) bool {
	n := 0
	for _, h := range x.s.hosts {
		for _, m := range h.machines(id) {
			if n++; m.State() != hypervisor.Paused {
				return false
			}
		}
	}
	return n > 0
}

// refreshed reads the records after something whose outcome may be on its way.
func (x *memories) refreshed() (*cluster.State, error) {
	var err error
	for end := x.s.w.Now() + lateCommit; x.s.w.Now() < end; clock.Sleep(x.s.c, time.Second) {
		if _, err = x.s.eye.Refresh(); err == nil {
			break
		}
	}
	return x.s.eye.State(), err
}

// setBack sets a VM back that it stops first. Once that is begun the VM is not
// started before it is done, so it is tried until it is.
func (x *memories) setBack(h *host, k *keptMemory, wake bool) error {
	begun, err := x.begin(h, k, wake)
	if err != nil || !begun {
		return err
	}
	return x.finish(h, k, wake)
}

func (x *memories) begin(h *host, k *keptMemory, wake bool) (bool, error) {
	v := x.s.vms.of(k.vm.ID)
	if v.setBack != nil {
		return v.setBack == k, nil
	}
	err := x.s.op.on(h, func(p *provision.Provisioner) error {
		st, err := p.Cluster.Refresh()
		if err == nil && wake {
			err = provision.MayWake(st, st.VMs[k.vm.ID].Val, k.of)
		}
		if err != nil {
			return err
		}
		return p.StopVM(k.vm.ID, true)
	})
	if err != nil {
		return false, err
	}
	for end := x.s.w.Now() + operatorLimit; x.machines(k.vm.ID) > 0; clock.Sleep(x.s.c, lookEvery) {
		if x.s.w.Now() > end {
			return false, holdfast.Errorf(holdfast.Busy, "its machine does not end")
		}
	}
	if !h.serving() {
		return false, holdfast.Errorf(holdfast.Unavailable, "%s does not serve", h.name)
	}
	err = x.s.op.wholly(h, func(p *provision.Provisioner) error { return p.BeginRevert(k.vm.ID, k.of.ID) })
	if holdfast.IsKind(err, holdfast.Unknown) {
		clock.Sleep(x.s.c, lateCommit)
	}
	st, rerr := x.refreshed()
	if st.VMs[k.vm.ID].Val.Reverting != k.of.ID || rerr != nil {
		return false, err
	}
	if n := x.machines(k.vm.ID); n > 0 {
		x.s.fail("%s is being set back, and %d machines of it are there", k.vm.Name, n)
	}
	v.setBack, v.back = k, &comeBack{k: k, boots: !wake}
	v.flushed, v.next, v.found = k.first.lo, 0, 0
	if k.two() {
		v.second.flushed, v.second.next, v.second.found = k.second.lo, 0, 0
	}
	return true, nil
}

// finish sets the disks back, and lets the VM start.
func (x *memories) finish(h *host, k *keptMemory, wake bool) error {
	if !h.serving() {
		return holdfast.Errorf(holdfast.Unavailable, "%s does not serve", h.name)
	}
	v := x.s.vms.of(k.vm.ID)
	v.back.boots = !wake
	err := x.s.op.wholly(h, func(p *provision.Provisioner) error {
		for _, d := range k.of.Disks {
			if err := p.Revert(d.Volume, d.Snapshot); err != nil {
				return err
			}
		}
		return p.EndRevert(k.vm.ID, k.of.ID, wake)
	})
	st, rerr := x.refreshed()
	if rerr != nil {
		return rerr
	}
	if st.VMs[k.vm.ID].Val.Reverting == k.of.ID {
		return err
	}
	v.setBack = nil
	x.s.tell("%s is set back to %s", k.vm.Name, k.of.Name)
	if !wake {
		return x.s.op.on(h, func(p *provision.Provisioner) error { return p.StartVM(k.vm.ID) })
	}
	return nil
}

// forget lets a snapshot go, and the memory with it.
func (x *memories) forget(h *host, k *keptMemory) error {
	err := x.s.op.on(h, func(p *provision.Provisioner) error { return p.ForgetVMSnapshot(k.vm.ID, k.of.ID) })
	if err == nil || holdfast.IsKind(err, holdfast.Unknown) {
		x.kept = slices.DeleteFunc(x.kept, func(o *keptMemory) bool { return o == k })
	}
	return err
}

// settle brings to an end what was begun.
func (x *memories) settle() error {
	for _, vm := range x.s.vms.vms {
		v := x.s.vms.of(vm.ID)
		i := slices.IndexFunc(x.kept, func(k *keptMemory) bool { return k.of.ID == x.s.eye.State().VMs[vm.ID].Val.Reverting })
		if i >= 0 && v.setBack == nil { // somebody was told that it could not be begun, and it was
			if err := x.setBack(x.s.hosts[0], x.kept[i], true); err != nil {
				return err
			}
		} else if v.setBack != nil {
			if err := x.finish(x.s.hosts[0], v.setBack, !v.back.boots); err != nil {
				return err
			}
		}
	}
	return nil
}

// stuck has VMs boot that cannot go on with their memory, because they were given
// another disk before they did, as the condition says, and reports one that could
// not; "": none.
func (x *memories) stuck() string {
	st := x.s.eye.State()
	for _, vm := range x.s.vms.vms {
		rec, m := st.VMs[vm.ID].Val, st.Machines[vm.ID].Val
		i := slices.IndexFunc(x.kept, func(k *keptMemory) bool { return k.of.ID == rec.Wake })
		if i < 0 || rec.Wake.IsZero() || m.State != "failed" {
			continue
		}
		err := x.setBack(x.s.hosts[0], x.kept[i], false)
		return fmt.Sprintf("%s cannot go on with its memory (%s), and is set back without: %v", vm.Name, m.Reason, err)
	}
	return ""
}

// order carries a line out.
func (x *memories) order(h *host, vm, name string, do string, wake bool) error {
	if do == "keep vm" {
		rec, ok := x.s.vmNamed(vm)
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "there is no such VM")
		}
		return x.keep(h, rec, name)
	}
	k := x.named(vm, name)
	switch {
	case k == nil:
		return holdfast.Errorf(holdfast.NotFound, "there is no such snapshot")
	case do == "forget":
		return x.forget(h, k)
	}
	return x.setBack(h, k, wake)
}

func (x *memories) machines(id holdfast.VMID) (n int) {
	for _, h := range x.s.hosts {
		n += len(h.machines(id))
	}
	return n
}

// report takes the first that a guest says since its VM was set back: that it went
// on where it stood, or, if it booted, what was on its disks then.
func (x *memories) report(h *host, v *vmSeen, l probe.Line) (taken bool) {
	b := v.back
	if b == nil || l.What == probe.Corrupt {
		return false
	}
	first := l.What == probe.Flushed || l.What == probe.Verified
	at, which := &b.k.first, "first"
	if l.What == probe.SecondFlushed || l.What == probe.SecondVerified {
		if !b.k.two() {
			return false // that disk was not set back
		}
		at, which = &b.k.second, "second"
	}
	n := l.Counter
	switch l.What {
	case probe.Flushed, probe.SecondFlushed:
		n--
		if b.boots {
			x.s.fail("%s goes on with a memory, and was set back without", v.name)
		}
		if !at.has(n) {
			x.s.fail("%s goes on with %d on its %s disk, and it was kept at %d to %d (ADR 0074)", v.name, l.Counter, which, at.lo, at.hi)
		}
		*at = between{n, n}
	case probe.Verified, probe.SecondVerified: // what was written next may be on the disk, and not be flushed
		if l.Counter < at.lo || l.Counter > at.hi+1 {
			x.s.fail("%s finds %d on its %s disk, which was kept at %d to %d (ADR 0074)", v.name, l.Counter, which, at.lo, at.hi)
		}
	default:
		return true
	}
	if first {
		if v.back = nil; l.What == probe.Flushed {
			x.woke++
			x.s.tell("%s goes on with its memory on %s at %d", v.name, h.name, n)
		}
		v.next, v.found, v.flushed = n+1, n, max(v.flushed, at.lo)
		if l.What == probe.Flushed {
			v.next, v.flushed = l.Counter+1, l.Counter
		} else {
			v.boots++
		}
		return true
	}
	v.second.next, v.second.found, v.second.flushed = l.Counter+1, n, max(v.second.flushed, at.lo)
	if l.What == probe.SecondFlushed {
		v.second.flushed = l.Counter
	}
	return true
}

// machines returns the machines of a VM that are on the host.
func (h *host) machines(id holdfast.VMID) (out []*fakevm.Machine) {
	if h.vmhost == nil {
		return nil
	}
	for _, m := range h.vmhost.Machines() {
		if m.Spec().VM == id {
			out = append(out, m)
		}
	}
	return out
}

// check says which guest has said nothing since its VM was set back.
func (x *memories) check() {
	for _, vm := range x.s.vms.vms {
		if x.s.vms.of(vm.ID).back != nil {
			x.s.fail("%s was set back to a snapshot, and its guest has said nothing since", vm.Name)
		}
	}
}

func (x *memories) String() string {
	if x.woke == 0 {
		return ""
	}
	return fmt.Sprintf(" %d guests went on with a memory;", x.woke)
}
