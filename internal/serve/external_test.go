package serve

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcdtest"
)

// over is the configuration of a host whose control plane is in an etcd.
func over(e *etcdtest.Etcd, prefix string) string {
	return fmt.Sprintf("kv: {endpoints: ['%s'], ca: '%s', cert: '%s', key: '%s', prefix: '%s'}\n", e.URL, e.CA, e.Cert, e.Key, prefix)
}

func (b *box) founds(name string) error {
	_, err := b.api.InitCluster(context.Background(), v1.ClusterInit{Name: name})
	return err
}

// fails checks the kind of an error, and that it says what to do.
func fails(t *testing.T, what string, err error, k holdfast.Kind, say string) {
	t.Helper()
	if !holdfast.IsKind(err, k) || !strings.Contains(err.Error(), say) {
		t.Errorf("%s: %v, want kind %v and %q", what, err, k, say)
	}
}

// Two clusters in one etcd of somebody else: they do not meet; hosts come and go
// and nobody votes.
func TestTwoClustersInOneExternalEtcd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := etcdtest.Start(t)
	a, b := newBoxWith(t, 71, "a", over(e, "one")), newBoxWith(t, 72, "b", over(e, "one"))
	if err := a.founds("one"); err != nil {
		t.Fatal(err)
	}
	second := newBoxWith(t, 73, "a", over(e, "one/"))
	fails(t, "a second cluster in the same place", second.founds("two"), holdfast.Exists, "a cluster in it already: one")
	second.with(over(e, "two"))
	if err := second.founds("two"); err != nil {
		t.Fatal(err)
	}
	fails(t, "a code of the other cluster", b.join(second.code(v1.JoinCodeSpec{})), holdfast.Conflict, "holds cluster one")
	own := newBox(t, 74, "c")
	code := a.code(v1.JoinCodeSpec{})
	fails(t, "a host without an etcd", own.join(code), holdfast.Conflict, "start the new host with --etcd "+e.URL)
	if err := b.join(code); err != nil { // refusals have not spent it
		t.Fatal(err)
	}
	if err := own.founds("own"); err != nil {
		t.Fatal(err)
	}
	late := newBoxWith(t, 75, "b", over(e, "nowhere"))
	fails(t, "an etcd where nothing is", late.join(a.code(v1.JoinCodeSpec{})), holdfast.Conflict, "holds no cluster under prefix \"nowhere/\"")
	if names, _ := a.voters(); names != "" {
		t.Errorf("%s vote", names)
	}
	st, err := b.api.Status(ctx)
	if err != nil || !st.Cluster.External || st.Cluster.Voters != 0 || st.Counts.Hosts != 2 || !strings.Contains(st.Sentence, "external etcd, which is to stand elsewhere") {
		t.Errorf("%+v, %v", st, err)
	}
	wrongPlace(t, a, b, e)
	goes(t, a, b)
}

// with starts a host again with another configuration.
func (b *box) with(more string) {
	b.t.Helper()
	b.stop()
	c := b.conf
	b.conf = configOf(b.t, fmt.Sprintf("name: %s\nrack: %s\ndata_dir: %s\nadvertise: %s\naccelerator: tcg\n%s", c.Name, c.Rack, c.DataDir, c.Advertise, more))
	b.start()
}

func configOf(t *testing.T, text string) config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wrongPlace starts a host of one cluster with the prefix of the other: it asks
// nothing there, leaves nothing there, and says so.
func wrongPlace(t *testing.T, a, b *box, e *etcdtest.Etcd) {
	right := b.conf.KV
	b.stop()
	b.conf.KV.Prefix = "two/"
	b.start()
	until(t, "the host says that it is in the wrong place", func() bool {
		st, err := b.api.Status(context.Background())
		return err == nil && st.Level == "error" && strings.Contains(st.Sentence, "it holds cluster two") && st.Conditions[0].ID == "etcd-away"
	})
	for _, k := range e.Keys() {
		if strings.HasPrefix(k, "two/") && strings.Contains(k, b.host.dir.id.Host.String()) {
			t.Errorf("it left %s", k)
		}
	}
	b.stop()
	b.conf.KV = right
	b.start()
	until(t, "the host is back", func() bool {
		hosts, err := a.api.Hosts(context.Background())
		return err == nil && len(hosts) == 2 && hosts[0].State == "alive" && hosts[1].State == "alive"
	})
}

// goes removes b, which the etcd goes on to let in: it is told all the same.
func goes(t *testing.T, a, b *box) {
	ctx := context.Background()
	if _, err := a.api.Drain(ctx, b.conf.Name, v1.DrainSpec{On: true}); err != nil {
		t.Fatal(err)
	}
	a.soon("the host is removed", func() error {
		_, err := a.api.RemoveHost(ctx, b.conf.Name, v1.RemovalSpec{})
		return err
	})
	until(t, "the removed host is told", func() bool {
		st, err := b.api.Status(ctx)
		return err == nil && strings.Contains(st.Sentence, "was removed from cluster one")
	})
}

