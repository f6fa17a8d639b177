package store

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// A network may bring a frame twice, and a call that was given up may be heard
// late: what begins a build a second time must not take away what has come since.
func TestABuildThatIsBegunTwiceKeepsWhatItHas(t *testing.T) {
	b := newBed(t, 23)
	v := b.create(1, 1000)
	v.write(0, 1, 2, 3, 4)
	v.write(1, 20)
	v.stable()
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	send := blocksOf(b, p, 0)
	to := &vol{b, replicaID(9), v.vid}
	b.run(func() error {
		_, err := b.s.Create(to.id, to.vid, 1000)
		return err
	})
	begin := func() error { return to.r().BeginBuild(2, Build{Base: p.LSN()}) }
	late := func(what string, f func() error) {
		t.Helper()
		if err := b.try(f); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%s of an attempt that is over: %v", what, err)
		}
	}
	b.run(begin)
	b.run(func() error { return to.r().Ingest(2, send[:2]) })
	next := writeRec(v.vid, p.LSN()+1, 5, 50)
	v.append(next)
	to.append(next)
	b.run(begin)
	tooLate := func(a Attempt) {
		t.Helper()
		late("the begin", func() error { return to.r().BeginBuild(a, Build{Base: p.LSN()}) })
		late("blocks", func() error { return to.r().Ingest(a, send) })
		late("the end", func() error { return to.r().FinishBuild(a, v.state().History) })
		late("the abort", func() error { return to.r().AbortBuild(a) })
		late("a root's begin", func() error { return to.r().BeginRoot(a, RootID{snapID(1), 3}, 1000, From{}) })
		late("a root's end", func() error { return to.r().FinishRoot(a, RootID{snapID(1), 3}) })
		late("a cut", func() error { return to.r().Truncate(a, p.LSN()) })
	}
	tooLate(1)
	late("a cut", func() error { return to.r().Truncate(2, p.LSN()) }) // of what came by the live stream
	to.want(0, 1, 20, 0, 0, 0, 50)
	b.run(func() error { return to.r().Ingest(2, send[2:]) })
	b.run(func() error { return to.r().FinishBuild(2, v.state().History) })
	tooLate(1)
	tooLate(2) // it has finished, and the replica may be in sync
	if to.state().Building {
		t.Error("a finished build is under way again")
	}
	to.want(0, 1, 20, 3, 4, 0, 50)
	b.crash()
	to.want(0, 1, 20, 3, 4, 0, 50)
}

// What asks for a root is heard twice, begin and end, after the root is here: it stays
// what it is.
func TestARootThatIsSentTwiceStaysWhole(t *testing.T) {
	b := newBed(t, 24)
	v := b.create(1, 1000)
	v.write(0, 1, 2, 3, 4)
	v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
	v.stable()
	snap := RootID{snapID(1), v.state().Snapshots[0].LSN}
	to := &vol{b, replicaID(9), v.vid}
	b.run(func() error {
		_, err := b.s.Create(to.id, to.vid, 1000)
		return err
	})
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	send := blocksOf(b, p, 0)
	begin := func() error { return to.r().BeginRoot(2, snap, 1000, From{}) }
	end := func() error { return to.r().FinishRoot(2, snap) }
	b.run(begin)
	b.run(func() error { return to.r().Ingest(2, send) })
	b.run(end)
	if err := b.try(begin); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("it is begun again: %v", err)
	}
	b.run(end) // repeating it changes nothing
	b.run(func() error {
		return to.r().BeginBuild(2, Build{Base: p.LSN(), From: From{Kind: FromSnapshot, Snapshot: snap.ID, At: snap.LSN}, Roots: []RootID{snap}})
	})
	b.run(func() error { return to.r().FinishBuild(2, v.state().History) })
	to.want(0, 1, 2, 3, 4)
}

// A volume is snapshotted and grown by the live stream of a build: the snapshot has the
// size of before, also when the records are read again after a crash (simulated seed
// 358 with 10,000 operations).
func TestASnapshotKeepsItsSizeWhileItsReplicaIsBuilt(t *testing.T) {
	b := newBed(t, 25)
	v := b.create(1, 1000)
	v.write(0, 1, 2, 3, 4)
	v.stable()
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	send := blocksOf(b, p, 0)
	to := &vol{b, replicaID(9), v.vid}
	b.run(func() error {
		_, err := b.s.Create(to.id, to.vid, 1000)
		return err
	})
	b.run(func() error { return to.r().BeginBuild(2, Build{Base: p.LSN(), Blocks: 1000}) })
	b.run(func() error { return to.r().Ingest(2, send) })
	for _, x := range []*vol{v, to} {
		x.append(record.Record{Kind: record.Snapshot, LSN: p.LSN() + 1, Snapshot: snapID(1)})
		x.append(record.Record{Kind: record.Grow, LSN: p.LSN() + 2, Blocks: 2000})
	}
	b.run(func() error { return to.r().FinishBuild(2, v.state().History) })
	v.sync()
	to.sync()
	for range 2 {
		for _, x := range []*vol{v, to} {
			if st := x.state(); st.Blocks != 2000 || len(st.Snapshots) != 1 || st.Snapshots[0].Blocks != 1000 {
				t.Errorf("%s: %d blocks, %+v", x.id.Short(), st.Blocks, st.Snapshots)
			}
		}
		b.crash()
	}
}

// now is the attempt that is under way at a replica, for who has no part in the order
// of attempts.
func now(r *Replica) Attempt {
	r.s.lock()
	defer r.s.unlock()
	return r.attempt
}
