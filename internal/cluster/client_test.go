package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestThePictureFollowsThroughOutagesCompactionAndCuts(t *testing.T) {
	for seed := range uint64(10) {
		s := newScene(t, seed, 3)
		a, b := s.hosts[0], s.hosts[1]
		r := s.w.Rand("test")
		faults := []func(){
			func() { s.srv.BreakWatches() },
			func() { s.srv.Compact() },
			func() { s.srv.Cut("b", true, true) }, func() { s.srv.Cut("b", false, true) },
			func() { s.srv.SetDown(true) }, func() { s.srv.ChangeLeader(time.Second) },
		}
		a.clk.Go(func() {
			for i := range 100 {
				put(a, volume(fmt.Sprint("v", i)), 0)
				clock.Sleep(a.clk, 200*time.Millisecond)
			}
		})
		for range 10 {
			s.run(2 * time.Second)
			faults[r.IntN(len(faults))]()
			s.run(time.Second)
			s.srv.SetDown(false)
			s.srv.Cut("b", false, false)
			s.srv.Compact()
		}
		s.run(time.Minute)
		s.do(b, func() {
			truth, err := b.c.Refresh()
			s.ok(err)
			if n := len(truth.Volumes); n < 20 {
				t.Errorf("only %d volumes were written", n)
			}
		})
		for _, h := range s.hosts[1:] {
			s.do(h, func() { // without a refresh: what its watch has told it
				items, rev, err := h.st.Range("holdfast/2/volume/")
				s.ok(err)
				st := h.c.State()
				if len(items) != len(st.Volumes) {
					t.Errorf("seed %d: %s sees %d volumes of %d at %d of %d", seed, h.name, len(st.Volumes), len(items), st.Rev, rev)
				}
			})
		}
	}
}

func TestSubscribersAreWokenAndReleased(t *testing.T) {
	s := newScene(t, 1, 1)
	a := s.hosts[0]
	ev := a.clk.NewEvent()
	s.do(a, func() {
		a.c.Subscribe(ev)
		put(a, volume("v1"), 0)
		if !ev.Wait(time.Second) {
			t.Error("not woken")
		}
		a.c.Unsubscribe(ev)
		ev.Wait(0)
		rev, _ := put(a, volume("v2"), 0)
		a.c.WaitRev(rev, time.Second)
		if ev.Wait(time.Second) {
			t.Error("woken after it unsubscribed")
		}
		if a.c.WaitFor(func(s *cluster.State) bool { return false }, time.Second) {
			t.Error("waited for the impossible")
		}
	})
}

func TestANewerFormatIsRefused(t *testing.T) {
	s := newScene(t, 1, 1)
	a := s.hosts[0]
	s.do(a, func() {
		s.ok(a.c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: uuid("x")}, Name: "x"}, hostRecord("a", "r1")))
		items, _, _ := a.st.Range("holdfast/2/cluster")
		newer := []byte(fmt.Sprintf(`{"id":%q,"name":"x","format":%d,"wonder":1}`, uuid("x"), cluster.Format+1))
		_, err := a.st.Commit([]kv.Cond{{Key: items[0].Key, Mod: items[0].Mod}}, []kv.Op{{Key: items[0].Key, Value: newer}})
		s.ok(err)
		clock.Sleep(a.clk, 5*time.Second)
		s.kind(a.c.Err(), holdfast.Invalid)
		_, err = put(a, volume("v1"), 0)
		s.kind(err, holdfast.Invalid)
		_, err = a.c.Refresh()
		s.kind(err, holdfast.Invalid)
		if a.c.State().Cluster.Format != cluster.Format || len(a.c.State().Hosts) != 1 {
			t.Error("the last picture is gone")
		}
	})
}

