package sim

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

const (
	rememberBlocks = 16
	readEvery      = 10 * time.Millisecond
)

// remember notes a block that the client has just written.
func (c *blockClient) remember(b int) {
	c.lately = append(slices.DeleteFunc(c.lately, func(x int) bool { return x == b }), b)
	if len(c.lately) > rememberBlocks {
		c.lately = c.lately[1:]
	}
}

// readAt has the observer read at a host, as long as that takes itself for the
// volume's writer, what the client wrote last: of a writer that has been deposed,
// what it would show as it was before. The client is in a hurry meanwhile.
func (s *simulation) readAt(c *blockClient, h *host) (stop func()) {
	if c == nil || h == nil {
		return nil
	}
	over := false
	c.readers++
	s.c.Go(func() {
		for ; !over && !s.ending; clock.Sleep(s.c, readEvery) {
			if h.serving() && c.writing(h) != nil && len(c.lately) > 0 {
				s.observer.lookAt(c, h, slices.Clone(c.lately[max(0, len(c.lately)-observeBlocks):]))
			}
		}
	})
	return func() {
		if !over {
			over = true
			c.readers--
		}
	}
}
