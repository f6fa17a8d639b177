package record

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

var snapID = holdfast.SnapshotID{UUID: holdfast.UUID{1, 2, 3, 15: 9}}

// samples is one good record of every kind.
func samples() []Record {
	return []Record{
		{Kind: Write, LSN: holdfast.MakeLSN(3, 7), Addr: 5, Count: 2, Hashes: []uint64{0x115, 0x129}},
		{Kind: Zero, LSN: holdfast.MakeLSN(3, 9), Addr: 1 << 20, Count: MaxZero},
		{Kind: EpochStart, LSN: holdfast.MakeLSN(4, 0), Start: Start{Epoch: 4, Prev: 3, Cut: holdfast.MakeLSN(3, 8), Generation: 2}},
		{Kind: Snapshot, LSN: holdfast.MakeLSN(4, 1), Snapshot: snapID},
		{Kind: Revert, LSN: holdfast.MakeLSN(4, 2), Snapshot: snapID},
		{Kind: DropSnap, LSN: holdfast.MakeLSN(4, 3), Snapshot: snapID},
		{Kind: Grow, LSN: holdfast.MakeLSN(4, 4), Blocks: holdfast.MaxVolumeBlocks},
	}
}

func TestEveryKindSurvivesTheCoding(t *testing.T) {
	for _, r := range samples() {
		b := r.AppendHeader([]byte("front"))
		b = append(b, "rest"...)
		got, rest, err := DecodeHeader(b[len("front"):])
		if err != nil || string(rest) != "rest" || !reflect.DeepEqual(got, r) {
			t.Errorf("kind %d: %+v became %+v, rest %q, %v", r.Kind, r, got, rest, err)
		}
	}
}

func TestARecordHasOneEncoding(t *testing.T) {
	for _, r := range samples() {
		b := r.AppendHeader(nil)
		for i := used(r.Kind); i < HeaderSize; i++ {
			x := bytes.Clone(b)
			x[i] = 1
			if _, _, err := DecodeHeader(x); !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("kind %d with byte %d set gives %v", r.Kind, i, err)
			}
		}
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	for name, r := range map[string]Record{
		"no blocks":           {Kind: Write, LSN: 1},
		"too many blocks":     {Kind: Write, LSN: 1, Count: MaxBlocks + 1, Hashes: make([]uint64, MaxBlocks+1)},
		"no length":           {Kind: Write, LSN: 1, Count: 1, Hashes: []uint64{0x10}},
		"too long a block":    {Kind: Write, LSN: 1, Count: 1, Hashes: []uint64{0x1a}},
		"too many zeros":      {Kind: Zero, LSN: 1, Count: MaxZero + 1},
		"beyond any volume":   {Kind: Zero, LSN: 1, Addr: holdfast.MaxVolumeBlocks, Count: 1},
		"over the epoch":      {Kind: Zero, LSN: holdfast.MakeLSN(1, holdfast.MaxCounter), Count: 2},
		"hashes cut off":      {Kind: Write, LSN: 1, Count: 2, Hashes: []uint64{0x18}},
		"epoch does not rise": {Kind: EpochStart, LSN: holdfast.MakeLSN(2, 0), Start: Start{Epoch: 2, Prev: 2, Cut: 5}},
		"cut in the epoch":    {Kind: EpochStart, LSN: holdfast.MakeLSN(2, 0), Start: Start{Epoch: 2, Prev: 1, Cut: holdfast.MakeLSN(2, 1)}},
		"wrong start":         {Kind: EpochStart, LSN: holdfast.MakeLSN(2, 1), Start: Start{Epoch: 2, Prev: 1, Cut: 5}},
		"control with blocks": {Kind: Snapshot, LSN: 1, Count: 1},
		"volume of no size":   {Kind: Grow, LSN: 1},
		"unknown kind":        {Kind: 99, LSN: 1},
	} {
		if _, _, err := DecodeHeader(r.AppendHeader(nil)); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

func TestRecordsFollow(t *testing.T) {
	prev := holdfast.MakeLSN(3, 8)
	start := func(cut holdfast.LSN) Record {
		return Record{Kind: EpochStart, LSN: holdfast.MakeLSN(5, 0), Start: Start{Epoch: 5, Prev: 3, Cut: cut}}
	}
	for _, c := range []struct {
		r    Record
		want bool
	}{
		{Record{Kind: Zero, LSN: prev + 1, Count: 1}, true},
		{Record{Kind: Zero, LSN: prev, Count: 1}, false},
		{Record{Kind: Zero, LSN: prev + 2, Count: 1}, false},
		{Record{Kind: Zero, LSN: holdfast.MakeLSN(4, 0), Count: 1}, false},
		{start(prev), true},
		{start(prev - 1), false},
		{start(prev + 1), false},
	} {
		if got := c.r.Follows(prev); got != c.want {
			t.Errorf("%v with cut %v follows %v: %v", c.r.LSN, c.r.Start.Cut, prev, got)
		}
	}
	if max := holdfast.MakeLSN(3, holdfast.MaxCounter); (&Record{Kind: Zero, LSN: max + 1, Count: 1}).Follows(max) {
		t.Error("the counter of an epoch runs over into the next epoch")
	}
}

func FuzzDecodeHeader(f *testing.F) {
	for _, r := range samples() {
		f.Add(r.AppendHeader(nil))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := DecodeHeader(b)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if r.Last() < r.LSN {
			t.Fatalf("%+v ends before it begins", r)
		}
		if again := r.AppendHeader(nil); !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatalf("%x decodes and encodes as %x", b, again)
		}
	})
}
