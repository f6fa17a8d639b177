package cluster

import (
	"encoding/json"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// FenceKey ends a control plane: every commit requires that it does not exist. It
// holds the Move that ended it.
const FenceKey = root + "moved"

// keyArriving holds the Move whose records are being written, in the place that
// they go to; it goes with the commit that makes them the cluster's.
const keyArriving = root + "arriving"

// Move is a cluster's way from one place of its records to another, with the
// control plane as a whole (docs/adr/0075).
type Move struct {
	ID          holdfast.UUID   `json:"id"`          // of this attempt
	Incarnation int             `json:"incarnation"` // that begins where it arrives
	Host        holdfast.HostID `json:"host"`        // that carries it out
	To          []string        `json:"to"`          // endpoints, for people
	Prefix      string          `json:"prefix,omitempty"`
	Etcd        string          `json:"etcd"` // identity of the etcd that it goes to
	// GivenUp says, where it was to arrive, that it never will.
	GivenUp bool `json:"given_up,omitempty"`
}

// Encode is a Move as it stands in a record.
func (m Move) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return b
}

// MoveIn returns the Move that ended the control plane whose records these are.
func MoveIn(items []kv.Item) (m Move, ok bool) {
	for _, it := range items {
		if it.Key == FenceKey {
			err := json.Unmarshal(it.Value, &m)
			return m, err == nil
		}
	}
	return m, false
}

// ReadAll reads all records of one revision, not older than the call, that stand
// by themselves and are of a cluster.
func ReadAll(st kv.Store) ([]kv.Item, kv.Rev, error) {
	items, rev, err := st.Range(root)
	if err != nil {
		return nil, 0, err
	}
	items = slices.DeleteFunc(items, func(it kv.Item) bool { return it.Lease != 0 || dirOf(it.Key) == dirJoin })
	if _, ok := ClusterIn(items); !ok {
		return nil, 0, holdfast.Errorf(holdfast.NotFound, "there are no records of a cluster")
	}
	return items, rev, nil
}

// PlanMove makes the records of the next incarnation, whose control plane is in an
// external etcd, of all those that stood when the last one ended. Nothing was given
// out since, so that epochs, in-sync sets and machines stay as they are. Errors:
// Conflict for a cluster with a witness.
func PlanMove(items []kv.Item, rev kv.Rev, m Move) (out []kv.Item, err error) {
	for _, it := range items {
		switch {
		case it.Key == FenceKey || it.Key == keyArriving:
			continue
		case it.Key == keyCluster:
			c, err := decodeCluster(it.Value)
			if err != nil {
				return nil, err
			}
			c.Incarnation, c.External, c.Past = m.Incarnation, true, c.Past+rev
			if it.Value, err = json.Marshal(c); err != nil {
				return nil, err
			}
		case dirOf(it.Key) == dirHost:
			h, err := decode(hostKind(), it.Key, it.Value)
			if err != nil {
				return nil, err
			}
			if h.Witness {
				return nil, holdfast.Errorf(holdfast.Conflict, "host %s is a witness, which has nothing to vote in with an external etcd; remove it first", h.Name)
			}
			h.Peer, h.Client, h.Voter = "", "", false
			if it.Value, err = json.Marshal(h); err != nil {
				return nil, err
			}
		}
		out = append(out, it)
	}
	return out, nil
}

// Announce says in the place that a Move goes to that it is under way. Kind Exists:
// there is a cluster; Conflict: this Move was given up there, or another is under
// way.
func Announce(st kv.Store, m Move) error {
	err := announced(st, m)
	if holdfast.IsKind(err, holdfast.Unknown) {
		err = announced(st, m) // it may stand there now
	}
	return err
}

func announced(st kv.Store, m Move) error {
	was, mod, err := arriving(st)
	switch {
	case err != nil:
		return err
	case mod != 0 && was.ID == m.ID && was.GivenUp:
		return holdfast.Errorf(holdfast.Conflict, "this move was given up: end it with 'holdfast cluster move-kv --cancel', and begin another")
	case mod != 0 && was.ID == m.ID:
		return nil
	case mod != 0 && !was.GivenUp:
		return holdfast.Errorf(holdfast.Conflict, "another cluster is moving to that place of the etcd, or was and did not arrive; give this one a prefix of its own")
	}
	_, err = st.Commit([]kv.Cond{{Key: keyCluster}, {Key: keyArriving, Mod: mod}}, []kv.Op{{Key: keyArriving, Value: m.Encode()}})
	return err
}

