package socket

import (
	"runtime"
	"syscall"
	"time"
)

// watchFor is how long a reader watches an empty socket before it parks, giving
// way to every other thread at each look: about what it takes an initiator to be
// woken with the answer and to send its next request. A processor that sleeps
// takes as long to wake up, in a virtual machine longer (docs/BENCHMARKS.md).
const watchFor = 80 * time.Microsecond

// wanted is how long a look may take. If it takes longer and nothing has come,
// the processor was given to somebody else, who has better use for it.
const wanted = 30 * time.Microsecond

// watchRest is how many waits at most go by unwatched after one that was watched
// in vain.
const watchRest = 63

// watch decides which waits are watched: those of a connection whose other end
// answers at once. After each that was in vain about twice as many are left
// alone, so that a quiet connection costs nothing.
type watch struct {
	may  func() bool // whether the other end has reason to send
	rest int         // waits to leave alone after the next in vain
	left int         // of these
}

// worthwhile reports whether the wait that begins is to be watched.
func (w *watch) worthwhile() bool {
	if w == nil || !w.may() {
		return false
	}
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

// tasksEvery is how often other tasks of this process are given way as well, which
// costs more than a look.
const tasksEvery = 20 * time.Microsecond

// look calls try again and again, for a moment, and reports whether it was done.
func (w *watch) look(try func() (done bool)) (done bool) {
	start := time.Now()
	yield := tasksEvery
	for spent := time.Duration(0); !done && spent < watchFor; {
		before := spent
		if spent >= yield {
			yield += tasksEvery
			runtime.Gosched()
		}
		syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
		done = try()
		if spent = time.Since(start); spent-before > wanted {
			break
		}
	}
	w.over(done)
	return done
}
