package serve

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// RemoveHosts implements httpapi.Members. Votes go first: with the record a
// host's certificate goes, and a vote that nobody can cast would only be in the
// way. After a failure half-way, asking again goes on where it ended.
func (h *Host) RemoveHosts(ctx context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	if err := placement.PlanRemoval(st, ids, lost).Allow(giveUp); err != nil {
		return err
	}
	if err := h.notMyself(ids); err != nil {
		return err
	}
	for _, id := range ids {
		if err := h.takeVote(m, st.Hosts[id].Val); err != nil {
			return err
		}
	}
	for i, id := range ids {
		if err := h.strike(m, ids[i:], id, lost, giveUp); err != nil {
			return err
		}
		h.log.Info("host removed", "removed", st.Hosts[id].Val.Name, "lost", lost)
	}
	return nil
}

// notMyself refuses that a host removes itself.
func (h *Host) notMyself(ids []holdfast.HostID) error {
	if slices.Contains(ids, h.dir.id.Host) {
		return holdfast.Errorf(holdfast.Conflict, "host %s answers here itself; ask another host to remove it", h.cfg.Name)
	}
	return nil
}

// takeVote takes a host's member out of the control plane, if it is ours.
func (h *Host) takeVote(m *member, rec cluster.Host) error {
	if m.ms.Load().External {
		return nil
	}
	return electorate{m.kv}.Retire(rec)
}

// strike deletes a host's records in one commit that depends on what it was
// decided on: that a lost host is away, and what the volumes say that it holds
// copies of. all are the hosts that are still to go.
func (h *Host) strike(m *member, all []holdfast.HostID, id holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	return h.changeHost(id, func(tx *cluster.Txn, rec cluster.Versioned[cluster.Host]) error {
		st := m.node.Cluster.State()
		if err := placement.PlanRemoval(st, all, lost).Allow(giveUp); err != nil {
			return err
		}
		if lost {
			tx.RequireAlive(id, 0)
		}
		for _, v := range placement.HeldBy(st, id) {
			if tx.Conditions() < kv.MaxOps/2 { // a guard against a race of moments, not needed for all
				tx.RequireVolume(v.Val.ID, v.Mod)
			}
		}
		for _, d := range st.SortedDisks() {
			if d.Val.Host == id && tx.Len() < kv.MaxOps/2 {
				tx.DeleteDisk(d.Val.ID, d.Mod)
			}
		}
		tx.DeleteHost(id, rec.Mod)
		return nil
	})
}
