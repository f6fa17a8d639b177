package volume

import "github.com/holdfast-cloud/holdfast"

// habit learns when an initiator flushes. Databases and journals write a few
// blocks and wait for them to be on disk, again and again. A volume that has seen
// a flush after the same number of writes several times has the replicas make
// the last of them durable as soon as it is sent: when the flush comes, its
// answer is on the way. A wrong guess costs one sync that nobody waits for, and
// ends the guessing. It promises nothing: a flush is answered by what is on disk.
// Under Volume.mu.
type habit struct {
	writes uint64       // since the last flush
	usual  uint64       // before the last one
	same   int          // flushes in a row that came after usual
	upto   holdfast.LSN // expected to be flushed; 0: nothing
}

// sure is how many flushes in a row make a habit.
const sure = 3

// wrote notes a write whose last LSN is given.
func (h *habit) wrote(last holdfast.LSN) {
	h.writes++
	switch {
	case h.same < sure:
	case h.writes == h.usual:
		h.upto = last
	case h.writes > h.usual:
		h.same, h.upto = 0, 0
	}
}

// flushed notes a flush.
func (h *habit) flushed() {
	switch {
	case h.writes == 0: // of nothing new
		return
	case h.writes != h.usual:
		h.usual, h.same = h.writes, 1
	default:
		h.same = min(h.same+1, sure)
	}
	h.writes, h.upto = 0, 0
}
