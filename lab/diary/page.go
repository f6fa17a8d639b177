// Package diary keeps what the machines of probe guests say, each at the host it
// runs on: who wrote what, when, and after whom. It listens at every host by its
// own socket, so it hears machines that the rest of the cluster does not, and
// knows better than any record whether one VM was ever written by two.
package diary

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// Bout is one boot of a guest on one host.
type Bout struct {
	Host     string
	PID      int         // of its machine; a reset is another boot of the same
	Begun    time.Time   // when it was first heard
	Verified *probe.Line // what it found on its disk; nil: not told yet
	At       time.Time   // when it told that
	First    uint32      // first and last counter that it flushed; 0: none yet
	Last     uint32
	FirstAt  time.Time
	LastAt   time.Time
	Pause    time.Duration // the longest time between two flushes
	PauseAt  time.Time     // when that began
	Ended    time.Time     // when its console ended; zero: it has not
}

// page is what is known of one VM.
type page struct {
	vm      string
	bouts   []*Bout
	flushed uint32 // the highest counter that any machine reported
	writer  *Bout  // whose turn it is: the last boot that has flushed
	wrong   []string
}

func (p *page) fault(format string, args ...any) {
	if len(p.wrong) < 20 {
		p.wrong = append(p.wrong, p.vm+" "+fmt.Sprintf(format, args...))
	}
}

// reader is one connection to a machine's console. A console tells first what it
// printed before, so a reader may repeat what another one has told.
type reader struct {
	p    *page
	host string
	pid  int
	bout *Bout
	old  []*Bout // what was heard of this machine before and has not been told again
}

func (p *page) attach(host string, pid int) *reader {
	r := &reader{p: p, host: host, pid: pid}
	for _, b := range p.bouts {
		if b.Host == host && b.PID == pid {
			r.old = append(r.old, b)
		}
	}
	return r
}

// take notes a line that was heard at now.
func (r *reader) take(l probe.Line, now time.Time) {
	switch l.What {
	case probe.Start:
		r.bout = nil
	case probe.Verified:
		r.verified(l, now)
	case probe.Flushed:
		r.flushed(l.Counter, now)
	case probe.Corrupt, probe.Halted, probe.Failed:
		r.p.fault("on %s: %s", r.host, l.Text)
	}
}

// begin finds the bout that a line belongs to: a new one, or what was heard of
// before.
func (r *reader) begin(same func(*Bout) bool, now time.Time) *Bout {
	if r.bout != nil {
		return r.bout
	}
	for i, b := range r.old {
		if same(b) {
			r.bout, r.old = b, r.old[i+1:]
			r.bout.Ended = time.Time{}
			return b
		}
	}
	r.old = nil
	r.bout = &Bout{Host: r.host, PID: r.pid, Begun: now}
	r.p.bouts = append(r.p.bouts, r.bout)
	return r.bout
}

func (r *reader) verified(l probe.Line, now time.Time) {
	b := r.begin(func(old *Bout) bool { return old.Verified != nil && old.Verified.Counter == l.Counter }, now)
	if b.Verified != nil {
		return
	}
	b.Verified, b.At = &l, now
	if l.Counter < r.p.flushed {
		r.p.fault("lost flushed writes: %d were reported, a boot on %s found %d", r.p.flushed, r.host, l.Counter)
	}
}

func (r *reader) flushed(n uint32, now time.Time) {
	p := r.p
	b := r.begin(func(old *Bout) bool { return n <= old.Last+1 }, now)
	if n <= b.Last {
		return // told again
	}
	switch {
	case p.writer == b || p.writer == nil:
		p.writer = b
	case b.First == 0:
		p.writer = b // a boot that came after
	case p.writer.Verified == nil || n > p.writer.Verified.Counter:
		p.fault("was written by two machines: the one on %s flushed %d after the one on %s had begun", r.host, n, p.writer.Host)
	}
	if b.First == 0 {
		b.First, b.FirstAt = n, now
	} else if d := now.Sub(b.LastAt); d > b.Pause {
		b.Pause, b.PauseAt = d, b.LastAt
	}
	b.Last, b.LastAt = n, now
	p.flushed = max(p.flushed, n)
}

func (r *reader) ended(now time.Time) {
	if r.bout != nil {
		r.bout.Ended = now
	}
}
