package probe

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestEverySlotIsFilledOnceInARound(t *testing.T) {
	for _, slots := range []uint32{64, 256, MaxSlots} {
		for _, first := range []uint32{1, 2, 777, 1<<32 - 5000} {
			seen := make([]bool, slots)
			for i := range slots {
				s := SlotOf(first+i, slots)
				if s >= slots || seen[s] {
					t.Fatalf("%d slots from counter %d: slot %d is out of range or met twice", slots, first, s)
				}
				seen[s] = true
			}
		}
	}
}

func TestABlockVerifiesOnlyWhereAndAsItWasWritten(t *testing.T) {
	b := make([]byte, BlockSize)
	if n, err := VerifyBlock(b, 5); n != 0 || err != nil {
		t.Fatalf("empty block: %d, %v", n, err)
	}
	FillBlock(b, 42, 5)
	if n, err := VerifyBlock(b, 5); n != 42 || err != nil {
		t.Fatalf("good block: %d, %v", n, err)
	}
	if _, err := VerifyBlock(b, 6); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Fatalf("misplaced block: %v", err)
	}
	for _, at := range []int{0, 8, 13, 16, 23, 24, 2000, BlockSize - 1} {
		c := bytes.Clone(b)
		c[at] ^= 0x10
		if _, err := VerifyBlock(c, 5); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("byte %d flipped: %v", at, err)
		}
	}
	if _, err := VerifyBlock(b[:100], 5); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("short block: %v", err)
	}
}

func TestHistoryKnowsWhatEachSlotMustHold(t *testing.T) {
	const slots = 64
	written := func(highest uint32) []uint32 {
		c := make([]uint32, slots)
		for n := uint32(1); n <= highest; n++ {
			c[SlotOf(n, slots)] = n
		}
		return c
	}
	for _, h := range []uint32{0, 1, 63, 64, 65, 1000} {
		count, highest, err := VerifyHistory(written(h))
		if err != nil || highest != h || count != min(h, slots) {
			t.Errorf("up to %d: count %d, highest %d, %v", h, count, highest, err)
		}
	}
	for _, h := range []uint32{2, 64, 200} {
		stale := written(h)
		back := SlotOf(h-1, slots)
		if h > slots {
			stale[back] -= slots // an older round's block came back
		} else {
			stale[back] = 0 // a write was lost
		}
		if _, _, err := VerifyHistory(stale); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("up to %d with a stale slot: %v", h, err)
		}
	}
}

func TestImageRefusesSizesItCannotUse(t *testing.T) {
	for _, size := range []int64{-1, 0, 4096, MinSize - 1, MinSize + 1, MaxSize + BlockSize} {
		if _, err := Image(size); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("Image(%d): %v", size, err)
		}
	}
	for _, size := range []int64{MinSize, 16 << 20, MaxSize} {
		head, err := Image(size)
		if err != nil || len(head) > FirstBlock*BlockSize || head[510] != 0x55 || head[511] != 0xaa {
			t.Errorf("Image(%d): %d bytes, %v", size, len(head), err)
		}
	}
}

func TestLinesOfTheGuest(t *testing.T) {
	for s, want := range map[string]Line{
		"probe start\n":                          {What: Start},
		"flusheprobe start\n":                    {What: Start}, // reset in the middle of a line
		"probe ready\r\n":                        {What: Ready},
		FlushedLine(17):                          {What: Flushed, Counter: 17},
		"flushed 4294967295":                     {What: Flushed, Counter: 1<<32 - 1},
		VerifiedLine(3, 900):                     {What: Verified, Count: 3, Counter: 900},
		CorruptLine(7, 12):                       {What: Corrupt, Slot: 7, Counter: 12},
		"probe CORRUPT slot 7 holds 1 wanted 65": {What: Corrupt, Slot: 7, Counter: 1},
		"probe halted corrupt 2":                 {What: Halted, Count: 2},
		"probe ERROR write status 1":             {What: Failed},
	} {
		got, err := ParseLine(s)
		got.Text = ""
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "lushed 5", "flushed", "flushed ", "flushed -1", "flushed 4294967296", "flushed 12flushed 13",
		"flushed 007", "flushed 5 ", "probe boot verified 3", "probe boot verified 3 highest", "probe CORRUPT slot 1", "probe"} {
		if l, err := ParseLine(s); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q was read as %+v, %v", s, l, err)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"flushed 12\n", "probe boot verified 3 highest 900", "probe CORRUPT slot 7 claims 12", "probe ERROR x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLine(s)
		if err != nil {
			return
		}
		if again, err := ParseLine(l.String()); err != nil || again != l {
			t.Errorf("%q read as %+v, and again as %+v, %v", s, l, again, err)
		}
	})
}

func FuzzVerifyBlock(f *testing.F) {
	b := make([]byte, BlockSize)
	f.Add(bytes.Clone(b), uint32(0))
	FillBlock(b, 9, 3)
	f.Add(b, uint32(3))
	f.Fuzz(func(t *testing.T, b []byte, slot uint32) {
		n, err := VerifyBlock(b, slot)
		if err != nil || n == 0 {
			return
		}
		want := make([]byte, BlockSize)
		FillBlock(want, n, slot)
		if !bytes.Equal(b, want) {
			t.Errorf("slot %d: accepted a block that counter %d does not make", slot, n)
		}
	})
}
