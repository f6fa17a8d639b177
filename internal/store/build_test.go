package store

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// refs walks a pin.
func refs(b *bed, p *Pin, since holdfast.LSN) map[uint64]BlockRef {
	b.t.Helper()
	out := make(map[uint64]BlockRef)
	b.run(func() error {
		return p.Walk(Changes{Since: since}, 0, func(addr uint64, ref BlockRef) bool {
			out[addr] = ref
			return true
		})
	})
	return out
}

// blocksOf reads what a walk found.
func blocksOf(b *bed, p *Pin, since holdfast.LSN) []Block {
	b.t.Helper()
	found := refs(b, p, since)
	var out []Block
	for addr := uint64(0); len(out) < len(found); addr++ {
		ref, ok := found[addr]
		if !ok {
			continue
		}
		x := Block{Addr: addr, LSN: ref.LSN, Origin: ref.Origin, Hash: ref.Hash, Hole: ref.Hole}
		if !ref.Hole {
			b.run(func() (err error) {
				_, x.Data, err = p.ReadBlock(holdfast.SnapshotID{}, addr, make([]byte, holdfast.MaxStoredUnits*unitSize))
				return err
			})
		}
		out = append(out, x)
	}
	for part := range slices.Chunk(out, 7) {
		var addrs []uint64
		for _, x := range part {
			addrs = append(addrs, x.Addr)
		}
		var data [][]byte
		b.run(func() (err error) {
			data, err = p.ReadBlocks(holdfast.SnapshotID{}, addrs)
			return err
		})
		for i, x := range part {
			if !bytes.Equal(data[i], x.Data) {
				b.t.Errorf("block %d reads otherwise together with others", x.Addr)
			}
		}
	}
	return out
}

func TestAPinShowsTheHeadAsItWas(t *testing.T) {
	b := newBed(t, 20)
	v := b.create(1, 2000)
	v.write(0, 1, 2, 3)
	v.stable()
	v.write(1, 20)
	v.zero(2, 1)
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	at := v.state().Prefix
	v.write(0, 7, 8, 9)
	v.stable()
	for i := range 3 { // overwritten until segments become free and are used again
		for a := uint64(0); a < 1500; a += 50 {
			tags := make([]uint64, 50)
			for k := range tags {
				tags[k] = 1000*uint64(i+1) + a + uint64(k)
			}
			v.write(a, tags...)
		}
		v.stable()
		b.run(b.s.Checkpoint)
	}
	if p.LSN() != at {
		t.Fatalf("the pin is at %v, not %v", p.LSN(), at)
	}
	got := blocksOf(b, p, 0)
	if len(got) != 3 || !got[2].Hole {
		t.Fatalf("the pin has %d blocks", len(got))
	}
	v.compare("pin", append(append([]byte{}, got[0].Data...), got[1].Data...), 0, []uint64{1, 20})
	if since := refs(b, p, holdfast.MakeLSN(1, 3)); len(since) != 2 {
		t.Fatalf("%d blocks above the first write, not 2", len(since))
	}
	p.Release()
	b.run(b.s.Checkpoint)
	b.run(b.s.Checkpoint)
	if live := b.s.Usage().Live; live > (1500+16)*blockSize {
		t.Fatalf("%d bytes are live", live)
	}
}

func TestTheTailIsWhatWasAppended(t *testing.T) {
	b := newBed(t, 21)
	v := b.create(1, 100)
	v.write(0, 1, 2)
	v.stable()
	after := v.state().Prefix
	v.write(3, 5, 6, 7)
	v.zero(0, 2)
	v.sync()
	v.write(9, 8)
	var got []record.Record
	b.run(func() error {
		return v.r().Tail(after+1, 1<<20, func(r *record.Record) error {
			got = append(got, *r)
			return nil
		})
	})
	if len(got) != 3 || got[0].Count != 2 || got[0].Addr != 4 || got[1].Kind != record.Zero {
		t.Fatalf("the tail is %+v", got)
	}
	v.compare("tail", got[0].Data, 4, []uint64{6, 7})
	if err := b.try(func() error {
		return v.r().Tail(0, 1, func(*record.Record) error { return nil })
	}); !holdfast.IsKind(err, holdfast.Gap) {
		t.Fatalf("a tail from long ago gives %v", err)
	}
}

