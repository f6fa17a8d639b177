package serve

import (
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// handLead has a witness lead the control plane wherever there is one: whoever leads
// hands it over. Who is lost with a rack is then never who leads, so that no election
// comes before the loss is noticed, and none lengthens the leases of those that are
// lost (docs/adr/0091).
func (h *Host) handLead(m *member, st *cluster.State) {
	e := m.etcd.Load()
	if e == nil || ended(e) || !e.Leads() || h.cfg.Witness {
		return
	}
	for id, rec := range st.Hosts {
		if !rec.Val.Witness || !rec.Val.Voter || !st.AliveHost(id) {
			continue
		}
		members, err := electorate{m.kv}.membersOf(rec.Val)
		i := slices.IndexFunc(members, func(x etcd.MemberInfo) bool { return !x.Learner })
		if err == nil && i >= 0 {
			err = e.HandLead(members[i].ID)
		}
		if err != nil {
			h.log.Warn("the witness does not lead the control plane yet", "error", err)
		}
		return
	}
}
