package node

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// kindKeys asks another host for cluster keys (docs/protocol/keys.md).
const kindKeys transport.Kind = 0x58

const (
	keysEvery = 2 * time.Second // between looks for keys that are missing
	keysCall  = 2 * time.Second // for another host's answer

	leaveWait  = 5 * time.Second // of a host that stops, for another to have the key
	leavePause = 100 * time.Millisecond
)

// dataKeys are the data keys of a volume, or why it is locked.
func (n *Node) dataKeys(rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) {
	if !rec.Encrypted() {
		return nil, nil
	}
	keys, err := n.Keys.Unwrap(rec.Keys)
	if holdfast.IsKind(err, holdfast.Unavailable) {
		return nil, holdfast.Errorf(holdfast.Unavailable, "volume %s is locked: the cluster key is not loaded on host %s; run 'holdfast cluster key unlock'", rec.Name, n.hostName())
	}
	return keys, err
}

// serveKeys gives the keys of this host's ring to another one. The transport
// has made sure that it is a member.
func (n *Node) serveKeys(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	ids, err := keyring.DecodeQuestion(f.Head)
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	reply(transport.Frame{Head: n.Keys.Answer(ids)}, nil)
}

// followKeys keeps this host's ring to what the cluster's record of keys says:
// it asks the others for what is missing, drops what was replaced, tells which
// keys it has and, while it leads, goes on with a rotation.
func (n *Node) followKeys() {
	for {
		n.keysWake.Wait(keysEvery)
		if n.keysStop.Wait(0) {
			return
		}
		st := n.Cluster.State()
		if st.Rev == 0 || st.Keyring.Mod == 0 {
			continue
		}
		var ids []keyring.ID
		for _, s := range st.Keyring.Val.Keys {
			ids = append(ids, s.ID)
		}
		n.Keys.Keep(ids...)
		n.askForKeys(st, ids)
		n.tellKeys(st)
		if _, leads := n.election.Leading(); leads && len(ids) > 1 {
			if err := n.Make.Rewrap(); err != nil {
				n.Log.Warn("the rotation of the cluster key waits", "error", err)
			}
		}
	}
}

// TellKeys has the host say at once which keys it has, and returns when the
// picture shows it, or after a while.
func (n *Node) TellKeys() {
	n.keysWake.Set()
	n.Cluster.WaitFor(func(st *cluster.State) bool {
		a, ok := st.Alive[n.Self]
		return !ok || slices.Contains(a.Val.Keys, st.Keyring.Val.Current().ID)
	}, 2*keysEvery)
}

// askForKeys asks the hosts that have a key which is missing here.
func (n *Node) askForKeys(st *cluster.State, ids []keyring.ID) {
	missing := slices.DeleteFunc(slices.Clone(ids), n.Keys.Has)
	for _, a := range st.SortedAlive() {
		has := func(id keyring.ID) bool { return slices.Contains(a.Val.Keys, id) }
		if a.Val.Host == n.Self || !slices.ContainsFunc(missing, has) {
			continue
		}
		f, err := transport.Call(n.Clock, n.Net, a.Val.Host, transport.Frame{Kind: kindKeys, Head: keyring.AppendQuestion(nil, missing)}, keysCall)
		if err == nil {
			_, err = n.Keys.Learn(f.Head, missing)
		}
		if err != nil {
			n.Log.Info("a host could not give the cluster key", "from", st.Hosts[a.Val.Host].Val.Name, "error", err)
			continue
		}
		if missing = slices.DeleteFunc(missing, n.Keys.Has); len(missing) == 0 {
			n.Log.Info("the cluster key was loaded from another host", "from", st.Hosts[a.Val.Host].Val.Name)
			return
		}
	}
}

// tellKeys says which keys this host has, if that has changed.
func (n *Node) tellKeys(st *cluster.State) {
	have := n.Keys.IDs()
	if slices.Equal(have, n.told) {
		return
	}
	n.told = have
	n.alive.Update(func(a *cluster.Alive) { a.Keys = have })
	n.Agent.Wake() // what was locked may be opened
	n.Log.Info("cluster keys in memory", "keys", len(have), "of", len(st.Keyring.Val.Keys))
}

// LeaveKeys is called before an orderly stop. It returns when another host has
// the cluster key that this one has, or after a while: hosts that are restarted
// one after the other would lose it, if each stopped before the one before it
// had asked. Whether a host has it is asked, not read: what is written of it
// may be of its life before.
func (n *Node) LeaveKeys() {
	for end := n.Clock.Now() + leaveWait; n.Clock.Now() < end; clock.Sleep(n.Clock, leavePause) {
		st := n.Cluster.State()
		if st.Keyring.Mod == 0 {
			return
		}
		id := st.Keyring.Val.Current().ID
		if len(st.Hosts) < 2 || !n.Keys.Has(id) || n.elsewhere(st, id, end) {
			return
		}
	}
}

// elsewhere asks until end whether another host has a key, those that count as
// alive first.
func (n *Node) elsewhere(st *cluster.State, id keyring.ID, end time.Duration) bool {
	var alive, away []holdfast.HostID
	for _, h := range st.SortedHosts() {
		switch {
		case h.Val.ID == n.Self || h.Val.Witness:
		case st.AliveHost(h.Val.ID):
			alive = append(alive, h.Val.ID)
		default:
			away = append(away, h.Val.ID)
		}
	}
	ids := []keyring.ID{id}
	for _, h := range append(alive, away...) {
		left := end - n.Clock.Now()
		if left <= 0 {
			return false
		}
		f, err := transport.Call(n.Clock, n.Net, h, transport.Frame{Kind: kindKeys, Head: keyring.AppendQuestion(nil, ids)}, min(keysCall, left))
		r := keyring.NewRing()
		if err == nil {
			_, err = r.Learn(f.Head, ids)
		}
		if err == nil && r.Has(id) {
			return true
		}
	}
	return false
}
