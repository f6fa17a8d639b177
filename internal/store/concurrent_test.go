package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestManyTasksAtOnce uses real goroutines: writers, readers, pins, snapshots
// and checkpoints on one small disk that must be cleaned meanwhile.
func TestManyTasksAtOnce(t *testing.T) {
	const blocks, rounds = 512, 400
	dev, err := memdisk.New(48<<20, rand.New(rand.NewPCG(1, 1))).Open(clock.System{}, memdisk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	o := Options{Clock: clock.System{}, SegmentBytes: testSegment, CheckpointBytes: 1 << 20, MapMemory: 4 * blockmap.LeafBytes}
	if err := Format(dev, testIdentity(), o); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dev, o)
	if err != nil {
		t.Fatal(err)
	}
	room := sync.NewCond(new(sync.Mutex))
	tell := func() {
		room.L.Lock()
		room.Broadcast()
		room.L.Unlock()
	}
	s.OnDrain(tell)
	stall := func(r *Replica) { // as a writer must
		room.L.Lock()
		for s.Full() || !r.MayWrite(tell) {
			room.Wait()
		}
		room.L.Unlock()
	}
	var writers, others sync.WaitGroup
	var over atomic.Bool
	check := func(err error) {
		if err != nil && !over.Load() {
			t.Error(err)
		}
	}
	for n := byte(1); n <= 3; n++ {
		r, err := s.Create(replicaID(n), volumeID(n), blocks)
		if err != nil {
			t.Fatal(err)
		}
		check(r.Begin(record.Start{Epoch: 1}))
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 3))
			lsn := holdfast.MakeLSN(1, 1)
			for i := range rounds {
				stall(r)
				a := rng.Uint64N(blocks - 16)
				tags := make([]uint64, 1+rng.IntN(16))
				for k := range tags {
					tags[k] = a + uint64(k) + 1 // what a block holds follows from its address
				}
				x := writeRec(volumeID(n), lsn, a, tags...)
				check(r.Append([]record.Record{x}))
				lsn = x.Last() + 1
				if i%10 == 9 {
					id := snapID(byte(i/10%3 + 1))
					kind := record.Snapshot
					if i/10%6 >= 3 {
						kind = record.DropSnap
					}
					check(r.Append([]record.Record{{Kind: kind, LSN: lsn, Snapshot: id}}))
					check(benchSync(r, lsn))
					r.SetStable(lsn)
					lsn++
				}
			}
		})
		others.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 4))
			p := make([]byte, 8*blockSize)
			zero := zeroBlock()
			for !over.Load() {
				a := rng.Uint64N(blocks - 8)
				if err := r.ReadOpened(p, a, testOpener{}); err != nil {
					check(err)
					return
				}
				for i := range uint64(8) {
					got := string(p[i*blockSize:][:blockSize])
					if got != string(zero) && got != string(content(a+i+1)) {
						check(fmt.Errorf("block %d of volume %d is wrong", a+i, n))
					}
				}
			}
		})
		others.Go(func() {
			p := make([]byte, holdfast.MaxStoredUnits*unitSize)
			for !over.Load() {
				pin := r.Pin()
				err := pin.Walk(Changes{}, 0, func(addr uint64, ref BlockRef) bool {
					_, _, err := pin.ReadBlock(holdfast.SnapshotID{}, addr, p)
					check(err)
					return addr%7 != 0
				})
				check(err)
				pin.Release()
			}
		})
	}
	others.Go(func() {
		for !over.Load() {
			check(s.Checkpoint())
			s.Usage()
			r, err := s.Clone(replicaID(9), volumeID(9), s.Replica(replicaID(1)), snapID(1))
			if err == nil {
				check(r.ReadOpened(make([]byte, 64*blockSize), 0, testOpener{}))
				check(s.Remove(r.id))
			}
		}
	})
	writers.Wait()
	over.Store(true)
	others.Wait()
	if err := s.checkSpace(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
