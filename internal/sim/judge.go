package sim

import (
	"math"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/history"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Beside the model, which checks every read when it is answered, what the clients
// did is taken down and given to another judge at the end, that knows nothing of
// the model (internal/history).

// historyKind is what a client's request is in its history; a zero is a write of
// zeroes.
func historyKind(op export.Op) history.Kind {
	switch op {
	case export.Read:
		return history.Read
	case export.Flush:
		return history.Flush
	}
	return history.Write
}

// note takes down that an operation is submitted.
func (c *blockClient) note(o *operation) {
	h := history.Op{Kind: historyKind(o.req.Op), Client: c.n, Gen: c.gen, FUA: o.req.FUA, Call: int64(c.s.w.Now())}
	if h.Kind != history.Flush {
		h.Block, h.Value = uint64(o.block), o.tag
	}
	o.noted = c.did.Begin(h)
}

// noteEnd takes down what came of it. A read of bytes that nobody wrote has been
// told already.
func (c *blockClient) noteEnd(o *operation, good bool) {
	tag, whole := o.tag, true
	if good && o.req.Op == export.Read {
		tag, whole = tagOf(o.req.Data, c.n, o.block)
	}
	if good && whole {
		c.did.End(o.noted, int64(c.s.w.Now()), tag)
	} else {
		c.did.GiveUp(o.noted, int64(c.s.w.Now()))
	}
}

// observed takes down a read by the observer, through the writer of a generation.
func (c *blockClient) observed(block int, tag uint64, gen uint32, call, end int64) {
	if gen < c.since0 || call < c.sinceAt {
		return // of a history that was judged, or of what was read before the next one began
	}
	n := c.did.Begin(history.Op{Kind: history.Read, Client: clients + c.n, Block: uint64(block), Gen: gen, Call: call})
	c.did.End(n, end, tag)
}

// kept takes down that a snapshot was taken of the client's volume; h wrote it.
func (c *blockClient) kept(k *keptSnapshot, h *host, known uint32) {
	gen := uint32(math.MaxUint32) // whichever
	k.of = c.did
	if h != nil && h.serving() && c.writing(h) != nil {
		gen = max(known, c.writing(h).Record().Generation)
	}
	n := c.did.Begin(history.Op{Kind: history.Keep, Client: c.n, Snap: k.n, Gen: gen, Call: k.asked})
	c.did.End(n, int64(c.s.w.Now()), 0)
}

// setBack takes down that the client's volume is being set back by its writer, and
// returns what notes what came of it.
func (c *blockClient) setBack(k *keptSnapshot, w *volume.Volume) (done func(error)) {
	did := c.did // a volume that is forced open meanwhile begins another
	n := did.Begin(history.Op{Kind: history.Revert, Client: c.n, Snap: k.n, Gen: max(c.gen, w.Record().Generation), Call: int64(c.s.w.Now())})
	return func(err error) {
		switch {
		case err == nil:
			did.End(n, int64(c.s.w.Now()), 0)
		case holdfast.IsKind(err, holdfast.Busy): // refused, and what was written before may still be under way
			did.Withdraw(n)
		default:
			did.GiveUp(n, int64(c.s.w.Now()))
		}
	}
}

// judge has every client's history judged, once. What comes after it, as when
// disks lie and records are set back, is not in the histories.
func (s *simulation) judge() {
	s.judged = true
	for _, c := range s.clients {
		c.judge()
	}
}

// judge has what the client did so far judged.
func (c *blockClient) judge() {
	v, err := history.Check(c.did.Ops())
	if err != nil {
		c.s.fail("the history of client %d cannot be judged: %v", c.n, err)
	}
	for i := range v.Violations[:min(1, len(v.Violations))] {
		c.s.fail("client %d: %v (invariants 1, 6, 11, by Porcupine)", c.n, &v.Violations[i])
	}
	c.s.res.Judged += v.Reads
	c.did = nil
}

// beginHistory begins a history with what the volume holds, on disk.
func (c *blockClient) beginHistory(holds []uint64) {
	if c.s.judged {
		return
	}
	c.did, c.since0 = new(history.Recorder), c.gen
	now := int64(c.s.w.Now())
	c.sinceAt = now
	for b, tag := range holds {
		c.did.End(c.did.Begin(history.Op{Kind: history.Write, Client: c.n, Gen: c.gen, Block: uint64(b), Value: tag, Call: now}), now, 0)
	}
	c.did.End(c.did.Begin(history.Op{Kind: history.Flush, Client: c.n, Gen: c.gen, Call: now}), now, 0)
}

// writing returns the writer of the client's volume on a host, nil if it has none.
func (c *blockClient) writing(h *host) *volume.Volume {
	if h.node == nil {
		return nil
	}
	return h.node.Volumes.Opened(c.vol.ID)
}
