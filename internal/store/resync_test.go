package store

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// resync brings a replica to what a pin of another one shows, as a writer does:
// roots that it lacks, oldest first, then the head.
func resync(p *Pin, to *Replica, history []record.Start, blocks uint64, rng *rand.Rand) error {
	st := to.State()
	have := make(map[RootID]bool)
	for _, x := range append(append([]SnapshotInfo(nil), st.Snapshots...), st.Aside...) {
		have[RootID{x.ID, x.LSN}] = true
	}
	to.SetStable(st.Prefix)
	lsns := make(map[holdfast.SnapshotID]holdfast.LSN)
	var roots []RootID
	for _, k := range p.Roots() {
		roots = append(roots, k.RootID)
		lsns[k.ID] = k.LSN
	}
	start := func(lsn holdfast.LSN, parent holdfast.SnapshotID) (From, Changes) {
		straight := st.Prefix > 0 && st.Prefix >= p.Reverted() && st.Prefix < lsn
		switch {
		case straight && (parent.IsZero() || lsns[parent] <= st.Prefix):
			return From{Kind: FromHead, At: st.Prefix}, Changes{Since: st.Prefix}
		case !parent.IsZero():
			return From{Kind: FromSnapshot, Snapshot: parent, At: lsns[parent]}, Changes{Against: parent}
		}
		return From{}, Changes{}
	}
	for _, k := range p.Roots() {
		if have[k.RootID] {
			continue
		}
		from, c := start(k.LSN, k.Parent)
		c.Root = k.ID
		if err := to.BeginRoot(now(to), k.RootID, k.Blocks, from); err != nil {
			return err
		}
		if err := send(p, to, c, rng); err != nil {
			return err
		}
		if err := to.FinishRoot(now(to), k.RootID); err != nil {
			return err
		}
	}
	from, c := start(p.LSN()+1, p.Parent())
	if err := to.BeginBuild(now(to), Build{Base: p.LSN(), From: from, Roots: roots, Reverted: p.Reverted(), Blocks: blocks}); err != nil {
		return err
	}
	if err := send(p, to, c, rng); err != nil {
		return err
	}
	return to.FinishBuild(now(to), history)
}

// send ingests what a walk shows; with rng in any order, and some of it twice.
func send(p *Pin, to *Replica, c Changes, rng *rand.Rand) error {
	var blocks []Block
	err := p.Walk(c, 0, func(addr uint64, ref BlockRef) bool {
		blocks = append(blocks, Block{Addr: addr, LSN: ref.LSN, Origin: ref.Origin, Hash: ref.Hash, Hole: ref.Hole})
		return true
	})
	if err != nil {
		return err
	}
	if rng != nil {
		rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	}
	for i := range blocks {
		if !blocks[i].Hole {
			var err error
			if _, blocks[i].Data, err = p.ReadBlock(c.Root, blocks[i].Addr, make([]byte, holdfast.MaxStoredUnits*unitSize)); err != nil {
				return err
			}
		}
	}
	for len(blocks) > 0 {
		n := min(len(blocks), 50)
		if rng != nil {
			n = min(len(blocks), 1+rng.IntN(60))
		}
		if err := to.Ingest(now(to), blocks[:n]); err != nil {
			return err
		}
		if rng != nil && rng.IntN(8) == 0 { // an answer was lost
			if err := to.Ingest(now(to), blocks[:n]); err != nil {
				return err
			}
		}
		blocks = blocks[n:]
	}
	return nil
}

// resync brings one replica to what another is, and says how many blocks went.
func (b *bed) resync(from, to *vol) (sent int64) {
	b.t.Helper()
	before := b.s.Usage().Appended
	b.run(func() error {
		p := from.r().Pin()
		defer p.Release()
		if err := resync(p, to.r(), from.state().History, from.state().Blocks, nil); err != nil {
			return err
		}
		q := to.r().Pin()
		defer q.Release()
		return sameDigests(p, q)
	})
	b.settle()
	return (b.s.Usage().Appended - before) / blockSize
}

// second makes an empty replica of a volume.
func (b *bed) second(v *vol, n byte) *vol {
	b.t.Helper()
	w := &vol{b, replicaID(n), v.vid}
	b.run(func() error {
		_, err := b.s.Create(w.id, w.vid, 1000)
		return err
	})
	return w
}

