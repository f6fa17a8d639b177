package volume

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// record reads the volume's record as kv has it, whatever the hosts know.
func (sc *scene) record() (rec cluster.Volume) {
	sc.t.Helper()
	items, _ := sc.kv.Peek("holdfast/2/volume/" + sc.vol.ID.String())
	if len(items) != 1 {
		sc.t.Fatalf("%d records of one volume", len(items))
	}
	sc.must(json.Unmarshal(items[0].Value, &rec))
	return rec
}

// TestNothingIsAcknowledgedWithoutAJoinerWhoseAdditionMayHaveBeenCommitted: the
// answer to the commit that adds a replica is lost, and then the replica is.
// The record counts it among those that hold everything, so until its ejection
// is known to be committed nothing may be acknowledged without it.
func TestNothingIsAcknowledgedWithoutAJoinerWhoseAdditionMayHaveBeenCommitted(t *testing.T) {
	play(t, 21, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		b.powerCut()
		sc.write(v, 1, fill('a', 1))
		sc.inSync(1)
		sc.kv.Cut(a.id.String(), false, true)
		b.boot()
		added := func() bool { return len(sc.record().InSync) == 2 }
		for n := 0; !added(); n++ {
			if n > 600 {
				t.Error("the replica was never added")
				return
			}
			clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		}
		b.powerCut()
		done, fin := false, sc.w.Clock().NewEvent()
		sc.w.Clock().Go(func() {
			sc.must(sc.do(v, export.Request{Op: export.Write, Off: 0, Length: holdfast.BlockSize, Data: fill('b', 1), FUA: true}))
			done = true
			fin.Set()
		})
		clock.Sleep(sc.w.Clock(), 10*time.Second)
		if done && added() {
			t.Errorf("a write was acknowledged without a replica that the record says is in sync")
		}
		sc.kv.Cut(a.id.String(), false, false)
		if !fin.Wait(time.Minute) {
			t.Error("the write never ended though the control plane is back")
		}
		if rec := sc.record(); slices.ContainsFunc(rec.InSync, func(r cluster.Replica) bool { return r.Host == b.id }) {
			t.Errorf("the record still counts the lost replica: %+v", rec.InSync)
		}
		sc.expect(v, 0, fill('b', 1))
	})
}

// TestWhatWasFlushedBeforeAJoinIsOnTheJoinersDisk: the writer flushes all the
// time while a replica with a slow disk joins. At the instant at which the
// record counts it, all power fails, and only the joiner's disk is left.
func TestWhatWasFlushedBeforeAJoinIsOnTheJoinersDisk(t *testing.T) {
	for seed := range uint64(3) {
		play(t, 30+seed, 2, 2, func(sc *scene) {
			a, b := sc.hosts[0], sc.hosts[1]
			v := a.open()
			b.powerCut()
			sc.write(v, 1000, fill('a', 1))
			sc.inSync(1)
			b.boot()
			b.disk.SetSlow(300)
			flushed := int64(0) // blocks 0 to flushed-1 are
			sc.w.Clock().Go(func() {
				for i := range int64(1000) {
					err := sc.do(v, export.Request{Op: export.Write, Off: i * holdfast.BlockSize, Length: holdfast.BlockSize, Data: fill(byte(i+1), 1), FUA: true})
					if err != nil {
						return
					}
					flushed = i + 1
					clock.Sleep(sc.w.Clock(), 10*time.Millisecond)
				}
			})
			for len(sc.record().InSync) < 2 {
				clock.Sleep(sc.w.Clock(), time.Millisecond)
			}
			n := flushed
			a.powerCut() // for good
			b.powerCut()
			b.disk.SetSlow(1)
			b.boot()
			v = b.open()
			sc.expect(v, 1000, fill('a', 1))
			for i := range n {
				sc.expect(v, i, fill(byte(i+1), 1))
			}
		})
	}
}

// TestAVolumeAtRestHasNoLooseEnd: closed in order, every replica knows that all
// it holds is on disk everywhere, so that what is made from it (a clone) starts
// there and not below.
func TestAVolumeAtRestHasNoLooseEnd(t *testing.T) {
	play(t, 22, 2, 2, func(sc *scene) {
		v := sc.hosts[0].open()
		sc.write(v, 1, fill('a', 3))
		sc.hosts[0].on(v.Close)
		for i, h := range sc.hosts {
			st := h.s.member(sc.vol.InSync[i].ID).r.State()
			if st.Stable != st.Prefix || st.Durable != st.Prefix {
				t.Errorf("replica %d holds all up to %v, %v on disk, and takes %v for stable", i, st.Prefix, st.Durable, st.Stable)
			}
		}
	})
}
