package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// Bounds of what is kept.
const (
	maxStepText  = 1000                // bytes
	maxTimeline  = kv.MaxValue * 3 / 4 // bytes of all steps together, as JSON takes them
	stepOverhead = 80                  // bytes that a step takes beside its text
	maxNames     = 12                  // hosts in one step: below maxStepText
	maxIncidents = 50                  // closed ones
)

// draft collects the changes of one step, and the incidents as they will be.
type draft struct {
	v         *placement.View
	wall      time.Time
	incidents []*cluster.Versioned[cluster.Incident] // all, oldest first
	dirty     map[string]bool
	touched   map[holdfast.VolumeID]bool // changed by this step: the picture is out of date
	moved     map[holdfast.VMID]bool     // likewise
	changes   []Change
}

func newDraft(v *placement.View, wall time.Time) *draft {
	d := &draft{v: v, wall: wall, dirty: map[string]bool{}, touched: map[holdfast.VolumeID]bool{}, moved: map[holdfast.VMID]bool{}}
	for _, rec := range v.State.Incidents {
		rec.Val.Steps = slices.Clone(rec.Val.Steps)
		rec.Val.Hosts = slices.Clone(rec.Val.Hosts)
		d.incidents = append(d.incidents, &rec)
	}
	slices.SortFunc(d.incidents, func(a, b *cluster.Versioned[cluster.Incident]) int {
		return cmp.Compare(a.Val.ID, b.Val.ID)
	})
	return d
}

// commit adds a change together with the timeline as it is by then.
func (d *draft) commit(c Change) {
	for _, rec := range d.incidents {
		if d.dirty[rec.Val.ID] {
			inc := *rec
			inc.Val.Steps = slices.Clone(inc.Val.Steps)
			inc.Val.Hosts = slices.Clone(inc.Val.Hosts)
			c.Incidents = append(c.Incidents, inc)
		}
	}
	d.dirty = map[string]bool{}
	for _, rec := range c.Volumes {
		d.touched[rec.Val.ID] = true
	}
	for _, rec := range c.VMs {
		d.moved[rec.Val.ID] = true
	}
	d.changes = append(d.changes, c)
}

// flush commits the timeline if it has changed.
func (d *draft) flush(what, text string) {
	if len(d.dirty) > 0 {
		d.commit(Change{What: what, Text: text})
	}
}

// step adds to an incident's timeline, unless that is full.
func (d *draft) step(inc *cluster.Incident, what, text string) {
	size := 0
	for _, s := range inc.Steps {
		size += len(s.Text) + stepOverhead
	}
	if size > maxTimeline {
		return
	}
	if len(text) > maxStepText {
		text = strings.ToValidUTF8(text[:maxStepText], "") + "…"
	}
	inc.Steps = append(inc.Steps, cluster.Step{At: d.wall, What: what, Text: text})
	d.dirty[inc.ID] = true
}

func hasStep(inc *cluster.Incident, what, text string) bool {
	return slices.ContainsFunc(inc.Steps, func(s cluster.Step) bool { return s.What == what && s.Text == text })
}

// lastStep returns the place of the last step of one of the kinds, or -1.
func lastStep(inc *cluster.Incident, kinds ...string) int {
	for i := len(inc.Steps) - 1; i >= 0; i-- {
		if slices.Contains(kinds, inc.Steps[i].What) {
			return i
		}
	}
	return -1
}

// hostsText and hostsOf write and read the hosts of a lost or returned step.
func hostsText(head string, names []string) string { return head + ": " + strings.Join(names, ", ") }

func hostsOf(s cluster.Step) []string {
	_, list, _ := strings.Cut(s.Text, ": ")
	return strings.Split(list, ", ")
}

// away reports whether a host is lost according to an incident's timeline.
func away(inc *cluster.Incident, name string) bool {
	lost := false
	for _, s := range inc.Steps {
		if (s.What == Lost || s.What == Returned) && slices.Contains(hostsOf(s), name) {
			lost = s.What == Lost
		}
	}
	return lost
}

// coveredLoss reports whether some incident tells of a host's present loss.
func coveredLoss(v *placement.View, name string) bool {
	for _, rec := range v.State.Incidents {
		if away(&rec.Val, name) {
			return true
		}
	}
	return false
}

// incidents opens and continues incidents: hosts that vanish together are one.
func (m *Machine) incidents(now time.Duration, d *draft) {
	var fresh []*placement.Host
	for _, h := range d.v.Hosts {
		inc := d.covering(h.Name)
		switch {
		case h.Up() && inc != nil:
			d.step(inc, Returned, hostsText("host back", []string{h.Name}))
		case m.lost(h.ID) && inc == nil && (m.hosts[h.ID].seen || hasWork(d.v, h.ID)):
			fresh = append(fresh, h)
		}
	}
	for len(fresh) > 0 {
		inc := m.incidentFor(now, d, fresh[0])
		var group []*placement.Host
		fresh = slices.DeleteFunc(fresh, func(h *placement.Host) bool {
			same := m.together(now, d.v, inc, h)
			if same {
				group = append(group, h)
				inc.Hosts = addHost(inc.Hosts, h.ID)
			}
			return same
		})
		m.tellLost(d, inc, group)
	}
	m.tellBrake(d)
}

