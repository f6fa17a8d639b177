package replica

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

var history = []record.Start{{Epoch: 1}, {Epoch: 4, Prev: 1, Cut: lsn(1, 77), Generation: 2}}

func TestWhatIsSaidIsUnderstood(t *testing.T) {
	ask := Ask{Replica: replicaID(1), Epoch: 9, Stable: lsn(8, 7), Upto: lsn(9, 1)}
	if got, rest, err := DecodeAsk(append(ask.AppendTo(nil), "more"...)); err != nil || got != ask || string(rest) != "more" {
		t.Errorf("ask: %+v, %q, %v", got, rest, err)
	}
	ans := Answer{Boot: bootID(2), Prefix: lsn(9, 3), Durable: lsn(9, 1), Full: true}
	if got, err := DecodeAnswer(ans.AppendTo(nil)); err != nil || got != ans {
		t.Errorf("answer: %+v, %v", got, err)
	}
	for _, f := range []func(*Report){
		func(*Report) {},
		func(r *Report) { r.Kept = true },
		func(r *Report) { r.Building = true },
		func(r *Report) { r.Damaged, r.History = true, nil },
	} {
		rep := Report{Replica: replicaID(1), Boot: bootID(2), Promise: 9, Prefix: lsn(4, 3), Durable: lsn(4, 2), Stable: lsn(4, 1),
			Blocks: 1 << 20, Lease: 1234 * time.Millisecond, History: history}
		f(&rep)
		if got, err := DecodeReport(rep.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, rep) {
			t.Errorf("report: %+v, %v", got, err)
		}
	}
	from := From{Kind: FromOrigin, At: lsn(3, 3), Snapshot: snapshotID(4), Origin: replicaID(5)}
	roots := []Root{{ID: snapshotID(1), LSN: lsn(2, 1), Blocks: 100}, {ID: snapshotID(2), LSN: lsn(3, 1), Blocks: 200, Parent: snapshotID(1), Aside: true}}
	build := Build{Base: lsn(4, 9), Reverted: lsn(3, 2), Blocks: 77, From: from, Roots: roots}
	if got, err := DecodeBuild(build.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, build) {
		t.Errorf("build: %+v, %v", got, err)
	}
	end := BuildEnd{Blocks: 100, History: history}
	if got, err := DecodeBuildEnd(end.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, end) {
		t.Errorf("build's end: %+v, %v", got, err)
	}
	root := RootBuild{Root: roots[1], From: from}
	if got, err := DecodeRootBuild(root.AppendTo(nil)); err != nil || got != root {
		t.Errorf("root: %+v, %v", got, err)
	}
	blocks := []Block{{Addr: 1, LSN: lsn(4, 1), Origin: holdfast.VolumeID{UUID: holdfast.UUID{7}}, Hash: 0x48}, {Addr: 9, LSN: lsn(4, 2), Hole: true}}
	var b []byte
	for i := range blocks {
		b = blocks[i].AppendTo(b)
	}
	if got, err := DecodeBlocks(b, holdfast.BlockSize); err != nil || !reflect.DeepEqual(got, blocks) {
		t.Errorf("blocks: %+v, %v", got, err)
	}
	pinned := Pinned{ID: 5, LSN: lsn(4, 4), Reverted: lsn(2, 2), Parent: snapshotID(2), Roots: roots}
	if got, err := DecodePinned(pinned.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, pinned) {
		t.Errorf("pinned: %+v, %v", got, err)
	}
	pinPage := PinPage{ID: 5, Since: lsn(1, 1), From: 77, Max: MaxBlocks, Root: snapshotID(1), Against: snapshotID(2)}
	if got, err := DecodePinPage(pinPage.AppendTo(nil)); err != nil || got != pinPage {
		t.Errorf("pin page: %+v, %v", got, err)
	}
	diffAsk := DiffAsk{From: RootRef{Snapshot: snapshotID(1)}, To: RootRef{Nothing: true}, Addr: 9, Max: MaxExtents}
	if got, err := DecodeDiffAsk(diffAsk.AppendTo(nil)); err != nil || got != diffAsk {
		t.Errorf("comparison: %+v, %v", got, err)
	}
	diff := Diff{Next: 90, Size: 100, Extents: []Extent{{1, 2, false}, {5, 85, true}}}
	if got, err := DecodeDiff(diff.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, diff) {
		t.Errorf("differences: %+v, %v", got, err)
	}
	page := Page{Next: 78, More: true}
	if got, rest, err := DecodePage(append(page.AppendTo(nil), b...)); err != nil || got != page || !bytes.Equal(rest, b) {
		t.Errorf("page: %+v, %v", got, err)
	}
}

