package serve

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kept"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// onDisk waits until the newest records stand on the host's disk, and returns the
// head of that copy.
func (b *box) onDisk() (head kept.Head) {
	b.t.Helper()
	b.soon("the records to stand on the disk", func() error {
		_, newest, _, err := b.host.shelf().Newest()
		if err != nil {
			return err
		}
		m, err := b.host.member()
		if err != nil {
			return err
		}
		_, copies, err := store.Kept(m.stores[0].dev)
		if err == nil && len(copies) > 0 {
			head, err = kept.ReadHead(copies[0])
		}
		if err == nil && head.Rev < newest.Rev {
			err = holdfast.Errorf(holdfast.NotFound, "there is revision %d, the newest is %d", head.Rev, newest.Rev)
		}
		return err
	})
	return head
}

// onDisks waits until the newest records stand on all disks of the host, and returns
// the revision.
func (b *box) onDisks() (rev kv.Rev) {
	b.t.Helper()
	b.soon("the records to stand on all disks", func() error {
		_, newest, _, err := b.host.shelf().Newest()
		if err != nil {
			return err
		}
		m, err := b.host.member()
		if err != nil {
			return err
		}
		rev = newest.Rev
		for _, st := range m.stores {
			_, copies, err := store.Kept(st.dev)
			if err != nil {
				return err
			}
			most := kv.Rev(0)
			for _, c := range copies {
				if head, err := kept.ReadHead(c); err == nil {
					most = max(most, head.Rev)
				}
			}
			if most < rev {
				return holdfast.Errorf(holdfast.NotFound, "there is revision %d, the newest is %d", most, rev)
			}
		}
		return nil
	})
	return rev
}

// takes moves a disk of a lost host, of which nothing else is left, into this one.
func (b *box) takes(lost *box) (path string) {
	b.t.Helper()
	lost.stop()
	path = filepath.Join(filepath.Dir(b.conf.DataDir), filepath.Base(b.conf.DataDir)+".disk")
	if err := os.Rename(filepath.Join(lost.conf.DataDir, "disk"), path); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { os.Remove(path) })
	if err := os.RemoveAll(lost.conf.DataDir); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// recoveredFrom carries a recovery from a disk out, as Run does.
