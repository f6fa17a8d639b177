// Package buffer is the memory that servers of volumes work with: what they
// lend to disks (Pool), and what they send (Batch). It knows no protocol.
package buffer

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
)

// Buffer is a pooled piece of memory aligned to the block size, so that disks
// may hand it to direct I/O. It is owned by one request at a time, then by the
// batch that sends it.
type Buffer struct {
	Mem   []byte
	class int
}

const (
	minClassBits = 12 // 4 KiB
	maxClassBits = 25 // 32 MiB, holdfast.MaxIO
)

// Pool keeps buffers by power of two. The garbage collector empties it. The
// zero value is ready; its methods may be called from any goroutine.
type Pool struct {
	class [maxClassBits - minClassBits + 1]sync.Pool
}

// Get returns a buffer of at least n bytes, 0 < n <= holdfast.MaxIO, with any
// content.
func (p *Pool) Get(n int) *Buffer {
	c := 0
	if n > 1<<minClassBits {
		c = bits.Len(uint(n-1)) - minClassBits
	}
	if b, _ := p.class[c].Get().(*Buffer); b != nil {
		return b
	}
	return &Buffer{Mem: aligned(1 << (c + minClassBits)), class: c}
}

// Put takes a buffer back that nobody uses any more; nil is none.
func (p *Pool) Put(b *Buffer) {
	if b != nil {
		p.class[b.class].Put(b)
	}
}

// aligned allocates n bytes that start at a multiple of the block size.
func aligned(n int) []byte {
	mem := make([]byte, n+holdfast.BlockSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (holdfast.BlockSize - 1)
	return mem[skip : skip+n : skip+n]
}
