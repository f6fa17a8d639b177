package store

// What the cleaner decides: when and how fast it works, which segment it
// empties, and where what lives in it goes. Under the store's lock. How it is
// done stands in cleaner.go; ADR 0053 has the reasons.

// levels are numbers of places. The cleaner keeps those that are free, or will be
// with the next checkpoint, between low and high: from high down it works ever
// faster for what the log takes, so that the two meet in between. Below low it
// works as fast as it can, and the log gets ever less of what that makes free,
// nothing at stall. When batch have been emptied, a checkpoint makes them free.
// With no more than stall free writers wait for one; what is on its way stops at
// floor.
type levels struct{ floor, stall, low, high, batch int }

// levels follow from the size of the disk and of its catalog.
func (s *Store) levels() levels {
	step := max(1, int(s.sb.places)/100)
	catalogs := 2 * max(1, len(s.catalog[0])) // the next checkpoint's
	if s.catalogList[0].known {
		catalogs += 2
	}
	inFlight := min(2, int(s.o.PressureBytes/s.sb.segmentBytes))
	l := levels{floor: 2 + step + catalogs, batch: 3 + 2*step}
	l.stall = l.floor + inFlight + 1
	l.low = l.stall + l.batch
	l.high = l.low + 1 + 2*step
	return l
}

// reservePercent of the places are kept for the cleaner and for what must
// always work: deleting, checkpoints, control records. On a small disk the
// cleaner needs more.
const reservePercent = 15

func (s *Store) reserve() int {
	return max(8, int(s.sb.places)*reservePercent/100, s.levels().high+1)
}

// usable is how many units may be live.
func (s *Store) usable() int64 {
	return int64(int(s.sb.places)-s.reserve()) * int64(s.space.segUnits())
}

// floor reports whether not even data that is on its way may be taken: what is
// left is for the log itself, checkpoints and the cleaner.
func (s *Store) floor() bool {
	return s.space.freePlaces() <= s.levels().floor+int(s.wal.pending/s.sb.segmentBytes)
}

// fullCatalog is from how many bytes of the catalog on nothing more is written: so
// far from the most that no next checkpoint exceeds that, as one is due whenever
// the log grew by 16 times the catalog.
const fullCatalog = maxCatalog / 4 * 3

// full reports whether writers have to wait for room: on the disk, or in what a
// checkpoint may say of it.
func (s *Store) full() bool {
	return s.space.live >= s.usable() || s.space.freePlaces() <= s.levels().stall || s.catalogBytes >= fullCatalog
}

// effort is how the cleaner works now.
type effort struct {
	factor float64 // of what the log's growth takes; 1 keeps the free places as many as they are
	urgent bool    // whether the log grows or not
}

// soon is the places that are free or will be with the next checkpoint.
func (s *Store) soon() int { return s.space.freePlaces() + s.cleaner.empty }

// effort is a proportional controller on them.
func (s *Store) effort() effort {
	l, soon := s.levels(), s.soon()
	switch {
	case soon > l.high:
		return effort{}
	case soon <= l.low:
		return effort{factor: 2, urgent: true}
	}
	return effort{factor: 2 * float64(l.high-soon) / float64(l.high-l.low)}
}

// owe notes that the log grew by some blocks: the cleaner must move as many as
// it takes to make as many free.
func (c *cleaner) owe(s *Store, blocks uint32) {
	if p := s.effort(); p.factor > 0 {
		c.owed += float64(blocks) * max(p.factor*c.costs, 1.0/64)
		if c.owed >= cleanChunk || p.urgent {
			s.kick()
		}
	}
	c.grant -= int64(blocks)
}

// granted reports whether the log may grow: above low always, below as far as
// the cleaner has made room, if it can.
func (s *Store) granted() bool {
	c := &s.cleaner
	return c.grant > 0 || c.idle || s.soon() > s.levels().low
}

// advance grants the log some room for as long as the cleaner has to wait for a
// checkpoint.
func (c *cleaner) advance(s *Store) {
	if l, soon := s.levels(), s.soon(); soon <= l.low {
		c.grant = max(c.grant, int64(soon-l.stall)*int64(s.space.segBlocks)/4)
	}
}

// gained notes that n blocks of the victim were moved.
func (c *cleaner) gained(s *Store, n int) {
	c.owed = max(0, c.owed-float64(n))
	l, soon := s.levels(), s.soon()
	if soon > l.low {
		c.grant = 0
		return
	}
	share := max(0.1, float64(soon-l.stall)/float64(l.low-l.stall))
	c.grant = max(0, c.grant) + int64(share*float64(n)/c.costs) + 1
}

// choose picks the segment to empty next, nil if none is worth it, and counts
// those that are empty and wait for a checkpoint.
func (s *Store) choose() (victim *segment) {
	empty := 0
	best := 0.0
	s.space.each(func(g *segment) {
		switch {
		case g.open || g.place == noPlace || g.readers > 0 || g.class == classLog && g.num >= s.ckptSeg:
		case g.resident == 0:
			empty++
		case g.class == classMeta && s.space.next-g.num < s.sb.places/4:
			// Pages of a map that changes die soon by themselves.
		case g.resident*100 <= int(s.space.segUnits())*95:
			if x := s.worth(g); x > best {
				victim, best = g, x
			}
		}
	})
	s.cleaner.empty = empty
	return victim
}

// worth is how little is lost by emptying a segment now rather than later.
// Emptying costs 1/e per block gained, where e is the empty share; that falls by
// de/dt / e² while the segment is left alone. Where blocks die seldom waiting
// brings nothing, where they die fast it pays to wait. If all die at the same
// rate the emptiest comes first. (Lomet and Luo, Efficiently reclaiming space in
// a log structured store, 2020.)
func (s *Store) worth(g *segment) float64 {
	empty := float64(int(s.space.segUnits()) - g.resident)
	return empty * empty * float64(1+s.space.marked-g.died)
}

// settleNow reports whether empty segments should be made free by a checkpoint.
// It takes places itself, for pages of the map: with too few of them nothing
// would be gained, however often it is made.
func (s *Store) settleNow() bool {
	l, free, empty := s.levels(), s.space.freePlaces(), s.cleaner.empty
	switch {
	case free > l.high:
		return false
	case free <= l.floor || s.cleaner.idle:
		return empty > 0
	case free <= l.stall+1:
		return 2*empty >= l.batch
	}
	return empty >= l.batch && int64(empty)*s.sb.segmentBytes >= 16*int64(s.catalogBytes)
}

// lane is an open segment that the cleaner fills. What lies together in one
// should die together.
type lane uint8

const (
	laneWarm lane = iota // lived on once
	laneCold             // lived on in what the cleaner had gathered
	lanes
)

// destination decides where what lives in a segment goes: the one place where
// temperature, and tiers once there are some, decide.
func (s *Store) destination(from *segment) lane {
	if from.class == classLog {
		return laneWarm
	}
	return laneCold
}
