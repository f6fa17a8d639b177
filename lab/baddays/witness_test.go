package baddays

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// witness follows the console of a probe guest from any host that answers,
// and keeps what the guest has reported as flushed.
type witness struct {
	s  *scene
	vm string

	mu      sync.Mutex
	flushed uint32   // the highest counter that was ever reported
	boots   []bout   // what the present console has shown
	bad     []string // corruption and failures that the guest reported
	starts  int      // boots seen, on whatever console
}

// bout is one boot of the guest.
type bout struct {
	verified *probe.Line
	flushed  uint32
}

// follow reads the console until the test ends.
func (w *witness) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.s.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, h := range w.s.l.Hosts {
				c := client.Socket(h.Socket())
				try, end := context.WithCancel(ctx)
				slow := time.AfterFunc(3*time.Second, end) // a frozen host never answers
				con, err := c.Console(try, w.vm, false)
				if err == nil && slow.Stop() {
					stop := context.AfterFunc(ctx, func() { con.Close() })
					w.read(con)
					stop()
				}
				end()
				c.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
}

// silence is how long a console may say nothing before it is opened anew, at
// the next host: one that stands still does not end it.
const silence = 4 * time.Second

func (w *witness) read(con io.ReadCloser) {
	defer con.Close()
	quiet := time.AfterFunc(silence, func() { con.Close() })
	defer quiet.Stop()
	w.mu.Lock()
	w.boots = nil
	w.mu.Unlock()
	sc := bufio.NewScanner(con)
	sc.Buffer(make([]byte, 0, 4096), 64<<10)
	for sc.Scan() {
		quiet.Reset(silence)
		if l, err := probe.ParseLine(sc.Text()); err == nil {
			w.take(l)
		}
	}
}

func (w *witness) take(l probe.Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.What == probe.Start || len(w.boots) == 0 {
		w.boots = append(w.boots, bout{})
		w.starts++
	}
	b := &w.boots[len(w.boots)-1]
	switch l.What {
	case probe.Verified:
		b.verified = &l
	case probe.Flushed:
		b.flushed = max(b.flushed, l.Counter)
		w.flushed = max(w.flushed, l.Counter)
	case probe.Corrupt, probe.Halted, probe.Failed:
		w.bad = append(w.bad, l.Text)
	}
}

// look returns the last boot, the highest flushed counter, and what is wrong.
func (w *witness) look() (last bout, flushed uint32, bad []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.boots) > 0 {
		last = w.boots[len(w.boots)-1]
	}
	return last, w.flushed, w.bad
}

// acknowledged is the highest counter that the guest has reported as flushed.
func (w *witness) acknowledged() uint32 {
	_, f, _ := w.look()
	return f
}

// goesOn waits until the guest has flushed more than it had.
func (w *witness) goesOn() {
	w.s.t.Helper()
	_, was, _ := w.look()
	w.s.until("the guest to write on", func() (bool, string) {
		last, now, bad := w.look()
		if len(bad) > 0 {
			w.s.t.Fatalf("the guest reports: %v", bad)
		}
		return now >= was+20 && last.flushed == now, fmt.Sprintf("its last flushed block is %d, it had %d", now, was)
	})
}

// verified waits until a boot of the guest that began after acked had been
// flushed has verified its disk and writes on, and checks that everything up
// to acked was there.
func (w *witness) verified(acked uint32) {
	w.s.t.Helper()
	w.s.until("the guest to boot, verify its disk and write on", func() (bool, string) {
		last, now, bad := w.look()
		if len(bad) > 0 {
			w.s.t.Fatalf("the guest reports: %v", bad)
		}
		v := last.verified
		if v == nil {
			return false, fmt.Sprintf("its last boot verified nothing yet; flushed before: %d, now %d", acked, now)
		}
		return v.Counter >= acked && last.flushed > v.Counter, fmt.Sprintf("its last boot verified %d, acknowledged before: %d, flushed now: %d", v.Counter, acked, last.flushed)
	})
}

// reset presses the reset button and has the guest verify everything.
func (w *witness) reset() {
	w.s.t.Helper()
	acked := w.acknowledged()
	if out, code := w.s.run(w.s.anyHost(), nil, "vm", "reset", w.vm); code != 0 {
		w.s.t.Fatal(out)
	}
	w.verified(acked)
}
