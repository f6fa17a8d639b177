package memdisk

import "math/rand/v2"

// Crash takes the power away: the life ends, and every sector that was written
// but not synced is kept or lost by itself, in one of several manners from all
// to none, drawn anew each time, for all writes or for each by itself. The order of
// writes counts for nothing, as on real disks, except that a kept later write covers
// a kept earlier one.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	each := d.rng.IntN(3) == 0 // half of the writes are whole, wherever they stand
	keep := drawSurvival(d.rng, sectorsOf(d.pending))
	for _, w := range d.pending {
		switch {
		case each && d.rng.IntN(2) == 0:
			keep = func(uint8) uint8 { return allOf }
		case each:
			keep = drawSurvival(d.rng, len(w.pieces)*perPage)
		}
		for _, p := range w.pieces {
			d.land(p, keep(p.mask))
		}
	}
	d.pending = nil
	clear(d.cache)
}

// Kill ends the life as SIGKILL does: what was written stays in the cache and
// is still not synced; of writes under way any subset of sectors arrives.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	d.shrinkUnderWay()
}

// Evict has reads see nothing any more of writes whose sync failed, but what of them
// is durable: an operating system keeps them in its page cache for as long as it
// likes.
func (d *Disk) Evict() {
	d.mu.Lock()
	defer d.mu.Unlock()
	pending := d.pending
	d.pending = nil
	clear(d.cache)
	for _, w := range pending {
		d.accept(w)
	}
}

// shrinkUnderWay replaces writes that have not returned by a part of each, and
// rebuilds the cache from what remains.
func (d *Disk) shrinkUnderWay() {
	torn := false
	var rest []*write
	for _, w := range d.pending {
		if !w.returned {
			torn = true
			w = &write{pieces: tear(d.rng, w.pieces), returned: true}
		}
		rest = append(rest, w)
	}
	if !torn {
		return
	}
	d.pending = nil
	clear(d.cache)
	for _, w := range rest {
		d.accept(w)
	}
}

// end closes the life, if there is one; its calls under way fail.
func (d *Disk) end() {
	if l := d.life; l != nil {
		d.life = nil
		l.over = true
		d.faults.wakeHung()
	}
}

func sectorsOf(ws []*write) (n int) {
	for _, w := range ws {
		n += len(w.pieces) * perPage
	}
	return n
}

// tear returns any subset of the sectors of a write.
func tear(rng *rand.Rand, ps []piece) []piece {
	keep := drawSurvival(rng, len(ps)*perPage)
	var out []piece
	for _, p := range ps {
		if p.mask &= keep(p.mask); p.mask != 0 {
			out = append(out, p)
		}
	}
	return out
}

// drawSurvival chooses a manner of crash and returns a function that says, for
// one piece after the other, which of its sectors survive.
func drawSurvival(rng *rand.Rand, sectors int) func(mask uint8) uint8 {
	switch rng.IntN(6) {
	case 0: // nothing had left the cache
		return func(uint8) uint8 { return 0 }
	case 1: // everything had
		return func(uint8) uint8 { return allOf }
	case 2: // a prefix, cut inside a write
		left := rng.IntN(sectors + 1)
		return func(uint8) uint8 {
			n := min(left, perPage)
			left -= n
			return uint8(1<<n - 1)
		}
	case 3: // a few were lost
		return func(uint8) uint8 { return ^rare(rng) }
	case 4: // a few survived
		return func(uint8) uint8 { return rare(rng) }
	}
	return func(uint8) uint8 { return uint8(rng.Uint64()) }
}

// rare sets each bit with a chance of 1/16.
func rare(rng *rand.Rand) uint8 {
	x := rng.Uint64()
	return uint8(x & (x >> 8) & (x >> 16) & (x >> 24))
}
