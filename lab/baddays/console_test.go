package baddays

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/client"
)

// transcript is everything a VM's console has shown, over all connections to
// it. What the ring buffer shows again after a reconnection is in it again.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(b)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// end is the last part of what was said, for people.
func (t *transcript) end() string {
	s := t.String()
	return s[max(0, len(s)-1500):]
}

// different counts the different things that match.
func (t *transcript) different(pattern *regexp.Regexp) int {
	seen := map[string]bool{}
	for _, m := range pattern.FindAllString(t.String(), -1) {
		seen[strings.TrimSpace(m)] = true
	}
	return len(seen)
}

// listenTo follows a VM's console from whichever host answers, until the test
// ends.
func (s *scene) listenTo(vm string) *transcript {
	t := new(transcript)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, h := range s.l.Hosts {
				c := client.Socket(h.Socket())
				if con, err := c.Console(ctx, vm, false); err == nil {
					stop := context.AfterFunc(ctx, func() { con.Close() })
					_, _ = io.Copy(t, con) // until the console ends
					stop()
					con.Close()
				}
				c.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return t
}
