package iscsi

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
)

// buffer is a pooled piece of memory aligned to the block size, so that disks
// may hand it to direct I/O. It is owned by one task at a time, then by the
// batch that sends it.
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
	n = 1 << (c + minClassBits)
	mem := make([]byte, n+holdfast.BlockSize)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (holdfast.BlockSize - 1)
	return &buffer{mem: mem[skip : skip+n : skip+n], class: c}
}

func (p *pool) put(b *buffer) {
	if b != nil {
		p.class[b.class].Put(b)
	}
}
