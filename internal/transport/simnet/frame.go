package simnet

import (
	"math/bits"
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// pack copies a frame as the wire does: at most one piece of bulk.
func (n *Net) pack(f transport.Frame) transport.Frame {
	g := transport.Frame{Kind: f.Kind, Head: slices.Clone(f.Head)}
	if size := f.BulkLen(); size > 0 {
		b := n.bulk(size)
		at := 0
		for _, p := range f.Bulk {
			at += copy(b[at:], p)
		}
		g.Bulk = [][]byte{b}
	}
	return g
}

// leastKept is the smallest buffer that is kept for reuse, in bytes.
const leastKept = 1024

// bulk returns a buffer with any content.
func (n *Net) bulk(size int) []byte {
	class := bits.Len(uint(size - 1))
	if k := len(n.spare[class]); k > 0 {
		b := n.spare[class][k-1]
		n.spare[class] = n.spare[class][:k-1]
		return b[:size]
	}
	if size < leastKept {
		return make([]byte, size)
	}
	return make([]byte, size, 1<<class)
}

// scribble makes use of a frame after its time show: its bytes are overwritten,
// and later belong to another frame.
func (n *Net) scribble(f transport.Frame) {
	fill(f.Head)
	for _, b := range f.Bulk {
		fill(b)
		if c := cap(b); c >= leastKept && c&(c-1) == 0 {
			class := bits.Len(uint(c - 1))
			n.spare[class] = append(n.spare[class], b)
		}
	}
}

func fill(b []byte) {
	if len(b) > 0 {
		b[0] = 0xdb
	}
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}
