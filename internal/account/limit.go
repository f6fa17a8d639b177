package account

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Limits of failed log-ins: so many at once, and then one in each time. They are
// counted by the host that is asked.
const (
	userBurst   = 10
	userEvery   = time.Minute
	fromBurst   = 20
	fromEvery   = 15 * time.Second
	maxCounters = 8192
)

// TooMany says that an attempt was not looked at, and when to try again.
type TooMany struct {
	After time.Duration
	why   string
}

// Error implements error.
func (e *TooMany) Error() string {
	return fmt.Sprintf("%s; try again in %v", e.why, max(e.After, time.Second).Round(time.Second))
}

// Unwrap gives the error its kind.
func (e *TooMany) Unwrap() error { return holdfast.Errorf(holdfast.Busy, "%s", e.why) }

// limiter counts failed log-ins by user and by address.
type limiter struct {
	mu          sync.Mutex
	users, from counters
}

func newLimiter() *limiter {
	return &limiter{users: counters{burst: userBurst, every: userEvery, m: map[string]counter{}},
		from: counters{burst: fromBurst, every: fromEvery, m: map[string]counter{}}}
}

// take counts an attempt as failed before it is looked at, so that many at once
// are no way around; known: the user has logged in from there before.
func (l *limiter) take(now time.Duration, user, from string, known bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := l.from.wait(now, from)
	if !known {
		wait = max(wait, l.users.wait(now, user))
	}
	if wait > 0 {
		return &TooMany{After: wait, why: "too many wrong passwords were given"}
	}
	l.from.add(now, from, 1)
	if !known {
		l.users.add(now, user, 1)
	}
	return nil
}

// good takes back what take counted.
func (l *limiter) good(now time.Duration, user, from string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from.add(now, from, -1)
	if !known {
		l.users.add(now, user, -1)
	}
}

// forgive lets a user in again at once, as far as others' attempts hinder it.
func (l *limiter) forgive(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.users.m, user)
}

// counters are failures that are forgotten, one after each time.
type counters struct {
	burst float64
	every time.Duration
	m     map[string]counter
}

type counter struct {
	n  float64
	at time.Duration
}

func (c *counters) count(now time.Duration, key string) float64 {
	x := c.m[key]
	return max(0, x.n-float64(now-x.at)/float64(c.every))
}

func (c *counters) wait(now time.Duration, key string) time.Duration {
	return time.Duration(max(0, c.count(now, key)-c.burst+1) * float64(c.every))
}

func (c *counters) add(now time.Duration, key string, n float64) {
	sum := c.count(now, key) + n
	if sum <= 0 {
		delete(c.m, key)
		return
	}
	if _, there := c.m[key]; !there && len(c.m) >= maxCounters {
		c.tidy(now)
	}
	c.m[key] = counter{sum, now}
}

// tidy makes room: first what is forgotten anyway, then whoever failed least.
func (c *counters) tidy(now time.Duration) {
	least, at := 0.0, ""
	for k := range c.m {
		n := c.count(now, k)
		if n == 0 {
			delete(c.m, k)
		} else if at == "" || n < least || n == least && k < at {
			least, at = n, k
		}
	}
	if len(c.m) >= maxCounters {
		delete(c.m, at)
	}
}

// place is what counts as one address: of IPv6, a whole network of 64 bits, of
// which one computer has all.
func place(from string) string {
	a, err := netip.ParseAddr(from)
	if err != nil {
		return from
	}
	if a = a.Unmap(); a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.String()
	}
	return a.String()
}
