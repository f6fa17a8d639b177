package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// Bounds of restarts.
const (
	maxPatience  = 2 * time.Minute
	failedMemory = 10 * time.Minute // how long a host where a VM failed is avoided for it
	steadyAfter  = time.Minute      // of running: earlier failures are forgotten
	assignBatch  = kv.MaxOps / 4    // VMs of one commit, each with a condition on both its hosts
)

// vmTrack is the history of one VM's starts. A host that fails to start a VM
// tries again by itself, since most causes pass; only what keeps failing is
// moved, each time after a longer wait.
type vmTrack struct {
	generation int64
	state      string // of the machine, as last seen
	mod        kv.Rev
	since      time.Duration // of the last word from its host
	failing    bool          // this assignment has failed and not yet run
	failedAt   time.Duration // for the first time, if failing
	counted    bool          // the failure of this assignment is among failures
	failures   int
	failedOn   map[holdfast.HostID]time.Duration
}

// progress is how far a VM has come on the host that it is assigned to.
type progress string

const (
	starting progress = "starting" // no word yet that it failed
	retrying progress = "retrying" // it failed, and its host tries again
	settled  progress = "settled"  // it runs, is paused, or its guest has powered off
	beaten   progress = "beaten"   // it keeps failing, or its host does nothing about it
)

// machineOf returns the machine of a VM's present assignment; ok is false if
// its host has not reported one.
func machineOf(s *cluster.State, vm cluster.VM) (cluster.Machine, bool) {
	rec, ok := s.Machines[vm.ID]
	return rec.Val, ok && rec.Val.Host == vm.Host && rec.Val.Generation == vm.Generation
}

func (m *Machine) observeVMs(now time.Duration, v *placement.View) {
	for id := range m.vms {
		if rec, ok := v.State.VMs[id]; !ok || rec.Val.Deleted {
			delete(m.vms, id)
			delete(m.planned, id)
		}
	}
	for _, vm := range v.VMs {
		t := m.vms[vm.ID]
		if t == nil {
			t = &vmTrack{since: now, failedOn: map[holdfast.HostID]time.Duration{}}
			m.vms[vm.ID] = t
		}
		mach, ok := machineOf(v.State, vm)
		mod := v.State.Machines[vm.ID].Mod
		if !ok {
			mod, mach.State = 0, ""
		}
		wanted := vm.Power == cluster.On && v.Up(vm.Host)
		if t.generation != vm.Generation || !wanted {
			t.failing, t.counted = false, false
		}
		if t.generation != vm.Generation || t.mod != mod || !wanted {
			t.generation, t.mod, t.state, t.since = vm.Generation, mod, mach.State, now
		}
		if wanted {
			m.observeStart(now, vm, t)
		} else {
			m.visits().VM.Hit(vmElsewhere)
		}
	}
}

// observeStart notes how a VM fares that its living host should be running.
func (m *Machine) observeStart(now time.Duration, vm cluster.VM, t *vmTrack) {
	if t.state == "failed" && !t.failing {
		t.failing, t.failedAt = true, now
	}
	p := m.progress(now, t)
	steady := p == settled && t.state == "running" && now-t.since >= steadyAfter
	m.visitVM(t, p, steady)
	switch p {
	case settled:
		t.failing, t.counted = false, false
		if steady {
			t.failures = 0
			clear(t.failedOn)
		}
	case starting:
		m.wakeAt(now, t.since+m.cfg.StartTimeout)
	case retrying:
		m.wakeAt(now, t.failedAt+m.patience(t))
	case beaten:
		if !t.counted {
			t.counted = true
			t.failures++
			t.failedOn[vm.Host] = now
		}
	}
}

// patience is how long an assignment may keep failing.
func (m *Machine) patience(t *vmTrack) time.Duration {
	n := t.failures
	if t.counted {
		n--
	}
	return min(m.cfg.FailedAfter<<min(n, 8), max(maxPatience, m.cfg.FailedAfter))
}

func (m *Machine) progress(now time.Duration, t *vmTrack) progress {
	switch {
	case t.state == "running" || t.state == "paused" || t.state == "off":
		return settled
	case t.failing && now-t.failedAt >= m.patience(t):
		return beaten
	case t.failing:
		return retrying
	case now-t.since >= m.cfg.StartTimeout:
		return beaten
	}
	return starting
}

// homeless returns the VMs that need a host: they should be on, and have none,
// a lost one, or one that could not start them.
func (m *Machine) homeless(now time.Duration, d *draft) (vms []cluster.VM) {
	for _, vm := range d.v.VMs {
		t := m.vms[vm.ID]
		switch {
		case vm.Power != cluster.On:
		case vm.Host.IsZero() || m.lost(vm.Host):
			if !m.awaitsMembers(d.v, vm) {
				vms = append(vms, vm)
			}
		case d.v.Up(vm.Host) && m.progress(now, t) == beaten:
			vms = append(vms, vm)
		}
	}
	return vms
}

// awaitsMembers reports whether an in-sync member of one of a VM's volumes is
// still expected after a start of everything: what it holds may be newer.
func (m *Machine) awaitsMembers(v *placement.View, vm cluster.VM) bool {
	vols, _ := v.VolumesOf(vm)
	return slices.ContainsFunc(vols, func(vol cluster.Volume) bool {
		return slices.ContainsFunc(vol.InSync, func(r cluster.Replica) bool {
			t := m.hosts[r.Host]
			return t != nil && t.phase == Expected
		})
	})
}

