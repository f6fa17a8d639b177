package serve

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kept"
)

// field makes a cluster of one box with a disk and a volume.
func (b *box) field(volumes ...string) v1.Admin {
	b.t.Helper()
	ctx := context.Background()
	admin, err := b.api.InitCluster(ctx, v1.ClusterInit{Name: "field"})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.api.AddDisk(ctx, v1.DiskSpec{Path: filepath.Join(b.conf.DataDir, "disk"), Size: 256 << 20}); err != nil {
		b.t.Fatal(err)
	}
	b.volumes(volumes...)
	return admin
}

// from is the host's API as an administrator elsewhere sees it.
func (b *box) from(admin v1.Admin) *client.Client {
	b.t.Helper()
	conf, err := client.TLSConfig([]byte(admin.CA), []byte(admin.Cert), []byte(admin.Key))
	if err != nil {
		b.t.Fatal(err)
	}
	return client.HTTPS(b.conf.Listen.API, conf)
}

// volumes makes volumes and waits until the records that tell of them are kept.
func (b *box) volumes(names ...string) {
	b.t.Helper()
	for _, n := range names {
		b.soon("volume "+n, func() error {
			_, err := b.api.CreateVolume(context.Background(), v1.VolumeSpec{Name: n, Size: 1 << 20})
			if holdfast.IsKind(err, holdfast.Exists) {
				err = nil
			}
			return err
		})
	}
	b.soon("the records to be kept", func() error { return b.hasKept(names...) })
}

func (b *box) hasKept(names ...string) error {
	sealed, _, _, err := b.host.shelf().Newest()
	if err != nil {
		return err
	}
	key, err := kept.HostKey(b.host.dir.file("pki"), false, nil)
	if err != nil {
		return err
	}
	c, err := kept.Open(sealed, key)
	if err != nil {
		return err
	}
	for _, n := range names {
		found := false
		for _, it := range c.Items {
			found = found || strings.HasSuffix(it.Key, "/name/volume/"+n)
		}
		if !found {
			return holdfast.Errorf(holdfast.NotFound, "volume %s is not among them", n)
		}
	}
	return nil
}

func (b *box) soon(what string, f func() error) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	b.t.Fatalf("%s: %v", what, err)
}

// recovered carries a recovery out, as Run does.
func (b *box) recovered() {
	b.t.Helper()
	ctx := context.Background()
	if _, err := b.api.Recover(ctx, v1.RecoverySpec{Cluster: "another"}); !holdfast.IsKind(err, holdfast.Invalid) {
		b.t.Errorf("another cluster's name: %v", err)
	}
	if _, err := b.api.Recover(ctx, v1.RecoverySpec{Cluster: "field"}); err != nil {
		b.t.Fatal(err)
	}
	o := <-b.host.again
	b.stop()
	h, err := Start(Options{Config: b.conf, Version: "test", Log: slog.New(slog.DiscardHandler), order: o})
	if err != nil {
		b.t.Fatal(err)
	}
	b.host, b.api = h, client.Socket(b.conf.Socket)
	if h.failed != nil {
		b.t.Fatal(h.failed)
	}
}

// serves checks that the cluster is there in an incarnation, with these volumes
// above all epochs of before.
func (b *box) serves(incarnation int, names ...string) {
	b.t.Helper()
	ctx := context.Background()
	b.soon("the cluster", func() error {
		c, err := b.api.Cluster(ctx)
		if err == nil && (c.Incarnation != incarnation || c.Voters != 1 || c.Name != "field") {
			b.t.Fatalf("%+v", c)
		}
		return err
	})
	for _, n := range names {
		v, err := b.api.Volume(ctx, n)
		if err != nil || v.Epoch < uint32(cluster.EpochGap)*uint32(incarnation) {
			b.t.Errorf("volume %s: epoch %d, %v", n, v.Epoch, err)
		}
	}
}

func TestAHostThatLostItsPartOfTheControlPlaneRebuildsItFromWhatItKept(t *testing.T) {
	t.Parallel()
	b := newBox(t, 41, "a")
	admin := b.field("db", "web")
	if _, err := b.api.RecoveryPlan(context.Background(), v1.RecoverySpec{}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("a plan while the control plane answers: %v", err)
	}
	b.stop()
	if err := os.RemoveAll(filepath.Join(b.conf.DataDir, "etcd")); err != nil {
		t.Fatal(err)
	}
	b.start()
	if st, err := b.api.Status(context.Background()); err != nil || st.Level != "error" {
		t.Errorf("without its part: %+v, %v", st, err)
	}
	creds, err := auth.LoadCredentials(b.host.dir.file("pki"), "host")
	if err != nil {
		t.Fatal(err)
	}
	other := client.HTTPS(b.conf.Listen.API, auth.ClientTLS(creds, nil))
	if _, err := other.Status(context.Background()); err == nil {
		t.Error("who is no administrator is answered")
	}
	other.Close()
	b.api.Close()
	b.api = b.from(admin) // who wants it need not be there
	p, err := b.api.RecoveryPlan(context.Background(), v1.RecoverySpec{})
	if err != nil || len(p.Volumes) != 2 || p.Volumes[0].State != "served" || p.Volumes[1].State != "served" || p.Incarnation != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	b.recovered()
	b.serves(1, "db", "web")
	r, err := b.api.Recovery(context.Background())
	if err != nil || r.State != "done" || r.Log == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if text, err := os.ReadFile(r.Log); err != nil || !strings.Contains(string(text), "volume db served") {
		t.Errorf("%q, %v", text, err)
	}
	b.stop() // and once more, as any host
	b.start()
	b.serves(1, "db", "web")
	b.volumes("later")
}