// gone removes the replicas and expects nothing to be left of them.
func (b *bed) gone(vols ...*vol) {
	b.t.Helper()
	for _, v := range vols {
		b.run(func() error { return b.s.Remove(v.id) })
	}
	b.settle()
	b.run(b.s.Checkpoint)
	b.run(b.s.Checkpoint)
	if live := b.s.Usage().Live; live != 0 {
		b.t.Fatalf("%d blocks are live with no replica left", live/blockSize)
	}
	if err := b.s.checkSpace(); err != nil {
		b.t.Fatal(err)
	}
}

func snapshot(v *vol, n byte) { v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(n)}) }
func revert(v *vol, n byte)   { v.control(record.Record{Kind: record.Revert, Snapshot: snapID(n)}) }
func dropSnap(v *vol, n byte) { v.control(record.Record{Kind: record.DropSnap, Snapshot: snapID(n)}) }

func TestAResyncBringsTheSnapshotsToo(t *testing.T) {
	b := newBed(t, 30)
	v := b.create(1, 1000)
	w := b.second(v, 9)
	v.write(0, 1, 2, 3)
	snapshot(v, 1)
	v.write(1, 20)
	snapshot(v, 2)
	v.zero(0, 1)
	v.sync()
	if n := b.resync(v, w); n != 4 {
		t.Errorf("%d blocks were sent of 4", n)
	}
	check := func() {
		t.Helper()
		w.want(0, 0, 20, 3)
		w.wantSnap(snapID(1), 0, 1, 2, 3)
		w.wantSnap(snapID(2), 0, 1, 20, 3)
	}
	check()
	b.crash()
	check()

	// Behind again, while one snapshot goes and another comes.
	dropSnap(v, 1)
	v.write(2, 30)
	snapshot(v, 3)
	v.write(2, 31)
	v.write(500, 5)
	v.sync()
	if n := b.resync(v, w); n != 3 {
		t.Errorf("%d blocks were sent of 3 that changed", n)
	}
	w.want(0, 0, 20, 31)
	w.wantSnap(snapID(2), 0, 1, 20, 3)
	w.wantSnap(snapID(3), 0, 0, 20, 30)
	if st := w.state(); len(st.Snapshots) != 2 || len(st.Aside) != 0 || st.Building {
		t.Errorf("after the second resync: %+v", st)
	}
	b.gone(v, w)
}

func TestAResyncAcrossARevertSendsWhatDiffers(t *testing.T) {
	b := newBed(t, 31)
	v := b.create(1, 1000)
	w := b.second(v, 9)
	tags := make([]uint64, 40)
	for i := range tags {
		tags[i] = uint64(i + 1)
	}
	v.write(0, tags...)
	snapshot(v, 1)
	v.write(0, 100, 200)
	v.sync()
	b.resync(v, w)
	v.write(2, 300)
	revert(v, 1)
	v.write(5, 500)
	snapshot(v, 2)
	v.write(6, 600)
	v.sync()
	if n := b.resync(v, w); n != 2 {
		t.Errorf("%d blocks were sent of the 2 written since the revert", n)
	}
	w.want(0, 1, 2, 3, 4, 5, 500, 600, 8)
	w.wantSnap(snapID(1), 0, tags...)
	w.wantSnap(snapID(2), 0, 1, 2, 3, 4, 5, 500, 7)
	v.stable()
	if st := w.state(); st.Reverted == 0 || st.Reverted != v.state().Reverted {
		t.Errorf("the replica says its content was set back at %v, it was at %v", st.Reverted, v.state().Reverted)
	}
	b.gone(v, w)
}

