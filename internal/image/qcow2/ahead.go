package qcow2

import (
	"io"
	"unsafe"
)

// While two stretches are written others are read: both sides are kept at work,
// and memory stays small.
const (
	copyRun      = 8 * outCluster // bytes that are read and written at once, at most
	copyWriters  = 2              // of a file
	aheadBuffers = 2 + copyWriters
	bufferAlign  = 4096 // so that what is written need not be copied in memory
)

// ahead reads the data of a map while what was read before is written. One
// goroutine reads; stop waits for it.
type ahead struct {
	free chan []byte
	read chan stretch
	quit chan struct{}
}

// stretch is data of clusters that follow each other.
type stretch struct {
	b   []byte // whole clusters
	at  int64  // in the data of the file
	err error
}

// readAhead begins to read. src is read from one goroutine, in ascending order.
func (m *Map) readAhead(src io.ReaderAt) *ahead {
	a := &ahead{free: make(chan []byte, aheadBuffers), read: make(chan stretch, aheadBuffers), quit: make(chan struct{})}
	for range aheadBuffers {
		a.free <- nil // made when it is needed: much data comes in less
	}
	go a.run(m, src)
	return a
}

func (a *ahead) run(m *Map, src io.ReaderAt) {
	defer close(a.read)
	at := int64(0)
	for c, n := m.nextRun(0); n > 0; c, n = m.nextRun(c + n) {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.quit:
			return
		}
		if want := int(n * outCluster); cap(b) < want {
			b = alignedBytes(want)
		} else {
			b = b[:want]
		}
		k, err := src.ReadAt(b, c*outCluster)
		if k < len(b) && err != nil && err != io.EOF {
			a.read <- stretch{err: err}
			return
		}
		clear(b[k:])
		a.read <- stretch{b: b, at: at} // there is room: there are no more buffers than that
		at += int64(len(b))
	}
}

// alignedBytes begin at a multiple of bufferAlign in memory.
func alignedBytes(n int) []byte {
	b := make([]byte, n+bufferAlign)
	skip := (bufferAlign - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%bufferAlign)) % bufferAlign
	return b[skip : skip+n]
}

// writeAt writes what was read behind off of a file, until there is no more.
func (a *ahead) writeAt(w io.WriterAt, off int64) error {
	for s := range a.read {
		if s.err != nil {
			return s.err
		}
		if _, err := w.WriteAt(s.b, off+s.at); err != nil {
			return err
		}
		a.free <- s.b
	}
	return nil
}

// stop ends the reading, after what is being read.
func (a *ahead) stop() {
	close(a.quit)
	for range a.read {
	}
}

// nextRun returns the first clusters from c on that hold data and follow each
// other, up to copyRun bytes; n is 0 if there are none.
func (m *Map) nextRun(c int64) (first, n int64) {
	first, ok := m.next(c)
	if !ok {
		return 0, 0
	}
	for n = 1; n < copyRun/outCluster; n++ {
		if at, ok := m.next(first + n); !ok || at != first+n {
			break
		}
	}
	return first, n
}