// options steers a VM away from hosts that are unsteady or failed to start it,
// and towards the one that a plan gave it.
func (m *Machine) options(now time.Duration, d *draft) func(cluster.VM) placement.VMOptions {
	avoid := m.avoid(now, d.v)
	return func(vm cluster.VM) placement.VMOptions {
		o := placement.VMOptions{Avoid: map[holdfast.HostID]string{}, Prefer: m.planned[vm.ID]}
		for id, why := range avoid {
			o.Avoid[id] = why
		}
		for id, at := range m.vms[vm.ID].failedOn {
			if now-at < failedMemory {
				o.Avoid[id] = "VM " + vm.Name + " could not be started there"
			}
		}
		if o.Avoid[o.Prefer] != "" {
			o.Prefer = holdfast.HostID{}
		}
		return o
	}
}

// plan writes down, once for each loss, where everything is to start.
func (m *Machine) plan(now time.Duration, d *draft) {
	var pending []*cluster.Incident
	for _, rec := range d.incidents {
		if inc := &rec.Val; inc.Closed == nil && lastStep(inc, Planned) < lastStep(inc, Lost) {
			pending = append(pending, inc)
		}
	}
	if len(pending) == 0 {
		return
	}
	restarts, left := placement.Restarts(d.v, m.homeless(now, d), m.options(now, d))
	for _, inc := range pending {
		var parts []string
		for _, r := range restarts {
			if d.lostIn(inc, d.v.State.VMs[r.VM].Val) {
				m.planned[r.VM] = r.To
				parts = append(parts, r.Name+" → "+d.v.HostName(r.To))
			}
		}
		for _, u := range left {
			if d.lostIn(inc, d.v.State.VMs[u.VM].Val) {
				parts = append(parts, "stays down: "+u.Detail())
			}
		}
		if len(parts) == 0 {
			parts = []string{"nothing to restart"}
		}
		d.step(inc, Planned, strings.Join(parts, ", "))
	}
}

// lostIn reports whether an incident took a VM's host.
func (d *draft) lostIn(inc *cluster.Incident, vm cluster.VM) bool {
	return slices.Contains(inc.Hosts, vm.Host)
}

// start assigns VMs to hosts, in order, as far as start tokens go. A VM whose
// volume is still to be cut waits for that to be committed; one that no other
// host can have stays where it is, and its host goes on trying.
func (m *Machine) start(now time.Duration, d *draft) {
	vms := m.homeless(now, d)
	if len(vms) == 0 {
		return
	}
	restarts, _ := placement.Restarts(d.v, vms, m.options(now, d))
	busy := m.busy(now, d)
	c := Change{What: "assign"}
	for _, r := range restarts {
		rec := d.v.State.VMs[r.VM]
		if m.uncut(d, rec.Val) || busy[r.To] >= m.cfg.StartTokens || rec.Val.Host == r.To {
			continue
		}
		busy[r.To]++
		d.tellAssigned(rec.Val, r)
		m.requireLost(&c, d.v, rec.Val.Host)
		c.add(d.v, rec, r)
		if len(c.VMs) == assignBatch {
			d.commit(c)
			c = Change{What: "assign"}
		}
	}
	if len(c.VMs) > 0 {
		d.commit(c)
	}
}

// requireLost has a change rely on a lost host of a VM being away still: who is
// told that it lives may run what is its own (ADR 0071).
func (m *Machine) requireLost(c *Change, v *placement.View, host holdfast.HostID) {
	if life := (Life{Host: host}); v.Host(host) != nil && m.lost(host) && !slices.Contains(c.Lives, life) {
		c.Lives = append(c.Lives, life)
	}
}

// add gives a VM to a host, provided that the host is still alive.
func (c *Change) add(v *placement.View, rec cluster.Versioned[cluster.VM], r placement.Restart) {
	life := Life{Host: r.To, Mod: v.State.Alive[r.To].Mod}
	if !slices.Contains(c.Lives, life) {
		c.Lives = append(c.Lives, life)
	}
	rec.Val.Host = r.To
	rec.Val.Generation++
	rec.Val.Came = ""
	if c.Text != "" {
		c.Text += ", "
	}
	c.Text += fmt.Sprintf("%s to %s", r.Name, strings.Join(r.Why.Chosen, ", "))
	c.VMs = append(c.VMs, rec)
}

// busy counts the VMs that each host is starting.
func (m *Machine) busy(now time.Duration, d *draft) map[holdfast.HostID]int {
	n := map[holdfast.HostID]int{}
	for _, vm := range d.v.VMs {
		if vm.Power == cluster.On && d.v.Up(vm.Host) && m.progress(now, m.vms[vm.ID]) == starting {
			n[vm.Host]++
		}
	}
	return n
}

// uncut reports whether one of a VM's volumes still has a lost writer.
func (m *Machine) uncut(d *draft, vm cluster.VM) bool {
	vols, _ := d.v.VolumesOf(vm)
	return slices.ContainsFunc(vols, func(vol cluster.Volume) bool { return !vol.Writer.IsZero() && m.lost(vol.Writer) })
}

// AssignedText is the text of an assigned step.
func AssignedText(vm, host string, generation int64) string {
	return fmt.Sprintf("%s → %s (generation %d)", vm, host, generation)
}

// tellAssigned records an assignment in the open incidents that took the VM's
// host or assigned it before.
func (d *draft) tellAssigned(vm cluster.VM, r placement.Restart) {
	for _, rec := range d.incidents {
		inc := &rec.Val
		if inc.Closed == nil && (d.lostIn(inc, vm) || slices.Contains(assignedIn(inc), vm.Name)) {
			d.step(inc, Assigned, AssignedText(vm.Name, d.v.HostName(r.To), vm.Generation+1))
		}
	}
}

// assignedIn returns the names of the VMs that an incident has assigned.
func assignedIn(inc *cluster.Incident) (names []string) {
	for _, s := range inc.Steps {
		if s.What == Assigned {
			name, _, _ := strings.Cut(s.Text, " → ")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
