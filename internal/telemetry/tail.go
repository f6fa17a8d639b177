package telemetry

import (
	"bytes"
	"sync"
)

// Tail is an io.Writer that keeps the last bytes that were written to it, whole
// lines only: what a host has logged lately. Its methods may be called from any
// goroutine.
type Tail struct {
	most int // bytes

	mu   sync.Mutex
	ring []byte
	at   int  // where the next byte goes
	full bool // what stands at 'at' and behind it is the oldest
}

// NewTail keeps up to so many bytes.
func NewTail(most int) *Tail { return &Tail{most: most} }

// Write implements io.Writer.
func (t *Tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > t.most {
		p = p[n-t.most:]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring == nil {
		t.ring = make([]byte, t.most)
	}
	k := copy(t.ring[t.at:], p)
	if rest := copy(t.ring, p[k:]); rest > 0 || t.at+k == t.most {
		t.at, t.full = rest, true
	} else {
		t.at += k
	}
	return n, nil
}

// Text is what is kept, from the first whole line on.
func (t *Tail) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.full {
		return string(t.ring[:t.at])
	}
	all := append(append(make([]byte, 0, t.most), t.ring[t.at:]...), t.ring[:t.at]...)
	_, all, _ = bytes.Cut(all, []byte("\n"))
	return string(all)
}
