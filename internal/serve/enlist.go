package serve

import (
	"os"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// enlist starts a member of the control plane on this host, which has none, if
// one is wanted and it is this host's turn; and ends one that was taken out of
// the control plane. The new member learns first; who leads has it vote as soon
// as the host's record says where it is.
func (h *Host) enlist(m *member, st *cluster.State) {
	self, known := st.Hosts[h.dir.id.Host]
	if !known || m.ms.Load().External || self.Val.Voter {
		return
	}
	if e := m.etcd.Load(); e != nil && self.Val.Peer == "" && ended(e) {
		if err := h.dismiss(m, e); err != nil {
			h.log.Warn("what is left of this host's member of the control plane could not be put away yet", "error", err)
			return
		}
		h.log.Info("this host runs no member of the control plane any more: another one votes in its place")
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
	if self.Val.Peer == "" {
		h.announceEnlisted(m, m.etcd.Load())
	}
}

// announceEnlisted writes into this host's record that it runs a member, unless
// that has just been taken out again.
func (h *Host) announceEnlisted(m *member, e *etcd.Member) {
	members, err := m.kv.Members()
	if err == nil && !slices.ContainsFunc(members, func(i etcd.MemberInfo) bool { return i.ID == e.ID() }) {
		return
	}
	if err == nil {
		err = h.changeHost(h.dir.id.Host, func(tx *cluster.Txn, rec cluster.Versioned[cluster.Host]) error {
			rec.Val.Peer, rec.Val.Client = h.peerURL(), h.clientURL()
			tx.PutHost(rec.Val, rec.Mod)
			return nil
		})
	}
	if err != nil {
		h.log.Warn("the other hosts do not know yet that this one runs a member of the control plane", "error", err)
	}
}

// ended reports whether a member has stopped by itself.
func ended(e *etcd.Member) bool {
	select {
	case <-e.Done():
		return true
	default:
		return false
	}
}

// dismiss puts away a member that was taken out of the control plane. From the
// moment the data directory says so, what is left of it means nothing.
func (h *Host) dismiss(m *member, e *etcd.Member) error {
	if err := h.remember(m, func(ms *membership) { ms.Member, ms.Initial = false, "" }); err != nil {
		return err
	}
	m.endMember(e)
	return h.clearMember(m)
}

// stepOut ends this host's member of a control plane that was set back. Else it
// would be part of a majority by which a host that has read nothing later could
// open volumes, at epochs that were given out (invariant 5).
func (h *Host) stepOut(m *member) {
	if e := m.etcd.Load(); e != nil && holdfast.IsKind(m.node.Cluster.Err(), holdfast.Damaged) {
		h.log.Error("this host votes no more in a control plane that was set back", "error", m.node.Cluster.Err())
		m.endMember(e)
	}
}

func (m *member) endMember(e *etcd.Member) {
	for _, g := range m.gates {
		g.close()
	}
	m.gates = nil
	e.Close()
	m.etcd.Store(nil)
}

// clearMember removes the files of a member that is none any more. Those of an
// earlier incarnation stay.
func (h *Host) clearMember(m *member) error {
	dir := m.ms.Load().etcdDir()
	if err := os.RemoveAll(h.dir.file(dir)); err != nil {
		return holdfast.Errorf(holdfast.IO, "what a former member of the control plane left: %w", err)
	}
	return nil
}

// startEnlisted announces this host's member and starts it. What the data
// directory says comes before what it speaks of is begun, and is taken back
// first if that fails: so the host starts again at any moment.
func (h *Host) startEnlisted(m *member, self cluster.Host) error {
	if err := h.clearMember(m); err != nil {
		return err
	}
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
