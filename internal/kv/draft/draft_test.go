package draft

import (
	mrand "math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestChangesOfADraftAreItsOwn(t *testing.T) {
	srv := memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: func(string) *mrand.Rand { return mrand.New(mrand.NewPCG(1, 2)) }, MaxLatency: 1})
	real := srv.Handle("a", clock.System{})
	put := func(key, value string) kv.Op { return kv.Op{Key: key, Value: []byte(value)} }
	if _, err := real.Commit(nil, []kv.Op{put("x/a", "1"), put("x/b", "2"), put("y", "3")}); err != nil {
		t.Fatal(err)
	}
	d, err := Of(real, "x/", clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	items, rev, err := d.Range("x/")
	if err != nil || len(items) != 2 || items[0].Key != "x/a" || string(items[1].Value) != "2" {
		t.Fatalf("copied: %v, %v", items, err)
	}
	w := d.Watch("x/", rev)
	defer w.Close()
	if evs, err := w.Next(0); len(evs) != 0 || err != nil {
		t.Errorf("before anything: %v, %v", evs, err)
	}
	lease, err := d.Grant(time.Minute)
	if err != nil || lease == 0 {
		t.Fatal(err)
	}
	next, err := d.Commit([]kv.Cond{{Key: "x/a", Mod: items[0].Mod}, {Key: "x/new"}},
		[]kv.Op{put("x/a", "4"), {Key: "x/b", Delete: true}, {Key: "x/new", Value: []byte("5"), Lease: lease}})
	if err != nil || next != rev+1 {
		t.Fatalf("a change: %d after %d, %v", next, rev, err)
	}
	if evs, err := w.Next(time.Minute); len(evs) != 3 || err != nil || !evs[1].Deleted || evs[1].Mod != next {
		t.Errorf("what is watched: %v, %v", evs, err)
	}
	for _, c := range []kv.Cond{{Key: "x/a", Mod: items[0].Mod}, {Key: "x/new"}, {Key: "x/b", Mod: items[1].Mod}} {
		if _, err := d.Commit([]kv.Cond{c}, []kv.Op{put("x/c", "")}); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%+v holds: %v", c, err)
		}
	}
	if err := d.Revoke(lease); err != nil {
		t.Error(err)
	}
	if evs, err := w.Next(time.Minute); len(evs) != 1 || !evs[0].Deleted || err != nil {
		t.Errorf("a lease ends: %v, %v", evs, err)
	}
	if now, _, err := d.Range(""); len(now) != 1 || string(now[0].Value) != "4" || err != nil {
		t.Errorf("in the end: %v, %v", now, err)
	}
	if now, at, err := real.Range(""); err != nil || at != rev || len(now) != 3 || string(now[0].Value) != "1" {
		t.Errorf("the map itself: %v at %d, %v", now, at, err)
	}
	if _, err := d.Watch("x/", rev-1).Next(0); !holdfast.IsKind(err, holdfast.Gap) {
		t.Errorf("from before the draft: %v", err)
	}
	d.Close()
	if _, err := w.Next(time.Minute); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("closed: %v", err)
	}
}
