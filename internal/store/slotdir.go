package store

// How the slot directory stands in the catalog: what a cleaner moved together
// it moved in order, so that most runs are told by one byte each.

const (
	runSame   = 1 << 0 // in the segment of the run before
	runBehind = 1 << 1 // at the unit behind that run's last there
	runBlock  = 1 << 2 // as long as a block
	runGap    = 4      // the bits from here on: blocks between that run and this
	runFar    = 15     // as a gap: the slot follows; it is no whole number of blocks, or many
)

// moved encodes the runs of a segment.
func (w *catalogWriter) moved(runs []run) {
	w.u32(uint32(len(runs)))
	var was run
	for _, r := range runs {
		gap := min((uint32(r.slot)-was.end())/blockUnit, runFar)
		if was.end()+gap*blockUnit != uint32(r.slot) {
			gap = runFar
		}
		flags := uint8(gap << runGap)
		if r.seg == was.seg {
			flags |= runSame
		}
		if r.dst == was.dst+was.n {
			flags |= runBehind
		}
		if r.n == blockUnit {
			flags |= runBlock
		}
		w.u8(flags)
		if flags&runSame == 0 {
			w.u32(r.seg)
		}
		if gap == runFar {
			w.u16(r.slot)
		}
		if flags&runBehind == 0 {
			w.u16(r.dst)
		}
		if flags&runBlock == 0 {
			w.u16(r.n)
		}
		was = r
	}
}

// moved decodes the runs of a segment of so many slots.
func (c *catalogReader) moved(segUnits uint32) []run {
	var runs []run
	var was run
	for range c.count(1) {
		r := run{seg: was.seg, slot: was.slot + was.n, dst: was.dst + was.n, n: blockUnit}
		flags := c.u8()
		if flags&runSame == 0 {
			r.seg = c.u32()
		}
		if gap := uint16(flags >> runGap); gap == runFar {
			r.slot = c.u16()
		} else {
			r.slot += gap * blockUnit
		}
		if flags&runBehind == 0 {
			r.dst = c.u16()
		}
		if flags&runBlock == 0 {
			r.n = c.u16()
		}
		if r.n == 0 || r.end() > segUnits || uint32(r.slot) < was.end() {
			c.bad("a slot directory is out of order")
		}
		if c.err != nil {
			return nil
		}
		runs = append(runs, r)
		was = r
	}
	return runs
}
