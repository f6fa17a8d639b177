// Package turn lets the hosts of a cluster begin anew one at a time: whose turn it is
// stands in a record beside the cluster's own (docs/format/turn.md). It ends when the
// host is back, or by itself.
package turn

import (
	"encoding/json"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	key = "holdfast/2/turn"
	// Life is how long a turn lasts at most: longer than a host takes to be back, and
	// than one that is not counts as lost.
	Life = 2 * time.Minute
)

// record is what stands there, as JSON.
type record struct {
	Host holdfast.HostID `json:"host"`
	Name string          `json:"name"`
}

// Take gives a host the turn, also one that has it already. Busy: another one has it.
func Take(s kv.Store, host holdfast.HostID, name string) error {
	was, mod, err := look(s)
	if err != nil {
		return err
	}
	if mod != 0 && was.Host != host {
		return holdfast.Errorf(holdfast.Busy, "host %s begins anew just now, and they do so one at a time; ask again when it is back, at the latest in %v", was.Name, Life)
	}
	lease, err := s.Grant(Life)
	if err != nil {
		return err
	}
	b, err := json.Marshal(record{host, name})
	if err != nil {
		return err
	}
	_, err = s.Commit([]kv.Cond{{Key: key, Mod: mod}}, []kv.Op{{Key: key, Value: b, Lease: lease}})
	switch {
	case err == nil:
		return nil
	case holdfast.IsKind(err, holdfast.Conflict):
		err = holdfast.Errorf(holdfast.Busy, "another host is beginning anew just now; ask again when it is back")
	}
	_ = s.Revoke(lease) // or it ends by itself
	return err
}

// Give gives a host's turn back, if it has it.
func Give(s kv.Store, host holdfast.HostID) error {
	was, mod, err := look(s)
	if err != nil || mod == 0 || was.Host != host {
		return err
	}
	_, err = s.Commit([]kv.Cond{{Key: key, Mod: mod}}, []kv.Op{{Key: key, Delete: true}})
	if holdfast.IsKind(err, holdfast.Conflict) {
		return nil // it has ended meanwhile
	}
	return err
}

// look returns whose turn it is; mod is 0 if it is nobody's. What cannot be read is
// somebody's of whom no more is known.
func look(s kv.Store) (r record, mod kv.Rev, err error) {
	items, _, err := s.Range(key)
	for _, it := range items {
		if it.Key == key {
			if json.Unmarshal(it.Value, &r) != nil {
				r = record{Name: "of a later version"}
			}
			return r, it.Mod, nil
		}
	}
	return r, 0, err
}
