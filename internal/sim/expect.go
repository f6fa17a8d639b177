package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

const (
	orderTries = 60                     // of somebody who orders something, a second apart
	lookEvery  = 100 * time.Millisecond // at what is expected
)

// mayFail are the orders that are drawn in the middle of everything, and how often
// they are tried.
var mayFail = map[string]int{"force": orderTries, "keep vm": 1, "set vm back": 20, "forget": 1}

// play1 plays one line of a story.
func (s *simulation) play1(l story.Line) {
	switch {
	case l.Kind == "read" || l.Kind == "burst":
		s.strike(l.Command)
	case l.Class == story.Order:
		if done := s.act(l); s.quiet { // else it is one of those who work beside everything else
			done.Wait(clock.Forever)
		}
	case l.Class == story.Expect:
		s.struck = append(s.struck, story.Line{At: s.sinceBegun(), Command: l.Command})
		s.expect(l)
	default:
		s.strike(l.Command)
	}
}

// act has somebody order it now, beside whatever goes on.
func (s *simulation) act(l story.Line) (done clock.Event) {
	s.tell("%s", l)
	s.struck = append(s.struck, story.Line{At: s.sinceBegun(), Command: l.Command})
	s.acting++
	done = s.c.NewEvent()
	s.c.Go(func() {
		s.order(l)
		s.acting--
		done.Set()
	})
	return done
}

// order has somebody order it, who tries again when it fails.
func (s *simulation) order(l story.Line) {
	var err error
	tries := orderTries
	if n := mayFail[l.Kind]; n > 0 && !s.quiet {
		tries = n
	}
	for range tries {
		if err = s.tryOrder(l); err == nil || s.ending {
			return
		}
		if s.faults.stopped {
			break
		}
		clock.Sleep(s.c, time.Second)
	}
	if !s.quiet && mayFail[l.Kind] > 0 { // something else may be in its way
		s.tell("operator: %s: %v", l.Command, err)
		return
	}
	s.fail("%s:%d: %s: %v", s.story.Name, l.N, l.Command, err)
}

// line is a line of a story that happens now.
func (s *simulation) line(format string, args ...any) story.Line {
	return story.Line{At: s.sinceBegun(), Command: s.say(format, args...)}
}

// acted waits until all orders have been carried out.
func (s *simulation) acted() {
	for s.acting > 0 {
		clock.Sleep(s.c, lookEvery)
	}
}

func (s *simulation) tryOrder(l story.Line) error {
	for _, h := range s.hosts {
		if !h.serving() {
			continue
		}
		switch l.Kind {
		case "scrub":
			return s.scrub(l)
		case "force":
			return s.forcing.force(s.clientOf(l))
		case "keep vm", "set vm back", "forget":
			return s.memories.order(h, l.Text("vm"), l.Text("snapshot"), l.Kind, !l.Has("part"))
		case "start vm":
			return s.startVM(h, l.Text("vm"))
		case "stop vm":
			vm, _ := s.vmNamed(l.Text("vm"))
			return s.op.on(h, func(p *provision.Provisioner) error { return p.StopVM(vm.ID, true) })
		}
		for _, d := range s.at(l.Command) {
			if !s.drains.order(d, l.Kind == "drain") {
				return holdfast.Errorf(holdfast.Unavailable, "%s could not be told", d.name)
			}
		}
		return nil
	}
	return holdfast.Errorf(holdfast.Unavailable, "no host serves")
}

// startVM starts a VM, or makes it.
func (s *simulation) startVM(h *host, name string) error {
	if vm, ok := s.vmNamed(name); ok {
		return s.op.on(h, func(p *provision.Provisioner) error { return p.StartVM(vm.ID) })
	}
	return s.op.on(h, func(p *provision.Provisioner) error {
		vm, err := p.CreateVM(provision.VMSpec{Image: s.image, VM: cluster.VM{Name: name, CPUs: 1, MemoryMiB: s.memories.memoryOf(), Power: cluster.On, Isolation: cluster.IsolationPause}})
		if err == nil {
			s.vms.add(vm)
		}
		return err
	})
}

