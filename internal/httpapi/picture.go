package httpapi

import (
	"cmp"
	"maps"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// picture is a cluster.State with the questions that rendering asks of it.
// It is made per request and read by one goroutine.
type picture struct {
	*cluster.State
	worked *worked
}

// worked is what is worked out for the whole picture when it is asked for first.
type worked struct {
	runs map[holdfast.HostID][]string // names of the VMs of each host, in order
}

func pictureOf(st *cluster.State) picture { return picture{st, &worked{}} }

// running are the names of the VMs that are to run on a host, in order.
func (p picture) running(id holdfast.HostID) []string {
	if p.worked.runs == nil {
		p.worked.runs = map[holdfast.HostID][]string{}
		for _, v := range p.vms() {
			if v.Power == cluster.On && !v.Deleted {
				p.worked.runs[v.Host] = append(p.worked.runs[v.Host], v.Name)
			}
		}
	}
	return p.worked.runs[id]
}

// sorted returns the records of a map in the order of less.
func sorted[K comparable, T any](m map[K]cluster.Versioned[T], order func(a, b T) int) []T {
	out := make([]T, 0, len(m))
	for v := range maps.Values(m) {
		out = append(out, v.Val)
	}
	slices.SortFunc(out, order)
	return out
}

func (p picture) hosts() []cluster.Host {
	return sorted(p.Hosts, func(a, b cluster.Host) int {
		return cmp.Or(cmp.Compare(a.Domain.Site, b.Domain.Site), cmp.Compare(a.Domain.Rack, b.Domain.Rack),
			cmp.Compare(a.Name, b.Name), byID(a.ID.UUID, b.ID.UUID))
	})
}

func (p picture) disks() []cluster.Disk {
	return sorted(p.Disks, func(a, b cluster.Disk) int {
		return cmp.Or(cmp.Compare(p.rackOf(a.Host), p.rackOf(b.Host)), cmp.Compare(p.hostName(a.Host), p.hostName(b.Host)),
			cmp.Compare(a.Path, b.Path), byID(a.ID.UUID, b.ID.UUID))
	})
}

func (p picture) volumes() []cluster.Volume {
	return sorted(p.Volumes, func(a, b cluster.Volume) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), byID(a.ID.UUID, b.ID.UUID))
	})
}

func (p picture) vms() []cluster.VM {
	return sorted(p.VMs, func(a, b cluster.VM) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), byID(a.ID.UUID, b.ID.UUID))
	})
}

func (p picture) exports() []cluster.Export {
	return sorted(p.Exports, func(a, b cluster.Export) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), byID(a.ID.UUID, b.ID.UUID))
	})
}

// incidents are told newest first by the order of the records, which their
// identities begin with: whoever opened one may live in another century.
func (p picture) incidents() []cluster.Incident {
	return sorted(p.Incidents, func(a, b cluster.Incident) int { return cmp.Compare(b.ID, a.ID) })
}

func byID(a, b holdfast.UUID) int { return slices.Compare(a[:], b[:]) }

// hostName returns a host's name, its short identity if it is not a member any
// more, and "" for none.
func (p picture) hostName(id holdfast.HostID) string {
	if id.IsZero() {
		return ""
	}
	if h, ok := p.Hosts[id]; ok {
		return h.Val.Name
	}
	return id.Short()
}

func (p picture) rackOf(id holdfast.HostID) string {
	if h, ok := p.Hosts[id]; ok {
		return h.Val.Domain.String()
	}
	return ""
}

func (p picture) alive(id holdfast.HostID) bool {
	_, ok := p.Alive[id]
	return ok
}

// racks returns the names of the racks, sorted.
func (p picture) racks() []string {
	set := map[string]bool{}
	for _, h := range p.hosts() {
		set[h.Domain.String()] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (p picture) volumeName(id holdfast.VolumeID) string {
	if id.IsZero() {
		return ""
	}
	if v, ok := p.Volumes[id]; ok {
		return v.Val.Name
	}
	return id.Short()
}

// use returns what a disk's host says of it.
func (p picture) use(d cluster.Disk) (cluster.DiskUse, bool) {
	a, ok := p.Alive[d.Host]
	if !ok {
		return cluster.DiskUse{}, false
	}
	for _, u := range a.Val.Disks {
		if u.Disk == d.ID {
			return u, true
		}
	}
	return cluster.DiskUse{}, false
}

// space returns the bytes of all disks of a host (or of all hosts, for the
// zero host) that are in use now.
func (p picture) space(host holdfast.HostID) (total, free int64) {
	for _, d := range p.Disks {
		if !host.IsZero() && d.Val.Host != host {
			continue
		}
		if u, ok := p.use(d.Val); ok && u.Error == "" {
			total += u.Total
			free += u.Free
		}
	}
	return total, free
}
