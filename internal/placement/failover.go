package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Plan says, for every rack and every host that is alive, what its loss would
// mean.
type Plan struct {
	Racks []Loss
	Hosts []Loss
	// WantsWitness says that there are two racks and no witness: the control plane
	// cannot be spread so that either rack may be lost.
	WantsWitness bool
	// External says that the control plane is an external etcd: what that can lose
	// is not judged here.
	External bool
}

// Loss is what the loss of one fault domain would mean.
type Loss struct {
	Name     string            // of the rack or the host
	Lost     []holdfast.HostID // the hosts that would go
	Restarts []Restart         // what would start elsewhere, in that order
	Unplaced []Unplaced        // VMs that would stay down
	Volumes  []VolumeLoss      // volumes that would be lost or stall
	Control  string            // why the control plane would stop; "" if it goes on
	Witness  bool              // nothing but a witness would go
}

// Restart is one VM that would start on another host.
type Restart struct {
	VM   holdfast.VMID
	Name string
	To   holdfast.HostID
	Why  Why
}

// Unplaced is one VM that would not run anywhere.
type Unplaced struct {
	VM     holdfast.VMID
	Name   string
	Reason string // in a few words
	Why    Why    // with the reason of every host, if a host was looked for
}

// Detail is the whole explanation.
func (u Unplaced) Detail() string {
	if s := u.Why.String(); s != "" {
		return s
	}
	return u.Reason
}

// VolumeLoss is one volume that could not be written any more.
type VolumeLoss struct {
	Volume holdfast.VolumeID
	Name   string
	Reason string
}

// Reasons lists what speaks against the loss, the worst first; none if the
// cluster would carry on with everything.
func (l Loss) Reasons() []string {
	var out []string
	for _, v := range l.Volumes {
		out = append(out, v.Reason)
	}
	if l.Control != "" {
		out = append(out, l.Control)
	}
	for _, u := range l.Unplaced {
		out = append(out, u.Reason)
	}
	return out
}

// FailoverPlan computes what would happen if any one rack or host were lost.
// The restarts are those that Restarts would give at that moment.
func FailoverPlan(s *cluster.State) Plan {
	return Look(s).FailoverPlan()
}

// FailoverPlan is the same, for who has looked already.
func (v *View) FailoverPlan() Plan {
	base := settle(v)
	p := Plan{WantsWitness: v.wantsWitness(), External: v.State.Cluster.External}
	for _, r := range v.Racks {
		if r.Up() {
			p.Racks = append(p.Racks, base.lose(r.Domain.String(), r.Hosts))
		}
	}
	for _, h := range v.Hosts {
		if h.Up() {
			p.Hosts = append(p.Hosts, base.lose(h.Name, []*Host{h}))
		}
	}
	return p
}

// wantsWitness reports whether the control plane is ours, in two racks, and
// without a witness in a third one.
func (v *View) wantsWitness() bool {
	racks, voters := 0, 0
	for _, r := range v.Racks {
		if r.Witness() {
			return false
		}
		racks++
		for _, h := range r.Hosts {
			if h.Voter {
				voters++
			}
		}
	}
	return racks == 2 && voters > 0
}

// settled is the cluster with every VM that should be on and can be placed in
// its place: VMs without a living host compete for the same room. One whose
// volume is away keeps its room, but no further loss can bring it down.
type settled struct {
	v     *View
	rooms rooms
	at    map[holdfast.VMID]holdfast.HostID
	runs  map[holdfast.HostID][]cluster.VM // the same by host, in the order of the view
	holds map[holdfast.HostID][]int        // numbers of the volumes with a usable in-sync copy there, ascending
}

func settle(v *View) *settled {
	b := &settled{v: v, rooms: newRooms(v), at: map[holdfast.VMID]holdfast.HostID{}}
	var homeless []cluster.VM
	for _, vm := range v.VMs {
		switch {
		case vm.Power != cluster.On:
		case v.Up(vm.Host):
			if v.cannotStart(vm) == "" {
				b.at[vm.ID] = vm.Host
			}
		default:
			homeless = append(homeless, vm)
		}
	}
	RestartOrder(homeless)
	for _, vm := range homeless {
		if h, _ := v.placeVM(b.rooms, vm, VMOptions{}); !h.IsZero() {
			b.rooms.take(h, vm)
			if v.cannotStart(vm) == "" {
				b.at[vm.ID] = h
			}
		}
	}
	b.index()
	return b
}

// index orders by host what the loss of one would take: there are many hosts, and
// each takes little.
func (b *settled) index() {
	b.runs, b.holds = map[holdfast.HostID][]cluster.VM{}, map[holdfast.HostID][]int{}
	for _, vm := range b.v.VMs {
		if at, ok := b.at[vm.ID]; ok {
			b.runs[at] = append(b.runs[at], vm)
		}
	}
	for i := range b.v.Volumes {
		for _, r := range b.v.Volumes[i].InSync {
			of := b.holds[r.Host]
			if (len(of) == 0 || of[len(of)-1] != i) && b.v.Usable(r) {
				b.holds[r.Host] = append(of, i)
			}
		}
	}
}

