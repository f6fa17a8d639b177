package httpapi

import (
	"fmt"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// priorityName and priorityOf translate the restart order.
func priorityName(n int) string {
	switch {
	case n <= 0:
		return "low"
	case n == 1:
		return "normal"
	}
	return "high"
}

func priorityOf(s string) int {
	switch s {
	case "low":
		return 0
	case "high":
		return 2
	}
	return 1
}

// vmState says in one word what became of a VM, and why if it is not what it
// should be.
func (p picture) vmState(v cluster.VM) (state, why string) {
	m, ok := p.Machines[v.ID]
	current := ok && m.Val.Generation == v.Generation
	switch {
	case v.Deleted:
		return "deleting", ""
	case !v.Reverting.IsZero():
		of, _ := v.Snapshot(v.Reverting)
		return "reverting", fmt.Sprintf("it is being set back to snapshot %s; if that was interrupted, do it again", of.Name)
	case current && m.Val.State != "off" && !p.alive(m.Val.Host):
		return "away", "host " + p.hostName(m.Val.Host) + " does not answer"
	case current && v.Power == cluster.On && m.Val.State == "off":
		return "starting", m.Val.Reason
	case current:
		return m.Val.State, m.Val.Reason
	case v.Power != cluster.On:
		return "off", ""
	case v.Host.IsZero():
		return "waiting", p.noHost(v)
	}
	return "starting", ""
}

// noHost says why a VM has no host.
func (p picture) noHost(v cluster.VM) string {
	if to, why := placement.PlaceVM(p.State, v, placement.VMOptions{}); to.IsZero() {
		return why.String()
	}
	return "no host has been found for it yet"
}

func (p picture) renderVM(v cluster.VM) v1.VM {
	out := v1.VM{ID: v.ID.String(), Name: v.Name, Power: string(v.Power), Host: p.hostName(v.Host), Rack: p.rackOf(v.Host),
		CPUs: v.CPUs, MemoryMiB: v.MemoryMiB, Volume: p.volumeName(v.Volume), Priority: priorityName(v.Priority),
		Isolation: string(v.Isolation), Publish: renderPublish(v.Publish), SSHKeys: v.SSHKeys, UserData: v.UserData,
		Kernel: v.Kernel, Initrd: v.Initrd, Append: v.Append, Boot: v.BootOrder(), MAC: v.MAC, Came: v.Came, Created: v.Created, Assigned: v.Generation}
	out.State, out.Reason = p.vmState(v)
	out.Snapshots = len(v.Snapshots)
	out.Disks = p.renderVMDisks(v)
	out.Firmware = "bios"
	if v.UEFI() {
		out.Firmware, out.Vars = "uefi", p.volumeName(v.Vars)
	}
	if !v.CDROM.IsZero() {
		out.CDROM = p.volumeName(v.CDROM)
	}
	out.Pending = append(pending(v, p.InForce(v)), p.pendingDisks(v, out.Disks)...)
	if m, ok := p.Machines[v.ID]; ok {
		mm := m.Val
		out.Machine = &v1.Machine{Host: p.hostName(mm.Host), Generation: mm.Generation, Epoch: uint32(mm.Epoch),
			State: mm.State, Reason: mm.Reason, Since: mm.Since, PID: mm.PID}
	}
	return out
}

// pending says what of a VM its machine was not started with.
func pending(v, now cluster.VM) (out []string) {
	if v.CPUs != now.CPUs {
		out = append(out, fmt.Sprintf("cpus %d instead of %d", v.CPUs, now.CPUs))
	}
	if v.MemoryMiB != now.MemoryMiB {
		out = append(out, fmt.Sprintf("%d MiB of memory instead of %d", v.MemoryMiB, now.MemoryMiB))
	}
	if v.Edition != now.Edition {
		out = append(out, "user data, ssh keys, the kernel or the boot order")
	}
	return out
}

func renderPublish(in []cluster.Publish) []v1.Publish {
	out := []v1.Publish{}
	for _, f := range in {
		out = append(out, v1.Publish{Addr: f.Addr, Port: f.Port, GuestPort: f.GuestPort})
	}
	return out
}
