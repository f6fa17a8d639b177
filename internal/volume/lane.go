package volume

import (
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/fair"
)

// Room for records under way to a disk of another host, in bytes: while several
// volumes send there, and for one that does alone, which its own frames bound.
const (
	laneShared = 512 << 10
	laneAlone  = 2 * maxFlying * frameBytes
)

// lane is the way to a disk of another host. The volumes that this host writes
// share it by weight: what is sent to a host leaves in the order in which it was
// put, so that the frames of one which has much to send would stand before the
// single one of another (docs/adr/0051-turns-by-weight.md).
//
// Lock order: a volume's, then mu.
type lane struct {
	mu   sync.Mutex
	gate fair.Gate
}

// lanePlace is a volume's place on a lane.
type lanePlace struct {
	on   *lane
	flow fair.Flow
	wake func()
}

// lane returns the way to a disk.
func (s *Service) lane(id holdfast.DiskID) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[id]
	if l == nil {
		l = &lane{gate: fair.New(laneShared, laneAlone)}
		s.lanes[id] = l
	}
	return l
}

// newPlace gives a volume its place on a lane.
func newPlace(v *Volume, l *lane) *lanePlace {
	return &lanePlace{on: l, wake: v.sendTurn}
}

// may reports whether a frame may be sent now; if not, the volume's turn comes.
func (p *lanePlace) may(weight int) bool {
	p.on.mu.Lock()
	defer p.on.mu.Unlock()
	p.flow.SetWeight(weight)
	return p.on.gate.Ask(&p.flow, false, p.wake)
}

// take notes so many bytes that are under way.
func (p *lanePlace) take(n int64) {
	p.on.mu.Lock()
	defer p.on.mu.Unlock()
	p.on.gate.Take(&p.flow, n)
}

// give notes that they are not any more; letIn follows.
func (p *lanePlace) give(n int64) {
	p.on.mu.Lock()
	defer p.on.mu.Unlock()
	p.on.gate.Give(&p.flow, n)
}

// letIn lets those send whose turn has come, until the room is full or nobody
// waits: so whoever waits does so for frames under way. No volume's lock is held.
func (l *lane) letIn() {
	for wake := l.next(); wake != nil; wake = l.next() {
		wake()
	}
}

func (l *lane) next() (wake func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gate.Next()
}

// sendTurn sends what waited for its turn.
func (v *Volume) sendTurn() {
	v.mu.Lock()
	v.pump()
	done := v.takeDone()
	v.mu.Unlock()
	tell(done)
}
