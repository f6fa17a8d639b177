package serve

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// voters names the hosts that vote, in order, and the racks that they stand in.
func (b *box) voters() (names, racks string) {
	hosts, err := b.api.Hosts(context.Background())
	if err != nil {
		return err.Error(), ""
	}
	var ns, rs []string
	for _, h := range hosts {
		if h.Voter {
			ns, rs = append(ns, h.Name), append(rs, h.Rack)
		}
	}
	slices.Sort(ns)
	slices.Sort(rs)
	return strings.Join(ns, " "), strings.Join(rs, " ")
}

func (b *box) joins(at *box) {
	b.t.Helper()
	if err := b.join(at.code(v1.JoinCodeSpec{})); err != nil {
		b.t.Fatal(err)
	}
}

// Real members over real sockets: of three racks one is lost for good and struck;
// its vote goes to a host that had none. It comes back and is told. Then a better
// rack joins, and that vote goes there.
func TestVotesFollowWhatIsLostAndWhatComes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b, c, a2 := newBox(t, 11, "a"), newBox(t, 12, "b"), newBox(t, 13, "c"), newBox(t, 14, "a")
	if _, err := a.api.InitCluster(ctx, v1.ClusterInit{Name: "field"}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*box{b, c, a2} {
		o.joins(a)
	}
	until(t, "each rack votes", func() bool { names, _ := a.voters(); return names == "box11 box12 box13" })

	c.stop()
	until(t, "the lost rack is removed", func() bool {
		_, err := a.api.RemoveRack(ctx, "c", v1.RemovalSpec{Lost: true})
		if err != nil && !holdfast.IsKind(err, holdfast.Conflict) && !holdfast.IsKind(err, holdfast.Unavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	until(t, "a host that had no vote has one", func() bool { names, _ := a.voters(); return names == "box11 box12 box14" })

	c.start() // it does not know yet
	d := newBox(t, 15, "d")
	d.joins(b)
	until(t, "each rack votes once", func() bool { _, racks := b.voters(); return racks == "a b d" })
	until(t, "the removed host is told", func() bool {
		st, err := c.api.Status(ctx)
		return err == nil && strings.Contains(st.Sentence, "box13 was removed from cluster field")
	})
	retired := a
	if names, _ := b.voters(); strings.Contains(names, "box11") {
		retired = a2
	}
	until(t, "the host without a vote has put its member away", func() bool {
		_, err := os.Stat(retired.host.dir.file("etcd"))
		return os.IsNotExist(err) && retired.host.run.etcd.Load() == nil
	})
	if _, err := retired.api.CreateJoinCode(ctx, v1.JoinCodeSpec{}); err != nil { // it is a host like any other
		t.Error(err)
	}
}

func TestAWitnessVotesAndTakesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := newBox(t, 21, "a"), newBox(t, 22, "b")
	w := newBoxWith(t, 23, "a", "witness: true\n")
	if _, err := w.api.InitCluster(ctx, v1.ClusterInit{Name: "field"}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a witness makes a cluster: %v", err)
	}
	if _, err := a.api.InitCluster(ctx, v1.ClusterInit{Name: "field"}); err != nil {
		t.Fatal(err)
	}
	b.joins(a)
	code := a.code(v1.JoinCodeSpec{})
	if err := w.join(code); !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "a rack name of its own") {
		t.Errorf("a witness in a rack that can be lost: %v", err)
	}
	w.stop()
	w.conf.Rack = "w"
	w.start()
	if err := w.join(code); err != nil { // a refusal has not spent it
		t.Fatal(err)
	}
	until(t, "the witness votes", func() bool { names, _ := a.voters(); return names == "box21 box22 box23" })
	until(t, "the witness leads the control plane", func() bool {
		m, err := w.host.member()
		return err == nil && m.etcd.Load() != nil && m.etcd.Load().Leads()
	})
	x := newBox(t, 24, "w")
	if err := x.join(a.code(v1.JoinCodeSpec{})); !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "the witness box23") {
		t.Errorf("a host in the witness's rack: %v", err)
	}
	takesNothing(t, a, w)
	w.stop()
	w.conf.Witness = false
	h, err := Start(Options{Config: w.conf, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "joined as a witness") {
		t.Errorf("a witness starts as something else: %v", err)
		if err == nil {
			h.Stop()
		}
	}
}

// takesNothing asks a witness for what it does not do, and for what it hands on.
func takesNothing(t *testing.T, a, w *box) {
	ctx := context.Background()
	if _, err := w.api.CreatePool(ctx, v1.PoolSpec{Name: "fast", Tier: "ram"}); err != nil {
		t.Fatal(err)
	}
	for what, spec := range map[string]v1.DiskSpec{
		"a disk":           {Path: w.conf.DataDir + "/disk", Size: 1 << 30},
		"memory as a disk": {RAM: 1 << 26, Pool: "fast"},
	} {
		if _, err := w.api.AddDisk(ctx, spec); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "is a witness") {
			t.Errorf("a witness takes %s: %v", what, err)
		}
	}
	if _, err := a.api.AddDisk(ctx, v1.DiskSpec{Path: a.conf.DataDir + "/disk", Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	until(t, "an image goes through the witness", func() bool {
		img, err := w.api.ImportImage(ctx, client.NewImage{Name: "small", Size: 1 << 20, Copies: 1}, bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			t.Log(err) // the disk is not in use yet
			return false
		}
		return len(img.Replicas) == 1 && img.Replicas[0].Host == "box21"
	})
	if hosts, err := w.api.Hosts(ctx); err != nil || !hosts[2].Witness || hosts[2].Name != "box23" {
		t.Errorf("the witness is not told as one: %+v, %v", hosts, err)
	}
	if st, err := w.api.Status(ctx); err != nil || st.Counts.Witnesses != 1 || !st.Host.Witness {
		t.Errorf("%+v, %v", st, err)
	}
}
