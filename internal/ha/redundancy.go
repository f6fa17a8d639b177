package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// maxReplicas bounds the replicas of a volume, those that are away included.
const maxReplicas = 16

// building counts a volume's replicas outside the in-sync set that are being
// brought up to date or built.
func building(v *placement.View, vol cluster.Volume) int {
	n := 0
	for _, r := range vol.Others {
		if v.Usable(r) {
			n++
		}
	}
	return n
}

// observeCopies notes since when volumes lack a copy.
func (m *Machine) observeCopies(now time.Duration, v *placement.View) {
	for id := range m.missing {
		if rec, ok := v.State.Volumes[id]; !ok || rec.Val.Deleted {
			delete(m.missing, id)
		}
	}
	for _, vol := range v.Volumes {
		if v.Lost(vol) <= 0 {
			delete(m.missing, vol.ID)
			continue
		}
		since, ok := m.missing[vol.ID]
		if !ok {
			since = now
			m.missing[vol.ID] = now
		}
		if due := since + m.cfg.RebuildAfter; due > now {
			m.wakeAt(now, due)
		}
	}
}

// redundancy asks for new copies where one has been missing for long enough and
// where one is to be replaced, lets go what has been replaced, and drops what is
// stale where there are enough. It asks for one at a time,
// so that each is placed with the one before it in the picture.
func (m *Machine) redundancy(now time.Duration, d *draft) {
	m.dropSurplus(d)
	m.letGo(d)
	underWay := 0
	var poor []cluster.Volume
	for _, vol := range d.v.Volumes {
		if building(d.v, vol) > 0 {
			underWay++
		}
		since, missing := m.missing[vol.ID]
		due := !missing || now-since >= m.cfg.RebuildAfter
		if due && d.v.Wanted(vol) > 0 && !d.touched[vol.ID] && len(d.v.InSync(vol)) > 0 {
			poor = append(poor, vol)
		}
	}
	slices.SortStableFunc(poor, func(a, b cluster.Volume) int {
		return cmp.Or(cmp.Compare(replaced(d.v, a), replaced(d.v, b)), cmp.Compare(len(d.v.InSync(a)), len(d.v.InSync(b))), cmp.Compare(clones(a), clones(b)),
			cmp.Compare(priority(d.v, b), priority(d.v, a)))
	})
	up := 0
	for _, h := range d.v.Hosts {
		if h.Up() {
			up++
		}
	}
	builds := max(m.cfg.Builds, 2*up)
	for _, vol := range poor {
		if underWay >= builds {
			return
		}
		if m.rebuild(d, vol) {
			return
		}
	}
}

// clones orders what others may be clones of before linked clones: a clone is
// built beside it, as what it differs by.
func clones(vol cluster.Volume) int {
	if vol.Origin != nil {
		return 1
	}
	return 0
}

// replaced orders volumes that lack a copy before those of which one is moved.
func replaced(v *placement.View, vol cluster.Volume) int {
	if v.Lost(vol) > 0 {
		return 0
	}
	return 1
}

// priority is that of the VM whose disk a volume is.
func priority(v *placement.View, vol cluster.Volume) int { return v.State.VMs[vol.VM].Val.Priority }

// rebuild adds a replica to be built; false means that no disk can take it.
func (m *Machine) rebuild(d *draft, vol cluster.Volume) bool {
	if len(vol.InSync)+len(vol.Others) >= maxReplicas {
		return false // too many that are away; what is built goes once they are dropped
	}
	spot, ok, why := placement.PlaceReplica(d.v.State, vol)
	if !ok {
		return false
	}
	for _, rec := range d.incidents {
		inc := &rec.Val
		if inc.Closed == nil && concerns(d.v, inc, vol) {
			d.step(inc, Rebuild, fmt.Sprintf("%s on host %s", vol.Name, d.v.HostName(spot.Host)))
		}
	}
	mod := d.v.State.Volumes[vol.ID].Mod
	vol.Others = append(slices.Clone(vol.Others), cluster.Replica{Host: spot.Host, Disk: spot.Disk})
	d.commit(Change{What: Rebuild, Text: fmt.Sprintf("a copy of volume %s: %s", vol.Name, strings.Join(why.Chosen, ", ")),
		Volumes: []cluster.Versioned[cluster.Volume]{{Mod: mod, Val: vol}}})
	return true
}

