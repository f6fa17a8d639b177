package ha

import "github.com/holdfast-cloud/holdfast/internal/visits"

// Visits count what has happened to the machine, for a checker.
type Visits struct {
	Host  *visits.Counts // of HostMachine
	Brake *visits.Counts // of BrakeMachine
	VM    *visits.Counts // of VMMachine
	Step  *visits.Counts // of StepMachine
}

// visits are those that somebody asked for, or empty.
func (m *Machine) visits() Visits {
	if m.cfg.Visits == nil {
		return Visits{}
	}
	return *m.cfg.Visits
}

// hostEvents are what a pass may find of a host, times the phases.
const (
	hostUp = iota
	hostUnproved
	hostDown
	hostTime
	hostKnown
	hostEvents
)

func phases() []Phase { return []Phase{Expected, Alive, Suspect, Gone} }

// HostMachine is what may happen to a host in each of its phases.
func HostMachine() visits.Machine {
	var states []string
	for _, p := range phases() {
		states = append(states, string(p))
	}
	return visits.Cross("ha: host", states,
		[]string{"it is up", "it is up by a record older than the observer", "it is down", "its time is over", "the loss is known from an incident"},
		func(s, e int) string {
			switch p := phases()[s]; {
			case e == hostTime && (p == Alive || p == Gone):
				return "only suspicion and expectation end with time"
			case e == hostKnown && p != Gone:
				return "such a host is lost from the beginning"
			case e == hostUnproved && p == Suspect:
				return "only hosts that were seen become suspect"
			}
			return ""
		})
}

// visitHost counts what a pass finds of a host in its phase.
func (m *Machine) visitHost(p Phase, event int) {
	if c := m.visits().Host; c != nil {
		for i, q := range phases() {
			if p == q {
				c.Hit(i*hostEvents + event)
			}
		}
	}
}

const (
	brakeFew = iota
	brakeTrips
	brakeHolds
	brakeBack
	brakeOver
)

// BrakeMachine is what may happen to the brake.
func BrakeMachine() visits.Machine {
	return visits.Machine{Name: "ha: brake", Pairs: []visits.Pair{
		brakeFew:   {State: "off", Event: "hosts have just been lost"},
		brakeTrips: {State: "off", Event: "more hosts vanish than a disaster explains"},
		brakeHolds: {State: "on", Event: "too many are still away"},
		brakeBack:  {State: "on", Event: "enough are back"},
		brakeOver:  {State: "on", Event: "it has held for long enough"},
	}}
}

// brakeEvent is what a pass finds of a brake that is on.
func brakeEvent(tooMany, over bool) int {
	switch {
	case !tooMany:
		return brakeBack
	case over:
		return brakeOver
	}
	return brakeHolds
}

const (
	vmRuns = iota
	vmSteady
	vmStarts
	vmRetries
	vmBeatenFailing
	vmBeatenSilent
	vmElsewhere
)

// VMMachine is what may happen to a VM on the host that it is assigned to.
func VMMachine() visits.Machine {
	return visits.Machine{Name: "ha: VM", Pairs: []visits.Pair{
		vmRuns:          {State: "assigned", Event: "it runs, or has ended by itself"},
		vmSteady:        {State: "assigned", Event: "it has run for so long that failures are forgotten"},
		vmStarts:        {State: "assigned", Event: "nothing was heard yet"},
		vmRetries:       {State: "failing", Event: "its host tries again"},
		vmBeatenFailing: {State: "failing", Event: "it keeps failing"},
		vmBeatenSilent:  {State: "assigned", Event: "its host does nothing about it"},
		vmElsewhere:     {State: "its host is away, or it is to be off", Event: "a pass"},
	}}
}

// visitVM counts how a VM fares.
func (m *Machine) visitVM(t *vmTrack, p progress, steady bool) {
	c := m.visits().VM
	switch {
	case steady:
		c.Hit(vmSteady)
	case p == settled:
		c.Hit(vmRuns)
	case p == starting:
		c.Hit(vmStarts)
	case p == retrying:
		c.Hit(vmRetries)
	case t.failing:
		c.Hit(vmBeatenFailing)
	default:
		c.Hit(vmBeatenSilent)
	}
}

// changeKinds are the kinds of changes, as Change.What has them.
func changeKinds() []string {
	return []string{"incident", "cut", "assign", "leave", "move", "stay", "abandoned", "rebuild", "release", "keep", "drop", "prune"}
}

// StepMachine is what a step may decide, with the brake off and on.
func StepMachine() visits.Machine {
	return visits.Cross("ha: step", []string{"brake off", "brake on"}, changeKinds(), func(s, e int) string {
		switch changeKinds()[e] {
		case "incident", "prune":
			return ""
		}
		if s == 1 {
			return "nothing is done while the brake holds, but telling"
		}
		return ""
	})
}

// visitStep counts what a step has decided.
func (m *Machine) visitStep(changes []Change) {
	c := m.visits().Step
	if c == nil {
		return
	}
	kinds, at := changeKinds(), 0
	if m.brake.on {
		at = len(kinds)
	}
	for _, ch := range changes {
		for i, k := range kinds {
			if ch.What == k {
				c.Hit(at + i)
			}
		}
	}
}
