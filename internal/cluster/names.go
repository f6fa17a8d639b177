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
	dir  string // of the kind
	key  string // of the record
	id   string
	mod  kv.Rev // the record's revision before; 0: none
	to   string // the name it holds afterwards; "": none
	// seen reads the name that the record of revision mod holds from a picture,
	// if that shows it.
	seen func(*State) (string, bool)
	// parse reads it from the record.
	parse func(kv.Item) (string, error)
}

func renameOf[T any](k kind[T], key, id string, mod kv.Rev, to string) rename {
	return rename{what: k.what, dir: k.dir, key: key, id: id, mod: mod, to: to,
		seen: func(s *State) (string, bool) {
			v, ok := k.seen(s, id)
			if !ok || v.Mod != mod {
				return "", false
			}
			return k.name(&v.Val), true
		},
		parse: func(it kv.Item) (string, error) {
			v, err := decode(k, key, it.Value)
			if err != nil {
				return "", holdfast.Errorf(holdfast.Corrupt, "%s cannot be read: %w", key, err)
			}
			return k.name(&v), nil
		}}
}

// heldNames returns the names that the records hold before the commit, in the
// order of t.names. The commit is conditional on their revisions, so it does
// not matter when they were read. What the picture does not show, for it is
// older than the caller's knowledge, or newer, is read at once: one record
// alone, more of one kind together.
func (t *Txn) heldNames() ([]string, error) {
	st := t.c.State()
	out := make([]string, len(t.names))
	missing := make(map[string][]int) // by directory
	for i, r := range t.names {
		if r.mod == 0 {
			continue
		}
		if r.mod == Any {
			return nil, holdfast.Errorf(holdfast.Invalid, "%s: a record with a name is changed only from a known revision", r.key)
		}
		name, ok := r.seen(st)
		if !ok {
			missing[r.dir] = append(missing[r.dir], i)
		}
		out[i] = name
	}
	for _, dir := range sortedKeys(missing) {
		prefix := dir
		if list := missing[dir]; len(list) == 1 {
			prefix = t.names[list[0]].key
		}
		items, _, err := t.c.st.Range(prefix)
		if err != nil {
			return nil, err
		}
		for _, i := range missing[dir] {
			if out[i], err = t.names[i].read(items); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// read finds the record among items, which are in the order of their keys.
func (r rename) read(items []kv.Item) (string, error) {
	i, ok := slices.BinarySearchFunc(items, r.key, func(it kv.Item, key string) int { return strings.Compare(it.Key, key) })
	if !ok || items[i].Mod != r.mod {
		return "", holdfast.Errorf(holdfast.Conflict, "%s was changed by somebody else; read it again and retry", r.key)
	}
	return r.parse(items[i])
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
	held, err := t.heldNames()
	if err != nil {
		return nil, nil, err
	}
	for i, r := range t.names {
		old := held[i]
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
	more, err := t.pageOps()
	if err != nil {
		return nil, nil, err
	}
	ops = append(ops, more...)
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
