package expect

import (
	"bytes"
	"testing"
)

// data is some blocks, from the first one, with a version each.
func data(first int, versions ...uint64) []byte {
	out := make([]byte, len(versions)*BlockSize)
	for i, v := range versions {
		Fill(out[i*BlockSize:(i+1)*BlockSize], first+i, v)
	}
	return out
}

func allowed(t *testing.T, b *Blocks, what string, first int, versions ...uint64) {
	t.Helper()
	if err := b.Read(first, data(first, versions...)); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func wrong(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s was not seen", what)
	}
}

// written is four blocks that hold versions 1, 2, 2 and zeroes, each answered.
func written() *Blocks {
	b := New(4)
	for _, w := range []struct {
		first, n int
		v        uint64
	}{{0, 4, 1}, {1, 2, 2}, {3, 1, Zeroes}} {
		b.Sent(w.first, w.n, w.v)
		b.Answered(w.first, w.n, w.v, false)
	}
	return b
}

func TestWhatWasAnsweredIsThere(t *testing.T) {
	allowed(t, New(4), "a new volume", 0, Zeroes, Zeroes, Zeroes, Zeroes)
	allowed(t, written(), "what was written", 0, 1, 2, 2, Zeroes)
	allowed(t, written(), "a part of it", 2, 2, Zeroes)
}

func TestAWrongBlockIsSeen(t *testing.T) {
	for what, spoil := range map[string]func([]byte){
		"a flipped bit in the first byte": func(d []byte) { d[0] ^= 1 },
		"a flipped bit in the last byte":  func(d []byte) { d[len(d)-1] ^= 0x80 },
		"a flipped bit within a version":  func(d []byte) { d[BlockSize+8] ^= 1 },
		"an older version":                func(d []byte) { copy(d[BlockSize:], data(1, 1)) },
		"a version of the future":         func(d []byte) { copy(d[BlockSize:], data(1, 3)) },
		"zeroes where a version was":      func(d []byte) { copy(d[BlockSize:], data(1, Zeroes)) },
		"a version where zeroes were":     func(d []byte) { copy(d[3*BlockSize:], data(3, 1)) },
		"another block's content":         func(d []byte) { copy(d[BlockSize:], data(2, 2)) },
		"two blocks in each other's place": func(d []byte) {
			first := bytes.Clone(d[BlockSize : 2*BlockSize])
			copy(d[BlockSize:], d[2*BlockSize:3*BlockSize])
			copy(d[2*BlockSize:], first)
		},
		"half of an older version":  func(d []byte) { copy(d[BlockSize:], data(1, 1)[:BlockSize/2]) },
		"half of a block of zeroes": func(d []byte) { clear(d[BlockSize+BlockSize/2 : 2*BlockSize]) },
	} {
		d := data(0, 1, 2, 2, Zeroes)
		spoil(d)
		wrong(t, written().Read(0, d), what)
	}
}

func TestAWriteWithoutAnAnswerMayBeThereOrNotAndOnceReadStays(t *testing.T) {
	for _, first := range []uint64{1, 7} {
		b := written()
		b.Sent(0, 1, 7)
		allowed(t, b, "either is read", 0, first)
		allowed(t, b, "the same is read again", 0, first)
		wrong(t, b.Read(0, data(0, 8-first)), "that it changed after it had been read")
	}
}

func TestWithoutALossOfPowerNothingFallsBack(t *testing.T) {
	b := written()
	wrong(t, b.Read(0, data(0, Zeroes)), "an answered write that was lost")
}

func TestAfterALossOfPowerWhatWasNotFlushedMayBeAnyThatWasSentSince(t *testing.T) {
	for _, v := range []uint64{Zeroes, 1, 2} { // block 1 held zeroes at first, then 1, then 2
		b := written()
		b.PowerLost()
		allowed(t, b, "after the loss of power", 1, v)
	}
	b := written()
	b.PowerLost()
	wrong(t, b.Read(1, data(1, 3)), "a version that nobody wrote")
	wrong(t, b.Read(0, data(0, 2)), "a version that went to other blocks")
}

func TestAFlushOutlivesALossOfPower(t *testing.T) {
	b := written()
	b.Flushed()
	b.Sent(0, 1, 9)
	b.Answered(0, 1, 9, false)
	b.PowerLost()
	wrong(t, b.Read(1, data(1, 1)), "that a flushed block fell back")
	wrong(t, b.Read(0, data(0, Zeroes)), "that a block fell back further than its flush")
	allowed(t, b, "a block that fell back to its flush", 0, 1)
}

func TestALastingWriteOutlivesALossOfPowerAndItsNeighboursNeedNot(t *testing.T) {
	b := written()
	b.Sent(0, 1, 5)
	b.Answered(0, 1, 5, true)
	b.PowerLost()
	for _, v := range []uint64{Zeroes, 1} {
		wrong(t, b.Read(0, data(0, v)), "that a write with FUA was lost")
	}
	allowed(t, b, "the lasting one, and neighbours of before", 0, 5, Zeroes, 1, 1)
}

func TestWhatIsReadAfterALossOfPowerMayFallBackAgain(t *testing.T) {
	b := written()
	b.PowerLost()
	allowed(t, b, "after the first loss", 1, 2)
	wrong(t, b.Read(1, data(1, 1)), "that it changed while power was there")
	b.PowerLost()
	allowed(t, b, "after the second loss", 1, 1)
}

func TestAZeroTooManyIsSeen(t *testing.T) {
	b := written()
	if err := b.Zero(3, 1); err != nil {
		t.Error(err)
	}
	wrong(t, b.Zero(2, 2), "that written blocks are said to be zero")
	b.Sent(3, 1, 6)
	if err := b.Zero(3, 1); err != nil {
		t.Error(err)
	}
	wrong(t, b.Read(3, data(3, 6)), "that what was said to be zero is not")
}
