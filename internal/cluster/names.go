package cluster

import (
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// rename is what a put or delete of a named record does to the index of names.
type rename struct {
	what string // kind
	key  string // of the record
	id   string
	mod  kv.Rev // the record's revision before; 0: none
	to   string // the name it holds afterwards; "": none
	// from reads the name that the record holds before.
	from func(*Client) (string, error)
}

func renameOf[T any](k kind[T], key, id string, mod kv.Rev, to string) rename {
	return rename{what: k.what, key: key, id: id, mod: mod, to: to, from: func(c *Client) (string, error) {
		return heldName(c, k, id, mod)
	}}
}

// heldName returns the name that the record of revision mod holds. The commit
// is conditional on mod, so it does not matter when it was read.
func heldName[T any](c *Client, k kind[T], id string, mod kv.Rev) (string, error) {
	if mod == 0 {
		return "", nil
	}
	key := k.key(id)
	if mod == Any {
		return "", holdfast.Errorf(holdfast.Invalid, "%s: a record with a name is changed only from a known revision", key)
	}
	if v, ok := k.seen(c.State(), id); ok && v.Mod == mod {
		return k.name(&v.Val), nil
	}
	it, err := c.get(key) // the picture is older than the caller's knowledge, or newer
	if err != nil {
		return "", err
	}
	if it.Mod != mod {
		return "", holdfast.Errorf(holdfast.Conflict, "%s was changed by somebody else; read it again and retry", key)
	}
	v, err := decode(k, key, it.Value)
	if err != nil {
		return "", holdfast.Errorf(holdfast.Corrupt, "%s cannot be read: %w", key, err)
	}
	return k.name(&v), nil
}

// build returns the conditions and operations, those of the names included.
func (t *Txn) build() ([]kv.Cond, []kv.Op, error) {
	if t.err != nil {
		return nil, nil, t.err
	}
	if err := t.c.Err(); err != nil {
		return nil, nil, err
	}
	conds, ops := slices.Clone(t.conds), slices.Clone(t.ops)
	taken := make(map[string]string) // name key → identifier
	freed := make(map[string]bool)
	for _, r := range t.names {
		old, err := r.from(t.c)
		if err != nil {
			return nil, nil, err
		}
		if old == r.to {
			continue
		}
		if old != "" {
			freed[nameKey(r.what, old)] = true
		}
		if r.to == "" {
			continue
		}
		k := nameKey(r.what, r.to)
		if taken[k] != "" {
			return nil, nil, errTaken(r.what, r.to)
		}
		taken[k] = r.id
	}
	for _, k := range sortedKeys(freed) {
		if taken[k] == "" {
			ops = append(ops, kv.Op{Key: k, Delete: true})
		}
	}
	for _, k := range sortedKeys(taken) {
		if !freed[k] {
			conds = append(conds, kv.Cond{Key: k})
		}
		ops = append(ops, kv.Op{Key: k, Value: []byte(taken[k])})
	}
	return conds, ops, kv.CheckCommit(conds, ops)
}

// explain turns a conflict over a name into kind Exists.
func (t *Txn) explain(conflict error) error {
	for _, r := range t.names {
		if r.to == "" {
			continue
		}
		it, err := t.c.get(nameKey(r.what, r.to))
		if err == nil && it.Mod != 0 && string(it.Value) != r.id {
			return errTaken(r.what, r.to)
		}
	}
	return conflict
}

func errTaken(what, name string) error {
	return holdfast.Errorf(holdfast.Exists, "a %s named %q exists; choose another name", what, name)
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
