package socket

import "time"

// watchFor is how long a reader watches an empty socket before it parks, giving
// way to every other thread at each look. A processor that sleeps takes about as
// long to wake up, in a virtual machine longer (docs/BENCHMARKS.md).
const watchFor = 20 * time.Microsecond

// watchRest is how many waits at most go by unwatched after one that was watched
// in vain.
const watchRest = 63

// watch decides which waits are watched: those of a connection whose other end
// answers at once. After each that was in vain about twice as many are left
// alone, so that a quiet connection costs nothing.
type watch struct {
	rest int // waits to leave alone after the next in vain
	left int // of these
}

// worthwhile reports whether the wait that begins is to be watched.
func (w *watch) worthwhile() bool {
	if w.left == 0 {
		return true
	}
	w.left--
	return false
}

// over takes the outcome of a wait that was watched.
func (w *watch) over(came bool) {
	if came {
		w.rest = 0
		return
	}
	w.rest = min(2*w.rest+1, watchRest)
	w.left = w.rest
}
