package serve

import (
	"maps"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// cutOffReason is why a machine of a host that is cut off does not run.
const cutOffReason = "this host is cut off from the control plane"

// ownMachines is a picture in which this host's own machines are as they are: a
// host that is cut off cannot record what becomes of them, but can tell who asks
// it.
func ownMachines(st *cluster.State, self holdfast.HostID, machine func(holdfast.VMID) hypervisor.Machine) *cluster.State {
	out := *st
	out.Machines = maps.Clone(st.Machines)
	for id, rec := range out.Machines {
		if rec.Val.Host != self {
			continue
		}
		now := hypervisor.Off
		if m := machine(id); m != nil {
			now = m.State()
		}
		if was := hypervisor.State(rec.Val.State); now != was && (was == hypervisor.Running || was == hypervisor.Paused) {
			rec.Val.State, rec.Val.Reason = string(now), cutOffReason
			out.Machines[id] = rec
		}
	}
	return &out
}
