package agent

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// oneRecord is a cluster with one volume, whose other replica's host is away.
type oneRecord struct {
	rec cluster.Volume
	mod kv.Rev
}

func (r *oneRecord) ReadVolume(holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	return r.rec, r.mod, nil
}
func (r *oneRecord) CommitVolume(v cluster.Volume, _ kv.Rev) (kv.Rev, error) {
	r.mod++
	r.rec = v
	return r.mod, nil
}
func (r *oneRecord) ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	return r.CommitVolume(v, mod)
}
func (r *oneRecord) Alive(h holdfast.HostID) bool { return h == r.rec.InSync[0].Host }

func (r *oneRecord) Uses(x cluster.Replica) bool { return r.Alive(x.Host) }

type seeded struct{ *rand.Rand }

func (s seeded) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return len(b), nil
}

// A stopped VM's volume that lacks a copy is opened to be mended; its worker
// does not close it before it is.
func TestTheVolumeOfAStoppedVMStaysOpenWhileItLacksACopy(t *testing.T) {
	w := simclock.NewWorld(1)
	h := w.Host("a", simclock.Skew{})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s := running()
	self := s.vm.Host
	ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: holdfast.UUID{7}}, Host: self, Disk: holdfast.DiskID{UUID: holdfast.UUID{8}}}
	away := cluster.Replica{ID: holdfast.ReplicaID{UUID: holdfast.UUID{9}}, Host: holdfast.HostID{UUID: holdfast.UUID{10}}}
	recs := &oneRecord{mod: 1, rec: cluster.Volume{ID: s.vm.Volume, Name: "db", Blocks: 100, Copies: 2, Min: 1, InSync: []cluster.Replica{ref}, Others: []cluster.Replica{away}}}
	done := false
	h.Go(func() {
		defer func() { done = true }()
		rnd := seeded{w.Rand("rest")}
		dev, err := memdisk.New(64<<20, w.Rand("disk")).Open(h, memdisk.SSD())
		if err == nil {
			err = store.Format(dev, store.Identity{Disk: ref.Disk, Host: self}, store.Options{Clock: h, Rand: rnd, Log: log, SegmentBytes: 1 << 20})
		}
		var st *store.Store
		if err == nil {
			st, err = store.Open(dev, store.Options{Clock: h, Rand: rnd, Log: log})
		}
		if err == nil {
			_, err = st.Create(ref.ID, recs.rec.ID, 100)
		}
		if err != nil {
			t.Error(err)
			return
		}
		ep := simnet.New(w, simnet.LAN()).Open(self, "r", h)
		vols := volume.New(volume.Config{Self: self, Clock: h, Rand: rnd, Net: ep, Records: recs, Log: log})
		vols.AddStore(st)
		if err := ep.Start(); err != nil {
			t.Error(err)
			return
		}
		s.w.a.Volumes, s.w.a.Clock = vols, h
		v, err := vols.Open(recs.rec.ID)
		if err != nil {
			t.Error(err)
			return
		}
		s.vm.Power = cluster.Stopped
		s.want(true)
		if v.Err() != nil {
			t.Errorf("it was closed before it was mended: %v", v.Err())
		}
		whole := recs.rec
		whole.Others = nil
		vols.NoteRecord(whole, recs.mod+1)
		s.want(true)
		if v.Err() == nil {
			t.Error("it stays open though nothing uses it")
		}
		again, err := vols.Open(recs.rec.ID) // somebody keeps what is in it, or sets it back
		if err != nil {
			t.Error(err)
			return
		}
		s.want(true)
		if again.Err() != nil {
			t.Errorf("it was closed under who had opened it since: %v", again.Err())
		}
		clock.Sleep(h, time.Second)
	})
	if !w.RunUntil(func() bool { return done }, time.Minute) {
		t.Error("the worker hangs")
	}
	w.Close(h)
}