// concerns reports whether an incident took a host that held a replica of vol,
// or cut vol.
func concerns(v *placement.View, inc *cluster.Incident, vol cluster.Volume) bool {
	holds := func(r cluster.Replica) bool { return slices.Contains(inc.Hosts, r.Host) }
	return slices.ContainsFunc(vol.InSync, holds) || slices.ContainsFunc(vol.Others, holds)
}

// letGo tells the writers which replicas they are to let go of, and takes back
// what is not true any more.
func (m *Machine) letGo(d *draft) {
	for _, vol := range d.v.Volumes {
		if d.touched[vol.ID] {
			continue
		}
		rel, why := d.v.Release(vol)
		if sameRelease(rel, vol.Release) {
			continue
		}
		what := "release"
		if rel == nil {
			what, why = "keep", fmt.Sprintf("volume %s needs all its copies", vol.Name)
		}
		vol.Release = rel
		d.commit(Change{What: what, Text: why, Volumes: []cluster.Versioned[cluster.Volume]{{Mod: d.v.State.Volumes[vol.ID].Mod, Val: vol}}})
	}
}

func sameRelease(a, b *cluster.Release) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.Go, b.Go) && slices.Equal(a.Keep, b.Keep)
}

// dropSurplus forgets the replicas that are not needed any more.
func (m *Machine) dropSurplus(d *draft) {
	for _, vol := range d.v.Volumes {
		if d.touched[vol.ID] {
			continue
		}
		drop := d.v.Surplus(vol)
		if len(drop) == 0 {
			continue
		}
		var hosts []string
		for _, r := range drop {
			hosts = append(hosts, d.v.HostName(r.Host))
		}
		text := fmt.Sprintf("volume %s has its copies without those on %s", vol.Name, strings.Join(hosts, ", "))
		mod := d.v.State.Volumes[vol.ID].Mod
		vol.Others = slices.DeleteFunc(slices.Clone(vol.Others), func(r cluster.Replica) bool { return slices.Contains(drop, r) })
		vol.Tidy()
		d.commit(Change{What: "drop", Text: text, Volumes: []cluster.Versioned[cluster.Volume]{{Mod: mod, Val: vol}}})
	}
}

// mend tells what runs again, and closes incidents that are over: what they
// took runs elsewhere or is back, and every volume has its copies.
func (m *Machine) mend(d *draft) {
	poor := slices.ContainsFunc(d.v.Volumes, func(vol cluster.Volume) bool { return !d.v.Whole(vol) })
	for _, rec := range d.incidents {
		inc := &rec.Val
		if inc.Closed != nil {
			continue
		}
		running := m.tellRunning(d, inc)
		if !poor && running && !m.brake.on && !m.pendingWork(d, inc) {
			d.step(inc, Mended, "everything runs and every volume has its copies")
			at := d.wall
			inc.Closed = &at
		}
	}
}

// tellRunning records the assigned VMs that have come to run, and reports
// whether all that should have.
func (m *Machine) tellRunning(d *draft, inc *cluster.Incident) bool {
	all := true
	names := assignedIn(inc)
	for _, vm := range d.v.VMs {
		if vm.Power != cluster.On || !slices.Contains(names, vm.Name) {
			continue
		}
		mach, ok := machineOf(d.v.State, vm)
		if !ok || mach.State != "running" || !d.v.Up(vm.Host) {
			all = all && ok && d.v.Up(vm.Host) && (mach.State == "paused" || mach.State == "off")
			continue
		}
		text := fmt.Sprintf("%s on host %s (generation %d)", vm.Name, d.v.HostName(vm.Host), vm.Generation)
		if !hasStep(inc, Running, text) && hasStep(inc, Assigned, AssignedText(vm.Name, d.v.HostName(vm.Host), vm.Generation)) {
			d.step(inc, Running, text)
		}
	}
	return all
}

// pendingWork reports whether something still hangs on a host that an incident
// took and that is away.
func (m *Machine) pendingWork(d *draft, inc *cluster.Incident) bool {
	return slices.ContainsFunc(inc.Hosts, func(h holdfast.HostID) bool { return m.lost(h) && hasWork(d.v, h) })
}