// An operator puts an older copy of etcd's directory back.
func TestAnOlderControlPlaneIsNotTakenForTheNewest(t *testing.T) {
	t.Parallel()
	b := newBox(t, 42, "a")
	b.field("early")
	b.stop()
	old, now := filepath.Join(b.conf.DataDir, "etcd.old"), filepath.Join(b.conf.DataDir, "etcd")
	if err := os.CopyFS(old, os.DirFS(now)); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.volumes("late")
	b.stop()
	if err := os.RemoveAll(now); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(now, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.soon("the host to notice", func() error {
		st, err := b.api.Status(context.Background())
		if err == nil && !strings.Contains(st.Sentence, "was set back") {
			err = holdfast.Errorf(holdfast.Other, "%s", st.Sentence)
		}
		return err
	})
	if _, err := b.api.CreateVolume(context.Background(), v1.VolumeSpec{Name: "never", Size: 1 << 20}); !holdfast.IsKind(err, holdfast.Damaged) {
		t.Errorf("a change: %v", err)
	}
	p, err := b.api.RecoveryPlan(context.Background(), v1.RecoverySpec{})
	if err != nil || len(p.Volumes) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	b.recovered()
	b.serves(1, "early", "late")
}

// An older copy of etcd's directory was put back and went on for a while, past the
// revision that the host had seen before. What it became is not what a recovery
// begins with.
func TestARecoveryBeginsWithWhatWasThereBeforeItWasSetBack(t *testing.T) {
	t.Parallel()
	b := newBox(t, 99, "a")
	b.field("early")
	file := func(name string) string { return filepath.Join(b.conf.DataDir, name) }
	replace := func(to, from string) {
		if err := os.RemoveAll(file(to)); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(file(to), os.DirFS(file(from))); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	replace("etcd.old", "etcd")
	b.start()
	b.volumes("late")
	b.stop()
	_, before, _, err := kept.Shelf{Dir: file("kept")}.Newest()
	if err != nil {
		t.Fatal(err)
	}
	replace("kept.before", "kept")
	replace("etcd", "etcd.old")
	if err := os.RemoveAll(file("kept")); err != nil {
		t.Fatal(err)
	}
	b.start()
	for n := 0; b.host.run.node.Cluster.State().Rev <= before.Rev; n++ {
		b.volumes(fmt.Sprint("other-", n))
	}
	b.stop()
	replace("kept", "kept.before")
	b.start()
	b.soon("the host to notice", func() error {
		if err := b.host.run.node.Cluster.Err(); !holdfast.IsKind(err, holdfast.Damaged) {
			return holdfast.Errorf(holdfast.Other, "it goes on: %v", err)
		}
		return nil
	})
	p, err := b.api.RecoveryPlan(context.Background(), v1.RecoverySpec{})
	if err != nil || len(p.Volumes) != 2 || p.Volumes[0].Volume != "early" || p.Volumes[1].Volume != "late" {
		t.Fatalf("%+v, %v", p, err)
	}
	b.recovered()
	b.serves(1, "early", "late")
}

// Older directories of the control plane are put back under two of three hosts.
// The third was cut off all the time since, so it knows nothing later and believes
// them: it must not find a majority, or it would give epochs out again.
func TestWhoWasAwaySinceTheBackupFindsNoMajority(t *testing.T) {
	t.Parallel()
	a, b, c := newBox(t, 96, "a"), newBox(t, 97, "b"), newBox(t, 98, "c")
	a.field("early")
	b.joins(a)
	c.joins(a)
	until(t, "all vote", func() bool { names, _ := a.voters(); return names == "box96 box97 box98" })
	boxes := []*box{a, b, c}
	for _, x := range boxes {
		x.soon("the records to be kept", func() error { return x.hasKept("early") })
		x.stop()
	}
	old, now := func(x *box) string { return filepath.Join(x.conf.DataDir, "etcd.old") }, func(x *box) string { return filepath.Join(x.conf.DataDir, "etcd") }
	replace := func(to, from string) {
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range boxes {
		replace(old(x), now(x))
	}
	a.start()
	b.start()
	a.soon("a volume", func() error {
		_, err := a.api.CreateVolume(context.Background(), v1.VolumeSpec{Name: "late", Size: 1 << 20})
		return err
	})
	for _, x := range boxes[:2] {
		x.soon("the records to be kept", func() error { return x.hasKept("late") })
		x.stop()
	}
	for _, x := range boxes {
		replace(now(x), old(x))
		x.start()
	}
	for _, x := range boxes[:2] {
		until(t, "it votes no more", func() bool { return x.host.run.etcd.Load() == nil })
	}
	until(t, "the third finds no majority", func() bool { return !c.host.run.node.Lease().Valid() })
	if _, err := c.api.CreateVolume(context.Background(), v1.VolumeSpec{Name: "never", Size: 1 << 20}); err == nil {
		t.Error("the third went on by records that are older than what others have seen")
	}
	a.recovered()
	a.serves(1, "early", "late")
}

// The only voter is given up for lost, a host without a vote goes on, and the
// voter comes back with all it had.
func TestTheOldMajorityFindsItsIncarnationEnded(t *testing.T) {
	t.Parallel()
	a, b := newBox(t, 43, "a"), newBox(t, 44, "b")
	a.field("db")
	if err := b.join(a.code(v1.JoinCodeSpec{})); err != nil {
		t.Fatal(err)
	}
	b.soon("the records to be kept", func() error { return b.hasKept("db") })
	a.soon("the other's address to be known", func() error {
		ms, err := a.host.dir.membership()
		if err == nil && len(ms.APIs) == 0 {
			err = holdfast.Errorf(holdfast.NotFound, "it is not")
		}
		return err
	})
	a.stop()
	b.soon("a plan", func() error {
		p, err := b.api.RecoveryPlan(context.Background(), v1.RecoverySpec{})
		if err == nil && (len(p.Shut) != 1 || p.Shut[0].Name != "box43" || len(p.Volumes) != 1 || p.Volumes[0].State != "unreachable") {
			t.Fatalf("%+v", p)
		}
		return err
	})
	b.recovered()
	b.serves(1)
	a.start()
	if _, err := a.host.member(); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("the old majority works: %v", err)
	}
	if st, err := a.api.Status(context.Background()); err != nil || !strings.Contains(st.Sentence, "was rebuilt without this host") {
		t.Errorf("%s, %v", st.Sentence, err)
	}
	if _, err := os.Stat(filepath.Join(a.conf.DataDir, "disk")); err != nil {
		t.Errorf("its data: %v", err)
	}
	if _, err := a.api.RecoveryPlan(context.Background(), v1.RecoverySpec{}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("a second recovery beside the first: %v", err)
	}
}

// again begins the host anew, as Run does, when it asks for that.
func (b *box) again() {
	b.t.Helper()
	select {
	case <-b.host.again:
	case <-time.After(time.Minute):
		b.t.Fatal("the host goes on as before")
	}
	b.stop()
	b.start()
}

// A host that comes back from before a recovery meets only one that stayed a
// member, not the one that recovered. And that one, in whose incarnation the files
// have other names, can take part in the control plane.
func TestOneThatStayedTellsThatAnIncarnationEnded(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, lost, c, b := newBox(t, 45, "a"), newBox(t, 46, "b"), newBox(t, 47, "c"), newBox(t, 48, "d")
	a.field("db")
	for _, x := range []*box{lost, c} {
		x.joins(a)
	}
	until(t, "three of them vote", func() bool { names, _ := a.voters(); return names == "box45 box46 box47" })
	b.joins(a)
	until(t, "they know each other", func() bool {
		for _, x := range []*box{a, b, c} {
			if ms, err := x.host.dir.membership(); err != nil || len(ms.APIs) != 3 || len(x.host.run.endpoints()) == 0 {
				return false
			}
		}
		return b.hasKept("db") == nil
	})
	lost.stop()
	c.stop()
	a.soon("a plan", func() error {
		p, err := a.api.RecoveryPlan(ctx, v1.RecoverySpec{})
		if err == nil && (len(p.Stay) != 2 || len(p.Shut) != 2) {
			err = holdfast.Errorf(holdfast.Other, "%v stay, %v are shut out", p.Stay, p.Shut)
		}
		return err
	})
	a.recovered()
	b.again() // its incarnation has ended
	b.again() // but it is a member of the next
	until(t, "it works in it", func() bool { m, err := b.host.member(); return err == nil && m.node.Lease().Valid() })
	until(t, "it shows that", func() bool {
		m, err := a.host.member()
		if err != nil {
			return false
		}
		id, ok := whoAnswers(ctx, m.node.Cluster.State().Hosts[b.host.dir.id.Host].Val.APIAddr, m.creds)
		return ok && id.Incarnation == 1
	})
	b.stop() // and so it does from then on
	b.start()
	a.stop()
	c.start()
	if c.host.waits == nil { // unless the other was too busy to answer at once
		c.again()
	}
	if _, err := c.host.member(); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("it goes on as a member of what has ended: %v", err)
	}
	c.stop()
	a.start()

	d := newBox(t, 49, "e")
	until(t, "a new host joins", func() bool { return d.join(a.code(v1.JoinCodeSpec{})) == nil })
	until(t, "all that are left vote", func() bool { names, _ := a.voters(); return names == "box45 box48 box49" })
}
