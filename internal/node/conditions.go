package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// conditions is what is wrong with this host as far as it knows, kept under
// stable identities and told with what the host says of itself.
type conditions struct {
	mu  sync.Mutex
	set map[string]cluster.Condition
}

// Condition says that something is wrong that a person should know, under a
// stable identity such as "disk/PATH"; an empty text takes it back. Saying the
// same again changes nothing.
func (n *Node) Condition(id, severity, text string) {
	n.conds.mu.Lock()
	have, was := n.conds.set[id]
	if was && have.Text == text || !was && text == "" {
		n.conds.mu.Unlock()
		return
	}
	if text == "" {
		delete(n.conds.set, id)
	} else {
		since := have.Since
		if !was {
			since = n.Clock.Wall().UTC()
		}
		n.conds.set[id] = cluster.Condition{ID: id, Severity: severity, Text: text, Since: since}
	}
	list := make([]cluster.Condition, 0, len(n.conds.set))
	for _, c := range n.conds.set {
		list = append(list, c)
	}
	n.conds.mu.Unlock()
	slices.SortFunc(list, func(a, b cluster.Condition) int { return cmp.Compare(a.ID, b.ID) })
	n.alive.Update(func(a *cluster.Alive) { a.Conditions = list })
}

// tellRot says which disks gave bytes that failed their hash.
func (n *Node) tellRot() {
	for _, r := range n.Volumes.Rot() {
		text := ""
		if r.Bad > 0 {
			text = fmt.Sprintf("%s gave bytes that failed their hash %s; %d blocks were restored from another copy; replace it if this goes on",
				n.diskName(r.Disk), times(int(r.Bad)), r.Repaired)
		}
		n.Condition("disk-rot/"+r.Disk.String(), "warning", text)
	}
	n.tellFaults()
}

// tellFaults says which volumes have blocks on this host that do not match their
// hash, until those are restored, overwritten or acknowledged.
func (n *Node) tellFaults() {
	said := make(map[string]bool)
	for _, st := range n.Volumes.Stores() {
		faults := st.Faults()
		for _, r := range st.Replicas() {
			state := r.State()
			bad, lost, hop := 0, 0, ""
			for _, f := range faults {
				if f.Replica != state.Replica || !f.Open() || f.Known {
					continue
				}
				bad++
				hop = f.Hop.String()
				if f.Nowhere {
					lost++
				}
			}
			if bad == 0 {
				continue
			}
			id := "volume-rot/" + state.Replica.String()
			said[id] = true
			severity, text := n.faultText(state.Volume, bad, lost, hop)
			n.Condition(id, severity, text)
		}
	}
	for _, id := range n.toldFaults {
		if !said[id] {
			n.Condition(id, "", "")
		}
	}
	n.toldFaults = slices.Sorted(maps.Keys(said))
}

// tellRebuilds says how many copies wait to be built from this host, or to be
// brought up to date.
func (n *Node) tellRebuilds() {
	text := ""
	if r := n.Volumes.Rebuilding(); r.Waiting > 0 {
		text = fmt.Sprintf("%d of %d copies that are to be built or brought up to date from here wait for their turn; 'holdfast volume show VOLUME -o wide' says how many are before it", r.Waiting, r.Waiting+r.Working)
	}
	n.Condition("rebuilds", "info", text)
}

// priority is that of the VM whose disk a volume is; 0: the lowest, or of none.
func (n *Node) priority(id holdfast.VolumeID) int {
	st := n.Cluster.State()
	if st == nil {
		return 0
	}
	return st.VMs[st.Volumes[id].Val.VM].Val.Priority
}

func (n *Node) faultText(vol holdfast.VolumeID, bad, lost int, hop string) (severity, text string) {
	name := vol.Short()
	if v, ok := n.Cluster.State().Volumes[vol]; ok {
		name = v.Val.Name
	}
	if lost > 0 {
		return "error", fmt.Sprintf("volume %s: %s on host %s cannot be read, and no other copy has what is lost (%s); reading it is an I/O error, all the rest is whole; write it anew or set the volume back; 'holdfast volume faults %s' says where",
			name, blocks(lost), n.hostName(), hop, name)
	}
	return "warning", fmt.Sprintf("volume %s: %s of the copy on host %s fail their hash (%s) and are not restored yet, as another copy cannot be asked; 'holdfast volume faults %s' says where",
		name, blocks(bad), n.hostName(), hop, name)
}

func blocks(n int) string {
	if n == 1 {
		return "1 block"
	}
	return fmt.Sprintf("%d blocks", n)
}

// diskName names a disk of this host as people know it: by its path, or if the
// cluster does not know it, by its identity.
func (n *Node) diskName(id holdfast.DiskID) string {
	name := id.Short()
	if d, ok := n.Cluster.State().Disks[id]; ok {
		name = d.Val.Path
	}
	return "disk " + name + " of host " + n.hostName()
}

func (n *Node) hostName() string {
	if h, ok := n.Cluster.State().Hosts[n.Self]; ok {
		return h.Val.Name
	}
	return n.Self.Short()
}