// TestALeaseFromTheWireIsBounded: a wrong one must not hold up an opening for
// years.
func TestALeaseFromTheWireIsBounded(t *testing.T) {
	for said, want := range map[time.Duration]time.Duration{-time.Hour: 0, time.Second: time.Second, time.Hour: 2 * Lease} {
		r := Report{Lease: said}
		if got, err := DecodeReport(r.AppendTo(nil)); err != nil || got.Lease != want {
			t.Errorf("a lease of %v is taken for %v, %v; want %v", said, got.Lease, err, want)
		}
	}
}

// records codes records as an append frame carries them.
func records(list ...record.Record) (head, bulk []byte) {
	for i := range list {
		head = list[i].AppendHeader(head)
		bulk = append(bulk, list[i].Data...)
	}
	return head, bulk
}

func TestEveryWriteGetsItsOwnData(t *testing.T) {
	two := append(bytes.Repeat([]byte{1}, 3*holdfast.StoredUnit), bytes.Repeat([]byte{2}, 9*holdfast.StoredUnit)...)
	three := bytes.Repeat([]byte{3}, holdfast.BlockSize)
	head, bulk := records(
		record.Record{Kind: record.Write, LSN: lsn(4, 1), Count: 2, Hashes: []uint64{0x13, 0x29}, Data: two},
		record.Record{Kind: record.Zero, LSN: lsn(4, 3), Addr: 50, Count: 4},
		record.Record{Kind: record.Write, LSN: lsn(4, 7), Addr: 7, Count: 1, Hashes: []uint64{0x38}, Data: three})
	got, err := DecodeRecords(head, bulk, nil, new([]uint64))
	if err != nil || len(got) != 3 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if !bytes.Equal(got[0].Data, two) || got[1].Data != nil || !bytes.Equal(got[2].Data, three) {
		t.Error("the data went to other records")
	}
	if cap(got[0].Data) != len(two) {
		t.Error("an append to the first record's data would write into the next one's")
	}
	for name, bad := range map[string][]byte{"too little": bulk[:len(bulk)-1], "too much": append(bulk, 0), "none": nil} {
		if _, err := DecodeRecords(head, bad, nil, new([]uint64)); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s data: %v", name, err)
		}
	}
}

func TestHistoriesFromTheWireAreBounded(t *testing.T) {
	many := make([]record.Start, MaxHistory+1)
	if _, _, err := DecodeHistory(AppendHistory(nil, many)); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a history of %d epochs: %v", len(many), err)
	}
	b := AppendHistory(nil, history)
	if _, _, err := DecodeHistory(b[:len(b)-1]); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a history that is cut off: %v", err)
	}
	if _, _, err := DecodeStart(AppendStart(nil, record.Start{Epoch: 3, Cut: lsn(3, 1)})); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("an epoch cut inside itself: %v", err)
	}
}

func TestBlocksBeyondTheVolumeAndTooManyAreRefused(t *testing.T) {
	far := Block{Addr: holdfast.MaxVolumeBlocks, Hole: true}
	hole := Block{Hole: true}
	for name, b := range map[string][]byte{
		"beyond the largest volume": far.AppendTo(nil),
		"more than a frame holds":   bytes.Repeat(hole.AppendTo(nil), MaxBlocks+1),
		"half a block":              hole.AppendTo(nil)[:blockSize/2],
	} {
		if _, err := DecodeBlocks(b, 0); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	data := Block{}
	if _, err := DecodeBlocks(data.AppendTo(nil), 0); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a block without its data: %v", err)
	}
	if _, _, err := DecodeRoots([]byte{0xff, 0xff, 0, 0}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("too many roots: %v", err)
	}
	odd := RootBuild{Root: Root{ID: snapshotID(1), Blocks: 1}, From: From{Kind: FromOrigin + 1}}
	if _, err := DecodeRootBuild(odd.AppendTo(nil)); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("an unknown beginning: %v", err)
	}
	nothing := Root{ID: snapshotID(1)}
	if _, err := DecodeRootBuild(nothing.AppendTo(nil)); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a root without a size: %v", err)
	}
	page := PinPage{Max: MaxBlocks + 1}
	if _, err := DecodePinPage(page.AppendTo(nil)); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a page of too many blocks: %v", err)
	}
}

