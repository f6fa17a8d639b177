package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

func TestSinceWhenACopyIsStaleIsKnownAsLongAsItIs(t *testing.T) {
	at := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	r := func(n byte) Replica { return Replica{ID: holdfast.ReplicaID{UUID: holdfast.UUID{n}}} }
	v := Volume{InSync: []Replica{r(1), r(2), r(3)}}
	was := v
	v.Eject(r(2), at, 7)
	v.Eject(r(3), at.Add(time.Minute), 9)
	if len(v.InSync) != 1 || len(v.Others) != 2 || len(v.Ejected) != 2 || len(was.InSync) != 3 {
		t.Fatalf("%+v, and it was %+v", v, was)
	}
	v.InSync = append(v.InSync, r(2)) // it joined, and is ejected again
	v.Others = v.Others[1:]
	v.Tidy()
	if len(v.Ejected) != 1 || v.Ejected[0].Upto != 9 {
		t.Fatalf("after a join: %+v", v.Ejected)
	}
	v.Eject(r(2), at.Add(time.Hour), 12)
	v.Eject(r(2), at.Add(2*time.Hour), 13)
	if len(v.Ejected) != 2 || v.Ejected[1].Upto != 13 {
		t.Errorf("ejected again: %+v", v.Ejected)
	}
}

func TestADatedNameIsAName(t *testing.T) {
	at := time.Date(2026, 11, 22, 23, 0, 0, 0, time.FixedZone("", -3600)) // the 23rd by UTC
	taken := map[string]bool{"db1-lost-2026-11-23": true, "db1-lost-2026-11-23-2": true}
	for _, c := range []struct{ prefix, word, want string }{
		{"db1", "lost", "db1-lost-2026-11-23-3"},
		{"db2", "lost", "db2-lost-2026-11-23"},
		{"forced", "", "forced-2026-11-23"},
		{strings.Repeat("x", 46) + "-" + strings.Repeat("y", 16), "lost", strings.Repeat("x", 46) + "-lost-2026-11-23"},
	} {
		got := DatedName(c.prefix, c.word, at, func(s string) bool { return taken[s] })
		if got != c.want || holdfast.CheckName("volume", got) != nil {
			t.Errorf("%s, want %s (%v)", got, c.want, holdfast.CheckName("volume", got))
		}
	}
}

func TestALostCopyNeedsItsIdentities(t *testing.T) {
	v := Volume{ID: holdfast.VolumeID{UUID: holdfast.UUID{1}}, Name: "v", Blocks: 1, Copies: 1, Min: 1, Durability: OnFlush}
	l := LostCopy{Replica: Replica{ID: holdfast.ReplicaID{UUID: holdfast.UUID{2}}}, Volume: holdfast.VolumeID{UUID: holdfast.UUID{3}}, Copy: holdfast.ReplicaID{UUID: holdfast.UUID{4}}}
	v.Forced = &Forced{Lost: []LostCopy{l}}
	if err := checkVolume(&v); err != nil {
		t.Fatal(err)
	}
	if _, waits := v.LostCopy(l.ID); !waits {
		t.Error("it waits to be set aside")
	}
	at := time.Now()
	v.Forced.Lost[0].At = &at
	if _, waits := v.LostCopy(l.ID); waits {
		t.Error("it is set aside")
	}
	for _, broken := range []func(*Forced){
		func(f *Forced) { f.Lost[0].Volume = holdfast.VolumeID{} },
		func(f *Forced) { f.Lost[0].Runs = make([]Run, MaxRuns+1) },
		func(f *Forced) { f.By = strings.Repeat("x", maxText+1) },
		func(f *Forced) { f.Snapshots = make([]string, MaxLostSnapshots+1) },
		func(f *Forced) { f.Lost = make([]LostCopy, maxReplicas+1) },
	} {
		v.Forced = &Forced{Lost: []LostCopy{l}}
		broken(v.Forced)
		if err := checkVolume(&v); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%+v: %v", v.Forced, err)
		}
	}
}