// The etcd is away, and comes back; then it is lost for good, and the host that is
// asked becomes the control plane itself. It does not go back.
func TestAnExternalEtcdIsLost(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := etcdtest.Start(t)
	a, b := newBoxWith(t, 81, "a", over(e, "")), newBoxWith(t, 82, "b", over(e, ""))
	if err := a.founds("field"); err != nil {
		t.Fatal(err)
	}
	b.joins(a)
	if _, err := a.api.AddDisk(ctx, v1.DiskSpec{Path: a.conf.DataDir + "/disk", Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	until(t, "an image is there", func() bool {
		_, err := a.api.ImportImage(ctx, client.NewImage{Name: "small", Size: 1 << 20, Copies: 1}, bytes.NewReader(make([]byte, 1<<20)))
		return err == nil || holdfast.IsKind(err, holdfast.Exists)
	})
	_, err := a.api.RecoveryPlan(ctx, v1.RecoverySpec{})
	fails(t, "nothing is lost", err, holdfast.Conflict, "the external etcd answers")
	until(t, "the records are kept", func() bool { return a.hasKept("small") == nil })
	e.End()
	away := func(b *box) bool {
		st, err := b.api.Status(ctx)
		return err == nil && st.Level == "error" && st.Conditions[0].ID == "etcd-away" && strings.Contains(st.Sentence, "etcd "+e.URL+" does not answer")
	}
	until(t, "both say that it is away", func() bool { return away(a) && away(b) })
	e.Begin()
	until(t, "all is well again", func() bool {
		st, err := b.api.Status(ctx)
		return err == nil && st.CanLose.Unknown == "" && st.Counts.HostsAlive == 2
	})
	e.End()
	until(t, "both say so again", func() bool { return away(a) && away(b) })
	rebuiltHere(t, a, b, e)
}

func rebuiltHere(t *testing.T, a, b *box, e *etcdtest.Etcd) {
	ctx := context.Background()
	p, err := a.api.RecoveryPlan(ctx, v1.RecoverySpec{})
	if err != nil || len(p.Stay) != 2 || !strings.Contains(strings.Join(p.Warnings, " "), "leaves the external etcd") {
		t.Fatalf("%+v, %v", p, err)
	}
	a.recovered()
	b.again() // it has met a later incarnation
	b.again() // it is a member of that
	until(t, "the hosts are one cluster with votes of its own", func() bool {
		st, err := b.api.Status(ctx)
		return err == nil && st.CanLose.Unknown == "" && !st.Cluster.External && st.Cluster.Voters >= 1 && st.Counts.HostsAlive == 2 && st.Cluster.Incarnation == 1
	})
	if imgs, err := b.api.Images(ctx); err != nil || len(imgs) != 1 {
		t.Errorf("%v, %v", imgs, err)
	}
	e.Begin() // the old one comes back: nobody looks at it
	a.with("")
	until(t, "it goes on without the etcd in its configuration", func() bool {
		st, err := a.api.Status(ctx)
		return err == nil && st.CanLose.Unknown == "" && !st.Cluster.External && st.Counts.HostsAlive == 2
	})
}

// An etcd that is full takes no record that could say so: hosts say it themselves.
func TestAFullEtcdIsTold(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartOf(t, 1, 16<<20)
	a := newBoxWith(t, 94, "a", over(e, ""))
	if err := a.founds("field"); err != nil {
		t.Fatal(err)
	}
	e.Fill(200)
	until(t, "the host says that the etcd is full", func() bool {
		st, err := a.api.Status(context.Background())
		return err == nil && st.Level == "error" && st.CanLose.Unknown != "" && strings.HasPrefix(st.Sentence, "Nothing can be changed") && st.Conditions[0].ID == "etcd-full"
	})
}

// What is started otherwise than it joined does no work, and says what to do.
func TestAHostKeepsToWhereItsControlPlaneIs(t *testing.T) {
	t.Parallel()
	e := etcdtest.Start(t)
	a := newBoxWith(t, 91, "a", over(e, ""))
	stranger := etcdtest.NewAuthority(t)
	a.with(strings.Replace(over(e, ""), e.CA, stranger.File("ca.crt"), 1))
	fails(t, "another authority", a.founds("field"), holdfast.Denied, "--etcd-ca")
	cert, key := stranger.Issue("client")
	a.with(strings.NewReplacer(e.Cert, cert, e.Key, key).Replace(over(e, "")))
	fails(t, "another certificate", a.founds("field"), holdfast.Denied, "--etcd-cert")
	a.with(strings.Replace(over(e, ""), e.CA, filepath.Join(a.conf.DataDir, "none"), 1))
	fails(t, "no authority", a.founds("field"), holdfast.NotFound, "kv.ca")
	if _, err := os.Stat(filepath.Join(a.conf.DataDir, "cluster.json")); !os.IsNotExist(err) {
		t.Error("a cluster was made nevertheless")
	}
	a.with(over(e, ""))
	if err := a.founds("field"); err != nil {
		t.Fatal(err)
	}
	a.with("")
	st, err := a.api.Status(context.Background())
	if err != nil || st.Level != "error" || !strings.Contains(st.Sentence, "started without one; start it with --etcd") || st.Conditions[0].ID != "etcd-away" {
		t.Errorf("%+v, %v", st, err)
	}
	own := newBox(t, 92, "b") // it may be about to move
	if err := own.founds("own"); err != nil {
		t.Fatal(err)
	}
	own.with(over(e, "other"))
	until(t, "it goes on with its own", func() bool {
		st, err := own.api.Status(context.Background())
		return err == nil && st.CanLose.Unknown == "" && !st.Cluster.External && st.Cluster.Voters == 1
	})
}
