package etcd_test

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// A control plane that is fenced can be read and takes no change from anybody; no
// lease of before is good any more. It can be opened again by who fenced it.
func TestAFenceEndsAllChanges(t *testing.T) {
	t.Parallel()
	p, cfg, _ := one(t)
	enter := func() *etcd.Store {
		st, err := etcd.Dial(etcd.DialConfig{Endpoints: []string{cfg.ListenClient}, TLS: p.client("a"), Fence: "ended"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	a, b := enter(), enter()
	lease, err := b.Grant(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	put := func(st *etcd.Store, id kv.LeaseID, conds ...kv.Cond) (kv.Rev, error) {
		return st.Commit(conds, []kv.Op{{Key: "k", Lease: id}})
	}
	was, err := put(b, lease)
	if err != nil {
		t.Fatal(err)
	}
	fence := func() (kv.Rev, error) {
		return a.Commit([]kv.Cond{{Key: "ended"}}, []kv.Op{{Key: "ended", Value: []byte("why")}})
	}
	mod, err := fence()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(b, 0, kv.Cond{Key: "k", Mod: was}); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a change: %v", err)
	}
	if _, err := b.Commit(nil, []kv.Op{{Key: "k", Delete: true}}); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a deletion: %v", err)
	}
	if _, err := fence(); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a second fence: %v", err)
	}
	if err := a.EndLeases(); err != nil {
		t.Fatal(err)
	}
	if err := b.Renew(lease); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("a lease of before: %v", err)
	}
	items, _, err := b.Range("")
	if err != nil || len(items) != 1 || items[0].Key != "ended" {
		t.Errorf("%v, %v", items, err)
	}
	if err := a.Lift(mod + 1); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("another's fence is lifted: %v", err)
	}
	for range 2 {
		if err := a.Lift(mod); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := put(b, 0, kv.Cond{Key: "k", Mod: was}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("on what is gone with its lease: %v", err)
	}
	if _, err := put(b, 0); err != nil {
		t.Error(err)
	}
}
