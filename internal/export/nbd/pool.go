package nbd

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
)

// buffer is a pooled piece of memory aligned to the block size, so that disks
// may hand it to direct I/O. It is owned by one request at a time.
type buffer struct {
	mem   []byte
	class int
}

const (
	minClassBits = 12 // 4 KiB
	maxClassBits = 25 // 32 MiB, holdfast.MaxIO
)

// pool keeps buffers by power of two. The garbage collector empties it.
type pool struct {
	class [maxClassBits - minClassBits + 1]sync.Pool
}

// get returns a buffer of at least n bytes, 0 < n <= holdfast.MaxIO.
func (p *pool) get(n int) *buffer {
	c := 0
	if n > 1<<minClassBits {
		c = bits.Len(uint(n-1)) - minClassBits
	}
	if b, _ := p.class[c].Get().(*buffer); b != nil {
		return b
	}
	return &buffer{mem: aligned(1 << (c + minClassBits)), class: c}
}

func (p *pool) put(b *buffer) {
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