func TestAReplicaIsRebuiltFromAnother(t *testing.T) {
	for _, scratch := range []bool{false, true} {
		b := newBed(t, 22)
		v := b.create(1, 1000)
		v.write(0, 1, 2, 3, 4)
		v.stable()
		old := &vol{b, replicaID(9), v.vid} // a replica that stays behind
		b.run(func() error {
			_, err := b.s.Create(old.id, old.vid, 1000)
			return err
		})
		old.begin(1)
		old.append(writeRec(v.vid, old.state().Prefix+1, 0, 1, 2, 3, 4))
		old.stable()
		behind := old.state().Prefix

		v.write(1, 20)
		v.zero(3, 1)
		v.stable()
		var p *Pin
		b.run(func() error { p = v.r().Pin(); return nil })
		since := behind
		if scratch {
			since = 0
		}
		send := blocksOf(b, p, since)
		from := From{}
		if !scratch {
			from = From{Kind: FromHead, At: behind}
		}
		b.run(func() error { return old.r().BeginBuild(now(old.r()), Build{Base: p.LSN(), From: from}) })
		if st := old.state(); !st.Building || st.Prefix != p.LSN() {
			t.Fatalf("while building: %+v", st)
		}
		next := writeRec(v.vid, p.LSN()+1, 5, 50)
		v.append(next)
		old.append(next)
		b.run(func() error { return old.r().Ingest(now(old.r()), send[1:]) })
		b.run(func() error { return old.r().Ingest(now(old.r()), send) })
		// An interrupted build leaves the fallback, and no space behind.
		if scratch {
			old.sync()
			b.crash()
			if st := old.state(); !st.Building || st.Prefix != behind {
				t.Fatalf("after the interruption: %+v", st)
			}
			old.want(0, 1, 2, 3, 4)
			v.stable()
			b.run(func() error { p = v.r().Pin(); return nil })
			b.run(func() error { return old.r().BeginBuild(now(old.r()), Build{Base: p.LSN(), From: from}) })
			b.run(func() error { return old.r().Ingest(now(old.r()), blocksOf(b, p, 0)) })
		}
		b.run(func() error { return old.r().FinishBuild(now(old.r()), v.state().History) })
		old.want(0, 1, 20, 3, 0, 0, 50)
		b.crash()
		old.want(0, 1, 20, 3, 0, 0, 50)
		if st := old.state(); st.Building || st.Damage != "" || len(st.History) != 1 || st.Prefix != v.state().Prefix {
			t.Fatalf("after the build: %+v", st)
		}
		b.run(func() error { return b.s.Remove(v.id) })
		b.settle()
		old.want(0, 1, 20, 3, 0, 0, 50)
		b.run(func() error { return b.s.Remove(old.id) })
		b.settle()
		b.run(b.s.Checkpoint)
		b.run(b.s.Checkpoint)
		if live := b.s.Usage().Live; live != 0 {
			t.Fatalf("%d bytes are live with no replica left", live)
		}
	}
}

func TestARottenBlockIsReportedAndRepaired(t *testing.T) {
	b := newBed(t, 23)
	v := b.create(1, 100)
	v.write(0, 1, 2, 3)
	v.stable()
	b.restart()
	var f found
	h := v.r().head
	b.run(func() error {
		return b.s.withMap(func() (err error) {
			f, err = h.lookup(1)
			return err
		})
	})
	at, unit := b.s.space.locate(f.seg, f.slot)
	b.d.Rot(b.s.offset(at.place, uint32(unit/blockUnit)))
	var bad *CorruptError
	if _, err := v.read(0, 3); !errors.As(err, &bad) || bad.Addr != 1 || !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Fatalf("a rotten block gives %v", err)
	}
	good := writeRec(v.vid, f.lsn, 1, 2)
	fix := Block{Addr: 1, LSN: f.lsn, Origin: v.vid, Hash: f.hash, Data: good.Data}
	b.run(func() error { return v.r().Repair(fix) })
	v.want(0, 1, 2, 3)
	b.crash()
	v.want(0, 1, 2, 3)
	b.run(b.s.Checkpoint)
	b.crash()
	v.want(0, 1, 2, 3)
}