// addHost adds a host that is not yet there.
func addHost(hosts []holdfast.HostID, id holdfast.HostID) []holdfast.HostID {
	if slices.Contains(hosts, id) {
		return hosts
	}
	return append(hosts, id)
}

// covering returns the incident that tells of a host's present loss, or nil.
func (d *draft) covering(name string) *cluster.Incident {
	for _, rec := range d.incidents {
		if away(&rec.Val, name) {
			return &rec.Val
		}
	}
	return nil
}

// incidentFor returns the open incident that a loss belongs to, or a new one.
func (m *Machine) incidentFor(now time.Duration, d *draft, h *placement.Host) *cluster.Incident {
	for _, rec := range d.incidents {
		if rec.Val.Closed == nil && m.together(now, d.v, &rec.Val, h) {
			return &rec.Val
		}
	}
	inc := cluster.Incident{ID: fmt.Sprintf("%012d-%s", d.v.State.Cluster.Past+d.v.State.Rev, h.Name), Opened: d.wall, Hosts: []holdfast.HostID{h.ID}}
	d.incidents = append(d.incidents, &cluster.Versioned[cluster.Incident]{Val: inc})
	return &d.incidents[len(d.incidents)-1].Val
}

// together reports whether a host's loss is part of an incident: it stands in
// a rack of it, or vanished within JoinWindow of one of its hosts.
func (m *Machine) together(now time.Duration, v *placement.View, inc *cluster.Incident, h *placement.Host) bool {
	for _, id := range inc.Hosts {
		other, t := v.Host(id), m.hosts[id]
		if id == h.ID || other != nil && other.Domain == h.Domain {
			return true
		}
		if t != nil && t.phase == Gone && (m.hosts[h.ID].since-t.since).Abs() <= m.cfg.JoinWindow {
			return true
		}
	}
	return false
}

// tellLost adds the lost steps, whole racks first, and names the racks lost whole.
func (m *Machine) tellLost(d *draft, inc *cluster.Incident, group []*placement.Host) {
	inc.Racks = nil
	for _, r := range d.v.Racks {
		var names []string
		whole := true
		for _, h := range r.Hosts {
			if slices.Contains(group, h) {
				names = append(names, h.Name)
			}
			whole = whole && m.lost(h.ID) && slices.Contains(inc.Hosts, h.ID)
		}
		if whole {
			inc.Racks = append(inc.Racks, r.Domain.String())
		}
		head := "rack " + r.Domain.String() + " in part"
		if whole {
			head = "rack " + r.Domain.String() + " whole"
		}
		for chunk := range slices.Chunk(names, maxNames) {
			d.step(inc, Lost, hostsText(head, chunk))
		}
	}
}

// tellBrake records in the open incidents of its hosts that the brake holds or
// has let go.
func (m *Machine) tellBrake(d *draft) {
	for _, rec := range d.incidents {
		inc := &rec.Val
		if inc.Closed != nil {
			continue
		}
		held := HeldNow(*inc)
		concerned := slices.ContainsFunc(m.brake.hosts, func(id holdfast.HostID) bool { return slices.Contains(inc.Hosts, id) })
		switch {
		case m.brake.on && concerned && !held:
			d.step(inc, Held, fmt.Sprintf("%d of %d hosts vanished within %v: nothing is restarted until they return, for at most %v",
				len(m.brake.hosts), m.brake.all, m.cfg.BrakeWindow, m.cfg.BrakeHold))
		case held && !(m.brake.on && concerned):
			d.step(inc, Released, "restarts go ahead")
		}
	}
}

// HeldNow reports whether the brake holds the restarts of an incident.
func HeldNow(inc cluster.Incident) bool {
	i := lastStep(&inc, Held, Released)
	return i >= 0 && inc.Steps[i].What == Held && inc.Closed == nil
}

// hasWork reports whether anything depends on a host: a VM that should run
// there, or a volume that it writes.
func hasWork(v *placement.View, id holdfast.HostID) bool {
	return slices.ContainsFunc(v.VMs, func(vm cluster.VM) bool { return vm.Host == id && vm.Power == cluster.On }) ||
		slices.ContainsFunc(v.Volumes, func(vol cluster.Volume) bool { return vol.Writer == id })
}

// prune deletes the oldest closed incidents beyond maxIncidents, except those
// that still tell of a loss.
func (d *draft) prune() {
	var closed []*cluster.Versioned[cluster.Incident]
	for _, rec := range d.incidents {
		if rec.Val.Closed != nil && rec.Mod != 0 {
			closed = append(closed, rec)
		}
	}
	c := Change{What: "prune", Text: "old incidents"}
	for i, rec := range closed {
		still := slices.ContainsFunc(d.v.Hosts, func(h *placement.Host) bool { return away(&rec.Val, h.Name) })
		if len(closed)-i > maxIncidents && !still && len(c.Gone) < 20 {
			c.Gone = append(c.Gone, *rec)
		}
	}
	if len(c.Gone) > 0 {
		d.changes = append(d.changes, c)
	}
}
