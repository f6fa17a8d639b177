package volume

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// reopens opens the host's disk anew, as the node does with one that was given
// up, with what is in memory or without.
func (h *sceneHost) reopens(withMemory bool, away time.Duration) {
	sc, was := h.sc, h.st
	h.on(func() {
		memory := &store.Memory{}
		if withMemory {
			memory = was.Memory()
		}
		_ = was.Close()
		clock.Sleep(h.clk, away)
		h.disk.Kill()
		dev, err := h.disk.Open(h.clk, memdisk.SSD())
		sc.must(err)
		h.st, err = store.Open(dev, store.Options{Clock: h.clk, Rand: reader{sc.w.Rand(fmt.Sprint("anew", h.id.UUID[0], sc.w.Now()))}, Log: sc.log})
		sc.must(err)
		if !h.s.RenewStore(was, h.st, h.st.Recall(memory)) {
			sc.t.Error("the store was not taken")
		}
	})
}

// begun is a request that was submitted.
type begun struct {
	fin clock.Event
	err error
}

func (sc *scene) submitted(v *Volume, r export.Request) *begun {
	b := &begun{fin: sc.w.Clock().NewEvent()}
	r.Done = func(_ *export.Request, e error) { b.err = e; b.fin.Set() }
	v.s.Clock.Go(func() { v.submit(&r) })
	return b
}

func (sc *scene) ends(b *begun) {
	sc.t.Helper()
	if !b.fin.Wait(time.Minute) {
		sc.t.Errorf("at %v: a request hangs", sc.w.Now())
		panic("scene ends")
	}
	sc.must(b.err)
}

func TestADiskWithTheOnlyCopyFailsASyncAndComesBackWithoutLoss(t *testing.T) {
	for _, op := range []memdisk.Op{memdisk.Sync, memdisk.Write} {
		play(t, 100+uint64(op), 1, 1, func(sc *scene) {
			h := sc.hosts[0]
			v := h.open()
			sc.write(v, 0, fill(1, 4))
			sc.flush(v)
			sc.write(v, 2, fill(2, 40)) // acknowledged in memory
			h.disk.FailNext(op, 1)
			flush := sc.submitted(v, export.Request{Op: export.Flush})
			clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
			if h.st.Err() == nil {
				t.Fatal("the disk was not given up")
			}
			late := sc.submitted(v, export.Request{Op: export.Write, Off: 50 * holdfast.BlockSize, Length: holdfast.BlockSize, Data: fill(3, 1)})
			fin := sc.w.Clock().NewEvent()
			sc.w.Clock().Go(func() { h.reopens(true, time.Second); fin.Set() })
			clock.Sleep(sc.w.Clock(), 200*time.Millisecond)
			data := make([]byte, holdfast.BlockSize) // while it is away
			read := sc.submitted(v, export.Request{Op: export.Read, Off: 10 * holdfast.BlockSize, Length: holdfast.BlockSize, Data: data})
			fin.Wait(clock.Forever)
			sc.ends(flush)
			sc.ends(late)
			sc.ends(read)
			if !bytes.Equal(data, fill(2, 1)) {
				t.Errorf("read %x while the disk was away", data[0])
			}
			sc.flush(v)
			if v.Err() != nil {
				t.Errorf("the volume ended: %v", v.Err())
			}
			h.powerCut()
			h.boot()
			v = h.open()
			sc.expect(v, 0, fill(1, 2))
			sc.expect(v, 2, fill(2, 40))
			sc.expect(v, 50, fill(3, 1))
		})
	}
}

// The same without what was in memory: nobody may go on as if nothing had been
// lost.
func TestADiskWithTheOnlyCopyThatForgotEndsTheSessions(t *testing.T) {
	play(t, 102, 1, 1, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		sc.write(v, 0, fill(1, 4))
		sc.flush(v)
		generation := v.Record().Generation
		h.disk.FailNext(memdisk.Write, 1) // so that it is not found on the disk
		sc.write(v, 0, fill(2, 4))
		flush := sc.submitted(v, export.Request{Op: export.Flush})
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		h.reopens(false, time.Second)
		if !flush.fin.Wait(time.Minute) || flush.err == nil {
			t.Errorf("a flush of what was lost ended with %v", flush.err)
		}
		v = h.open()
		if got := v.Record().Generation; got <= generation {
			t.Errorf("the cache generation is %d and was %d", got, generation)
		}
		got := make([]byte, holdfast.BlockSize)
		sc.must(sc.do(v, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: got}))
		if got[0] != 1 && got[0] != 2 {
			t.Errorf("block 0 reads %x", got[0])
		}
	})
}

func TestAReplicaWhoseDiskWasOpenedAnew(t *testing.T) {
	for _, c := range []struct {
		what   string
		host   int // whose disk it is; 0 is the writer
		memory bool
		ejects int
	}{
		{"remembers", 1, true, 0},
		{"forgot", 1, false, 1},
		{"on the writer's host remembers", 0, true, 0},
		{"on the writer's host forgot", 0, false, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			play(t, 103, 2, 2, func(sc *scene) {
				v, h := sc.hosts[0].open(), sc.hosts[c.host]
				sc.write(v, 0, fill(1, 8))
				sc.flush(v)
				sc.write(v, 4, fill(2, 8)) // in memory only
				h.disk.FailNext(memdisk.Sync, 1)
				h.on(func() {
					if h.st.Checkpoint() == nil {
						t.Error("the checkpoint succeeded")
					}
				})
				h.reopens(c.memory, 100*time.Millisecond) // nobody notices
				clock.Sleep(sc.w.Clock(), 5*time.Second)
				sc.inSync(2)
				if got := v.Stats().Ejections; got != c.ejects {
					t.Errorf("%d ejections, want %d", got, c.ejects)
				}
				sc.flush(v)
				for _, h := range sc.hosts {
					h.powerCut()
				}
				h.boot() // alone: it has all that was flushed
				v = h.open()
				sc.expect(v, 0, fill(1, 4))
				sc.expect(v, 4, fill(2, 8))
			})
		})
	}
}

// TestWhoIsSilentIsNotEjectedForACopyOnAFailedDisk: the writer's own disk is given up
// while the other copy cannot be reached. That one may be all that has what was
// acknowledged, so it is waited for, and the writer's own goes (simulated seed 178).
func TestWhoIsSilentIsNotEjectedForACopyOnAFailedDisk(t *testing.T) {
	play(t, 61, 2, 2, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		v := a.open()
		sc.write(v, 0, fill('a', 8))
		sc.flush(v)
		sc.net.CutHost(b.id, true, true)
		a.disk.FailNext(memdisk.Write, 1) // of what says that all is synced: the volume itself has nothing to write
		sc.until("the disk to be given up", func() bool { return a.st.Err() != nil })
		sc.sleep(20 * time.Second)
		if in := sc.recorded().InSync; !slices.ContainsFunc(in, func(r cluster.Replica) bool { return r.Host == b.id }) {
			t.Fatalf("in sync is only the copy on a failed disk: %v", in)
		}
		done := sc.submit(v, 1, fill('b', 1))
		sc.net.CutHost(b.id, false, false)
		sc.until("the failed copy to go and the write to end", func() bool {
			in := sc.record().InSync
			return *done && len(in) == 1 && in[0].Host == b.id
		})
		sc.expect(v, 0, fill('a', 1))
		sc.expect(v, 1, fill('b', 1))
	})
}