func TestABuildBeginsFromWhatIsStableOnly(t *testing.T) {
	for _, abort := range []bool{false, true} {
		b := newBed(t, 24)
		v := b.create(1, 1000)
		v.write(0, 1, 2, 3, 4)
		v.stable()
		v.control(record.Record{Kind: record.Snapshot, Snapshot: snapID(1)})
		v.write(2, 33, 44, 55)
		v.zero(0, 1)
		v.sync()
		x := v.state().Prefix
		base := x + 3
		again := Build{Base: base, From: From{Kind: FromHead, At: x}, Roots: []RootID{{snapID(1), holdfast.MakeLSN(1, 5)}}}
		if err := b.try(func() error { return v.r().BeginBuild(now(v.r()), Build{Base: base, From: again.From}) }); !holdfast.IsKind(err, holdfast.Unavailable) {
			t.Fatalf("a build over what is not stable gives %v", err)
		}
		v.r().SetStable(x)
		b.run(func() error { return v.r().BeginBuild(now(v.r()), again) })
		v.want(0, 0, 2, 33, 44, 55)
		v.wantSnap(snapID(1), 0, 1, 2, 3, 4)
		w := writeRec(v.vid, x+1, 3, 400, 500, 600)
		var in []Block
		for i := range 3 {
			in = append(in, Block{Addr: 3 + uint64(i), LSN: x + 1 + holdfast.LSN(i), Origin: v.vid, Hash: w.Hashes[i], Data: w.Data[i*blockSize : (i+1)*blockSize]})
		}
		b.run(func() error { return v.r().Ingest(now(v.r()), in) })
		late := in[0]
		late.LSN = base + 1
		late.Hash = writeRec(v.vid, base+1, 3, 400).Hashes[0]
		if err := b.try(func() error { return v.r().Ingest(now(v.r()), []Block{late}) }); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Fatalf("a block above the base gives %v", err)
		}
		v.append(writeRec(v.vid, base+1, 4, 5000))
		v.stable()
		v.want(0, 0, 2, 33, 400, 5000, 600)
		b.run(b.s.Checkpoint)
		if abort {
			b.run(func() error { return v.r().AbortBuild(now(v.r())) })
			v.want(0, 0, 2, 33, 44, 55)
			b.crash()
			v.want(0, 0, 2, 33, 44, 55)
			if st := v.state(); !st.Building || st.Prefix != x {
				t.Fatalf("after giving up: %+v", st)
			}
		} else {
			b.run(func() error { return v.r().FinishBuild(now(v.r()), []record.Start{{Epoch: 1}}) })
			b.settle()
			v.want(0, 0, 2, 33, 400, 5000, 600)
			v.wantSnap(snapID(1), 0, 1, 2, 3, 4)
			b.crash()
			v.want(0, 0, 2, 33, 400, 5000, 600)
			v.wantSnap(snapID(1), 0, 1, 2, 3, 4)
		}
		b.run(func() error { return b.s.Remove(v.id) })
		b.settle()
		b.run(b.s.Checkpoint)
		b.run(b.s.Checkpoint)
		if live := b.s.Usage().Live; live != 0 {
			t.Fatalf("abort %v: %d blocks are live with no replica left", abort, live/blockSize)
		}
		if err := b.s.checkSpace(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestASnapshotWhileAReplicaIsBuilt has the size that the volume has then, though
// the replica was smaller when its build was begun, and was not told in the live
// stream that the volume has grown.
func TestASnapshotWhileAReplicaIsBuilt(t *testing.T) {
	b := newBed(t, 29)
	v := b.create(1, 100)
	v.write(0, 1)
	small := &vol{b, replicaID(9), v.vid}
	b.run(func() error {
		_, err := b.s.Create(small.id, small.vid, 100)
		return err
	})
	v.control(record.Record{Kind: record.Grow, Blocks: 200})
	v.stable()
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	send := blocksOf(b, p, 0)
	b.run(func() error { return small.r().BeginBuild(now(small.r()), Build{Base: p.LSN(), Blocks: 200}) })
	keep := record.Record{Kind: record.Snapshot, LSN: p.LSN() + 1, Snapshot: snapID(1)}
	v.append(keep)
	small.append(keep)
	b.run(func() error { return small.r().Ingest(now(small.r()), send) })
	b.run(func() error { return small.r().FinishBuild(now(small.r()), v.state().History) })
	for range 2 {
		for _, x := range []*vol{v, small} {
			if st := x.state(); len(st.Snapshots) != 1 || st.Snapshots[0].Blocks != 200 || st.Blocks != 200 {
				t.Errorf("replica %s: %d blocks, snapshots %+v; want 200", x.id.Short(), st.Blocks, st.Snapshots)
			}
		}
		v.sync()
		small.sync()
		b.crash()
	}
}
