package cluster_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

func replicaOn(host string) cluster.Replica {
	return cluster.Replica{ID: holdfast.ReplicaID{UUID: uuid("r" + host)}, Host: holdfast.HostID{UUID: uuid(host)}, Disk: holdfast.DiskID{UUID: uuid("d" + host)}}
}

func withCopies(name string, in, others []string) cluster.Volume {
	v := volume(name)
	for _, h := range in {
		r := replicaOn(h)
		r.ID.UUID = uuid(name + h)
		v.InSync = append(v.InSync, r)
	}
	for _, h := range others {
		r := replicaOn(h)
		r.ID.UUID = uuid(name + h)
		v.Others = append(v.Others, r)
	}
	v.Epoch, v.Writer = 41, holdfast.HostID{UUID: uuid("b")}
	return v
}

// lostMajority is a cluster of hosts a, b and c, of which a is left, with a VM on b.
func lostMajority(s *scene, vols ...cluster.Volume) ([]kv.Item, kv.Rev) {
	h := s.hosts[0]
	var items []kv.Item
	var rev kv.Rev
	s.do(h, func() {
		s.ok(h.c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: uuid("field")}, Name: "field"}, hostRecord("a", "a")))
		s.ok(h.c.PutAuthority([]byte("the authority")))
		tx := h.c.Begin()
		tx.PutHost(hostRecord("b", "b"), 0)
		tx.PutHost(hostRecord("c", "c"), 0)
		for _, n := range []string{"a", "b", "c"} {
			tx.PutDisk(cluster.Disk{ID: holdfast.DiskID{UUID: uuid("d" + n)}, Host: holdfast.HostID{UUID: uuid(n)}, Path: "/dev/" + n, Size: 1 << 30}, 0)
		}
		for _, v := range vols {
			tx.PutVolume(v, 0)
		}
		m := vm("db")
		m.Host, m.Generation = holdfast.HostID{UUID: uuid("b")}, 3
		tx.PutVM(m, 0)
		tx.PutMachine(cluster.Machine{VM: m.ID, Host: m.Host, Generation: 3, State: "running"}, 0)
		tx.PutIncident(cluster.Incident{ID: "000000000001-b", Opened: time.Unix(0, 0), Hosts: []holdfast.HostID{m.Host}}, 0)
		_, err := tx.Settle(time.Minute)
		s.ok(err)
		_, err = h.c.CreateJoinCode(strings.Repeat("ab", 32), "", 0)
		s.ok(err)
		items, _, rev, err = cluster.ReadLasting(h.st.Range)
		s.ok(err)
	})
	return items, rev
}

func survivorA(found map[holdfast.ReplicaID]cluster.Found) cluster.Survivor {
	self := hostRecord("a", "a")
	self.CertKey, self.Peer, self.Client, self.Voter = "new key of a", "https://a:1", "https://a:2", true
	return cluster.Survivor{Self: self, Stay: map[holdfast.HostID]bool{}, Found: found, Wall: time.Unix(1e9, 0), Chance: func(uint32) uint32 { return 5 }}
}

func foundOn(v cluster.Volume, host string, f cluster.Found) map[holdfast.ReplicaID]cluster.Found {
	return map[holdfast.ReplicaID]cluster.Found{{UUID: uuid(v.Name + host)}: f}
}

