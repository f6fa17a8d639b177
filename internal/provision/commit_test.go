package provision

import (
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// A volume's record is made, the answer is lost, and somebody opens the volume
// before the retry: it was made all the same, and its replicas stay.
func TestAVolumeThatHasGoneOnWasMade(t *testing.T) {
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	clk := w.Host("a", simclock.Skew{})
	defer func() { w.Close(clk) }()
	maker := cluster.Open(srv.Handle("a", clk), clk, slog.New(slog.DiscardHandler))
	other := cluster.Open(srv.Handle("b", clk), clk, slog.New(slog.DiscardHandler))
	// Without a service behind it: removing the replica would panic.
	p := &Provisioner{Cluster: maker, Volumes: (*volume.Service)(nil), Clock: clk, Log: slog.New(slog.DiscardHandler)}
	rec := cluster.Volume{ID: holdfast.VolumeID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 1}}, Name: "v", Blocks: 8, Copies: 1, Min: 1, Durability: cluster.OnFlush}
	rec.InSync = []cluster.Replica{{ID: holdfast.ReplicaID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 2}}, Host: holdfast.HostID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 3}}, Disk: holdfast.DiskID{UUID: holdfast.UUID{6: 0x40, 8: 0x80, 15: 4}}}}
	err := error(holdfast.Errorf(holdfast.Other, "it has not ended"))
	done := false
	clk.Go(func() {
		tx := maker.Begin()
		tx.PutVolume(rec, 0)
		srv.Cut("a", false, true) // no answer gets through
		err = p.commit(tx, rec)
		done = true
	})
	clk.Go(func() {
		clock.Sleep(clk, time.Second)
		st, rerr := other.Refresh()
		if rerr != nil || st.Volumes[rec.ID].Mod == 0 {
			t.Errorf("the record is not there: %v", rerr)
		}
		opened := st.Volumes[rec.ID].Val
		opened.Epoch = 2
		tx := other.Begin()
		tx.PutVolume(opened, st.Volumes[rec.ID].Mod)
		if _, cerr := tx.Commit(); cerr != nil {
			t.Errorf("it cannot be opened: %v", cerr)
		}
		srv.Cut("a", false, false)
	})
	if !w.RunUntil(func() bool { return done }, time.Minute) || err != nil {
		t.Fatalf("made %v: %v", done, err)
	}
}
