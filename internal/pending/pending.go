// Package pending keeps what somebody has begun and is to finish soon, such as a log-in
// that goes by an issuer or a passkey: under a secret, for a time, and bounded, also
// for each address. Each is taken once.
package pending

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Limits bound a List.
type Limits struct {
	Life time.Duration // after which it is gone
	Most int           // at once
	From int           // of one address; the oldest goes for another
}

// List is what is pending. Its methods may be called from any goroutine.
type List[T any] struct {
	clock  clock.Clock
	limits Limits

	mu sync.Mutex
	m  map[string]entry[T]
}

type entry[T any] struct {
	val   T
	from  string
	began time.Duration
}

// New makes an empty one.
func New[T any](c clock.Clock, l Limits) *List[T] {
	return &List[T]{clock: c, limits: l, m: map[string]entry[T]{}}
}

// Put keeps v under a secret. False: there are as many as there may be.
func (l *List[T]) Put(secret, from string, v T) bool {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest string
	n := 0
	for s, x := range l.m {
		if now-x.began >= l.limits.Life {
			delete(l.m, s)
		} else if x.from == from {
			if n++; oldest == "" || x.began < l.m[oldest].began || x.began == l.m[oldest].began && s < oldest {
				oldest = s
			}
		}
	}
	if n >= l.limits.From {
		delete(l.m, oldest)
	}
	if len(l.m) >= l.limits.Most {
		return false
	}
	l.m[secret] = entry[T]{v, from, now}
	return true
}

// Take returns what is kept under a secret, and nobody gets it again; with mine, only
// if that says so, and it stays otherwise. fresh: it has not outlived its time.
func (l *List[T]) Take(secret string, mine func(T) bool) (v T, there, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, ok := l.m[secret]
	if !ok || mine != nil && !mine(x.val) {
		return v, false, false
	}
	delete(l.m, secret)
	return x.val, true, l.clock.Now()-x.began < l.limits.Life
}

// Len is how many there are, those that outlived their time among them.
func (l *List[T]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.m)
}
