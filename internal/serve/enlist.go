package serve

import (
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// enlist starts a member of the control plane on this host, which has had none,
// if votes have been lost and it is this host's turn. The member learns first;
// who leads has it vote as soon as the host's record says where it is.
func (h *Host) enlist(m *member, st *cluster.State) {
	self, known := st.Hosts[h.dir.id.Host]
	if !known || len(h.cfg.KV.Endpoints) > 0 {
		return
	}
	if m.etcd.Load() == nil {
		if next, ok := placement.Enlisted(st); !ok || next.ID != self.Val.ID {
			return
		}
		if err := h.startEnlisted(m, self.Val); err != nil {
			h.log.Warn("a member of the control plane could not be started here yet", "error", err)
			return
		}
		h.log.Info("this host runs a member of the control plane now")
	}
	if self.Val.Peer != "" {
		return
	}
	err := h.changeHost(self.Val.ID, func(tx *cluster.Txn, rec cluster.Versioned[cluster.Host]) error {
		rec.Val.Peer, rec.Val.Client = h.peerURL(), h.clientURL()
		tx.PutHost(rec.Val, rec.Mod)
		return nil
	})
	if err != nil {
		h.log.Warn("the other hosts do not know yet that this one runs a member of the control plane", "error", err)
	}
}

// startEnlisted announces this host's member and starts it. What the data
// directory says comes before what it speaks of is begun, and is taken back
// first if that fails: so the host starts again at any moment.
func (h *Host) startEnlisted(m *member, self cluster.Host) error {
	id, initial, err := m.kv.AddLearner(self.ID.String(), h.peerURL())
	if err != nil {
		return err
	}
	if err := h.remember(m, func(ms *membership) { ms.Member, ms.Initial = true, initial }); err != nil {
		return err
	}
	if err = h.startMember(m, false); err == nil {
		return nil
	}
	if undo := h.remember(m, func(ms *membership) { ms.Member, ms.Initial = false, "" }); undo != nil {
		return undo
	}
	if undo := m.kv.RemoveMember(id); undo != nil {
		h.log.Warn("a member that was announced could not be taken back", "error", undo)
	}
	return err
}