func TestAnUnreadableRecordKeepsItsLastVersionAndIsReported(t *testing.T) {
	s := newScene(t, 1, 2)
	a, b := s.hosts[0], s.hosts[1]
	var rev kv.Rev
	s.do(a, func() { rev, _ = put(a, volume("v1"), 0); a.c.WaitRev(rev, time.Second) })
	key := "holdfast/2/volume/" + volume("v1").ID.String()
	for _, text := range []string{`{`, `null`, `{"id":"x"}`, `[]`, `{"id":"` + uuid("other").String() + `"}`} {
		s.do(a, func() {
			_, err := a.st.Commit(nil, []kv.Op{{Key: key, Value: []byte(text)}, {Key: "holdfast/2/volume/zzz", Value: []byte("{}")}})
			s.ok(err)
			clock.Sleep(a.clk, 10*time.Second) // b may have to notice a broken watch
			a.c.Refresh()                      // a full read must keep it as well
			if v, ok := a.c.State().VolumeByName("v1"); !ok || v.Mod != rev {
				t.Errorf("%s: the last version is gone", text)
			}
			for _, h := range []*host{a, b} {
				if len(h.c.State().Bad) != 2 {
					t.Errorf("%s: %s reports %v", text, h.name, h.c.State().Bad)
				}
			}
		})
	}
	s.do(a, func() {
		items, _, _ := a.st.Range(key)
		_, err := put(a, volume("v1"), items[0].Mod)
		s.kind(err, holdfast.Corrupt) // which name it holds cannot be known
		_, err = a.st.Commit(nil, []kv.Op{{Key: key, Delete: true}, {Key: "holdfast/2/volume/zzz", Delete: true}})
		s.ok(err)
		clock.Sleep(a.clk, 10*time.Second)
		if st := a.c.State(); len(st.Bad) != 0 || len(st.Volumes) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestQueriesAreOrdered(t *testing.T) {
	s := newScene(t, 1, 1)
	a := s.hosts[0]
	s.do(a, func() {
		tx := a.c.Begin()
		for _, n := range []string{"c", "a", "b"} {
			tx.PutHost(hostRecord(n, "rack-"+n), 0)
			tx.PutVolume(volume(n), 0)
			tx.PutVM(vm(n), 0)
			tx.PutMachine(cluster.Machine{VM: vm(n).ID, Host: a.id}, 0)
			tx.PutIncident(cluster.Incident{ID: "1-" + n}, 0)
			tx.PutDisk(cluster.Disk{ID: holdfast.DiskID{UUID: uuid(n)}, Host: a.id, Path: n}, 0)
		}
		rev, err := tx.Commit()
		s.ok(err)
		a.c.WaitRev(rev, time.Second)
		st := a.c.State()
		got := ""
		for i := range 3 {
			got += st.SortedHosts()[i].Val.Name + st.SortedVolumes()[i].Val.Name + st.SortedVMs()[i].Val.Name +
				st.SortedMachines()[i].Val.VM.Short() + st.SortedIncidents()[i].Val.ID + st.SortedDisks()[i].Val.Path + st.Racks()[i].Rack + " "
		}
		want := "aaa612020201-aarack-a bbb622020201-bbrack-b ccc632020201-ccrack-c "
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if h, ok := st.HostByName("b"); !ok || st.RackOf(h.Val.ID).Rack != "rack-b" || st.AliveHost(h.Val.ID) {
			t.Errorf("%+v %v", h, ok)
		}
	})
}

func TestThePictureNeverGoesBack(t *testing.T) {
	for seed := range uint64(10) {
		s := newScene(t, seed, 1)
		s.srv = memkv.NewServer(memkv.Config{Clock: s.w.Clock(), Rand: s.w.Rand, MaxLatency: 400 * time.Millisecond, WatchLag: 2 * time.Second})
		a, b := s.boot("a"), s.boot("b")
		a.clk.Go(func() {
			v, mod := volume("v1"), kv.Rev(0)
			for range 40 {
				v.Epoch++
				mod, _ = put(a, v, mod)
			}
		})
		for range 3 { // several reads under way at once, beside a slow watch
			b.clk.Go(func() {
				for range 40 {
					b.c.Refresh()
					clock.Sleep(b.clk, 50*time.Millisecond)
				}
			})
		}
		var last *cluster.State
		s.w.RunUntil(func() bool {
			st := b.c.State()
			if last != nil && (st.Rev < last.Rev || st.Volumes[volume("v1").ID].Val.Epoch < last.Volumes[volume("v1").ID].Val.Epoch) {
				t.Fatalf("seed %d: from %d (epoch %d) to %d (epoch %d)", seed, last.Rev, last.Volumes[volume("v1").ID].Val.Epoch, st.Rev, st.Volumes[volume("v1").ID].Val.Epoch)
			}
			last = st
			return false
		}, time.Minute)
		if e := last.Volumes[volume("v1").ID].Val.Epoch; e != 40 {
			t.Errorf("seed %d: epoch %d in the end", seed, e)
		}
	}
}