func merge(ms ...map[holdfast.ReplicaID]cluster.Found) map[holdfast.ReplicaID]cluster.Found {
	out := map[holdfast.ReplicaID]cluster.Found{}
	for _, m := range ms {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func TestWhatIsLeftOfACluster(t *testing.T) {
	s := newScene(t, 1, 1)
	good := withCopies("good", []string{"a", "b"}, nil)
	ahead := withCopies("ahead", []string{"a", "b"}, nil) // its replica here has promised more than the records know
	stale := withCopies("stale", []string{"b"}, []string{"a"})
	lost := withCopies("lost", []string{"b", "c"}, nil)
	rotten := withCopies("rotten", []string{"a", "b"}, nil)
	short := withCopies("short", []string{"a", "b"}, nil)
	short.Min = 2
	items, rev := lostMajority(s, good, ahead, stale, lost, rotten, short)
	at := func(p, l holdfast.Epoch) cluster.Found {
		return cluster.Found{Promise: p, Last: l, Prefix: holdfast.MakeLSN(l, 9)}
	}
	found := merge(foundOn(good, "a", at(41, 41)), foundOn(ahead, "a", at(700, 680)), foundOn(stale, "a", at(30, 30)),
		foundOn(rotten, "a", cluster.Found{Promise: 41, Last: 41, Wrong: "it is damaged: a torn tail"}), foundOn(short, "a", at(41, 41)))
	p, err := cluster.PlanRecovery(items, rev, survivorA(found))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]cluster.Outlook{"good": cluster.Served, "ahead": cluster.Served, "stale": cluster.StaleOnly, "lost": cluster.Unreachable, "rotten": cluster.Unreachable, "short": cluster.Short}
	for _, v := range p.Volumes {
		if v.Outlook != want[v.Volume.Name] {
			t.Errorf("volume %s is %s, want %s: %s", v.Volume.Name, v.Outlook, want[v.Volume.Name], v.Why)
		}
		above := holdfast.Epoch(41)
		if v.Volume.Name == "ahead" {
			above = 700
		}
		if v.Epoch != above+cluster.EpochGap+5 {
			t.Errorf("volume %s goes on above epoch %d", v.Volume.Name, v.Epoch)
		}
	}
	if len(p.Volumes) != len(want) || len(p.Shut) != 2 || len(p.Stay) != 1 {
		t.Errorf("%d volumes, %d hosts shut out, %d stay", len(p.Volumes), len(p.Shut), len(p.Stay))
	}

	// The same records in a control plane of their own.
	again := newScene(t, 2, 1)
	h := again.hosts[0]
	again.do(h, func() {
		again.ok(h.c.Refill(p.Items))
		again.kind(h.c.Refill(p.Items), holdfast.Exists)
		st, err := h.c.Refresh()
		again.ok(err)
		if st.Cluster.Incarnation != 1 || st.Cluster.Past != rev || len(st.Bad) != 0 {
			t.Errorf("the cluster: %+v, unreadable: %v", st.Cluster, st.Bad)
		}
		if len(st.Hosts) != 1 || len(st.Disks) != 1 || !st.Hosts[survivorA(nil).Self.ID].Val.Voter {
			t.Errorf("hosts %v, disks %v", st.SortedHosts(), st.SortedDisks())
		}
		text, err := h.c.Authority()
		again.ok(err)
		codes, err := h.c.JoinCodes()
		again.ok(err)
		if string(text) != "the authority" || len(codes) != 0 || len(st.Machines) != 0 {
			t.Errorf("authority %q, %d join codes, machines %v", text, len(codes), st.Machines)
		}
		for _, v := range st.SortedVolumes() {
			if v.Val.Epoch < cluster.EpochGap || !v.Val.Writer.IsZero() || v.Val.Generation != cluster.GenerationGap {
				t.Errorf("volume %s: epoch %d, writer %v, cache generation %d", v.Val.Name, v.Val.Epoch, v.Val.Writer, v.Val.Generation)
			}
			in := len(v.Val.InSync) == 1 && v.Val.InSync[0].Host == survivorA(nil).Self.ID
			if in != (want[v.Val.Name] == cluster.Served || want[v.Val.Name] == cluster.Short) {
				t.Errorf("volume %s has in sync %v", v.Val.Name, v.Val.InSync)
			}
			if got := st.Gone(v.Val); got != (v.Val.Name == "stale" || v.Val.Name == "lost") {
				t.Errorf("volume %s counts as gone: %v", v.Val.Name, got)
			}
		}
		m, ok := st.VMByName("db")
		if !ok || !m.Val.Host.IsZero() || m.Val.Generation != 3+cluster.MachineGap {
			t.Errorf("VM: %+v", m.Val)
		}
		// Names of what is gone can be given again, others not.
		tx := h.c.Begin()
		tx.PutHost(cluster.Host{ID: holdfast.HostID{UUID: uuid("b2")}, Name: "b", Domain: holdfast.FaultDomain{Rack: "b"}, Addr: "127.0.0.1:1", CertKey: "x"}, 0)
		_, err = tx.Settle(time.Minute)
		again.ok(err)
		tx = h.c.Begin()
		tx.PutVolume(func() cluster.Volume { v := volume("other"); v.Name = "good"; return v }(), 0)
		_, err = tx.Settle(time.Minute)
		again.kind(err, holdfast.Exists)
		incs := st.SortedIncidents()
		last := incs[len(incs)-1].Val
		if len(incs) != 2 || incs[0].Val.Closed == nil || len(last.Hosts) != 2 || !slices.ContainsFunc(last.Steps, func(x cluster.Step) bool { return strings.Contains(x.Text, "volume stale stale") }) {
			t.Errorf("incidents: %+v", incs)
		}
	})
}

func TestTwoRecoveriesApartDoNotMeet(t *testing.T) {
	s := newScene(t, 1, 1)
	v := withCopies("v", []string{"a", "b"}, nil)
	items, rev := lostMajority(s, v)
	epochs := map[holdfast.Epoch]bool{}
	for n := range uint32(2) {
		who := survivorA(foundOn(v, "a", cluster.Found{Promise: 41, Last: 41}))
		who.Chance = func(uint32) uint32 { return n * 77 }
		p, err := cluster.PlanRecovery(items, rev, who)
		if err != nil {
			t.Fatal(err)
		}
		epochs[p.Volumes[0].Epoch] = true
	}
	if len(epochs) != 2 {
		t.Error("both go on at the same epoch")
	}
}

func TestARecoveryOfARecoveryGoesOnRising(t *testing.T) {
	s := newScene(t, 1, 1)
	v := withCopies("v", []string{"a", "b"}, nil)
	items, rev := lostMajority(s, v)
	first, err := cluster.PlanRecovery(items, rev, survivorA(foundOn(v, "a", cluster.Found{Promise: 41, Last: 41})))
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.Items {
		first.Items[i].Mod = 2
	}
	second, err := cluster.PlanRecovery(first.Items, 2, survivorA(foundOn(v, "a", cluster.Found{Promise: 41, Last: 41})))
	if err != nil {
		t.Fatal(err)
	}
	if second.Cluster.Incarnation != 2 || second.Cluster.Past <= first.Cluster.Past || second.Volumes[0].Epoch <= first.Volumes[0].Epoch {
		t.Errorf("%+v after %+v", second.Cluster, first.Cluster)
	}
}

// A host's copy of the records may be from before an incarnation that it was in:
// nothing of that one is given out again.
func TestARecoveryFromRecordsOfAnEarlierIncarnationPassesTheLater(t *testing.T) {
	s := newScene(t, 1, 1)
	v := withCopies("v", []string{"a", "b"}, nil)
	items, rev := lostMajority(s, v)
	most, least := survivorA(nil), survivorA(nil)
	most.Chance, least.Chance = func(n uint32) uint32 { return n - 1 }, func(uint32) uint32 { return 0 }
	first, err := cluster.PlanRecovery(items, rev, most)
	s.ok(err)
	least.Last = first.Cluster.Incarnation
	second, err := cluster.PlanRecovery(items, rev, least) // of the same records
	s.ok(err)
	if second.Cluster.Incarnation != 2 || second.Cluster.Past <= first.Cluster.Past+1<<20 {
		t.Errorf("%+v after %+v", second.Cluster, first.Cluster)
	}
	if a, b := first.Volumes[0].Epoch, second.Volumes[0].Epoch; b <= a+cluster.EpochGap/2 {
		t.Errorf("epoch %d after %d", b, a)
	}
	volumes := func(p *cluster.RecoveryPlan) (gen uint32, vm int64) {
		again := newScene(t, 2, 1)
		h := again.hosts[0]
		again.do(h, func() {
			again.ok(h.c.Refill(p.Items))
			st, err := h.c.Refresh()
			again.ok(err)
			rec, _ := st.VolumeByName("v")
			m, _ := st.VMByName("db")
			gen, vm = rec.Val.Generation, m.Val.Generation
		})
		return gen, vm
	}
	gen1, vm1 := volumes(first)
	if gen2, vm2 := volumes(second); gen2 < gen1+cluster.GenerationGap || vm2 < vm1+cluster.MachineGap {
		t.Errorf("generations %d and %d after %d and %d", gen2, vm2, gen1, vm1)
	}
}

func TestTheHostThatRecoversStaysWhatItWas(t *testing.T) {
	s := newScene(t, 1, 1)
	items, rev := lostMajority(s)
	h := s.hosts[0]
	s.do(h, func() {
		st, err := h.c.Refresh()
		s.ok(err)
		tx, self := h.c.Begin(), st.Hosts[survivorA(nil).Self.ID]
		self.Val.Drained, self.Val.DrainSeconds, self.Val.Portal, self.Val.PortalGroup, self.Val.Witness = true, 7, "127.0.0.1:3260", 3, true
		tx.PutHost(self.Val, self.Mod)
		_, err = tx.Commit()
		s.ok(err)
		items, _, rev, err = cluster.ReadLasting(h.st.Range)
		s.ok(err)
	})
	p, err := cluster.PlanRecovery(items, rev, survivorA(nil))
	s.ok(err)
	if a := p.Stay[0]; !a.Drained || a.DrainSeconds != 7 || a.Portal == "" || a.PortalGroup != 3 || !a.Witness || !a.Voter || a.CertKey != "new key of a" {
		t.Errorf("%+v", a)
	}
	for _, it := range p.Items {
		if strings.HasSuffix(it.Key, p.Stay[0].ID.String()) && !strings.Contains(string(it.Value), `"witness":true`) {
			t.Errorf("%s: %s", it.Key, it.Value)
		}
	}
}

func TestAControlPlaneThatWasSetBackIsNotBelieved(t *testing.T) {
	s := newScene(t, 3, 1)
	h := s.hosts[0]
	items, rev := lostMajority(s, withCopies("v", []string{"a"}, nil))
	now := cluster.FloorOf(items, 0, rev)
	higher := now
	higher.Rev = rev + 100
	behind := cluster.FloorOf(items, 0, 1) // its revision is passed, but a record is older than it was
	for k := range behind.Mods {
		behind.Mods[k] += 3
	}
	other := higher
	other.Incarnation = 1
	and := append(items[:len(items):len(items)], kv.Item{Key: items[len(items)-1].Key + "-late", Mod: rev})
	passed := cluster.FloorOf(and, 0, rev) // others have written since it was set back
	// The same of a host that has not the key yet with which it has sealed them.
	sealed, sealedPassed := cluster.Floor{Rev: rev, Sum: cluster.SumOf(cluster.Lasting(items))}, cluster.Floor{Rev: rev, Sum: cluster.SumOf(cluster.Lasting(and))}
	s.do(h, func() {
		tx := h.c.Begin()
		tx.PutVolume(volume("since"), 0)
		_, err := tx.Commit()
		s.ok(err)
	})
	for what, c := range map[string]struct {
		floor   cluster.Floor
		believe bool
	}{"as it was": {now, true}, "nothing known": {cluster.Floor{}, true}, "another incarnation": {other, true}, "an older revision": {higher, false}, "an older record": {behind, false}, "a record that went without a trace": {passed, false},
		"as it was, by its sum": {sealed, true}, "a record that went, by the sum": {sealedPassed, false}} {
		s.do(h, func() {
			cl := cluster.OpenAbove(h.st, h.clk, slog.New(slog.DiscardHandler), c.floor)
			defer cl.Close()
			st, err := cl.Refresh()
			if c.believe && (err != nil || st.Rev == 0) {
				t.Errorf("%s: %v", what, err)
			}
			if !c.believe && (!holdfast.IsKind(err, holdfast.Damaged) || cl.State().Rev != 0) {
				t.Errorf("%s: %v, picture of revision %d", what, err, cl.State().Rev)
			}
			tx := cl.Begin()
			tx.PutVolume(volume("new"), 0)
			if _, err := tx.Commit(); !c.believe && !holdfast.IsKind(err, holdfast.Damaged) {
				t.Errorf("%s: a change: %v", what, err)
			}
			s.srv.Cut(h.name, true, true)
			defer s.srv.Cut(h.name, false, false)
			if _, err := cl.Refresh(); !c.believe && !holdfast.IsKind(err, holdfast.Damaged) {
				t.Errorf("%s: said while nobody answers: %v", what, err)
			}
		})
	}
	s.srv.Compact() // what is forgotten cannot be compared
	s.do(h, func() {
		cl := cluster.OpenAbove(h.st, h.clk, slog.New(slog.DiscardHandler), passed)
		defer cl.Close()
		if _, err := cl.Refresh(); err != nil {
			t.Error(err)
		}
	})
}

// An etcd that somebody else runs may be emptied in its place, which no member of
// our own is started after.
func TestAControlPlaneThatWasEmptiedIsNotBelieved(t *testing.T) {
	s := newScene(t, 5, 1)
	h := s.hosts[0]
	items, rev := lostMajority(s, withCopies("v", []string{"a"}, nil))
	floor := cluster.FloorOf(items, 0, rev)
	sealed := cluster.Floor{Rev: rev} // what it holds is sealed under a key that is not there yet
	s.do(h, func() {
		all, _, err := h.st.Range("")
		s.ok(err)
		for _, it := range all {
			_, err := h.st.Commit(nil, []kv.Op{{Key: it.Key, Delete: true}})
			s.ok(err)
		}
	})
	for what, f := range map[string]cluster.Floor{"what stood there is known": floor, "only how new it was": sealed} {
		s.do(h, func() {
			cl := cluster.OpenAbove(h.st, h.clk, slog.New(slog.DiscardHandler), f)
			defer cl.Close()
			if st, err := cl.Refresh(); !holdfast.IsKind(err, holdfast.Damaged) {
				t.Errorf("%s: a picture of revision %d with %d hosts, %v", what, st.Rev, len(st.Hosts), err)
			}
		})
	}
}

// Who stays a member through a recovery may have the name that the host goes by
// which recovers, as a spare computer with disks of a lost one does.
func TestARecoveryGivesNoNameTwice(t *testing.T) {
	s := newScene(t, 6, 1)
	items, rev := lostMajority(s, withCopies("v", []string{"a"}, nil))
	who := survivorA(nil)
	who.Stay = map[holdfast.HostID]bool{{UUID: uuid("b")}: true}
	who.Self.Name = "b"
	if _, err := cluster.PlanRecovery(items, rev, who); !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "host b") {
		t.Errorf("two hosts of one name: %v", err)
	}
	who.Stay = nil // nobody else has it any more
	if _, err := cluster.PlanRecovery(items, rev, who); err != nil {
		t.Error(err)
	}
}

