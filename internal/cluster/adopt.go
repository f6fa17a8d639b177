package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// adopt makes disks of lost hosts those of the host that recovers, and the
// replicas on them its own. Of a volume that has several there, one stays: a host
// has one replica of a volume at most.
func (r *recovery) adopt() {
	for _, id := range sortedIDs(r.s.Adopt) {
		d, ok := r.st.Disks[id]
		if !ok {
			r.p.Aside = append(r.p.Aside, fmt.Sprintf("disk %s is in none of the records: what is on it is not known", id.Short()))
			continue
		}
		d.Val.Host, d.Val.Path = r.s.Self.ID, r.s.Adopt[id]
		r.st.Disks[id] = d
		r.put(diskKind().key(id.String()), d.Val)
		r.p.Adopted = append(r.p.Adopted, d.Val)
	}
	if len(r.p.Adopted) == 0 {
		return
	}
	for id, rec := range r.st.Volumes {
		v := &rec.Val
		v.InSync, v.Others = r.moved(v.InSync), r.moved(v.Others)
		if best, several := r.best(v); several {
			r.p.Aside = append(r.p.Aside, fmt.Sprintf("volume %s: several copies are on disks of this host now; that on disk %s is used", v.Name, best.Disk.Short()))
			other := func(x Replica) bool { return x.Host == r.s.Self.ID && x.ID != best.ID }
			v.InSync, v.Others = slices.DeleteFunc(v.InSync, other), slices.DeleteFunc(v.Others, other)
		}
		r.st.Volumes[id] = rec
	}
	slices.Sort(r.p.Aside)
}

// moved returns replicas where they are now.
func (r *recovery) moved(list []Replica) []Replica {
	out := slices.Clone(list)
	for i, x := range out {
		if _, ok := r.s.Adopt[x.Disk]; ok {
			out[i].Host = r.s.Self.ID
		}
	}
	return out
}

// best is the replica here that is nearest to the volume's newest state: in sync
// rather than not, undamaged, with the highest prefix.
func (r *recovery) best(v *Volume) (best Replica, several bool) {
	rank := func(x Replica) (n int) {
		if slices.ContainsFunc(v.InSync, func(y Replica) bool { return y.ID == x.ID }) {
			n++
		}
		if f, here := r.s.Found[x.ID]; here && f.Wrong == "" {
			n += 2
		}
		return n
	}
	n := 0
	for _, x := range slices.Concat(v.InSync, v.Others) {
		if x.Host != r.s.Self.ID {
			continue
		}
		if n++; n == 1 || cmp.Or(cmp.Compare(rank(x), rank(best)), cmp.Compare(r.s.Found[x.ID].Prefix, r.s.Found[best.ID].Prefix)) > 0 {
			best = x
		}
	}
	return best, n > 1
}

func sortedIDs(m map[holdfast.DiskID]string) (out []holdfast.DiskID) {
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b holdfast.DiskID) int { return slices.Compare(a.UUID[:], b.UUID[:]) })
	return out
}

// IOOf says how the pool of a disk, as records have them, uses the page cache.
func IOOf(items []kv.Item, d Disk) IO {
	for _, it := range items {
		if p, err := decode(poolKind(), it.Key, it.Value); dirOf(it.Key) == dirPool && err == nil && p.ID == d.Pool {
			return p.IO
		}
	}
	return Mixed
}

// WithoutSecrets returns records as they may stand on a disk in the clear, of which
// nobody can enter the cluster: without its authority, and without the initiators
// that have a secret, who are let in nowhere until they are entered again.
func WithoutSecrets(items []kv.Item) ([]kv.Item, error) {
	var out []kv.Item
	for _, it := range items {
		if it.Key == keyAuthority {
			continue
		}
		if dirOf(it.Key) == dirExport {
			e, err := decode(exportKind(), it.Key, it.Value)
			if err != nil {
				continue // who may enter by it is not known
			}
			n := len(e.Initiators)
			e.Initiators = slices.DeleteFunc(slices.Clone(e.Initiators), func(i Initiator) bool { return i.Secret != "" || i.MutualSecret != "" })
			if len(e.Initiators) < n {
				if it.Value, err = json.Marshal(e); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, it)
	}
	return out, nil
}

// WithAuthority returns records with another certificate authority.
func WithAuthority(items []kv.Item, pem []byte) []kv.Item {
	out := slices.DeleteFunc(slices.Clone(items), func(it kv.Item) bool { return it.Key == keyAuthority })
	out = append(out, kv.Item{Key: keyAuthority, Value: pem, Mod: 1})
	slices.SortFunc(out, func(a, b kv.Item) int { return strings.Compare(a.Key, b.Key) })
	return out
}
