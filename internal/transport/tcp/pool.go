package tcp

import (
	"math/bits"
	"sync"

	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// pool keeps receive buffers by powers of two, so that a steady stream of
// frames allocates none.
type pool struct {
	classes [maxClass - minClass + 1]sync.Pool
}

const (
	minClass = 9                                                         // 512 bytes
	maxClass = 23                                                        // 8 MiB, above the largest frame
	_        = uint(1<<maxClass - transport.MaxHead - transport.MaxBulk) // does not compile if it is not
)

// buffer is one borrowed stretch of memory.
type buffer struct {
	b     []byte
	class int
}

// get returns a buffer of n bytes.
func (p *pool) get(n int) *buffer {
	class := minClass
	if n > 1<<minClass {
		class = bits.Len(uint(n - 1))
	}
	if x, ok := p.classes[class-minClass].Get().(*buffer); ok {
		x.b = x.b[:n]
		return x
	}
	return &buffer{b: make([]byte, n, 1<<class), class: class}
}

// put gives a buffer back; nobody may look at it afterwards.
func (p *pool) put(x *buffer) { p.classes[x.class-minClass].Put(x) }
