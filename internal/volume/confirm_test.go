package volume

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// confirmed has the scene's volume confirm its reads.
func (sc *scene) confirmed() {
	sc.hosts[0].on(func() {
		records := sc.hosts[0].s.Records
		rec, mod, err := records.ReadVolume(sc.vol.ID)
		sc.must(err)
		rec.Reads = cluster.Confirmed
		_, err = records.CommitVolume(rec, mod)
		sc.must(err)
	})
}

// A writer whose host is a virtual machine that was suspended takes its leases for
// good when it goes on. Under leases it serves what is old by then, once; it never
// does where reads are confirmed.
func TestAWriterWhoseTimeStoodStill(t *testing.T) {
	for _, confirmed := range []bool{false, true} {
		play(t, 6, 3, 2, func(sc *scene) {
			a, b := sc.hosts[0], sc.hosts[1]
			if confirmed {
				sc.confirmed()
			}
			v := a.open()
			sc.write(v, 1, fill('a', 1))
			sc.flush(v)
			sc.expect(v, 1, fill('a', 1))
			a.clk.Suspend()
			nv := b.open()
			sc.write(nv, 1, fill('b', 1))
			buf := make([]byte, holdfast.BlockSize)
			ended := clock.NewFuture[error](sc.w.Clock())
			a.clk.Go(func() { // it was about to
				ended.Resolve(v.do(export.Request{Op: export.Read, Length: holdfast.BlockSize, Off: holdfast.BlockSize, Data: buf}))
			})
			a.clk.Resume()
			err, ok := ended.Wait(10 * time.Second)
			switch {
			case !ok:
				t.Error("the read does not end")
			case confirmed && !holdfast.IsKind(err, holdfast.Fenced):
				t.Errorf("confirmed: the deposed writer's read of %q ended with %v, want fenced", buf[0], err)
			case !confirmed && (err != nil || buf[0] != 'a'):
				t.Errorf("leased: the read ended with %v, of %q: is the page about leases still right?", err, buf[0])
			}
			sc.expect(nv, 1, fill('b', 1))
			sc.inSync(2)
		})
	}
}

// The writer's own replica is asked like the others: another host may open the
// volume with that one alone.
func TestTheWritersOwnReplicaConfirmsToo(t *testing.T) {
	play(t, 6, 2, 2, func(sc *scene) {
		a := sc.hosts[0]
		sc.confirmed()
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sc.flush(v)
		m := a.s.member(v.localID)
		var err error
		a.on(func() { _, err = m.promised(v.epoch+1, a.clk.Now) })
		if m.stands(v.epoch) || err != nil {
			t.Errorf("it promised another epoch (%v) and confirms this one", err)
		}
	})
}

// Reads go on when a replica is silent, once it was ejected, and share rounds.
func TestConfirmedReadsGoOnWithoutASilentReplica(t *testing.T) {
	play(t, 6, 3, 3, func(sc *scene) {
		a, b := sc.hosts[0], sc.hosts[1]
		sc.confirmed()
		v := a.open()
		sc.write(v, 1, fill('a', 1))
		sent := sc.net.Stats().Sent
		ended := 0
		a.on(func() {
			for range 100 {
				v.submit(&export.Request{Op: export.Read, Length: holdfast.BlockSize, Off: holdfast.BlockSize, Data: make([]byte, holdfast.BlockSize),
					Done: func(_ *export.Request, err error) {
						sc.must(err)
						ended++
					}})
			}
		})
		clock.Sleep(sc.w.Clock(), 100*time.Millisecond)
		if n := sc.net.Stats().Sent - sent; ended != 100 || n > 40 {
			t.Errorf("%d of 100 reads ended, with %d frames", ended, n)
		}
		sc.net.CutHost(b.id, true, true)
		began := sc.w.Now()
		sc.expect(v, 1, fill('a', 1))
		if took := sc.w.Now() - began; took > 6*time.Second {
			t.Errorf("a read took %v with a silent replica", took)
		}
		v.fail(holdfast.Errorf(holdfast.Closed, "enough"))
		if err := sc.do(v, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: make([]byte, holdfast.BlockSize)}); !holdfast.IsKind(err, holdfast.Closed) {
			t.Errorf("a read of a closed volume ended with %v", err)
		}
	})
}
