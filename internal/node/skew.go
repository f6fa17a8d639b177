package node

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// kindClock asks another host what time it is (docs/protocol/clock.md).
const kindClock transport.Kind = 0x59

// Clocks on the wall are compared because people, schedules and logs go by them;
// nothing that is safe or not depends on one.
const (
	clockEvery   = 15 * time.Second // between comparisons
	clockCall    = 2 * time.Second  // for another host's answer
	skewRaised   = 2 * time.Second  // by which a clock is surely off before it is told
	skewCleared  = time.Second      // and surely not any more
	clockAnswer  = 8                // bytes
	clocksNeeded = 3                // of which the middle one is believed
)

// offset is by how much another host's wall clock is ahead of this one's, within
// bounds: the answer was given at some moment between question and receipt.
type offset struct {
	host        string
	least, most time.Duration
}

// serveClock tells what time it is here.
func (n *Node) serveClock(_ holdfast.HostID, _ transport.Frame, reply func(transport.Frame, error)) {
	reply(transport.Frame{Head: binary.LittleEndian.AppendUint64(nil, uint64(n.Clock.Wall().UnixMilli()))}, nil)
}

// askClock compares the clock of another host with this one's.
func (n *Node) askClock(id holdfast.HostID) (o offset, err error) {
	began, wall := n.Clock.Now(), n.Clock.Wall()
	f, err := transport.Call(n.Clock, n.Net, id, transport.Frame{Kind: kindClock}, clockCall)
	took := n.Clock.Now() - began // by the clock that nobody sets
	if err != nil {
		return o, err
	}
	if len(f.Head) < clockAnswer {
		return o, holdfast.Errorf(holdfast.Corrupt, "an answer of %d bytes to what time it is, %d are needed", len(f.Head), clockAnswer)
	}
	o.most = between(wall, int64(binary.LittleEndian.Uint64(f.Head))) + time.Millisecond
	o.least = o.most - took - 2*time.Millisecond // what was told is cut to milliseconds
	return o, nil
}

// between is from a moment to another one, told in milliseconds since 1970; at
// most 200 years either way.
func between(from time.Time, to int64) time.Duration {
	const most = 200 * 365 * 24 * 3600 * 1000
	at := from.UnixMilli()
	return time.Duration(min(max(to, at-most), at+most)-at) * time.Millisecond
}

// compareClocks compares this host's clock with those of all others that answer,
// and says if it is off: every host answers for its own.
func (n *Node) compareClocks() {
	st := n.Cluster.State()
	var others []offset
	for _, a := range st.SortedAlive() {
		if a.Val.Host == n.Self {
			continue
		}
		if o, err := n.askClock(a.Val.Host); err == nil {
			o.host = st.Hosts[a.Val.Host].Val.Name
			others = append(others, o)
		}
	}
	n.Condition("clock-skew", "warning", skewText(others, n.toldSkew))
	n.conds.mu.Lock()
	_, n.toldSkew = n.conds.set["clock-skew"]
	n.conds.mu.Unlock()
}

// skewText says that this host's clock is off, "" if it is not. With three clocks
// or more the middle one is believed; of two nobody knows which is right. told
// says that it is being told already.
func skewText(others []offset, told bool) string {
	bound := skewRaised
	if told {
		bound = skewCleared
	}
	if len(others) == 0 {
		return ""
	}
	slices.SortFunc(others, offset.compare)
	if len(others)+1 < clocksNeeded {
		if by := others[0].surely(); by.Abs() > bound {
			return fmt.Sprintf("its clock and that of host %s differ by %s; nobody knows which is right: set them, or have NTP do it", others[0].host, about(by))
		}
		return ""
	}
	m := middle(others)
	by := m.surely()
	if by.Abs() <= bound {
		return ""
	}
	way := "behind"
	if by < 0 {
		way = "ahead of"
	}
	return fmt.Sprintf("its clock is %s %s those of the other hosts (most of %d): set it, or have NTP do it; nothing is unsafe, but what is told with a time, or to happen at one, is off", about(by), way, len(others)+1)
}

// middle is the offset of the clock that as many are ahead of as behind, this
// host's own, which is off by nothing, among them; of two in the middle the one
// that is nearer to this host's.
func middle(others []offset) offset {
	all := slices.Clone(others)
	i, _ := slices.BinarySearchFunc(all, offset{}, offset.compare)
	all = slices.Insert(all, i, offset{})
	a, b := all[(len(all)-1)/2], all[len(all)/2]
	if a.surely().Abs() <= b.surely().Abs() {
		return a
	}
	return b
}

// compare orders by the middle of the bounds.
func (o offset) compare(x offset) int { return cmp.Compare(o.least/2+o.most/2, x.least/2+x.most/2) }

// surely is by how much at least the other clock is ahead, or behind; 0 if that
// may be the journey's time.
func (o offset) surely() time.Duration {
	switch {
	case o.least > 0:
		return o.least
	case o.most < 0:
		return o.most
	}
	return 0
}

// about says a time in whole units of which there are at least two.
func about(d time.Duration) string {
	d = d.Abs()
	for _, u := range []struct {
		name string
		of   time.Duration
	}{{"years", 365 * 24 * time.Hour}, {"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}} {
		if n := (d + u.of/2) / u.of; n >= 2 {
			return fmt.Sprintf("%d %s", n, u.name)
		}
	}
	return fmt.Sprintf("%.1f seconds", d.Seconds())
}

// followClocks compares clocks until the node stops.
func (n *Node) followClocks() {
	for !n.clockStop.Wait(clockEvery) {
		n.compareClocks()
	}
}
