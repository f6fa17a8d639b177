package sim

// What is left of a volume whose memory was lost everywhere is what it was at one
// moment after the last flush, as with a disk that loses its cache: a write that
// was acknowledged before another was submitted is not missing where the other is
// there. A client reads its whole volume before it goes on after such a loss, and
// holds what it finds against the order of what it did.

// logged notes a write that was submitted, until the next flush.
func (c *blockClient) logged(b int, tag uint64) {
	c.since.writes = append(c.since.writes, &orderedWrite{client: c, block: b, tag: tag, submitted: c.s.groups.moment})
}

// landedInLog notes that it was acknowledged.
func (c *blockClient) landedInLog(b int, tag uint64) {
	for i := len(c.since.writes) - 1; i >= 0; i-- {
		if w := c.since.writes[i]; w.block == b && w.tag == tag {
			w.done = c.s.groups.moment
			return
		}
	}
}

// audit reads the volume and looks for writes that are missing before others that
// are there. It reports whether it came to its end.
func (c *blockClient) audit() bool {
	holds := make([]uint64, volumeBlocks)
	for b := 0; b < volumeBlocks; b += depth {
		var ops []*operation
		for i := range depth {
			ops = append(ops, c.reading(b+i))
		}
		if !c.submit(ops) {
			return false
		}
		for i, o := range ops {
			holds[b+i], _ = tagOf(o.req.Data, c.n, b+i)
			c.spare = append(c.spare, o.req.Data)
		}
	}
	c.lostCache = false
	c.s.audits++
	c.inOrder(holds)
	c.since = ordered{}
	return true
}

// inOrder checks that what the blocks hold is a prefix of what was written.
func (c *blockClient) inOrder(holds []uint64) {
	var last *orderedWrite
	for _, w := range c.since.writes {
		if (last == nil || w.submitted > last.submitted) && w.tag != 0 && holds[w.block] == w.tag {
			last = w
		}
	}
	for _, w := range c.since.writes {
		if last != nil && w.done != 0 && w.done < last.submitted && c.since.lacks(w, holds[w.block]) {
			c.s.fail("client %d: after a loss of the cache write %d is there, and write %d to block %d, which was acknowledged before, is not (invariant 1: a prefix of what was written is left)",
				c.n, last.tag, w.tag, w.block)
			return
		}
	}
}