func TestRootsSurviveAResyncThatIsInterrupted(t *testing.T) {
	b := newBed(t, 32)
	v := b.create(1, 1000)
	w := b.second(v, 9)
	v.write(0, 1, 2, 3)
	snapshot(v, 1)
	v.write(0, 10)
	snapshot(v, 2)
	v.write(0, 11)
	v.stable()
	rng := rand.New(rand.NewPCG(3, 4))
	b.run(func() error {
		p := v.r().Pin()
		defer p.Release()
		k := p.Roots()
		if err := w.r().BeginRoot(now(w.r()), k[0].RootID, k[0].Blocks, From{}); err != nil {
			return err
		}
		if err := send(p, w.r(), Changes{Root: k[0].ID}, rng); err != nil {
			return err
		}
		if err := w.r().FinishRoot(now(w.r()), k[0].RootID); err != nil {
			return err
		}
		if err := w.r().BeginRoot(now(w.r()), k[1].RootID, k[1].Blocks, From{Kind: FromSnapshot, Snapshot: k[0].ID, At: k[0].LSN}); err != nil {
			return err
		}
		return send(p, w.r(), Changes{Root: k[1].ID, Against: k[0].ID}, rng)
	})
	b.crash()
	if st := w.state(); st.Prefix != 0 || len(st.Snapshots) != 0 || len(st.Aside) != 1 {
		t.Fatalf("after the interruption: %+v", st)
	}
	if n := b.resync(v, w); n != 2 {
		t.Errorf("%d blocks were sent again, of the root that was not finished and the head 2", n)
	}
	w.want(0, 11, 2, 3)
	w.wantSnap(snapID(1), 0, 1, 2, 3)
	w.wantSnap(snapID(2), 0, 10, 2, 3)
	b.gone(v, w)
}

func TestWhatTheStreamKeepsDuringABuildIsWhole(t *testing.T) {
	b := newBed(t, 33)
	v := b.create(1, 1000)
	w := b.second(v, 9)
	v.write(0, 1, 2, 3, 4)
	snapshot(v, 1)
	v.write(1, 20)
	v.stable()
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	rng := rand.New(rand.NewPCG(5, 6))
	root := p.Roots()[0]
	b.run(func() error {
		if err := w.r().BeginRoot(now(w.r()), root.RootID, root.Blocks, From{}); err != nil {
			return err
		}
		if err := send(p, w.r(), Changes{Root: root.ID}, rng); err != nil {
			return err
		}
		if err := w.r().FinishRoot(now(w.r()), root.RootID); err != nil {
			return err
		}
		return w.r().BeginBuild(now(w.r()), Build{Base: p.LSN(), From: From{Kind: FromSnapshot, Snapshot: root.ID, At: root.LSN}, Roots: []RootID{root.RootID}})
	})
	both := func(r record.Record) {
		r.LSN = w.state().Prefix + 1
		v.append(r)
		w.append(r)
	}
	// The stream makes a snapshot, sets back to the old one, and lets it go, all
	// before the head has come; and it is stable at once.
	both(writeRec(v.vid, w.state().Prefix+1, 2, 30))
	both(record.Record{Kind: record.Snapshot, Snapshot: snapID(2)})
	both(writeRec(v.vid, w.state().Prefix+1, 3, 40))
	w.stable()
	both(record.Record{Kind: record.Revert, Snapshot: snapID(1)})
	both(record.Record{Kind: record.Snapshot, Snapshot: snapID(3)})
	both(record.Record{Kind: record.DropSnap, Snapshot: snapID(1)})
	both(writeRec(v.vid, w.state().Prefix+1, 0, 10))
	w.stable()
	b.run(b.s.Checkpoint)
	b.run(func() error { return send(p, w.r(), Changes{Against: root.ID}, rng) })
	p.Release()
	b.run(func() error { return w.r().FinishBuild(now(w.r()), v.state().History) })
	check := func() {
		t.Helper()
		w.want(0, 10, 2, 3, 4)
		w.wantSnap(snapID(2), 0, 1, 20, 30, 4)
		w.wantSnap(snapID(3), 0, 1, 2, 3, 4)
		if st := w.state(); len(st.Snapshots) != 2 {
			t.Errorf("%d snapshots, want 2", len(st.Snapshots))
		}
	}
	check()
	w.stable()
	check()
	b.crash()
	check()
	b.gone(v, w)
}

