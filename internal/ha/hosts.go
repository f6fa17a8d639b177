package ha

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// Phase is what the machine thinks of a host.
type Phase string

// The phases. A host that was never seen alive is expected until ColdWait is
// over; one that vanishes is suspect for Settle; then they are lost until they
// return.
const (
	Alive    Phase = "alive"
	Suspect  Phase = "suspect"
	Expected Phase = "expected"
	Gone     Phase = "lost"
)

// unsteady is how many losses within unsteadyWindow make a host one to avoid.
const (
	unsteady       = 3
	unsteadyWindow = 10 * time.Minute
)

// hostTrack is the history of one host.
type hostTrack struct {
	phase  Phase
	since  time.Duration   // of the phase
	seen   bool            // it was alive while this machine watched
	waived bool            // the brake has let go of this loss
	losses []time.Duration // recent ones, when they began
}

// observeHosts moves every host to its phase at now.
func (m *Machine) observeHosts(now time.Duration, v *placement.View) {
	for id := range m.hosts {
		if v.Host(id) == nil {
			delete(m.hosts, id)
		}
	}
	for _, h := range v.Hosts {
		t := m.hosts[h.ID]
		if t == nil {
			t = &hostTrack{phase: Expected, since: now}
			if coveredLoss(v, h.Name) {
				t.phase = Gone // known to be lost before this machine began
				m.visitHost(Gone, hostKnown)
			}
			m.hosts[h.ID] = t
		}
		if h.Up() && !t.seen {
			t.seen = m.renewed(now, v, h.ID)
			if !t.seen {
				m.visitHost(t.phase, hostUnproved)
				m.wakeAt(now, m.began+m.cfg.ColdWait)
			}
		}
		m.advance(now, t, h.Up())
	}
}

// renewed reports whether a record of life is younger than this machine. After
// a loss of all power, kv still holds the records of hosts that have not come
// back, until their leases end; that is before ColdWait is over.
func (m *Machine) renewed(now time.Duration, v *placement.View, id holdfast.HostID) bool {
	return v.State.Alive[id].Mod > m.beganRev || now-m.began >= m.cfg.ColdWait
}

func (m *Machine) advance(now time.Duration, t *hostTrack, up bool) {
	enter := func(p Phase) {
		if !up && p == Gone {
			m.visitHost(t.phase, hostTime)
		}
		t.phase, t.since = p, now
	}
	if up {
		m.visitHost(t.phase, hostUp)
	} else {
		m.visitHost(t.phase, hostDown)
	}
	switch {
	case up:
		if t.phase != Alive {
			enter(Alive)
		}
		t.waived = false
	case t.phase == Alive && !t.seen:
		t.phase, t.since = Expected, m.began
		m.advance(now, t, up)
		return
	case t.phase == Alive:
		enter(Suspect)
	case t.phase == Suspect && now-t.since >= m.cfg.Settle:
		t.losses = append(recent(t.losses, now-unsteadyWindow), t.since)
		enter(Gone)
	case t.phase == Expected && now-t.since >= m.cfg.ColdWait:
		enter(Gone)
	}
	switch t.phase {
	case Suspect:
		m.wakeAt(now, t.since+m.cfg.Settle)
	case Expected:
		m.wakeAt(now, t.since+m.cfg.ColdWait)
	}
}

func recent(times []time.Duration, from time.Duration) []time.Duration {
	for len(times) > 0 && times[0] < from {
		times = times[1:]
	}
	return times
}

// lost reports whether a host is to be done without: lost, or no member.
func (m *Machine) lost(id holdfast.HostID) bool {
	t := m.hosts[id]
	return t == nil || t.phase == Gone
}

// brake holds restarts when more vanishes at once than a disaster explains:
// then it is likelier that the observer is at fault.
type brake struct {
	on    bool
	since time.Duration
	hosts []holdfast.HostID // whose loss tripped it
	all   int               // hosts there were
}

// observeBrake trips or releases the brake. It trips when more than one rack
// and more than half of the hosts vanish within BrakeWindow; half of a two-box
// cluster, or one rack however large, never does.
func (m *Machine) observeBrake(now time.Duration, v *placement.View) {
	if m.brake.on {
		m.holdBrake(now, v)
		return
	}
	var gone []holdfast.HostID
	up := 0
	for _, h := range v.Hosts {
		t := m.hosts[h.ID]
		switch {
		case t.phase == Gone && t.seen && !t.waived && now-t.since < m.cfg.BrakeWindow:
			gone = append(gone, h.ID)
		case t.phase == Alive || t.phase == Suspect:
			up++
		}
	}
	if len(gone) > 0 {
		m.visits().Brake.Hit(brakeFew)
	}
	if all := up + len(gone); m.tooMany(v, gone, all) {
		m.visits().Brake.Hit(brakeTrips)
		m.brake = brake{on: true, since: now, hosts: gone, all: all}
		m.wakeAt(now, now+m.cfg.BrakeHold)
	}
}

func (m *Machine) tooMany(v *placement.View, gone []holdfast.HostID, all int) bool {
	racks := map[holdfast.FaultDomain]bool{}
	for _, id := range gone {
		racks[v.Host(id).Domain] = true
	}
	return len(racks) > 1 && 2*len(gone) > all && all > 2
}

// holdBrake keeps a tripped brake until enough of its hosts are back or
// BrakeHold is over.
func (m *Machine) holdBrake(now time.Duration, v *placement.View) {
	var away []holdfast.HostID
	for _, id := range m.brake.hosts {
		if v.Host(id) != nil && m.lost(id) {
			away = append(away, id)
		}
	}
	over := now-m.brake.since >= m.cfg.BrakeHold
	m.visits().Brake.Hit(brakeEvent(m.tooMany(v, away, m.brake.all), over))
	if m.tooMany(v, away, m.brake.all) && !over {
		m.wakeAt(now, m.brake.since+m.cfg.BrakeHold)
		return
	}
	for _, id := range away {
		m.hosts[id].waived = true
	}
	m.brake = brake{}
}

// avoid names the hosts to use last: unsteady ones, and those in a rack that
// is just losing hosts.
func (m *Machine) avoid(now time.Duration, v *placement.View) map[holdfast.HostID]string {
	out := map[holdfast.HostID]string{}
	for _, r := range v.Racks {
		losing := false
		for _, h := range r.Hosts {
			t := m.hosts[h.ID]
			losing = losing || t.seen && (t.phase == Gone || t.phase == Suspect) && now-t.since < m.cfg.JoinWindow
		}
		for _, h := range r.Hosts {
			t := m.hosts[h.ID]
			if t.losses = recent(t.losses, now-unsteadyWindow); len(t.losses) >= unsteady {
				out[h.ID] = "it was lost several times in the last ten minutes"
			} else if losing {
				out[h.ID] = "its rack is losing hosts"
			}
		}
	}
	return out
}
