package placement

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// View is a cluster state put in order and cross-referenced for planners. It
// is made for one decision and changes nothing of the state.
type View struct {
	State   *cluster.State
	Hosts   []*Host          // by site, rack, name
	Racks   []Rack           // by site, name
	Volumes []cluster.Volume // by name, without the deleted
	VMs     []cluster.VM     // by name, without the deleted

	hosts map[holdfast.HostID]*Host
	data  int // members that may have disks and run VMs

	// Worked out when they are asked for first.
	promised map[holdfast.DiskID]int64
	rooms    rooms
}

// Host is a member with what it says of itself.
type Host struct {
	cluster.Host
	Alive *cluster.Alive // nil: away
}

// Up reports whether the host is alive.
func (h *Host) Up() bool { return h != nil && h.Alive != nil }

// Rack is a fault domain with its hosts.
type Rack struct {
	Domain holdfast.FaultDomain
	Hosts  []*Host
}

// Up reports whether any of the rack's hosts is alive.
func (r Rack) Up() bool {
	return slices.ContainsFunc(r.Hosts, func(h *Host) bool { return h.Up() })
}

// Witness reports whether the rack holds nothing but a witness.
func (r Rack) Witness() bool {
	return !slices.ContainsFunc(r.Hosts, func(h *Host) bool { return !h.Witness })
}

// Look puts a state in order.
func Look(s *cluster.State) *View {
	v := &View{State: s, hosts: make(map[holdfast.HostID]*Host, len(s.Hosts)), data: s.DataHosts()}
	for id, rec := range s.Hosts {
		h := &Host{Host: rec.Val}
		if a, ok := s.Alive[id]; ok {
			h.Alive = &a.Val
		}
		v.hosts[id] = h
		v.Hosts = append(v.Hosts, h)
	}
	slices.SortFunc(v.Hosts, byPlace)
	for _, h := range v.Hosts {
		if n := len(v.Racks); n == 0 || v.Racks[n-1].Domain != h.Domain {
			v.Racks = append(v.Racks, Rack{Domain: h.Domain})
		}
		r := &v.Racks[len(v.Racks)-1]
		r.Hosts = append(r.Hosts, h)
	}
	v.Volumes = byName(s.Volumes, func(x *cluster.Volume) (string, holdfast.UUID, bool) { return x.Name, x.ID.UUID, x.Deleted })
	v.VMs = byName(s.VMs, func(x *cluster.VM) (string, holdfast.UUID, bool) { return x.Name, x.ID.UUID, x.Deleted })
	return v
}

// byName returns the records that are not deleted, by name and then by identity.
// Names are sorted and not records, which are large.
func byName[K comparable, T any](all map[K]cluster.Versioned[T], of func(*T) (name string, id holdfast.UUID, deleted bool)) []T {
	type key struct {
		name string
		uuid holdfast.UUID
		id   K
	}
	keys := make([]key, 0, len(all))
	for id, rec := range all {
		if name, uuid, deleted := of(&rec.Val); !deleted {
			keys = append(keys, key{name, uuid, id})
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.name, b.name), bytes.Compare(a.uuid[:], b.uuid[:]))
	})
	out := make([]T, len(keys))
	for i, k := range keys {
		out[i] = all[k.id].Val
	}
	return out
}

func byPlace(a, b *Host) int {
	return cmp.Or(
		cmp.Compare(a.Domain.Site, b.Domain.Site),
		cmp.Compare(a.Domain.Rack, b.Domain.Rack),
		cmp.Compare(a.Name, b.Name),
		bytes.Compare(a.ID.UUID[:], b.ID.UUID[:]))
}

// Host returns a member, or nil.
func (v *View) Host(id holdfast.HostID) *Host { return v.hosts[id] }

// HostName returns a host's name, or the start of its identity if it is no
// longer a member.
func (v *View) HostName(id holdfast.HostID) string {
	if h := v.hosts[id]; h != nil {
		return h.Name
	}
	return id.Short()
}

// Up reports whether a host is alive.
func (v *View) Up(id holdfast.HostID) bool { return v.hosts[id].Up() }

// Usable reports whether a replica's host is alive and uses its disk.
func (v *View) Usable(r cluster.Replica) bool {
	h := v.hosts[r.Host]
	if !h.Up() {
		return false
	}
	for _, d := range h.Alive.Disks {
		if d.Disk == r.Disk {
			return d.Error == ""
		}
	}
	return false
}

// inPool says in which pool, unless that is the default one.
func (v *View) inPool(id holdfast.PoolID) string {
	if id.IsZero() {
		return ""
	}
	return " in pool " + v.State.PoolName(id)
}

// InSync returns the in-sync replicas of a volume that can be used now.
func (v *View) InSync(vol cluster.Volume) []cluster.Replica {
	return v.usable(vol.InSync)
}

// Whole reports whether a volume has all the copies in sync, usable now, that
// the cluster has hosts for.
func (v *View) Whole(vol cluster.Volume) bool {
	return v.Copies(vol) >= max(1, min(vol.Copies, v.data))
}

// VolumesOf returns the volumes that a VM needs to start, the boot disk's
// first, and those of them that do not exist.
func (v *View) VolumesOf(vm cluster.VM) (vols []cluster.Volume, missing []holdfast.VolumeID) {
	for _, id := range vm.Volumes() {
		if rec, ok := v.State.Volumes[id]; ok && !rec.Val.Deleted {
			vols = append(vols, rec.Val)
		} else {
			missing = append(missing, id)
		}
	}
	return vols, missing
}

// without returns the view as it would be after the loss of hosts.
func (v *View) without(lost []*Host) *View {
	w := *v
	w.rooms = nil
	w.hosts = make(map[holdfast.HostID]*Host, len(v.hosts))
	w.Hosts = make([]*Host, 0, len(v.Hosts))
	for _, h := range v.Hosts {
		if slices.Contains(lost, h) {
			h = &Host{Host: h.Host}
		}
		w.hosts[h.ID] = h
		w.Hosts = append(w.Hosts, h)
	}
	return &w
}