// check requires a refusal to be of kind Invalid and what is taken to be
// written and read again the same.
func check[T any](t *testing.T, v T, err error, again func(T) (T, error)) {
	t.Helper()
	if err != nil {
		if !holdfast.IsKind(err, holdfast.Invalid) {
			t.Fatalf("%v is of kind %v", err, holdfast.KindOf(err))
		}
		return
	}
	if w, err := again(v); err != nil || !reflect.DeepEqual(v, w) {
		t.Fatalf("%+v became %+v, %v", v, w, err)
	}
}

func FuzzDecodeAsk(f *testing.F) {
	a := Ask{Replica: replicaID(1), Epoch: 9, Stable: lsn(8, 7), Upto: lsn(9, 1)}
	f.Add(a.AppendTo(nil))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, askSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := DecodeAsk(b)
		if err == nil && len(rest) != len(b)-askSize {
			t.Fatalf("%d bytes are left of %d", len(rest), len(b))
		}
		check(t, v, err, func(v Ask) (Ask, error) { w, _, err := DecodeAsk(v.AppendTo(nil)); return w, err })
	})
}

func FuzzDecodeReport(f *testing.F) {
	r := Report{Replica: replicaID(1), Boot: bootID(1), Promise: 9, Kept: true, Blocks: 7, Lease: time.Second, History: history}
	f.Add(r.AppendTo(nil))
	f.Add(bytes.Repeat([]byte{0xff}, reportSize+4))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeReport(b)
		check(t, v, err, func(v Report) (Report, error) { return DecodeReport(v.AppendTo(nil)) })
	})
}

func FuzzDecodeBuild(f *testing.F) {
	root := Root{ID: snapshotID(1), LSN: lsn(2, 1), Blocks: 100}
	d := Build{Base: lsn(4, 9), From: From{Kind: FromHead, At: lsn(1, 1)}, Roots: []Root{root}}
	e := BuildEnd{Blocks: 100, History: history}
	r := RootBuild{Root: root}
	f.Add(d.AppendTo(nil))
	f.Add(e.AppendTo(nil))
	f.Add(r.AppendTo(nil))
	f.Add(bytes.Repeat([]byte{0xff}, 28))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeBuild(b)
		check(t, v, err, func(v Build) (Build, error) { return DecodeBuild(v.AppendTo(nil)) })
		e, err := DecodeBuildEnd(b)
		check(t, e, err, func(v BuildEnd) (BuildEnd, error) { return DecodeBuildEnd(v.AppendTo(nil)) })
		r, err := DecodeRootBuild(b)
		check(t, r, err, func(v RootBuild) (RootBuild, error) { return DecodeRootBuild(v.AppendTo(nil)) })
		l, _, err := DecodeRoots(b)
		check(t, l, err, func(v []Root) ([]Root, error) { l, _, err := DecodeRoots(AppendRoots(nil, v)); return l, err })
	})
}

func FuzzDecodeBlocks(f *testing.F) {
	data, hole := Block{Addr: 1, LSN: lsn(1, 1), Hash: 0x48}, Block{Addr: 2, Hole: true}
	f.Add(hole.AppendTo(data.AppendTo(nil)), holdfast.BlockSize)
	f.Add(hole.AppendTo(nil), -holdfast.BlockSize)
	f.Fuzz(func(t *testing.T, b []byte, bulk int) {
		v, err := DecodeBlocks(b, bulk)
		check(t, v, err, func(v []Block) ([]Block, error) {
			var b []byte
			for i := range v {
				b = v[i].AppendTo(b)
			}
			return DecodeBlocks(b, bulk)
		})
	})
}

