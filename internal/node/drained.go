package node

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// drainSaid is what a host has said of its being drained.
type drainSaid struct {
	noticed bool
	writes  []holdfast.VolumeID
}

// drain hands over what this host writes, while it is drained, in sessions that
// can go elsewhere, and says which volumes initiators still write by way of it: a
// session of this host's own sockets stays where it began. Disks of VMs that run
// here are not among them; that these have to go is known.
func (n *Node) drain() {
	now := drainSaid{noticed: n.Cluster.State().Hosts[n.Self].Val.Drained}
	if now.noticed && n.Volumes.HandOver(n.changed.Set) {
		now = n.toldDrain // what stays is known soon
	} else if now.noticed {
		now.writes = slices.DeleteFunc(n.Volumes.Used(), n.Agent.Belongs)
	}
	if was := n.toldDrain; was.noticed == now.noticed && slices.Equal(was.writes, now.writes) {
		return
	}
	n.toldDrain = now
	n.alive.Update(func(a *cluster.Alive) { a.Drained, a.Writes = now.noticed, now.writes })
}
