package etcd

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const localTimeout = 10 * time.Second

// Local returns what this member itself holds below a prefix, in key order, and
// as of which revision: it needs no majority, and others may hold something newer.
func (m *Member) Local(prefix string) ([]kv.Item, kv.Rev, error) {
	ctx, cancel := context.WithTimeout(context.Background(), localTimeout)
	defer cancel()
	key, end := span(prefix)
	r, err := m.etcd.Server.Range(ctx, &etcdserverpb.RangeRequest{Key: key, RangeEnd: end, Serializable: true,
		SortTarget: etcdserverpb.RangeRequest_KEY, SortOrder: etcdserverpb.RangeRequest_ASCEND})
	if err != nil {
		return nil, 0, holdfast.Errorf(holdfast.Unavailable, "the records of this host's member of the control plane: %w", err)
	}
	items := make([]kv.Item, len(r.Kvs))
	for i, p := range r.Kvs {
		items[i] = item(p)
	}
	return items, kv.Rev(r.Header.Revision), nil
}