// RestartOrder sorts VMs as they are to be restarted: by priority, then the
// larger first, because small ones fill the gaps, then by name.
func RestartOrder(vms []cluster.VM) {
	slices.SortStableFunc(vms, func(a, b cluster.VM) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(b.MemoryMiB, a.MemoryMiB),
			cmp.Compare(b.CPUs, a.CPUs), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID.String(), b.ID.String()))
	})
}

func (b *settled) lose(name string, lost []*Host) Loss {
	l := Loss{Name: name, Witness: true}
	for _, h := range lost {
		l.Lost = append(l.Lost, h.ID)
		l.Witness = l.Witness && h.Witness
	}
	after := b.v.without(lost)
	l.Volumes = b.volumesLost(after, l.Lost, name)
	l.Control = controlLost(b.v, after, name)
	var vms []cluster.VM
	for _, id := range l.Lost {
		vms = append(vms, b.runs[id]...)
	}
	l.Restarts, l.Unplaced = after.restarts(b.rooms.clone(), vms, nil)
	return l
}

// Restarts plans where VMs that have lost their host are to start, in the
// order of the result. options, if not nil, steers each.
func Restarts(v *View, vms []cluster.VM, options func(cluster.VM) VMOptions) ([]Restart, []Unplaced) {
	rooms := newRooms(v)
	return v.restarts(rooms, slices.Clone(vms), options)
}

func (v *View) restarts(rs rooms, vms []cluster.VM, options func(cluster.VM) VMOptions) (out []Restart, left []Unplaced) {
	RestartOrder(vms)
	for _, vm := range vms {
		if reason := v.cannotStart(vm); reason != "" {
			left = append(left, Unplaced{VM: vm.ID, Name: vm.Name, Reason: reason})
			continue
		}
		var o VMOptions
		if options != nil {
			o = options(vm)
		}
		h, why := v.placeVM(rs, vm, o)
		if h.IsZero() {
			left = append(left, Unplaced{VM: vm.ID, Name: vm.Name, Reason: why.Short, Why: why})
			continue
		}
		rs.take(h, vm)
		out = append(out, Restart{VM: vm.ID, Name: vm.Name, To: h, Why: why})
	}
	return out, left
}

// cannotStart says why a VM cannot start anywhere now, or "".
func (v *View) cannotStart(vm cluster.VM) string {
	vols, missing := v.VolumesOf(vm)
	if len(missing) > 0 {
		return fmt.Sprintf("VM %s has no disk: volume %s does not exist", vm.Name, missing[0].Short())
	}
	for _, vol := range vols {
		switch {
		case v.State.Gone(vol):
			return fmt.Sprintf("VM %s cannot start: volume %s is lost: every in-sync copy was on a disk that is gone", vm.Name, vol.Name)
		case len(v.InSync(vol)) == 0:
			return fmt.Sprintf("VM %s cannot start: volume %s has no in-sync copy on a living host", vm.Name, vol.Name)
		}
	}
	return ""
}

// volumesLost judges the volumes that have a copy on one of the lost hosts.
func (b *settled) volumesLost(after *View, lost []holdfast.HostID, name string) []VolumeLoss {
	var out []VolumeLoss
	var of []int
	for _, id := range lost {
		of = append(of, b.holds[id]...)
	}
	slices.Sort(of)
	now := b.v
	for _, i := range slices.Compact(of) {
		vol := now.Volumes[i]
		have, left := now.countUsable(vol.InSync), after.countUsable(vol.InSync)
		if have == left {
			continue
		}
		reason := ""
		switch {
		case left == 0 && have == 1:
			reason = fmt.Sprintf("volume %s has its only copy there", vol.Name)
		case left == 0:
			reason = fmt.Sprintf("volume %s has all its %d copies there", vol.Name, have)
		case left < vol.Min:
			reason = fmt.Sprintf("volume %s would stall: %s left, it needs %d", vol.Name, count(left, "copy", "copies"), vol.Min)
		default:
			continue
		}
		out = append(out, VolumeLoss{Volume: vol.ID, Name: vol.Name, Reason: reason})
	}
	return out
}

// controlLost says why the voting members left could not agree on anything. A
// cluster without voters of its own uses an external etcd and is not judged.
func controlLost(now, after *View, name string) string {
	total, have, left := 0, 0, 0
	for i, h := range now.Hosts {
		if !h.Voter {
			continue
		}
		total++
		if h.Up() {
			have++
		}
		if after.Hosts[i].Up() {
			left++
		}
	}
	need := total/2 + 1
	switch {
	case total == 0 || left >= need || left == have:
		return ""
	case total == 1:
		return "the only voter of the control plane is there"
	}
	return fmt.Sprintf("the control plane would have %d of %s, it needs %d", left, count(total, "voter", "voters"), need)
}