func FuzzDecodeRecords(f *testing.F) {
	w := record.Record{Kind: record.Write, LSN: lsn(4, 1), Count: 1, Hashes: []uint64{0x18}, Data: make([]byte, holdfast.BlockSize)}
	z := record.Record{Kind: record.Zero, LSN: lsn(4, 2), Count: 1 << 20}
	head, bulk := records(w, z)
	f.Add(head, bulk)
	f.Add(head[:len(head)-1], bulk)
	f.Add(head, bulk[:100])
	f.Fuzz(func(t *testing.T, head, bulk []byte) {
		v, err := DecodeRecords(head, bulk, nil, new([]uint64))
		check(t, v, err, func(v []record.Record) ([]record.Record, error) {
			head, bulk := records(v...)
			return DecodeRecords(head, bulk, nil, new([]uint64))
		})
	})
}

func FuzzDecodePin(f *testing.F) {
	p, q, r := Pinned{ID: 1}, PinPage{ID: 1, Max: 5}, Page{Next: 3, More: true}
	f.Add(p.AppendTo(nil))
	f.Add(q.AppendTo(nil))
	f.Add(r.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePinned(b)
		check(t, p, err, func(p Pinned) (Pinned, error) { return DecodePinned(p.AppendTo(nil)) })
		q, err := DecodePinPage(b)
		check(t, q, err, func(q PinPage) (PinPage, error) { return DecodePinPage(q.AppendTo(nil)) })
		r, _, err := DecodePage(b)
		check(t, r, err, func(r Page) (Page, error) { v, _, err := DecodePage(r.AppendTo(nil)); return v, err })
	})
}

func snapshotID(n byte) holdfast.SnapshotID {
	return holdfast.SnapshotID{UUID: holdfast.UUID{0: n, 6: 0x40, 8: 0x80}}
}

func FuzzDecodeDiff(f *testing.F) {
	ask := DiffAsk{From: RootRef{Snapshot: snapshotID(1)}, Addr: 9, Max: 3}
	d := Diff{Next: 90, Size: 100, Extents: []Extent{{1, 2, false}, {5, 85, true}}}
	f.Add(ask.AppendTo(nil))
	f.Add(d.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := DecodeDiffAsk(b); err == nil && (a.Max == 0 || a.Max > MaxExtents) {
			t.Fatalf("accepted: %+v", a)
		}
		d, err := DecodeDiff(b)
		if err != nil {
			return
		}
		at := uint64(0)
		for _, e := range d.Extents {
			if e.Addr < at || e.Blocks == 0 || e.Addr+e.Blocks > d.Next || d.Next > d.Size {
				t.Fatalf("accepted: %+v", d)
			}
			at = e.Addr + e.Blocks
		}
	})
}

// TestRecordsAreDecodedIntoWhatIsThere: a replica takes frame after frame without
// allocating.
func TestRecordsAreDecodedIntoWhatIsThere(t *testing.T) {
	block := bytes.Repeat([]byte{7}, holdfast.BlockSize)
	var list []record.Record
	for i := range uint64(16) {
		list = append(list, record.Record{Kind: record.Write, LSN: lsn(4, i+1), Addr: 9 * i, Count: 1, Hashes: []uint64{0x18}, Data: block})
	}
	head, bulk := records(list...)
	var out []record.Record
	var hashes []uint64
	if n := testing.AllocsPerRun(100, func() {
		var err error
		if out, err = DecodeRecords(head, bulk, out[:0], &hashes); err != nil || len(out) != len(list) {
			t.Fatalf("%d records, %v", len(out), err)
		}
		hashes = hashes[:0]
	}); n != 0 {
		t.Errorf("%v allocations for a frame of %d records, want none", n, len(list))
	}
}

func FuzzDecodeSeat(f *testing.F) {
	a := SeatAsk{Rank: 1 << 60, Waited: time.Minute, Leave: true}
	s := Seat{Granted: true, Ahead: 12, Limit: 1 << 20, Cap: true}
	f.Add(a.AppendTo(nil))
	f.Add(s.AppendTo(nil))
	f.Add(bytes.Repeat([]byte{0xff}, seatAskSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := DecodeSeatAsk(b)
		check(t, a, err, func(a SeatAsk) (SeatAsk, error) { return DecodeSeatAsk(a.AppendTo(nil)) })
		s, err := DecodeSeat(b)
		check(t, s, err, func(s Seat) (Seat, error) { return DecodeSeat(s.AppendTo(nil)) })
	})
}
