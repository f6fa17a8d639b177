package httpapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// renderVMDisks lists a VM's disks, the boot disk first.
func (p picture) renderVMDisks(v cluster.VM) []v1.VMDisk {
	out := []v1.VMDisk{p.renderVMDisk(v, cluster.VMDisk{Volume: v.Volume})}
	for _, d := range v.Disks {
		out = append(out, p.renderVMDisk(v, d))
	}
	return out
}

func (p picture) renderVMDisk(v cluster.VM, d cluster.VMDisk) v1.VMDisk {
	out := v1.VMDisk{Volume: p.volumeName(d.Volume), Slot: d.Slot, State: "ok",
		Path: "/dev/disk/by-id/virtio-" + strings.ReplaceAll(d.Volume.String(), "-", "")[:20]}
	rec, ok := p.Volumes[d.Volume]
	out.Size = int64(rec.Val.Blocks) * holdfast.BlockSize
	m, running := p.Machines[v.ID]
	running = running && m.Val.Generation == v.Generation && len(m.Val.Disks) > 0
	has := slices.Contains(m.Val.Disks, d.Volume)
	switch {
	case !ok || rec.Val.Deleted:
		out.State = "missing"
	case p.Gone(rec.Val):
		out.State = "lost"
	case d.Leaving:
		out.State = "leaving"
	case running && !has:
		out.State = "pending"
	}
	return out
}

// pendingDisks says which disks a VM's machine does not have yet, or still has.
func (p picture) pendingDisks(v cluster.VM, disks []v1.VMDisk) (out []string) {
	for _, d := range disks {
		switch d.State {
		case "pending":
			out = append(out, fmt.Sprintf("disk %s, which the machine does not have yet", d.Volume))
		case "leaving":
			out = append(out, fmt.Sprintf("disk %s goes when the guest lets it go, or is reset", d.Volume))
		}
	}
	m, ok := p.Machines[v.ID]
	running := ok && m.Val.Generation == v.Generation && len(m.Val.Disks) > 0
	switch {
	case !running || m.Val.CDROM == v.CDROM:
	case v.CDROM.IsZero():
		out = append(out, fmt.Sprintf("CD-ROM %s, which the machine still has", p.volumeName(m.Val.CDROM)))
	default:
		out = append(out, fmt.Sprintf("CD-ROM %s, which the machine does not have yet", p.volumeName(v.CDROM)))
	}
	return out
}
