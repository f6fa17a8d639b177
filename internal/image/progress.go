package image

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// interval is the least time between two reports of progress.
const interval = 500 * time.Millisecond

// meter turns counts into a rate that follows changes within some seconds.
type meter struct {
	clk  clock.Clock
	last time.Duration
	done int64
	rate float64 // bytes per second
}

func (m *meter) start(clk clock.Clock) {
	if m.clk = clk; clk != nil {
		m.last = clk.Now()
	}
}

// weight is the share of the newest interval in the rate.
const weight = 0.3

// tick reports whether it is time for a report, and updates the rate if so.
func (m *meter) tick(done int64, final bool) bool {
	if m.clk == nil {
		return final
	}
	now := m.clk.Now()
	passed := now - m.last
	if passed < interval && !final {
		return false
	}
	if passed > 0 {
		latest := float64(done-m.done) / passed.Seconds()
		switch {
		case m.rate == 0:
			m.rate = latest
		case passed >= interval:
			m.rate += weight * (latest - m.rate)
		}
		m.last, m.done = now, done
	}
	return true
}

func (im *importer) report(final bool) {
	if im.opt.Progress == nil || !im.meter.tick(im.done, final) {
		return
	}
	p := Progress{Done: im.done, Stored: im.stored, Total: im.opt.Size, Rate: int64(im.meter.rate), ETA: -1}
	if final {
		p.Total, p.ETA = im.done, 0
	} else if im.opt.Size > 0 && im.meter.rate > 0 {
		p.ETA = time.Duration(float64(im.opt.Size-im.done) / im.meter.rate * float64(time.Second))
	}
	im.opt.Progress(p)
}

// human prints a number of bytes in binary units, three digits or so.
func human(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, u := float64(n), -1
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	return fmt.Sprintf("%.4g %ciB", v, units[u])
}
