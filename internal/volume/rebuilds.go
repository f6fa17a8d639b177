package volume

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// rebuilds is who may build copies from and to this host now, and how fast
// (STORE §9, adr/0052).
type rebuilds struct {
	mu    sync.Mutex // innermost but for the governors'
	desk  desk
	disks map[holdfast.DiskID]*governor
	links map[holdfast.HostID]*governor // to other hosts
}

// diskGovernor is the governor of one of this host's disks.
func (s *Service) diskGovernor(id holdfast.DiskID) *governor {
	b := &s.rebuilds
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.disks[id]
	if g == nil {
		g = newGovernor(s.RebuildRate)
		b.disks[id] = g
	}
	return g
}

// linkGovernor is the governor of what is sent to another host; nil: it is this one.
func (s *Service) linkGovernor(id holdfast.HostID) *governor {
	if id == s.Self {
		return nil
	}
	b := &s.rebuilds
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.links[id]
	if g == nil {
		g = newGovernor(0)
		b.links[id] = g
	}
	return g
}

// takeSeat gives a rebuild of an open volume a seat of this host, or says how
// many are before it.
func (s *Service) takeSeat(v *Volume, ref cluster.Replica, rank uint64, since, now time.Duration) (ok bool, ahead int) {
	b := &s.rebuilds
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.desk.ask(claim{id: ref.ID, disk: ref.Disk, peer: ref.Host, rank: rank, since: since, wake: v.tick.Set}, now)
}

// leaveSeat gives that seat back, and tells those who may have it.
func (s *Service) leaveSeat(id holdfast.ReplicaID) {
	b := &s.rebuilds
	b.mu.Lock()
	b.desk.released(id)
	next := b.desk.next(s.Clock.Now())
	b.mu.Unlock()
	for _, c := range next {
		if c.wake != nil {
			c.wake()
		}
	}
}

// serveSeat gives a copy that is to come here a seat at its disk.
func (s *Service) serveSeat(from holdfast.HostID, in transport.Frame, reply func(transport.Frame, error)) {
	a, rest, err := replica.DecodeAsk(in.Head)
	var w replica.SeatAsk
	if err == nil {
		w, err = replica.DecodeSeatAsk(rest)
	}
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	now := s.Clock.Now()
	var seat replica.Seat
	b := &s.rebuilds
	b.mu.Lock()
	if w.Leave {
		b.desk.leave(a.Replica, true)
	} else {
		var ahead int
		seat.Granted, ahead = b.desk.ask(claim{id: a.Replica, taking: true, disk: w.Disk, peer: from, rank: w.Rank, since: now - w.Waited}, now)
		seat.Ahead = uint32(ahead)
	}
	g := b.disks[w.Disk]
	b.mu.Unlock()
	if g != nil {
		seat.Limit, seat.Cap = g.limit(now)
	}
	reply(transport.Frame{Head: seat.AppendTo(nil)}, nil)
}

// rank is the volume's place among others that are to be rebuilt.
func (v *Volume) rank() uint64 {
	priority := 0
	if f := v.s.Priority; f != nil {
		priority = f(v.id)
	}
	rec := v.Record()
	return rankOf(&rec, priority)
}

// seated gets the joiner its seat at the disk that it goes to. Kind Busy: there is
// none now.
func (j *joiner) seated() error {
	s := j.v.s
	for {
		seat, err := j.askSeat(false)
		if err != nil {
			return err
		}
		b := &s.rebuilds
		b.mu.Lock()
		keeps := false
		if seat.Granted {
			b.desk.granted(j.ref.ID)
		} else {
			keeps = b.desk.refuse(j.ref.ID, int(seat.Ahead), s.Clock.Now())
		}
		b.mu.Unlock()
		switch {
		case seat.Granted:
			return nil
		case !keeps:
			return holdfast.Errorf(holdfast.Busy, "%d others are before it on host %s", seat.Ahead, j.ref.Host.Short())
		}
		j.v.waitsFor(j.ref, int(seat.Ahead))
		clock.Sleep(s.Clock, refusedAt)
		if err := j.v.Err(); err != nil {
			return err
		}
	}
}

