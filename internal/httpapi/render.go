package httpapi

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/fair"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

func renderSelf(s Self) v1.Self {
	return v1.Self{ID: s.ID.String(), Name: s.Name, Rack: s.Domain.Rack, Site: s.Domain.Site, Version: s.Version,
		InCluster: s.InCluster, LeadsKV: s.LeadsKV, Witness: s.Witness, Accelerator: s.Accelerator, Why: s.Why, Sandbox: s.Sandbox, Simulated: s.Simulated}
}

func (p picture) renderCluster() v1.Cluster {
	c := v1.Cluster{ID: p.Cluster.ID.String(), Name: p.Cluster.Name, Format: p.Cluster.Format, Incarnation: p.Cluster.Incarnation, External: p.Cluster.External, Leader: p.hostName(p.Leader)}
	for _, h := range p.hosts() {
		if h.Voter {
			c.Voters++
		}
	}
	return c
}

func (p picture) renderHost(h cluster.Host) v1.Host {
	out := v1.Host{ID: h.ID.String(), Name: h.Name, Site: h.Domain.Site, Rack: h.Domain.Rack, State: "away",
		Addr: h.Addr, API: h.APIAddr, Voter: h.Voter, Witness: h.Witness, Leader: p.Leader == h.ID, Drained: h.Drained, VMs: []string{}}
	if a, ok := p.Alive[h.ID]; ok {
		out.State = "alive"
		if h.Drained {
			out.State = "drained"
		}
		wall := a.Val.Wall
		out.Wall = &wall
		out.CPUs, out.MemoryMiB, out.Accelerator = a.Val.CPUs, a.Val.MemoryMiB, a.Val.Accelerator
		out.Sandbox, out.Version = a.Val.Sandbox, a.Val.Version
		for _, c := range a.Val.Conditions {
			out.Conditions = append(out.Conditions, renderCondition(c))
		}
	}
	out.VMs = append(out.VMs, p.running(h.ID)...)
	out.BytesTotal, out.BytesFree = p.space(h.ID)
	for _, d := range p.Disks {
		if d.Val.Host == h.ID && d.Val.RAM {
			out.BytesRAM += d.Val.Size
		}
	}
	return out
}

func renderCondition(c cluster.Condition) v1.Condition {
	out := v1.Condition{ID: c.ID, Severity: c.Severity, Text: c.Text}
	if !c.Since.IsZero() {
		since := c.Since
		out.Since = &since
	}
	return out
}

func (p picture) renderDisk(d cluster.Disk) v1.Disk {
	out := v1.Disk{ID: d.ID.String(), Host: p.hostName(d.Host), Rack: p.rackOf(d.Host), Path: d.Path, Size: d.Size, State: "away",
		Pool: p.PoolName(d.Pool), RAM: d.RAM}
	if !p.alive(d.Host) {
		return out
	}
	u, ok := p.use(d)
	switch {
	case !ok:
		out.State = "starting"
		for _, c := range p.Alive[d.Host].Val.Conditions {
			if c.ID == "disk/"+d.Path {
				out.State, out.Error = "failed", c.Text
			}
		}
	case u.Error != "":
		out.State, out.Error = "failed", u.Error
	default:
		out.State, out.Free = "in use", u.Free
		if d.Evacuate {
			out.State = "evacuating"
		}
		if d.Evacuate && len(placement.Holds(p.State, d.ID)) == 0 {
			out.State = "evacuated"
		}
		out.WriteAmplification, out.MapAmplification = u.WriteAmp, u.MapAmp
	}
	return out
}

// usable reports whether a replica's host is alive and uses its disk.
func (p picture) usable(r cluster.Replica) bool {
	u, ok := p.use(cluster.Disk{ID: r.Disk, Host: r.Host})
	return ok && u.Error == ""
}

// inSyncAlive counts the in-sync replicas that can be used now.
func (p picture) inSyncAlive(v cluster.Volume) int {
	n := 0
	for _, r := range v.InSync {
		if p.usable(r) {
			n++
		}
	}
	return n
}

