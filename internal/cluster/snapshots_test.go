package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// A volume gains and loses thousands of snapshots. Whoever looks, by following,
// by reading the volume or by reading everything, sees the same list, and no
// record becomes large.
func TestThousandsOfSnapshotsOfAVolume(t *testing.T) {
	s := newScene(t, 5, 2)
	a, b := s.hosts[0], s.hosts[1]
	rng := rand.New(rand.NewPCG(7, 7))
	made := 0
	s.do(a, func() {
		v := volume("v1")
		rev, err := put(a, v, 0)
		s.ok(err)
		want := []cluster.Snapshot(nil)
		change := func(step int) {
			want = append([]cluster.Snapshot(nil), want...)
			for range 1 + rng.IntN(60) {
				made++
				sn := cluster.Snapshot{Name: fmt.Sprint("s", made), LSN: holdfast.LSN(made), Created: time.Unix(int64(made), 0).UTC()}
				sn.ID.UUID = uuid(fmt.Sprint("snap", made))
				want = append(want, sn)
			}
			if step%3 == 0 { // most of them go, at random
				kept := want[:0]
				for i := range want {
					if rng.IntN(3) == 0 {
						kept = append(kept, want[i])
					}
				}
				want = kept
			}
			if len(want) > 0 {
				want[rng.IntN(len(want))].Hidden = true
			}
		}
		for step := range 150 {
			if change(step + 1); step%10 == 9 {
				v.Epoch++ // something else changes with it
			}
			v.Snapshots = want
			if step%5 == 4 { // decided on what was read, not on the picture
				got, err := a.c.ReadVolume(v.ID)
				s.ok(err)
				rev = got.Mod
			}
			rev, err = put(a, v, rev)
			s.ok(err)
		}
		v.Snapshots = want
		a.c.WaitRev(rev, time.Second)
		b.c.WaitRev(rev, time.Second)
		read, err := a.c.ReadVolume(v.ID)
		s.ok(err)
		whole, err := b.c.Refresh()
		s.ok(err)
		for who, got := range map[string]cluster.Volume{"followed": a.c.State().Volumes[v.ID].Val, "followed elsewhere": b.c.State().Volumes[v.ID].Val,
			"read": read.Val, "read with everything": whole.Volumes[v.ID].Val} {
			if !reflect.DeepEqual(got, v) {
				t.Errorf("%s: %d snapshots at epoch %d, want %d at %d", who, len(got.Snapshots), got.Epoch, len(v.Snapshots), v.Epoch)
			}
		}
		items, _, err := a.st.Range("holdfast/2/volume/")
		s.ok(err)
		for _, it := range items {
			if len(it.Value) > 64<<10 {
				t.Errorf("%s has %d bytes", it.Key, len(it.Value))
			}
		}
		if most := 1 + len(want)/100 + 48; len(items) > most {
			t.Errorf("%d records for %d snapshots", len(items), len(want))
		}
		stale := v
		stale.Snapshots = nil
		_, err = put(a, stale, rev-1)
		s.kind(err, holdfast.Conflict)
		tx := a.c.Begin()
		tx.DeleteVolume(v.ID, rev)
		_, err = tx.Commit()
		s.ok(err)
		if items, _, err := a.st.Range("holdfast/2/"); err != nil || len(items) != 0 {
			t.Errorf("after the volume %d records are left: %v", len(items), err)
		}
	})
}

// A page that cannot be read is told, and its last readable version stands.
func TestAPageOfSnapshotsThatCannotBeRead(t *testing.T) {
	s := newScene(t, 6, 1)
	a := s.hosts[0]
	s.do(a, func() {
		v := volume("v1")
		v.Snapshots = []cluster.Snapshot{{ID: holdfast.SnapshotID{UUID: uuid("s")}, Name: "s"}}
		_, err := put(a, v, 0)
		s.ok(err)
		items, _, err := a.st.Range("holdfast/2/volume/" + v.ID.String() + "/")
		s.ok(err)
		if len(items) != 1 {
			t.Fatalf("%d pages", len(items))
		}
		_, err = a.st.Commit(nil, []kv.Op{{Key: items[0].Key, Value: []byte("{")}})
		s.ok(err)
		s.ok(waitBad(a, items[0].Key))
		if got := a.c.State().Volumes[v.ID].Val.Snapshots; len(got) != 1 {
			t.Errorf("%d snapshots are left of one", len(got))
		}
		_, err = a.c.ReadVolume(v.ID)
		s.kind(err, holdfast.Corrupt)
	})
}

func waitBad(h *host, key string) error {
	if !h.c.WaitFor(func(st *cluster.State) bool { return strings.Contains(st.Bad[key], "snapshots") }, time.Minute) {
		return fmt.Errorf("%s is not called bad", key)
	}
	return nil
}
