package placement

import (
	"cmp"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Stage is how far a VM has come on its way off a drained host.
type Stage string

// The stages, the furthest first.
const (
	Left    Stage = "shut down" // its machine is off; it can start elsewhere
	Leaving Stage = "leaving"   // its guest has been told to shut down
	Waiting Stage = "waiting"   // its turn will come
	Stays   Stage = "stays"     // nobody else can take it: it goes on where it is
)

// Move is what is to become of one VM on a drained host.
type Move struct {
	VM    holdfast.VMID
	Name  string
	From  holdfast.HostID
	To    holdfast.HostID // zero if no host can take it now
	Stage Stage
	Why   Why
}

// Reason says why a VM stays, or where it is to go, on one line.
func (m Move) Reason() string {
	if !m.To.IsZero() {
		return strings.Join(m.Why.Chosen, "; ")
	}
	return m.Why.String()
}

// Moves plans where the VMs of the drained hosts that are alive are to go, in
// the order of their going: those on their way first, so that their places
// stay theirs, then as they would be restarted. Hosts in also count as drained.
// options, if not nil, steers each VM.
//
// Replicas stay: a drained host goes on serving the copies it holds.
func Moves(v *View, options func(cluster.VM) VMOptions, also ...holdfast.HostID) []Move {
	v = v.drained(also)
	rs := newRooms(v)
	var out []Move
	for _, vm := range v.drainOrder() {
		m := Move{VM: vm.ID, Name: vm.Name, From: vm.Host, Stage: v.stage(vm)}
		if reason := v.cannotStart(vm); reason != "" {
			m.Why.Short = reason
		} else {
			o := VMOptions{}
			if options != nil {
				o = options(vm)
			}
			m.To, m.Why = v.placeVM(rs, vm, o)
			here := v.HostName(vm.Host)
			m.Why.Rejected = slices.DeleteFunc(m.Why.Rejected, func(r Rejection) bool { return r.What == here })
		}
		switch {
		case !m.To.IsZero():
			rs.take(m.To, vm)
		case m.Stage == Waiting:
			m.Stage = Stays
		}
		out = append(out, m)
	}
	return out
}

// drained returns the view as it would be if hosts were drained too.
func (v *View) drained(hosts []holdfast.HostID) *View {
	if len(hosts) == 0 {
		return v
	}
	w := *v
	w.hosts = make(map[holdfast.HostID]*Host, len(v.hosts))
	w.Hosts = make([]*Host, 0, len(v.Hosts))
	for _, h := range v.Hosts {
		if slices.Contains(hosts, h.ID) {
			c := *h
			c.Drained = true
			h = &c
		}
		w.hosts[h.ID] = h
		w.Hosts = append(w.Hosts, h)
	}
	return &w
}

// drainOrder returns the VMs that should run on a living drained host.
func (v *View) drainOrder() []cluster.VM {
	var vms []cluster.VM
	for _, vm := range v.VMs {
		if h := v.Host(vm.Host); vm.Power == cluster.On && h.Up() && h.Drained {
			vms = append(vms, vm)
		}
	}
	RestartOrder(vms)
	order := []Stage{Left, Leaving, Waiting}
	slices.SortStableFunc(vms, func(a, b cluster.VM) int {
		return cmp.Compare(slices.Index(order, v.stage(a)), slices.Index(order, v.stage(b)))
	})
	return vms
}

// stage tells from the records how far a VM has come.
func (v *View) stage(vm cluster.VM) Stage {
	if !vm.Leaving() {
		return Waiting
	}
	if IsOff(v.State, vm) {
		return Left
	}
	return Leaving
}

// IsOff reports whether a VM's host says that the machine of its present
// assignment is gone, and has said so since the VM's record was last changed: who
// said it before may have started the machine since, and not have been able to tell.
func IsOff(s *cluster.State, vm cluster.VM) bool {
	m, ok := s.Machines[vm.ID]
	return ok && m.Val.Host == vm.Host && m.Val.Generation == vm.Generation && m.Val.State == "off" && m.Mod >= s.VMs[vm.ID].Mod
}
