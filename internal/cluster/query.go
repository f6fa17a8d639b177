package cluster

import (
	"bytes"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
)

// sorted returns the records of m in order.
func sorted[K comparable, T any](m map[K]Versioned[T], cmp func(a, b *T) int) []Versioned[T] {
	all := make([]Versioned[T], 0, len(m))
	order := make([]*Versioned[T], 0, len(m)) // records are large: they are moved once
	for _, v := range m {
		all = append(all, v)
		order = append(order, &all[len(all)-1])
	}
	slices.SortFunc(order, func(a, b *Versioned[T]) int { return cmp(&a.Val, &b.Val) })
	out := make([]Versioned[T], len(order))
	for i, v := range order {
		out[i] = *v
	}
	return out
}

func byName(an, bn string, ai, bi holdfast.UUID) int {
	if c := strings.Compare(an, bn); c != 0 {
		return c
	}
	return bytes.Compare(ai[:], bi[:])
}

// SortedHosts returns the hosts by name.
func (s *State) SortedHosts() []Versioned[Host] {
	return sorted(s.Hosts, func(a, b *Host) int { return byName(a.Name, b.Name, a.ID.UUID, b.ID.UUID) })
}

// SortedAlive returns what the living hosts say, by identifier.
func (s *State) SortedAlive() []Versioned[Alive] {
	return sorted(s.Alive, func(a, b *Alive) int { return bytes.Compare(a.Host.UUID[:], b.Host.UUID[:]) })
}

// SortedDisks returns the disks by host, then path.
func (s *State) SortedDisks() []Versioned[Disk] {
	return sorted(s.Disks, func(a, b *Disk) int {
		if c := bytes.Compare(a.Host.UUID[:], b.Host.UUID[:]); c != 0 {
			return c
		}
		return byName(a.Path, b.Path, a.ID.UUID, b.ID.UUID)
	})
}

// SortedVolumes returns the volumes by name, those being deleted included.
func (s *State) SortedVolumes() []Versioned[Volume] {
	return sorted(s.Volumes, func(a, b *Volume) int { return byName(a.Name, b.Name, a.ID.UUID, b.ID.UUID) })
}

// SortedVMs returns the VMs by name, those being deleted included.
func (s *State) SortedVMs() []Versioned[VM] {
	return sorted(s.VMs, func(a, b *VM) int { return byName(a.Name, b.Name, a.ID.UUID, b.ID.UUID) })
}

// SortedMachines returns the machines by VM.
func (s *State) SortedMachines() []Versioned[Machine] {
	return sorted(s.Machines, func(a, b *Machine) int { return bytes.Compare(a.VM.UUID[:], b.VM.UUID[:]) })
}

// SortedIncidents returns the incidents by identifier, which rises with time.
func (s *State) SortedIncidents() []Versioned[Incident] {
	return sorted(s.Incidents, func(a, b *Incident) int { return strings.Compare(a.ID, b.ID) })
}

// SortedExports returns the exports by name.
func (s *State) SortedExports() []Versioned[Export] {
	return sorted(s.Exports, func(a, b *Export) int { return byName(a.Name, b.Name, a.ID.UUID, b.ID.UUID) })
}

// ExportOf finds the export that a volume is a unit of.
func (s *State) ExportOf(v holdfast.VolumeID) (Versioned[Export], bool) {
	return find(s.Exports, func(e *Export) bool {
		return slices.ContainsFunc(e.Units, func(u Unit) bool { return u.Volume == v })
	})
}

// ExportByTarget finds an export by its iSCSI name.
func (s *State) ExportByTarget(name string) (Versioned[Export], bool) {
	return find(s.Exports, func(e *Export) bool { return e.Target == name })
}

// HostByName finds a host.
func (s *State) HostByName(name string) (Versioned[Host], bool) {
	return find(s.Hosts, func(h *Host) bool { return h.Name == name })
}

// VolumeByName finds a volume; one that is being deleted has no name.
func (s *State) VolumeByName(name string) (Versioned[Volume], bool) {
	return find(s.Volumes, func(v *Volume) bool { return v.Name == name && !v.Deleted })
}

// VMByName finds a VM; one that is being deleted has no name.
func (s *State) VMByName(name string) (Versioned[VM], bool) {
	return find(s.VMs, func(v *VM) bool { return v.Name == name && !v.Deleted })
}

// find returns the one record that is; names are unique, so the order of the
// map does not matter.
func find[K comparable, T any](m map[K]Versioned[T], is func(*T) bool) (Versioned[T], bool) {
	for _, v := range m {
		if is(&v.Val) {
			return v, true
		}
	}
	return Versioned[T]{}, false
}

// RackOf returns where a host stands; the zero FaultDomain if it is no member.
func (s *State) RackOf(id holdfast.HostID) holdfast.FaultDomain { return s.Hosts[id].Val.Domain }

// AliveHost reports whether a member renews its lease.
func (s *State) AliveHost(id holdfast.HostID) bool {
	_, member := s.Hosts[id]
	_, alive := s.Alive[id]
	return member && alive
}

// Racks returns the racks that hosts stand in, sorted, sites first.
func (s *State) Racks() []holdfast.FaultDomain {
	seen := make(map[holdfast.FaultDomain]bool)
	var out []holdfast.FaultDomain
	for _, h := range s.Hosts {
		if !seen[h.Val.Domain] {
			seen[h.Val.Domain] = true
			out = append(out, h.Val.Domain)
		}
	}
	slices.SortFunc(out, func(a, b holdfast.FaultDomain) int {
		if c := strings.Compare(a.Site, b.Site); c != 0 {
			return c
		}
		return strings.Compare(a.Rack, b.Rack)
	})
	return out
}

// Lost reports whether a replica can never come back: its disk has no record
// any more, as that of a memory whose host has been restarted. While a record
// cannot be read nothing counts as lost.
func (s *State) Lost(r Replica) bool {
	_, known := s.Disks[r.Disk]
	return !known && len(s.Bad) == 0
}

// DataHosts counts the members that may have disks and run VMs: all but the
// witnesses.
func (s *State) DataHosts() (n int) {
	for _, h := range s.Hosts {
		if !h.Val.Witness {
			n++
		}
	}
	return n
}

// Gone reports whether a volume has in-sync replicas and all of them are lost.
func (s *State) Gone(v Volume) bool {
	return len(v.InSync) > 0 && !slices.ContainsFunc(v.InSync, func(r Replica) bool { return !s.Lost(r) })
}

// Locked reports whether a volume is encrypted and a cluster key that it takes
// to open it is in the memory of no living host.
func (s *State) Locked(v Volume) bool {
	return slices.ContainsFunc(v.Keys, func(w keyring.Wrapped) bool {
		for _, a := range s.Alive {
			if slices.Contains(a.Val.Keys, w.Under) {
				return false
			}
		}
		return true
	})
}

// LeftToWrap counts the volumes with a data key that is not under the current
// cluster key.
func (s *State) LeftToWrap() (n int) {
	current := s.Keyring.Val.Current().ID
	for _, v := range s.Volumes {
		if v.Val.Stale(current) {
			n++
		}
	}
	return n
}

// Stale reports whether the volume has a data key that is not under a cluster
// key.
func (v *Volume) Stale(current keyring.ID) bool {
	return slices.ContainsFunc(v.Keys, func(w keyring.Wrapped) bool { return w.Under != current })
}
