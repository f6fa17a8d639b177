package serve

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/node"
)

// portalCondition is told while this host's portal does not listen.
const portalCondition = "iscsi-portal"

// listen makes the portal known and opens it, if the host is to have one. It
// reports whether nothing is left to do.
func (t *targets) listen() bool {
	told := ""
	if t.h.cfg.ISCSI != "" {
		told = t.h.cfg.AdvertiseAddr(t.h.cfg.ISCSI)
	}
	self := t.m.node.Cluster.State().Hosts[t.h.dir.id.Host].Val
	if self.Portal == told && told == "" {
		return true
	}
	if self.Portal != told || self.PortalGroup == 0 {
		if err := t.register(told); err != nil {
			t.h.log.Debug("the portal is not registered yet", "error", err)
			return false
		}
		self = t.m.node.Cluster.State().Hosts[t.h.dir.id.Host].Val
	}
	if told == "" || self.PortalGroup == 0 {
		return told == ""
	}
	_, err := t.srv.Listen(t.h.cfg.ISCSI, told, self.PortalGroup)
	if err != nil {
		t.m.node.Condition(portalCondition, "error", "host "+t.h.cfg.Name+" answers no iSCSI initiators: "+err.Error())
		return false
	}
	t.m.node.Condition(portalCondition, "", "")
	t.h.log.Info("answers iSCSI initiators", "addr", t.h.cfg.ISCSI, "group", self.PortalGroup)
	return true
}

// register writes the portal into the host's record, with the portal group of
// its rack. The commit depends on the records of the other hosts, so that no
// two racks come to share a group.
func (t *targets) register(told string) error {
	return t.h.changeHost(t.h.dir.id.Host, func(tx *cluster.Txn, rec cluster.Versioned[cluster.Host]) error {
		st := t.m.node.Cluster.State()
		rec.Val.Portal = told
		if rec.Val.PortalGroup == 0 && told != "" {
			rec.Val.PortalGroup = groupFor(st, rec.Val)
			for _, h := range st.SortedHosts() {
				if h.Val.ID != rec.Val.ID && tx.Conditions() < kv.MaxOps-8 {
					tx.RequireHost(h.Val.ID, h.Mod)
				}
			}
		}
		tx.PutHost(rec.Val, rec.Mod)
		return nil
	})
}

// groupFor is the portal group of a host's rack: that of its neighbours, or the
// lowest that is free.
func groupFor(st *cluster.State, self cluster.Host) uint16 {
	var taken []uint16
	for _, h := range st.SortedHosts() {
		if h.Val.Domain == self.Domain && h.Val.PortalGroup != 0 {
			return h.Val.PortalGroup
		}
		taken = append(taken, h.Val.PortalGroup)
	}
	for tag := uint16(1); ; tag++ {
		if !slices.Contains(taken, tag) {
			return tag
		}
	}
}

// refusals are the logins that were turned away lately, a condition for each
// target.
type refusals struct {
	mu   sync.Mutex
	list map[string]*refused // by target
}

type refused struct {
	last  iscsi.Refusal
	count int
	at    time.Time
}

// Bounds of refusals.
const (
	refusedFor = 10 * time.Minute // a condition stands after the last refusal
	maxRefused = 32               // targets
)

func (r *refusals) add(x iscsi.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = map[string]*refused{}
	}
	k := r.list[x.Target]
	if k == nil {
		if len(r.list) >= maxRefused {
			return
		}
		k = &refused{}
		r.list[x.Target] = k
	}
	k.last, k.at = x, time.Now()
	k.count++
}

// tell says the refusals as conditions of this host, and takes old ones back.
func (r *refusals) tell(n *node.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for target, k := range r.list {
		id := "iscsi-refused/" + target
		if time.Since(k.at) > refusedFor {
			delete(r.list, target)
			n.Condition(id, "", "")
			continue
		}
		what := "target " + target
		if target == "" {
			what = "the list of targets"
		}
		n.Condition(id, "warning", fmt.Sprintf("initiator %q at %s was refused %s over iSCSI, %s, last at %s: %s; 'holdfast export allow' says who may",
			k.last.Initiator, k.last.From, what, times(k.count), k.at.UTC().Format("15:04:05Z"), k.last.Why))
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
