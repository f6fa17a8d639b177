package placement

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// HeldBy returns the volumes that have a replica on a host, in order of their
// names, those that are being deleted included.
func HeldBy(s *cluster.State, host holdfast.HostID) []cluster.Versioned[cluster.Volume] {
	on := func(r cluster.Replica) bool { return r.Host == host }
	return slices.DeleteFunc(s.SortedVolumes(), func(v cluster.Versioned[cluster.Volume]) bool {
		return !slices.ContainsFunc(v.Val.InSync, on) && !slices.ContainsFunc(v.Val.Others, on)
	})
}

// LastCopies returns the names of the volumes that a host holds an in-sync copy
// of and no living host does beside it: without that host they might be lost.
func LastCopies(s *cluster.State, host holdfast.HostID) (names []string) {
	v := Look(s)
	for _, vol := range v.Volumes {
		good := func(r cluster.Replica) bool { return r.Host != host && v.Usable(r) }
		mine := func(r cluster.Replica) bool { return r.Host == host }
		if slices.ContainsFunc(vol.InSync, mine) && !slices.ContainsFunc(vol.InSync, good) {
			names = append(names, vol.Name)
		}
	}
	return names
}