// expect waits until it is so, for as long as the line says.
func (s *simulation) expect(l story.Line) {
	why := s.missing(l)
	was := s.progress(l)
	if l.Kind == "vm writes" || l.Kind == "client goes on" {
		why = "nothing more was done"
	}
	for end := s.w.Now() + l.Time("within"); why != "" && s.w.Now() < end && !s.ending; {
		clock.Sleep(s.c, lookEvery)
		if why = s.missing(l); why == "" && s.progress(l) <= was && was >= 0 {
			why = "nothing more was done"
		}
	}
	if why != "" {
		s.fail("%s:%d: %s: %s", s.story.Name, l.N, l.Command, why)
		return
	}
	s.tell("it is so: %s", strings.TrimPrefix(l.Command.String(), "expect "))
}

// progress counts what a guest or a client has done; -1: the line is about neither.
func (s *simulation) progress(l story.Line) int {
	switch l.Kind {
	case "vm writes":
		vm, _ := s.vmNamed(l.Text("vm"))
		return int(s.vms.of(vm.ID).flushed)
	case "client goes on":
		if c := s.clientOf(l); c != nil {
			return c.good
		}
	}
	return -1
}

// clientOf finds the client whose volume a line names; nil: there is none.
func (s *simulation) clientOf(l story.Line) *blockClient {
	for _, c := range s.clients {
		if c.vol.Name == l.Text("volume") {
			return c
		}
	}
	return nil
}

// missing says what is not as the line says.
func (s *simulation) missing(l story.Line) string {
	switch l.Kind {
	case "vm runs", "vm stays", "vm moved":
		return s.missingVM(l)
	case "volume whole":
		for _, v := range s.eye.State().SortedVolumes() {
			if v.Val.Name == l.Text("volume") {
				if len(v.Val.InSync) < v.Val.Copies || len(v.Val.Others) > 0 {
					return fmt.Sprintf("it has %d of %d copies", len(v.Val.InSync), v.Val.Copies)
				}
				return ""
			}
		}
		return "there is no such volume"
	case "everything whole":
		if why := s.absent(); why != "" {
			return why
		}
		return s.unwhole()
	case "nothing lost":
		for _, c := range s.clients {
			if !c.rest(restLimit) {
				return "client of " + c.vol.Name + " does not rest"
			}
			c.verify()
			c.held = false
		}
	case "condition":
		return s.missingCondition(l)
	}
	return ""
}

// missingVM compares a VM with what was last seen of it.
func (s *simulation) missingVM(l story.Line) string {
	vm, ok := s.vmNamed(l.Text("vm"))
	if !ok {
		return "there is no such VM"
	}
	seen := s.vms.of(vm.ID)
	now := sighting{vm.Host, vm.Generation, seen.boots}
	m := s.eye.State().Machines[vm.ID].Val
	runs := m.State == string(hypervisor.Running) && m.Host == vm.Host && m.Generation == vm.Generation
	switch {
	case !runs:
		return fmt.Sprintf("it is %s on %s (%s)", m.State, s.nameOf(vm.Host), m.Reason)
	case l.Kind == "vm stays" && now != seen.at:
		return fmt.Sprintf("it was on %s, assigned %d times and booted %d times, and is on %s, %d, %d", s.nameOf(seen.at.host), seen.at.generation, seen.at.boots, s.nameOf(now.host), now.generation, now.boots)
	case l.Kind == "vm moved" && now.host == seen.at.host:
		return "it is still on " + s.nameOf(now.host)
	case l.Kind == "vm runs" && seen.boots == 0:
		return "its guest has not booted"
	}
	seen.at = now
	return ""
}

// sighting is where a VM was when a story last looked.
type sighting struct {
	host       holdfast.HostID
	generation int64
	boots      int
}

// missingCondition looks for a condition, its own or an effect.
func (s *simulation) missingCondition(l story.Line) string {
	var told []string
	raised := false
	var look func(all []health.Condition)
	look = func(all []health.Condition) {
		for _, c := range all {
			told = append(told, c.ID)
			name, _, _ := strings.Cut(c.ID, "/")
			raised = raised || name == l.Text("condition")
			look(c.Effects)
		}
	}
	look(health.Summary(s.eye.State(), nil).Conditions)
	if raised == (l.Text("state") == "raised") {
		return ""
	}
	return fmt.Sprintf("the conditions are %v", told)
}
