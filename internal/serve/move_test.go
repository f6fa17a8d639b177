package serve

import (
	"context"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcdtest"
)

// inside reports whether a host works with the control plane in the external etcd.
func (b *box) inside(incarnation, hosts int) bool {
	st, err := b.api.Status(context.Background())
	return err == nil && st.CanLose.Unknown == "" && st.Cluster.External && st.Cluster.Voters == 0 && st.Cluster.Incarnation == incarnation && st.Counts.HostsAlive == hosts
}

// Three hosts that vote move into an external etcd: not before each of them reaches
// it; then all as one, with their records and epochs as they are. A fourth is away
// meanwhile, and finds the way. What is left of the old control plane takes nothing.
func TestAControlPlaneMovesIntoAnExternalEtcd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := etcdtest.Start(t)
	a, b, c, late := newBox(t, 101, "a"), newBox(t, 102, "b"), newBox(t, 103, "c"), newBox(t, 104, "d")
	a.field("db")
	for _, x := range []*box{b, c, late} {
		x.joins(a)
	}
	until(t, "three vote", func() bool { names, _ := a.voters(); return names == "box101 box102 box103" })
	_, err := a.api.MovePlan(ctx)
	fails(t, "without an etcd", err, holdfast.Conflict, "started without an external etcd")
	until(t, "the fourth knows the others", func() bool {
		ms, err := late.host.dir.membership()
		return err == nil && len(ms.APIs) == 3
	})
	late.stop()
	a.with(over(e, "site"))
	b.with(over(e, "site"))
	c.with(over(e, "elsewhere"))
	plan := func(want string) (p v1.KVMove) {
		t.Helper()
		a.soon("a plan", func() error {
			var err error
			if p, err = a.api.MovePlan(ctx); err != nil {
				return err
			}
			got := ""
			for _, h := range p.Hosts {
				got += h.State + " "
			}
			if got != want {
				return holdfast.Errorf(holdfast.Other, "%q, want %q: %+v", got, want, p)
			}
			return nil
		})
		return p
	}
	if p := plan("follows follows blocks away "); len(p.Blocked) != 1 || !strings.Contains(p.Blocked[0], "box103") || !strings.Contains(p.Blocked[0], "elsewhere/") {
		t.Errorf("%+v", p)
	}
	_, err = a.api.MoveKV(ctx, v1.KVMoveSpec{Cluster: "field"})
	fails(t, "while one could not follow", err, holdfast.Conflict, "box103")
	c.with(over(e, "site"))
	plan("follows follows follows away ")
	_, err = a.api.MoveKV(ctx, v1.KVMoveSpec{Cluster: "another"})
	fails(t, "another cluster's name", err, holdfast.Invalid, "nothing was done")
	if keys := e.Keys(); len(keys) > 0 {
		t.Errorf("before the move there is %v", keys)
	}
	v, err := a.api.Volume(ctx, "db")
	if err != nil {
		t.Fatal(err)
	}
	a.soon("the move", func() error {
		_, err := a.api.MoveKV(ctx, v1.KVMoveSpec{Cluster: "field"})
		return err
	})
	for _, x := range []*box{a, b, c} {
		x.again()
	}
	until(t, "three work there", func() bool { return a.inside(1, 3) && b.inside(1, 3) && c.inside(1, 3) })
	if now, err := c.api.Volume(ctx, "db"); err != nil || now.ID != v.ID || now.Epoch < v.Epoch || now.Epoch > v.Epoch+10 {
		t.Errorf("the volume was %+v and is %+v, %v", v, now, err)
	}
	if names, _ := b.voters(); names != "" {
		t.Errorf("%s vote", names)
	}
	for _, k := range e.Keys() {
		if !strings.HasPrefix(k, "site/holdfast/2/") || strings.HasSuffix(k, "/moved") || strings.HasSuffix(k, "/arriving") {
			t.Errorf("there is %s", k)
		}
	}
	a.volumes("later")

	late.start()                // it finds that it has been left, and has no way there
	if late.host.waits == nil { // the others were too busy to answer at once
		late.again()
	}
	until(t, "it is told", func() bool {
		st, err := late.api.Status(ctx)
		return err == nil && st.Level == "error" && strings.Contains(st.Sentence, "start it with that")
	})
	late.with(over(e, "site"))
	late.again()
	until(t, "it works there, too", func() bool { return late.inside(1, 4) })
	a.stop()
	b.stop()
	b.start()
	until(t, "and so it does from then on", func() bool { return b.inside(1, 3) })
}

// A move breaks off after the old control plane was ended: it takes nothing, says
// so, and comes back when the move is given up, which then can never arrive.
func TestAMoveThatBreaksOff(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := etcdtest.Start(t)
	a := newBoxWith(t, 105, "a", over(e, "site"))
	own := configOf(t, "name: x\nrack: a\n").KV
	conf := a.conf.KV
	a.stop()
	a.conf.KV = own
	a.start()
	a.field("db")
	a.stop()
	a.conf.KV = conf
	a.start()
	var o *moveOrder
	a.soon("a plan", func() (err error) { o, _, err = a.host.planMove(ctx); return err })
	to, err := a.host.dialChecked(func(reader) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	begin := func() {
		t.Helper()
		if err := cluster.Announce(to, o.move); err != nil {
			t.Fatal(err)
		}
		if _, err := o.m.kv.Commit(nil, []kv.Op{{Key: cluster.FenceKey, Value: o.move.Encode()}}); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	items, rev, err := cluster.ReadAll(o.m.kv)
	if err != nil {
		t.Fatal(err)
	}
	a.soon("it to say so", func() error {
		st, err := a.api.Status(ctx)
		if err == nil && !strings.Contains(st.Sentence, "is moving into the external etcd") {
			err = holdfast.Errorf(holdfast.Other, "%s", st.Sentence)
		}
		return err
	})
	_, err = a.api.CreateVolume(ctx, v1.VolumeSpec{Name: "never", Size: 1 << 20})
	fails(t, "a change meanwhile", err, holdfast.Unavailable, "")
	if err := a.api.CancelMove(ctx); err != nil {
		t.Fatal(err)
	}
	a.volumes("after")
	next, err := cluster.PlanMove(items, rev, o.move)
	if err != nil {
		t.Fatal(err)
	}
	fails(t, "who was slow", cluster.Arrive(to, o.move, next), holdfast.Conflict, "given up")
	fails(t, "nothing is under way", a.api.CancelMove(ctx), holdfast.Conflict, "under way")
	if o.move.ID, err = newUUID(); err != nil {
		t.Fatal(err)
	}
	begin() // another attempt, which breaks off, too, and is gone on with
	a.soon("the move", func() error {
		p, err := a.api.MoveKV(ctx, v1.KVMoveSpec{Cluster: "field"})
		if err == nil && p.State != "done" {
			err = holdfast.Errorf(holdfast.Other, "%+v", p)
		}
		return err
	})
	a.again()
	until(t, "it works there", func() bool { return a.inside(1, 1) })
	if list, err := a.api.Volumes(ctx); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}
