package qcow2

import "io"

// Two stretches are read while one is written: both sides are kept at work, and
// memory stays small.
const (
	copyRun      = 8 * outCluster // bytes that are read and written at once, at most
	aheadBuffers = 3
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
	for c, n := m.nextRun(0); n > 0; c, n = m.nextRun(c + n) {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.quit:
			return
		}
		if want := int(n * outCluster); cap(b) < want {
			b = make([]byte, want)
		} else {
			b = b[:want]
		}
		k, err := src.ReadAt(b, c*outCluster)
		if k < len(b) && err != nil && err != io.EOF {
			a.read <- stretch{err: err}
			return
		}
		clear(b[k:])
		a.read <- stretch{b: b} // there is room: there are no more buffers than that
	}
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
