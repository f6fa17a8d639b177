package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

func export(name string, volumes ...string) cluster.Export {
	e := cluster.Export{ID: holdfast.ExportID{UUID: uuid(name)}, Name: name, Target: "iqn.2026-11.cloud.holdfast:c." + name}
	for i, v := range volumes {
		e.Units = append(e.Units, cluster.Unit{LUN: i, Volume: holdfast.VolumeID{UUID: uuid(v)}})
	}
	return e
}

func TestAVolumeIsAUnitOnce(t *testing.T) {
	s := newScene(t, 1, 1)
	c := s.hosts[0].c
	s.do(s.hosts[0], func() {
		e := export("db", "one", "two")
		tx := c.Begin()
		tx.PutExport(e, 0)
		rev, err := tx.Commit()
		s.ok(err)
		tx = c.Begin()
		tx.PutExport(export("other", "three", "two"), 0)
		_, err = tx.Commit()
		s.kind(err, holdfast.Conflict)
		c.WaitRev(rev, time.Second)
		if got, ok := c.State().ExportOf(e.Units[1].Volume); !ok || got.Val.Name != "db" {
			t.Errorf("volume two is a unit of %q", got.Val.Name)
		}
		tx = c.Begin()
		tx.DeleteExport(e, rev)
		_, err = tx.Commit()
		s.ok(err)
		_, _, err = c.UnitState(e.Units[1].Volume)
		s.kind(err, holdfast.NotFound)
		tx = c.Begin()
		tx.PutExport(export("other", "three", "two"), 0)
		_, err = tx.Commit()
		s.ok(err)
	})
}

// What a unit keeps is written by the host that serves its export and by no
// host that did before, however late it comes.
func TestAHostThatIsReplacedStoresNothing(t *testing.T) {
	s := newScene(t, 2, 2)
	a, b := s.hosts[0], s.hosts[1]
	e := export("db", "one")
	a.keep()
	b.keep()
	var served kv.Rev
	s.do(a, func() {
		tx := a.c.Begin()
		tx.PutExport(e, 0)
		_, err := tx.Commit()
		s.ok(err)
		a.ka.Valid()
	})
	s.until("the leases", 10*time.Second, func() bool { return a.ka.Valid() && b.ka.Valid() })
	s.do(a, func() {
		rev, err := a.c.Serve(a.ka, e.ID, 0)
		s.ok(err)
		served = rev
		u, mod, err := a.c.UnitState(e.Units[0].Volume)
		s.ok(err)
		u.Reservations = []byte("a's")
		_, err = a.c.SaveUnit(u, mod, rev)
		s.ok(err)
	})
	s.do(b, func() {
		_, err := b.c.Serve(b.ka, e.ID, 0)
		s.kind(err, holdfast.Conflict)
	})
	s.do(a, func() { a.ka.Stop() })
	s.until("the end of a's serving", time.Minute, func() bool { _, ok := b.c.State().Serving[e.ID]; return !ok })
	s.do(b, func() {
		rev, err := b.c.Serve(b.ka, e.ID, 0)
		s.ok(err)
		b.c.WaitRev(rev, time.Second)
		if x := b.c.State().Serving[e.ID].Val; !b.ka.Served(x) || x.Host != b.id {
			t.Errorf("served by %+v", x)
		}
	})
	s.do(a, func() {
		u, mod, err := a.c.UnitState(e.Units[0].Volume)
		s.ok(err)
		if string(u.Reservations) != "a's" {
			t.Errorf("the unit keeps %q", u.Reservations)
		}
		u.Reservations = []byte("too late")
		_, err = a.c.SaveUnit(u, mod, served)
		s.kind(err, holdfast.Conflict)
		s.kind(a.c.EndServing(e.ID, served), holdfast.Conflict)
	})
	s.do(b, func() { b.ka.Stop() })
}

func TestExportsThatMakeNoSense(t *testing.T) {
	s := newScene(t, 3, 1)
	c := s.hosts[0].c
	for what, change := range map[string]func(*cluster.Export){
		"no volume":      func(e *cluster.Export) { e.Units = nil },
		"a number twice": func(e *cluster.Export) { e.Units[1].LUN = 0 },
		"a volume twice": func(e *cluster.Export) { e.Units[1].Volume = e.Units[0].Volume },
		"odd blocks":     func(e *cluster.Export) { e.Units[0].BlockSize = 520 },
		"no target":      func(e *cluster.Export) { e.Target = "db" },
		"a nameless one": func(e *cluster.Export) { e.Initiators = []cluster.Initiator{{}} },
		"a long secret": func(e *cluster.Export) {
			e.Initiators = []cluster.Initiator{{Name: "*", Secret: cluster.Secret(strings.Repeat("x", 256))}}
		},
		"a name too many": func(e *cluster.Export) { e.Initiators = make([]cluster.Initiator, 300) },
	} {
		s.do(s.hosts[0], func() {
			e := export("db", "one", "two")
			change(&e)
			tx := c.Begin()
			tx.PutExport(e, 0)
			if _, err := tx.Commit(); !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
}

func TestASecretIsNotPrinted(t *testing.T) {
	i := cluster.Initiator{Name: "*", Secret: "what nobody knows", MutualSecret: "nor this"}
	if text := fmt.Sprintf("%v %+v %#v %s", i, i, i, i.Secret); strings.Contains(text, "nobody") || strings.Contains(text, "nor this") {
		t.Error(text)
	}
}