func TestALinkedCloneIsBuiltOnItsOrigin(t *testing.T) {
	for _, snap := range []bool{false, true} {
		b := newBed(t, 34)
		image := b.create(1, 1000)
		image.write(0, 1, 2, 3, 4)
		var of holdfast.SnapshotID
		if snap {
			of = snapID(1)
			snapshot(image, 1)
		}
		image.stable()
		c := &vol{b, replicaID(5), volumeID(5)}
		b.run(func() error { _, err := b.s.Clone(c.id, c.vid, image.r(), of); return err })
		at := c.state().Prefix
		c.begin(2)
		c.write(1, 20)
		c.stable()
		image.begin(3) // opened again, nothing is written
		image.stable()
		w := &vol{b, replicaID(9), c.vid}
		b.run(func() error { _, err := b.s.Create(w.id, w.vid, 1000); return err })
		before := b.s.Usage().Appended
		b.run(func() error {
			p := c.r().Pin()
			defer p.Release()
			from := From{Kind: FromOrigin, Origin: image.id, Snapshot: of, At: at}
			if err := w.r().BeginBuild(now(w.r()), Build{Base: p.LSN(), From: from}); err != nil {
				return err
			}
			if err := send(p, w.r(), Changes{Since: at}, nil); err != nil {
				return err
			}
			return w.r().FinishBuild(now(w.r()), c.state().History)
		})
		if n := (b.s.Usage().Appended - before) / blockSize; n != 1 {
			t.Errorf("%d blocks were sent, the clone has 1 of its own", n)
		}
		w.want(0, 1, 20, 3, 4)
		b.run(func() error { return b.s.Remove(image.id) })
		b.run(func() error { return b.s.Remove(c.id) })
		b.settle()
		w.want(0, 1, 20, 3, 4)
		b.crash()
		w.want(0, 1, 20, 3, 4)
		b.gone(w)
	}
}

func TestARootThatIsNotThereIsNoStart(t *testing.T) {
	b := newBed(t, 35)
	v := b.create(1, 1000)
	v.write(0, 1)
	snapshot(v, 1)
	v.write(0, 2)
	v.stable()
	at := holdfast.MakeLSN(1, 2)
	for what, from := range map[string]From{
		"another LSN":      {Kind: FromSnapshot, Snapshot: snapID(1), At: at + 1},
		"another snapshot": {Kind: FromSnapshot, Snapshot: snapID(2), At: at},
		"an old head":      {Kind: FromHead, At: at},
		"no origin":        {Kind: FromOrigin, Origin: replicaID(7), At: at},
		"a changed origin": {Kind: FromOrigin, Origin: v.id, At: at},
	} {
		if err := b.try(func() error { return v.r().BeginRoot(now(v.r()), RootID{snapID(3), at + 9}, 10, from) }); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
		if err := b.try(func() error { return v.r().BeginBuild(now(v.r()), Build{Base: at + 9, From: from}) }); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := b.try(func() error {
		return v.r().BeginBuild(now(v.r()), Build{Base: at + 9, Roots: []RootID{{snapID(1), at + 1}}})
	}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("a build without a root that it needs: %v", err)
	}
	if st := v.state(); st.Building {
		t.Errorf("a build that was refused has begun: %+v", st)
	}
	b.gone(v)
}

func TestAnOriginMayGoWhileAReplicaIsBuiltOnIt(t *testing.T) {
	for _, end := range []string{"finished", "given up", "cut off"} {
		b := newBed(t, 36)
		image := b.create(1, 1000)
		image.write(0, 1, 2, 3, 4)
		image.stable()
		at := image.state().Prefix
		w := b.second(&vol{b, replicaID(5), volumeID(5)}, 9)
		b.run(func() error {
			return w.r().BeginBuild(now(w.r()), Build{Base: at + 100, From: From{Kind: FromOrigin, Origin: image.id, At: at}})
		})
		b.run(func() error { return b.s.Remove(image.id) })
		b.settle()
		b.run(b.s.Checkpoint)
		x := writeRec(w.vid, at+9, 1, 20)
		b.run(func() error {
			return w.r().Ingest(now(w.r()), []Block{{Addr: 1, LSN: at + 9, Origin: w.vid, Hash: x.Hashes[0], Data: x.Data}})
		})
		switch end {
		case "finished":
			b.run(func() error { return w.r().FinishBuild(now(w.r()), []record.Start{{Epoch: 1}}) })
			b.settle()
			w.want(0, 1, 20, 3, 4)
			b.crash()
			w.want(0, 1, 20, 3, 4)
		case "given up":
			b.run(func() error { return w.r().AbortBuild(now(w.r())) })
			w.want(0, 0, 0)
		case "cut off":
			b.crash()
			w.want(0, 0, 0)
		}
		b.gone(w)
	}
}
