// Package expect knows what each block of a volume may hold after a history of
// writes, answers, flushes and losses of power, and finds what may not be. It
// is the pure half of the judge lab/judges/libnbd: it knows no NBD.
//
// A block holds a version: zeroes, or its own number and the version all over.
// An answered write is there from then on. A write whose answer never came may
// be there or not. Once read, it stays. If all power was lost, a block may fall
// back to what it held at the last flush or FUA, or to anything sent since.
package expect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// BlockSize is in bytes.
const BlockSize = 4096

// Zeroes is the version of a block that is all zeroes.
const Zeroes uint64 = 0

// Blocks is what the blocks of one volume may hold. One goroutine uses it.
type Blocks struct {
	may      []versions // what may be read now
	fallback []versions // what may be read after a loss of power
}

// versions is a set in order. It is never changed, so that blocks may share it.
type versions []uint64

func (s versions) has(v uint64) bool { _, ok := slices.BinarySearch(s, v); return ok }

func (s versions) with(more ...uint64) versions {
	out := slices.Concat(s, more)
	slices.Sort(out)
	return slices.Compact(out)
}

// New returns n blocks of zeroes that were always zeroes.
func New(n int) *Blocks {
	b := &Blocks{make([]versions, n), make([]versions, n)}
	for i := range n {
		b.may[i], b.fallback[i] = versions{Zeroes}, versions{Zeroes}
	}
	return b
}

// Len is the number of blocks.
func (b *Blocks) Len() int { return len(b.may) }

// Sent says that a write of a version to n blocks is on its way: from here on
// it may be there. What is sent at the same time has other blocks.
func (b *Blocks) Sent(first, n int, v uint64) {
	for i := first; i < first+n; i++ {
		b.may[i], b.fallback[i] = b.may[i].with(v), b.fallback[i].with(v)
	}
}

// Answered says that what was Sent was answered: it is there. A lasting write
// (FUA) survives every loss of power.
func (b *Blocks) Answered(first, n int, v uint64, lasting bool) {
	for i := first; i < first+n; i++ {
		b.may[i] = versions{v}
		if lasting {
			b.fallback[i] = versions{v}
		}
	}
}

// Flushed says that a flush was answered, with no write under way.
func (b *Blocks) Flushed() { copy(b.fallback, b.may) }

// PowerLost says that every copy may have lost its power at once.
func (b *Blocks) PowerLost() {
	for i, f := range b.fallback {
		b.may[i] = b.may[i].with(f...)
	}
}

// Read checks whole blocks that were read, from the first one. What they hold
// they hold from now on.
func (b *Blocks) Read(first int, data []byte) error {
	want := make([]byte, BlockSize)
	for at := 0; at+BlockSize <= len(data); at += BlockSize {
		i, got := first+at/BlockSize, data[at:at+BlockSize]
		v := binary.LittleEndian.Uint64(got[8:])
		Fill(want, i, v)
		if !bytes.Equal(got, want) {
			return fmt.Errorf("block %d reads as %x..., which is no version of it; it may hold versions %d", i, got[:24], b.may[i])
		}
		if !b.may[i].has(v) {
			return fmt.Errorf("block %d reads as version %d, it may hold %d", i, v, b.may[i])
		}
		b.may[i] = versions{v}
	}
	return nil
}

// Zero checks a claim that n blocks read as zeroes. From now on they do.
func (b *Blocks) Zero(first, n int) error {
	for i := first; i < first+n; i++ {
		if !b.may[i].has(Zeroes) {
			return fmt.Errorf("block %d is said to be zero, it may hold %d", i, b.may[i])
		}
		b.may[i] = versions{Zeroes}
	}
	return nil
}

// Fill makes data, which is whole blocks from the first one, a version of them.
func Fill(data []byte, first int, v uint64) {
	if v == Zeroes {
		clear(data)
		return
	}
	for at := 0; at+16 <= len(data); at += 16 {
		binary.LittleEndian.PutUint64(data[at:], uint64(first+at/BlockSize))
		binary.LittleEndian.PutUint64(data[at+8:], v)
	}
}