func (j *joiner) askSeat(leave bool) (seat replica.Seat, err error) {
	v := j.v
	now := v.s.Clock.Now()
	j.seatAsked = now
	w := replica.SeatAsk{Disk: j.ref.Disk, Rank: j.rank, Waited: now - j.since, Leave: leave}
	f, err := v.s.ask(j.ref, replica.KindSeat, replica.Ask{Epoch: v.epoch}, w.AppendTo(nil), nil)
	if err != nil {
		return seat, err
	}
	return replica.DecodeSeat(f.Head)
}

// seatEvery is how often a seat is asked for again, to keep it.
const seatEvery = time.Second

// keepSeat says that the seat is still needed, and notes how fast it may go.
func (j *joiner) keepSeat() error {
	v := j.v
	now := v.s.Clock.Now()
	if now-j.seatAsked < seatEvery {
		return nil
	}
	seat, err := j.askSeat(false)
	if err != nil {
		return err
	}
	if !seat.Granted {
		return holdfast.Errorf(holdfast.Busy, "host %s gave the seat to another", j.ref.Host.Short())
	}
	limit, by := seat.Limit, limitedBy(seat.Limit, seat.Cap, "its disk")
	slower := func(g *governor, what string) {
		if l, byCap := g.limit(now); l > 0 && (limit == 0 || l < limit) {
			limit, by = l, limitedBy(l, byCap, what)
		}
	}
	slower(v.s.linkGovernor(j.ref.Host), "the link")
	v.mu.Lock()
	local := v.local
	v.mu.Unlock()
	if local != nil {
		slower(local.governor, "the source's disk")
	}
	v.mu.Lock()
	v.copy.limit, v.copy.by = limit, by
	v.mu.Unlock()
	return nil
}

func limitedBy(limit int64, byCap bool, where string) string {
	switch {
	case limit == 0:
		return ""
	case byCap:
		return "rebuild_rate at " + where
	}
	return "the foreground at " + where
}

// Rebuilding counts the copies of this host's open volumes that are being built or
// brought up to date.
type Rebuilding struct {
	Working, Waiting int
}

// Rebuilding tells how many copies of the volumes that are open here are being
// brought up to date, and how many wait for their turn.
func (s *Service) Rebuilding() (r Rebuilding) {
	for _, m := range s.Mendings() {
		if m.Waits {
			r.Waiting++
		} else {
			r.Working++
		}
	}
	return r
}

// waitsFor notes that a replica of the volume waits for its turn.
func (v *Volume) waitsFor(ref cluster.Replica, ahead int) {
	v.mu.Lock()
	v.wait.to, v.wait.ahead, v.wait.at = ref.Host, ahead, v.s.Clock.Now()
	v.mu.Unlock()
}

// waiting is a replica that waits for its turn to be brought up to date.
type waiting struct {
	of    holdfast.ReplicaID
	since time.Duration // since when, without a pause
	at    time.Duration // when that was last so
	to    holdfast.HostID
	ahead int
}

// gentleBlocks is how many blocks are written at once while somebody else uses
// the disk.
const gentleBlocks = 32

// ingest puts blocks into the replica at the pace of its disk.
func (m *member) ingest(c clock.Clock, a store.Attempt, blocks []store.Block) error {
	for len(blocks) > 0 {
		n := len(blocks)
		if m.governor.gently(c.Now()) {
			n = min(n, gentleBlocks)
		}
		m.governor.pace(c, bytesOf(blocks[:n]))
		if err := m.r.Ingest(a, blocks[:n]); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

func bytesOf(blocks []store.Block) (n int) {
	for i := range blocks {
		n += len(blocks[i].Data)
	}
	return n
}