func TestAMirrorHoldsWhatLasts(t *testing.T) {
	s := newScene(t, 4, 1)
	h := s.hosts[0]
	lostMajority(s, withCopies("v", []string{"a"}, nil))
	h.keep()
	var m *cluster.Mirror
	s.do(h, func() { m = cluster.NewMirror(h.st, h.clk) })
	same := func() bool {
		want, _, _, err := cluster.ReadLasting(h.st.Range)
		have, _ := m.Records()
		return err == nil && slices.EqualFunc(want, have, func(a, b kv.Item) bool { return a.Key == b.Key && a.Mod == b.Mod })
	}
	seen := func(what string) {
		ok := false
		for range 40 {
			s.do(h, func() { ok = same() })
			if ok {
				return
			}
			s.run(time.Second)
		}
		t.Errorf("%s does not show", what)
	}
	seen("the first read")
	before, _ := m.Rev()
	s.run(10 * time.Second) // leases are renewed
	if after, err := m.Rev(); err != nil || after != before {
		t.Errorf("what is of the moment counts as a change: %d to %d, %v", before, after, err)
	}
	s.do(h, func() {
		st, err := h.c.Refresh()
		s.ok(err)
		tx := h.c.Begin()
		v, _ := st.VolumeByName("v")
		tx.DeleteVolume(v.Val.ID, v.Mod)
		tx.PutVolume(volume("w"), 0)
		_, err = tx.Settle(time.Minute)
		s.ok(err)
	})
	seen("a change")
	if after, _ := m.Rev(); after <= before {
		t.Errorf("revision %d after %d", after, before)
	}
	s.do(h, func() { m.Close(); h.ka.Stop(); h.c.Close() })
}
