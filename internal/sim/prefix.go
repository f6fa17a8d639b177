package sim

// What is left of a volume whose memory was lost everywhere is what it was at one
// moment after the last flush, as with a disk that loses its cache: a write that
// was acknowledged before another was submitted is not missing where the other is
// there. A client reads its whole volume before it goes on after such a loss, and
// holds what it finds against the order of what it did.

// logged notes a write that was submitted, until the next flush.
func (c *blockClient) logged(b int, tag uint64) {
	w := &orderedWrite{client: c, block: b, tag: tag, submitted: c.s.groups.moment}
	w.lower, _ = c.reached()
	c.since.writes = append(c.since.writes, w)
	c.marks.wrote(w)
}

// landedInLog notes that it was acknowledged.
func (c *blockClient) landedInLog(b int, tag uint64) {
	for i := len(c.since.writes) - 1; i >= 0; i-- {
		if w := c.since.writes[i]; w.block == b && w.tag == tag {
			w.done = c.s.groups.moment
			if w.lower != 0 {
				_, w.upper = c.reached()
			}
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
	c.s.audits++
	c.inOrder(holds)
	c.since = ordered{}
	if c.forced != nil && !c.seenForced(holds) {
		return false
	}
	c.lostCache = false
	return true
}

// inOrder checks that what the blocks hold is a prefix of what was written.
func (c *blockClient) inOrder(holds []uint64) {
	if last, w := c.since.gap(holds); w != nil {
		c.s.fail("client %d: after a loss of the cache write %d is there, and write %d to block %d, which was acknowledged before, is not (invariant 1: a prefix of what was written is left)",
			c.n, last.tag, w.tag, w.block)
	}
}

// gap finds a write that is missing though it was acknowledged before another was
// submitted that is there; nil: there is none.
func (o *ordered) gap(holds []uint64) (last, missing *orderedWrite) {
	for _, w := range o.writes {
		if (last == nil || w.submitted > last.submitted) && w.tag != 0 && holds[w.block] == w.tag {
			last = w
		}
	}
	for _, w := range o.writes {
		if last != nil && w.done != 0 && w.done < last.submitted && o.lacks(w, holds[w.block]) {
			return last, w
		}
	}
	return nil, nil
}
