package serve

import (
	"crypto/rand"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/alert"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kept"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/web"
)

// keepOnDisk is how often the records are written to a disk at most: each time
// costs it a sync, beside those of its replicas.
const keepOnDisk = 5 * time.Second

// diskCopies is which records stand on this host's disks. It belongs to the task
// that keeps them.
type diskCopies struct {
	rev  map[holdfast.DiskID]kv.Rev
	next time.Time
}

// keepOnDisks puts a copy of the records on every disk that has an older one, so
// that a disk of a lost host is enough to recover from (docs/format/kept.md).
func (h *Host) keepOnDisks(m *member, mirror *cluster.Mirror, d *diskCopies) (tried bool, err error) {
	now := time.Now()
	if now.Before(d.next) {
		return false, nil
	}
	m.mu.Lock()
	stores, ram := slices.Clone(m.stores), m.ms.Load().RAM
	m.mu.Unlock()
	items, rev := mirror.Records()
	stores = slices.DeleteFunc(stores, func(o opened) bool {
		return d.rev[o.Identity().Disk] >= rev || o.Err() != nil || slices.ContainsFunc(ram, func(r ramDisk) bool { return r.Path == o.path })
	})
	if len(stores) == 0 {
		return false, nil
	}
	d.next = now.Add(keepOnDisk)
	b, err := h.sealForDisks(m, items, rev)
	if err != nil {
		return true, err
	}
	for _, o := range stores {
		if kerr := o.Keep(b); kerr != nil {
			err = holdfast.Errorf(holdfast.KindOf(kerr), "on disk %s: %w", o.path, kerr)
			continue
		}
		d.rev[o.Identity().Disk] = rev
	}
	return true, err
}

// sealForDisks seals the records as they stand on disks: under the cluster key,
// or, where there is none, openly and without what lets somebody in.
func (h *Host) sealForDisks(m *member, items []kv.Item, rev kv.Rev) ([]byte, error) {
	c, ok := cluster.ClusterIn(items)
	if !ok {
		return nil, holdfast.Errorf(holdfast.Corrupt, "the cluster's own record cannot be read")
	}
	copy := kept.Copy{Items: items, Head: h.keptHead(m, c, rev)}
	rec := m.node.Cluster.State().Keyring
	if rec.Mod != 0 {
		key, from, err := h.keptKey(rec, m.node.Keys)
		if err != nil {
			return nil, err
		}
		copy.Key = from
		return kept.Seal(copy, key, rand.Reader)
	}
	key, err := keyring.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	copy.Open = key[:]
	if copy.Items, err = cluster.WithoutSecrets(alert.WithoutSecrets(account.WithoutSecrets(web.WithoutSecrets(items)))); err != nil {
		return nil, err
	}
	return kept.Seal(copy, key, rand.Reader)
}

func (h *Host) keptHead(m *member, c cluster.Cluster, rev kv.Rev) kept.Head {
	return kept.Head{Cluster: m.ms.Load().Cluster, Name: c.Name, Host: h.dir.id.Host, Incarnation: c.Incarnation, Rev: rev, Made: time.Now().UTC()}
}
