package node

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// retireDisks gives back this host's disks that are to be removed and that no
// volume needs any more. It looks at the picture first and then asks the control
// plane: what it does cannot be undone.
func (n *Node) retireDisks() {
	n.tellUnknown(n.Cluster.State())
	if n.Retire == nil || len(n.retirable(n.Cluster.State())) == 0 {
		return
	}
	st, err := n.Cluster.Refresh()
	if err != nil {
		return
	}
	for _, d := range n.retirable(st) {
		if err := n.retire(d); err != nil {
			n.Log.Info("a disk cannot be given back yet", "disk", d.Val.Path, "error", err)
		}
	}
}

// tellUnknown says which of the disks in this host are no disks of the cluster any
// more, for they were taken back while the host was away, and which belong to
// another host.
func (n *Node) tellUnknown(st *cluster.State) {
	if st.Rev == 0 {
		return
	}
	said := make(map[string]bool)
	for _, s := range n.Volumes.Stores() {
		id := s.Identity().Disk
		d, ok := st.Disks[id]
		switch {
		case placement.Unknown(st, id):
			c := "disk-unknown/" + id.String()
			said[c] = true
			n.Condition(c, "warning", fmt.Sprintf("disk %s of host %s was taken back while the host was away; nothing is put on it; wipe it and add it again to use it", id.Short(), n.hostName()))
		case ok && d.Val.Host != n.Self:
			where := "disk-elsewhere/" + id.String()
			said[where] = true
			of := st.Hosts[d.Val.Host].Val.Name
			n.Condition(where, "warning", fmt.Sprintf("disk %s of host %s is in host %s: nothing is put on it, and what it holds counts as away until it is back in %s", id.Short(), of, n.hostName(), of))
		}
	}
	for _, c := range n.toldUnknown {
		if !said[c] {
			n.Condition(c, "", "")
		}
	}
	n.toldUnknown = slices.Sorted(maps.Keys(said))
}

// retirable returns the disks to be removed that no volume names, in order. One
// that still has replicas waits until they have been removed as well, unless it
// has failed.
func (n *Node) retirable(st *cluster.State) (out []cluster.Versioned[cluster.Disk]) {
	if len(st.Bad) > 0 {
		return nil // a record that cannot be read may name it
	}
	for id, d := range st.Disks {
		if d.Val.Host == n.Self && d.Val.Remove && len(placement.Holds(st, id)) == 0 && !n.stillHolds(st, id) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b cluster.Versioned[cluster.Disk]) int {
		return slices.Compare(a.Val.ID.UUID[:], b.Val.ID.UUID[:])
	})
	return out
}

// stillHolds reports whether a disk that works has replicas of volumes that
// exist.
func (n *Node) stillHolds(st *cluster.State, id holdfast.DiskID) bool {
	for _, s := range n.Volumes.Stores() {
		if s.Identity().Disk != id || s.Err() != nil {
			continue
		}
		for _, r := range s.Replicas() {
			if _, ok := st.Volumes[r.State().Volume]; ok {
				return true
			}
		}
	}
	return false
}

func (n *Node) retire(d cluster.Versioned[cluster.Disk]) error {
	n.Volumes.RemoveStore(d.Val.ID)
	if err := n.Retire(d.Val); err != nil {
		return err
	}
	tx := n.Cluster.Begin()
	tx.DeleteDisk(d.Val.ID, d.Mod)
	if _, err := tx.Commit(); err != nil {
		return err
	}
	n.publishDisks()
	n.Log.Info("disk given back", "disk", d.Val.Path)
	return nil
}
