package record

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-cloud/holdfast"
)

func examples() []Record {
	snap := holdfast.SnapshotID{UUID: holdfast.UUID{1, 2, 3, 15: 9}}
	return []Record{
		{Kind: Write, LSN: holdfast.MakeLSN(3, 7), Addr: 100, Count: 2, Hashes: []uint64{11, 12}},
		{Kind: Zero, LSN: holdfast.MakeLSN(3, 9), Addr: holdfast.MaxVolumeBlocks - 1, Count: 1},
		{Kind: EpochStart, LSN: holdfast.MakeLSN(4, 0), Start: Start{Epoch: 4, Prev: 3, Cut: holdfast.MakeLSN(3, 9), Generation: 2}},
		{Kind: Snapshot, LSN: holdfast.MakeLSN(4, 1), Snapshot: snap},
		{Kind: Revert, LSN: holdfast.MakeLSN(4, 2), Snapshot: snap},
		{Kind: DropSnap, LSN: holdfast.MakeLSN(4, 3), Snapshot: snap},
		{Kind: Grow, LSN: holdfast.MakeLSN(4, 4), Blocks: 1 << 20},
	}
}

// TestARecordComesBackAsItWas, and so does what follows it.
func TestARecordComesBackAsItWas(t *testing.T) {
	var log []byte
	for _, r := range examples() {
		log = r.AppendHeader(log)
	}
	for _, want := range examples() {
		got, rest, err := DecodeHeader(log)
		if err != nil {
			t.Fatalf("kind %d: %v", want.Kind, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("kind %d:\n got %+v\nwant %+v", want.Kind, got, want)
		}
		log = rest
	}
	if len(log) != 0 {
		t.Errorf("%d bytes are left", len(log))
	}
}

func TestARecordOfManyBlocksTakesAsManyNumbers(t *testing.T) {
	at := holdfast.MakeLSN(2, 10)
	for _, c := range []struct {
		r    Record
		last holdfast.LSN
	}{
		{Record{Kind: Write, LSN: at, Count: 8}, at + 7},
		{Record{Kind: Zero, LSN: at, Count: 1}, at},
		{Record{Kind: Snapshot, LSN: at}, at},
	} {
		if got := c.r.Last(); got != c.last {
			t.Errorf("kind %d with %d blocks ends at %v, want %v", c.r.Kind, c.r.Count, got, c.last)
		}
	}
}

// TestOnlyTheNextRecordFollows: a gap, a repetition, and the start of an epoch
// that was cut elsewhere do not.
func TestOnlyTheNextRecordFollows(t *testing.T) {
	prev := holdfast.MakeLSN(2, 10)
	start := func(e holdfast.Epoch, cut holdfast.LSN) Record {
		return Record{Kind: EpochStart, LSN: holdfast.MakeLSN(e, 0), Start: Start{Epoch: e, Prev: 2, Cut: cut}}
	}
	for name, c := range map[string]struct {
		r    Record
		want bool
	}{
		"the next":                        {Record{Kind: Write, LSN: prev + 1, Count: 1}, true},
		"the same again":                  {Record{Kind: Write, LSN: prev, Count: 1}, false},
		"one is missing":                  {Record{Kind: Write, LSN: prev + 2, Count: 1}, false},
		"a later epoch without its start": {Record{Kind: Write, LSN: holdfast.MakeLSN(3, 0), Count: 1}, false},
		"an epoch cut here":               {start(5, prev), true},
		"an epoch cut below":              {start(5, prev-1), false},
		"an epoch cut above":              {start(5, prev+1), false},
		"a start that is not later":       {Record{Kind: EpochStart, LSN: holdfast.MakeLSN(2, 0), Start: Start{Epoch: 2, Cut: prev}}, false},
	} {
		if got := c.r.Follows(prev); got != c.want {
			t.Errorf("%s: follows is %v", name, got)
		}
	}
	// Nothing continues in the epoch after its last number.
	end := holdfast.MakeLSN(2, holdfast.MaxCounter)
	if (&Record{Kind: Write, LSN: end + 1, Count: 1}).Follows(end) {
		t.Error("a write of epoch 3 follows the last one of epoch 2")
	}
}

func TestHeadersThatLieAreRefused(t *testing.T) {
	change := func(i int, f func(b []byte)) []byte {
		r := examples()[i]
		b := r.AppendHeader(nil)
		f(b)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                         nil,
		"cut in the header":               change(0, func([]byte) {})[:HeaderSize-1],
		"cut in the hashes":               change(0, func([]byte) {})[:HeaderSize+15],
		"kind 0":                          change(0, func(b []byte) { b[0] = 0 }),
		"kind 8":                          change(3, func(b []byte) { b[0] = 8 }),
		"a reserved byte":                 change(0, func(b []byte) { b[2] = 1 }),
		"no blocks":                       change(0, func(b []byte) { b[4] = 0 }),
		"more blocks than a record holds": change(0, func(b []byte) { b[5] = 2 }),
		"beyond the largest volume":       change(1, func(b []byte) { b[4] = 2 }),
		"an address that wraps around":    change(1, func(b []byte) { copy(b[16:24], bytes.Repeat([]byte{0xff}, 8)) }),
		"over the end of its epoch":       change(0, func(b []byte) { copy(b[8:13], bytes.Repeat([]byte{0xff}, 5)) }),
		"an epoch before its predecessor": change(2, func(b []byte) { b[20] = 4 }),
		"a cut in its own epoch":          change(2, func(b []byte) { b[29] = 4 }),
		"a start that is not the first":   change(2, func(b []byte) { b[8] = 1 }),
		"a snapshot with blocks":          change(3, func(b []byte) { b[4] = 1 }),
		"a volume of no blocks":           change(6, func(b []byte) { b[18] = 0 }),
		"a volume that is too large":      change(6, func(b []byte) { b[23] = 1 }),
	} {
		if _, _, err := DecodeHeader(b); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnyRecordComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Record{Kind: rapid.SampledFrom([]Kind{Write, Zero}).Draw(t, "kind")}
		r.Count = rapid.Uint32Range(1, MaxBlocks).Draw(t, "count")
		r.LSN = holdfast.MakeLSN(holdfast.Epoch(rapid.Uint32Range(0, uint32(holdfast.MaxEpoch)).Draw(t, "epoch")),
			rapid.Uint64Range(0, holdfast.MaxCounter-uint64(r.Count)).Draw(t, "counter"))
		r.Addr = rapid.Uint64Range(0, holdfast.MaxVolumeBlocks-uint64(r.Count)).Draw(t, "address")
		if r.Kind == Write {
			r.Hashes = rapid.SliceOfN(rapid.Uint64(), int(r.Count), int(r.Count)).Draw(t, "hashes")
		}
		got, rest, err := DecodeHeader(append(r.AppendHeader(nil), "next"...))
		if err != nil || string(rest) != "next" || !reflect.DeepEqual(got, r) {
			t.Fatalf("%+v came back as %+v with %q behind it, %v", r, got, rest, err)
		}
	})
}

// FuzzDecodeHeader: what is taken is what would be written.
func FuzzDecodeHeader(f *testing.F) {
	for _, r := range examples() {
		f.Add(r.AppendHeader(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := DecodeHeader(b)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Fatalf("%v is of kind %v", err, holdfast.KindOf(err))
			}
			return
		}
		if r.Last() < r.LSN || r.Last().Epoch() != r.LSN.Epoch() {
			t.Fatalf("%+v ends at %v", r, r.Last())
		}
		again, more, err := DecodeHeader(r.AppendHeader(nil))
		if err != nil || len(more) != 0 || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
		if used := len(b) - len(rest); used != len(r.AppendHeader(nil)) {
			t.Fatalf("%d bytes were read, %d are written", used, len(r.AppendHeader(nil)))
		}
	})
}
