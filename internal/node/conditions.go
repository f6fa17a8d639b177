package node

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

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
			text = fmt.Sprintf("disk %s of host %s gave bytes that failed their hash %d times; %d blocks were restored from another copy; replace it if this goes on",
				r.Disk.Short(), n.hostName(), r.Bad, r.Repaired)
		}
		n.Condition("disk-rot/"+r.Disk.String(), "warning", text)
	}
}

func (n *Node) hostName() string {
	if h, ok := n.Cluster.State().Hosts[n.Self]; ok {
		return h.Val.Name
	}
	return n.Self.Short()
}
