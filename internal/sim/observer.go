package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// observer reads the clients' volumes by sessions of its own, where the clients
// are not: above all at hosts that still take themselves for the writer.
type observer struct {
	s     *simulation
	rng   *rand.Rand
	reads int
}

const (
	observeEvery    = 150 * time.Millisecond // on average
	observePatience = 5 * time.Second
	observeBlocks   = 4
)

func (s *simulation) startObserver() *observer {
	o := &observer{s: s, rng: s.w.Rand("observer")}
	if !s.with("observer") {
		return o
	}
	s.c.Go(func() {
		for !s.ending {
			clock.Sleep(s.c, time.Duration(1+o.rng.Int64N(int64(2*observeEvery))))
			o.look()
		}
	})
	return o
}

// look reads a few blocks of a volume.
func (o *observer) look() {
	c := o.s.clients[o.rng.IntN(len(o.s.clients))]
	if h := o.where(c); h != nil {
		o.lookAt(c, h, o.rng.Perm(volumeBlocks)[:observeBlocks])
	}
}

// lookAt reads blocks of a volume at a host.
func (o *observer) lookAt(c *blockClient, h *host, blocks []int) {
	gen, may, excused := c.gen, c.model.watch(), h.deceived(c.vol)
	defer c.model.unwatch(may)
	got := make([][]byte, len(blocks))
	seen := make([]func(tag uint64), len(blocks))
	o.s.runOn(h, observePatience, func() {
		t := h.exports.targets[c.vol.ID.String()]
		if t == nil {
			return
		}
		d, err := t.Open(true)
		if err != nil {
			return
		}
		defer d.Close()
		w := c.writing(h)
		for i, b := range blocks {
			call := o.s.w.Now()
			got[i] = readBlock(h.agent, d, b)
			if end := o.s.w.Now(); w != nil && c.writing(h) == w {
				gen := w.Record().Generation
				seen[i] = func(tag uint64) { c.observed(b, tag, gen, int64(call), int64(end)) }
			}
		}
	})
	for i, data := range got {
		if data != nil {
			o.check(c, blocks[i], data, gen, may, excused || h.deceived(c.vol), seen[i])
		}
	}
}

// readBlock reads one block on a task of its host; nil if that fails.
func readBlock(c clock.Clock, d export.Disk, block int) []byte {
	ended := clock.NewFuture[error](c)
	data := make([]byte, holdfast.BlockSize)
	d.Submit(&export.Request{Op: export.Read, Off: int64(block) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: data,
		Done: func(_ *export.Request, err error) { ended.Resolve(err) }})
	if err, _ := ended.Wait(clock.Forever); err != nil {
		return nil
	}
	return data
}

// where chooses a host: one that writes the volume, as it believes, and is not
// where the client is, or else any.
func (o *observer) where(c *blockClient) *host {
	var writers, others []*host
	for _, h := range o.s.hosts {
		switch {
		case !h.serving():
		case h.node.Volumes.Opened(c.vol.ID) == nil:
			others = append(others, h)
		case c.disk == nil || c.h != h:
			writers = append(writers, h)
		}
	}
	switch {
	case len(writers) > 0:
		return writers[o.rng.IntN(len(writers))]
	case len(others) > 0 && o.rng.IntN(4) == 0:
		return others[o.rng.IntN(len(others))]
	}
	return nil
}

func (o *observer) check(c *blockClient, b int, data []byte, gen uint32, may [][]uint64, excused bool, seen func(uint64)) {
	o.reads++
	tag, ok := tagOf(data, c.n, b)
	if ok && seen != nil && !excused {
		seen(tag)
	}
	switch {
	case !ok:
		o.s.fail("observer: block %d of %s holds bytes that nobody wrote there (invariant 2)", b, c.vol.Name)
	case slices.Contains(may[b], tag) || excused || o.lost(c, gen):
	default:
		o.s.fail("observer: block %d of %s reads write %d, it may only hold %v (invariant 6)", b, c.vol.Name, tag, may[b])
	}
}

// lost reports whether the volume's memory has been lost since its generation
// was gen.
func (o *observer) lost(c *blockClient, gen uint32) bool {
	for {
		if st, err := o.s.eye.Refresh(); err == nil {
			return st.Volumes[c.vol.ID].Val.Generation != gen
		}
		clock.Sleep(o.s.c, time.Second)
	}
}