func (b *box) recoveredFrom(s v1.RecoverySpec) {
	b.t.Helper()
	s.Cluster = "field"
	if _, err := b.api.Recover(context.Background(), s); err != nil {
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

// All that is left of a cluster is a disk. In the clear as it is, it gives the
// volumes back, and nothing by which somebody could enter the cluster.
func TestADiskIsEnoughToRecoverFrom(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := newBox(t, 61, "a"), newBox(t, 62, "b")
	a.field("db", "web")
	head := a.onDisk()
	m, err := a.host.member()
	if err != nil {
		t.Fatal(err)
	}
	_, copies, err := store.Kept(m.stores[0].dev)
	if err != nil || len(head.Open) == 0 {
		t.Fatalf("%+v, %v", head, err)
	}
	if c, err := kept.Open(copies[0], [32]byte(head.Open)); err != nil || cluster.AuthorityIn(c.Items) != nil || cluster.AuthorityIn(a.records()) == nil {
		t.Fatalf("the authority stands on a disk in the clear (%v)", err)
	}

	path := filepath.Join(a.conf.DataDir, "disk")
	if _, err := b.api.RecoveryPlan(ctx, v1.RecoverySpec{Disks: []string{path}}); err == nil {
		t.Error("a disk that its host uses was read")
	}
	spec := v1.RecoverySpec{Disks: []string{b.takes(a)}}
	refusedDisks(t, b, spec.Disks[0])
	p, err := b.api.RecoveryPlan(ctx, spec)
	if err != nil || len(p.Volumes) != 2 || p.Volumes[0].State != "served" || p.Volumes[1].State != "served" || len(p.Shut) != 1 || !strings.Contains(p.Source, spec.Disks[0]) {
		t.Fatalf("%+v, %v", p, err)
	}
	if ms, err := b.host.dir.membership(); ms != nil || err != nil {
		t.Fatalf("a plan made it a member: %+v, %v", ms, err)
	}
	b.recoveredFrom(spec)
	b.serves(1, "db", "web")
	if _, err := b.api.RecoveryPlan(ctx, spec); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("again: %v", err)
	}
	b.stop() // and once more, as any host
	b.start()
	b.serves(1, "db", "web")
	b.volumes("later")
	c := newBox(t, 63, "c")
	until(t, "a new host joins", func() bool { return c.join(b.code(v1.JoinCodeSpec{})) == nil })
}

// refusedDisks names disks that do not belong together.
func refusedDisks(t *testing.T, b *box, path string) {
	t.Helper()
	ctx := context.Background()
	image, foreign, blank := path+".copy", path+".foreign", path+".blank"
	t.Cleanup(func() { os.Remove(image); os.Remove(foreign); os.Remove(blank) })
	all, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(image, all, 0o600)
	}
	if err == nil {
		err = os.WriteFile(blank, make([]byte, 1<<26), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	other := newBox(t, 66, "a")
	other.field("else")
	other.onDisk()
	other.stop()
	if err := os.Rename(filepath.Join(other.conf.DataDir, "disk"), foreign); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		disks []string
		kind  holdfast.Kind
		say   string
	}{
		"a disk and an image of it": {[]string{path, image}, holdfast.Conflict, "the same disk"},
		"disks of two clusters":     {[]string{path, foreign}, holdfast.Invalid, "recover one cluster"},
		"a disk of nobody's":        {[]string{path, blank}, holdfast.Invalid, blank},
		"no disk":                   {[]string{path + ".none"}, holdfast.NotFound, path + ".none"},
	} {
		_, err := b.api.RecoveryPlan(ctx, v1.RecoverySpec{Disks: c.disks})
		fails(t, what, err, c.kind, c.say)
	}
}

// records are the cluster's, as the host's own member of the control plane has
// them.
func (b *box) records() []kv.Item {
	b.t.Helper()
	m, err := b.host.member()
	if err != nil {
		b.t.Fatal(err)
	}
	items, _, _, err := cluster.ReadLasting(m.etcd.Load().Local)
	if err != nil {
		b.t.Fatal(err)
	}
	return items
}

// Of several disks with records the newest win, in whatever order they are named.
func TestOfSeveralDisksTheNewestRecordsWin(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := newBox(t, 68, "a"), newBox(t, 69, "b")
	a.field("early")
	path := func(name string) string { return filepath.Join(a.conf.DataDir, name) }
	if _, err := a.api.AddDisk(ctx, v1.DiskSpec{Path: path("disk2"), Size: 256 << 20}); err != nil {
		t.Fatal(err)
	}
	a.volumes("middle") // of which the second disk knows as well
	older := a.onDisks()
	a.stop()
	dir := t.TempDir()
	keep := func(from, name string) string {
		t.Helper()
		to := filepath.Join(dir, name)
		in, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := os.Create(to)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
		return to
	}
	stale := keep(path("disk"), "stale")
	a.start()
	a.volumes("late")
	newer := a.onDisks()
	a.stop()
	fresh := keep(path("disk2"), "fresh")
	if err := os.RemoveAll(a.conf.DataDir); err != nil {
		t.Fatal(err)
	}
	if newer <= older {
		t.Fatalf("revision %d, then %d", older, newer)
	}
	names := func(disks ...string) (source, names string) {
		t.Helper()
		p, err := b.api.RecoveryPlan(ctx, v1.RecoverySpec{Disks: disks})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range p.Volumes {
			names += v.Volume + " "
		}
		return p.Source, names
	}
	for _, order := range [][]string{{stale, fresh}, {fresh, stale}} {
		if source, has := names(order...); !strings.Contains(source, fresh) || !strings.Contains(has, "late") {
			t.Errorf("of %v: %s, with %s", order, source, has)
		}
	}
	if source, has := names(stale); !strings.Contains(source, stale) || strings.Contains(has, "late") || !strings.Contains(has, "middle") {
		t.Errorf("of the older alone: %s, with %s", source, has)
	}
}

// The same with a cluster key that comes from a passphrase: the disk opens to who
// knows it, and to nobody else.
func TestADiskOfAClusterWithAPassphrase(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := newBox(t, 64, "a"), newBox(t, 65, "b")
	a.field("db")
	const secret = "seven dry camels cross the wadi"
	a.soon("the cluster key", func() error {
		_, err := a.api.InitClusterKey(ctx, v1.KeySpec{Passphrase: secret})
		if holdfast.IsKind(err, holdfast.Exists) {
			err = nil
		}
		return err
	})
	a.soon("an encrypted volume", func() error {
		_, err := a.api.CreateVolume(ctx, v1.VolumeSpec{Name: "sealed", Size: 1 << 20, Encrypt: true})
		if holdfast.IsKind(err, holdfast.Exists) {
			err = nil
		}
		return err
	})
	a.soon("the copy on the disk to be sealed", func() error {
		if head := a.onDisk(); head.Key == nil || head.Open != nil {
			return holdfast.Errorf(holdfast.Other, "%+v", head)
		}
		return nil
	})
	m, err := a.host.member()
	if err != nil {
		t.Fatal(err)
	}
	authority := m.creds.CA
	spec := v1.RecoverySpec{Disks: []string{b.takes(a)}}
	if _, err := b.api.RecoveryPlan(ctx, spec); !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("without it: %v", err)
	}
	spec.Passphrase = "six dry camels cross the wadi"
	if _, err := b.api.RecoveryPlan(ctx, spec); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("with another: %v", err)
	}
	spec.Passphrase = secret
	p, err := b.api.RecoveryPlan(ctx, spec)
	if err != nil || len(p.Volumes) != 2 || p.Volumes[0].State != "served" || p.Volumes[1].State != "served" {
		t.Fatalf("%+v, %v", p, err)
	}
	b.recoveredFrom(spec)
	b.serves(1, "db", "sealed")
	if m, err = b.host.member(); err != nil || !m.creds.CA.Equal(authority) {
		t.Errorf("it has another authority: %v", err)
	}
	if !m.node.Keys.Has(m.node.Cluster.State().Keyring.Val.Current().ID) {
		t.Error("the cluster key is not in memory")
	}
	b.soon("the volume to be writable", func() error {
		_, err := m.node.Volumes.Open(b.volumeID("sealed"))
		return err
	})
}

func (b *box) volumeID(name string) holdfast.VolumeID {
	b.t.Helper()
	m, err := b.host.member()
	if err != nil {
		b.t.Fatal(err)
	}
	rec, ok := m.node.Cluster.State().VolumeByName(name)
	if !ok {
		b.t.Fatalf("no volume %s", name)
	}
	return rec.Val.ID
}