// arriving reads which Move is under way to a place; mod zero: none.
func arriving(st kv.Store) (m Move, mod kv.Rev, err error) {
	items, _, err := st.Range(keyArriving)
	for _, it := range items {
		if it.Key == keyArriving {
			return m, it.Mod, json.Unmarshal(it.Value, &m)
		}
	}
	return m, 0, err
}

// Arrive writes the records where a Move goes, and then, in one commit, makes them
// the cluster's: from then on the control plane is there. It may be called again
// after whatever failed. Kind Conflict: the Move was given up.
func Arrive(st kv.Store, m Move, items []kv.Item) error {
	if ok, err := HasArrived(st, m, items); ok || err != nil {
		return err
	}
	was, mod, err := arriving(st)
	if err != nil {
		return err
	}
	if mod == 0 || was.ID != m.ID || was.GivenUp {
		return holdfast.Errorf(holdfast.Conflict, "the move was given up meanwhile")
	}
	still := []kv.Cond{{Key: keyArriving, Mod: mod}, {Key: keyCluster}}
	if err := sweep(st, still, items); err != nil {
		return err
	}
	if err := fill(st, still, items); err != nil {
		return err
	}
	i := slices.IndexFunc(items, func(it kv.Item) bool { return it.Key == keyCluster })
	if i < 0 {
		return holdfast.Errorf(holdfast.Invalid, "the records name no cluster")
	}
	_, err = st.Commit(still, []kv.Op{{Key: keyCluster, Value: items[i].Value}, {Key: keyArriving, Delete: true}})
	if err != nil {
		if ok, _ := HasArrived(st, m, items); ok {
			return nil // the answer was lost
		}
	}
	return err
}

// HasArrived reports whether the cluster is where a Move goes.
func HasArrived(st kv.Store, m Move, items []kv.Item) (bool, error) {
	there, _, err := st.Range(keyCluster)
	if err != nil {
		return false, err
	}
	c, ok := ClusterIn(there)
	own, _ := ClusterIn(items)
	return ok && c.ID == own.ID && c.Incarnation == m.Incarnation, nil
}

// sweep takes away what an attempt that was given up has left.
func sweep(st kv.Store, still []kv.Cond, items []kv.Item) error {
	there, _, err := st.Range(root)
	if err != nil {
		return err
	}
	wanted := map[string]bool{keyArriving: true}
	for _, it := range items {
		wanted[it.Key] = true
	}
	var ops []kv.Op
	for _, it := range there {
		if !wanted[it.Key] {
			ops = append(ops, kv.Op{Key: it.Key, Delete: true})
		}
	}
	for len(ops) > 0 {
		n := min(len(ops), kv.MaxOps)
		if _, err := st.Commit(still, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

// GiveUp sees to it that a Move never arrives. Kind Conflict: it has.
func GiveUp(st kv.Store, m Move) error {
	was, mod, err := arriving(st)
	if err != nil || mod != 0 && was.ID == m.ID && was.GivenUp {
		return err
	}
	m.GivenUp = true
	_, err = st.Commit([]kv.Cond{{Key: keyCluster}, {Key: keyArriving, Mod: mod}}, []kv.Op{{Key: keyArriving, Value: m.Encode()}})
	return err
}

// Arrived asks a place, by reading single keys, whether a Move of a cluster has
// arrived there. Kind Conflict: not yet.
func Arrived(id holdfast.ClusterID, name string, m Move, get func(key string) ([]byte, bool, error)) error {
	if err := Belongs(id, name, get); err != nil {
		return err
	}
	b, _, err := get(keyCluster)
	if err != nil {
		return err
	}
	if c, err := decodeCluster(b); err != nil || c.Incarnation != m.Incarnation {
		return holdfast.Errorf(holdfast.Conflict, "it holds cluster %s in incarnation %d, not in %d", name, c.Incarnation, m.Incarnation)
	}
	return nil
}