// volumeState says in one word how a volume is.
func (p picture) volumeState(v cluster.Volume) string {
	alive := p.inSyncAlive(v)
	switch {
	case v.Deleted:
		return "deleting"
	case v.Image && !v.Sealed:
		return "importing"
	case p.Gone(v):
		return "lost"
	case alive == 0 || alive < v.Min:
		return "unavailable"
	case p.Locked(v):
		return "locked"
	case alive < v.Copies:
		return "degraded"
	}
	return "ok"
}

func (p picture) renderVolume(v cluster.Volume) v1.Volume {
	out := v1.Volume{ID: v.ID.String(), Name: v.Name, Size: int64(v.Blocks) * holdfast.BlockSize,
		State: p.volumeState(v), Copies: v.Copies, Min: v.Min, Durability: string(v.Durability), Reads: string(cmp.Or(v.Reads, cluster.Leased)), Image: v.Image,
		Pool: p.PoolName(v.Pool), Epoch: uint32(v.Epoch), Writer: p.hostName(v.Writer), Generation: v.Generation, Created: v.Created,
		IOPS: v.Limits.IOPS, MBps: v.Limits.MBps, BurstMS: v.Limits.BurstMS, Shared: v.Shared,
		Weight:   cmp.Or(v.Weight, fair.DefaultWeight),
		Replicas: []v1.Replica{}, Snapshots: visible(v)}
	if out.Compress = cmp.Or(v.Compression, "off"); v.Encrypted() {
		out.Encrypted, out.Key = true, string(v.Keys[0].Under)
	}
	if pool, ok := p.Pool(v.Pool); ok {
		out.Flush = flushOf(pool)
	}
	for _, r := range v.InSync {
		out.Replicas = append(out.Replicas, p.renderReplica(v, r, true))
	}
	for _, r := range v.Others {
		out.Replicas = append(out.Replicas, p.renderReplica(v, r, false))
	}
	if v.Origin != nil {
		out.Origin = p.renderOrigin(*v.Origin)
	}
	if vm, ok := p.VMs[v.VM]; ok {
		out.VM = vm.Val.Name
	}
	out.Forced = p.renderForced(v)
	if c := v.Compared; c != nil {
		out.Compared = &v1.Compared{At: c.At, Differ: int64(c.Differ)}
	}
	return out
}

func (p picture) renderReplica(v cluster.Volume, r cluster.Replica, inSync bool) v1.Replica {
	d := p.Disks[r.Disk].Val
	return v1.Replica{ID: r.ID.String(), Host: p.hostName(r.Host), Rack: p.rackOf(r.Host), Disk: r.Disk.String(),
		InSync: inSync, Alive: p.usable(r), Path: d.Path, Going: d.Evacuate || slices.Contains(v.Moving, r.ID)}
}

func renderSnapshot(s cluster.Snapshot) v1.Snapshot {
	out := v1.Snapshot{ID: s.ID.String(), Name: s.Name, LSN: s.LSN.String(), Created: s.Created}
	if !s.Group.IsZero() {
		out.Group = s.Group.String()
	}
	return out
}

// renderOrigin prints "image", "volume@snapshot" or, for a snapshot that was
// only made for the clone, "volume".
func (p picture) renderOrigin(o cluster.Origin) string {
	name := p.volumeName(o.Volume)
	v, ok := p.Volumes[o.Volume]
	if !ok || v.Val.Image {
		return name
	}
	i := slices.IndexFunc(v.Val.Snapshots, func(s cluster.Snapshot) bool { return s.ID == o.Snapshot })
	if i < 0 || v.Val.Snapshots[i].Hidden {
		return name
	}
	return name + "@" + v.Val.Snapshots[i].Name
}

func (p picture) renderIncident(i cluster.Incident) v1.Incident {
	out := v1.Incident{ID: i.ID, Racks: append([]string{}, i.Racks...), Hosts: []string{}, Opened: i.Opened,
		Closed: i.Closed, Steps: []v1.Step{}}
	for _, h := range i.Hosts {
		out.Hosts = append(out.Hosts, p.hostName(h))
	}
	for _, s := range i.Steps {
		out.Steps = append(out.Steps, v1.Step{At: s.At, What: s.What, Text: s.Text})
	}
	return out
}
