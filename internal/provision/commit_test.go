package provision

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// lostAnswers is a provisioner that hears nothing of what it commits for a
// second, in which somebody else may act on it.
type lostAnswers struct {
	t   *testing.T
	w   *simclock.World
	clk clock.Clock
	srv *memkv.Server
	p   *Provisioner
	rec cluster.Volume // of a volume that is not there yet

	other *cluster.Client
}

func newLostAnswers(t *testing.T) *lostAnswers {
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	clk := w.Host("a", simclock.Skew{})
	t.Cleanup(func() { w.Close(clk) })
	quiet := slog.New(slog.DiscardHandler)
	l := &lostAnswers{t: t, w: w, clk: clk, srv: srv, other: cluster.Open(srv.Handle("b", clk), clk, quiet)}
	// Without a service behind it: removing the replica would panic.
	l.p = &Provisioner{Cluster: cluster.Open(srv.Handle("a", clk), clk, quiet), Volumes: (*volume.Service)(nil), Clock: clk, Log: quiet}
	l.rec = cluster.Volume{ID: holdfast.VolumeID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 1}}, Name: "v", Blocks: 8, Copies: 1, Min: 1, Durability: cluster.OnFlush}
	l.rec.InSync = []cluster.Replica{{ID: holdfast.ReplicaID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 2}}, Host: holdfast.HostID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 3}}, Disk: holdfast.DiskID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 4}}}}
	return l
}

// play has the provisioner do something, and another open the volume anew while
// it hears nothing. do calls lose when it has read and is to commit.
func (l *lostAnswers) play(do func(lose func()) error) error {
	err := error(holdfast.Errorf(holdfast.Other, "it has not ended"))
	done := false
	l.clk.Go(func() {
		err = do(func() { l.srv.Cut("a", false, true) }) // no answer gets through
		done = true
	})
	l.clk.Go(func() {
		clock.Sleep(l.clk, time.Second)
		rec, mod := l.record()
		rec.Epoch++
		tx := l.other.Begin()
		tx.PutVolume(rec, mod)
		if _, cerr := tx.Commit(); cerr != nil {
			l.t.Errorf("it cannot be opened: %v", cerr)
		}
		l.srv.Cut("a", false, false)
	})
	l.w.RunUntil(func() bool { return done }, time.Minute)
	return err
}

func (l *lostAnswers) record() (cluster.Volume, kv.Rev) {
	st, err := l.other.Refresh()
	if err != nil || st.Volumes[l.rec.ID].Mod == 0 {
		l.t.Errorf("the record is not there: %v", err)
	}
	return st.Volumes[l.rec.ID].Val, st.Volumes[l.rec.ID].Mod
}

// A volume's record is made, the answer is lost, and somebody opens the volume
// before the retry: it was made all the same, and its replicas stay.
func TestAVolumeThatHasGoneOnWasMade(t *testing.T) {
	l := newLostAnswers(t)
	err := l.play(func(lose func()) error {
		tx := l.p.Cluster.Begin()
		tx.PutVolume(l.rec, 0)
		lose()
		return l.p.commit(tx, l.rec)
	})
	if err != nil {
		t.Fatalf("it was made, and this is said: %v", err)
	}
}

// A snapshot is named, the answer is lost, and the volume is opened elsewhere
// before the retry: it is named, once.
func TestASnapshotThatWasNamedIsNotNamedAgain(t *testing.T) {
	l := newLostAnswers(t)
	tx := l.p.Cluster.Begin()
	tx.PutVolume(l.rec, 0)
	made := false
	l.clk.Go(func() {
		_, err := tx.Commit()
		if err == nil {
			_, err = l.p.fresh()
		}
		if err != nil {
			t.Error(err)
		}
		made = true
	})
	l.w.RunUntil(func() bool { return made }, time.Minute)
	snap := cluster.Snapshot{ID: holdfast.SnapshotID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 5}}, Name: "monday", Created: l.clk.Wall()}
	tries := 0
	err := l.play(func(lose func()) error {
		_, err := l.p.change(l.rec.ID, func(st *cluster.State, rec *cluster.Volume) error {
			if tries++; tries == 1 {
				lose()
			}
			return naming(snap, l.rec.Epoch)(st, rec)
		})
		return err
	})
	if err != nil {
		t.Errorf("it was named, and this is said: %v", err)
	}
	seen := 0
	l.clk.Go(func() {
		rec, _ := l.record()
		seen = len(rec.Snapshots)
		made = false
	})
	if l.w.RunUntil(func() bool { return !made }, time.Minute); seen != 1 || tries != 2 {
		t.Errorf("after %d tries the record names %d snapshots", tries, seen)
	}
}

// What replicas were made of, where, and under which key, is as it was when they get
// their record, or they are made again.
func TestAVolumeIsRecordedAsItWasMade(t *testing.T) {
	l := newLostAnswers(t)
	origin := holdfast.VolumeID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 9}}
	picture := func(vol, pool, key kv.Rev) *cluster.State {
		st := &cluster.State{Volumes: map[holdfast.VolumeID]cluster.Versioned[cluster.Volume]{}, Pools: map[holdfast.PoolID]cluster.Versioned[cluster.Pool]{}}
		st.Volumes[origin] = cluster.Versioned[cluster.Volume]{Val: cluster.Volume{ID: origin, Name: "origin"}, Mod: vol}
		st.Pools[l.rec.Pool] = cluster.Versioned[cluster.Pool]{Val: cluster.Pool{Name: "fast"}, Mod: pool}
		st.Keyring.Mod = key
		return st
	}
	rec := l.rec
	rec.Origin, rec.Keys = &cluster.Origin{Volume: origin}, make([]keyring.Wrapped, 1)
	for _, c := range []struct {
		now  *cluster.State
		want string
	}{
		{picture(1, 1, 1), ""},
		{picture(2, 1, 1), "volume v: volume origin was changed while it was made; do it again"},
		{picture(1, 2, 1), "volume v: pool fast was changed while it was made; do it again"},
		{picture(1, 1, 2), "volume v: the cluster key was changed while it was made; do it again"},
	} {
		err := l.p.putVolume(l.p.Cluster.Begin(), picture(1, 1, 1), c.now, rec)
		if got := fmt.Sprint(err); err == nil && c.want != "" || err != nil && (got != c.want || !holdfast.IsKind(err, holdfast.Conflict)) {
			t.Errorf("%v, not %q", err, c.want)
		}
	}
}
