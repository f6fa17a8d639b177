package health

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// vms counts the VMs that should run and do, and says why others do not.
func (b *board) vms() (running, wanted int) {
	for _, vm := range b.v.VMs {
		if vm.Power != cluster.On {
			continue
		}
		wanted++
		what, severity, since := b.vmState(vm)
		if what == "" {
			running++
			continue
		}
		b.down = append(b.down, vm.Name+": "+what)
		b.add(b.downBecause(vm), "vm-down/"+vm.Name, severity, fmt.Sprintf("VM %s does not run: %s", vm.Name, what), since)
	}
	return running, wanted
}

// vmState says what keeps a VM from running, or "".
func (b *board) vmState(vm cluster.VM) (what, severity string, since time.Time) {
	vols, missing := b.v.VolumesOf(vm)
	if len(missing) > 0 {
		return "its volume does not exist", Error, since
	}
	for _, vol := range vols {
		if b.v.State.Gone(vol) {
			return "volume " + vol.Name + " is lost" + also(b.stale(vol)), Error, since
		}
	}
	if b.v.Up(vm.Host) {
		return b.machineState(vm)
	}
	for _, vol := range vols {
		if len(b.v.InSync(vol)) == 0 {
			return "waiting for a copy of volume " + vol.Name + orElse(b.stale(vol)), Error, since
		}
	}
	if to, why := b.v.PlaceVM(vm, placement.VMOptions{}); to.IsZero() {
		return why.String(), Error, since
	}
	if vm.Host.IsZero() {
		return "waiting for a host", Warning, since
	}
	if b.holding {
		return fmt.Sprintf("host %s is away and restarts are held", b.v.HostName(vm.Host)), Error, since
	}
	return fmt.Sprintf("host %s is away, about to restart elsewhere", b.v.HostName(vm.Host)), Warning, since
}

// machineState says what a VM's living host does with it, or "" if it runs.
func (b *board) machineState(vm cluster.VM) (what, severity string, since time.Time) {
	host := b.v.HostName(vm.Host)
	rec, ok := b.v.State.Machines[vm.ID]
	m := rec.Val
	if !ok || m.Host != vm.Host || m.Generation != vm.Generation {
		return "starting on " + host, Warning, since
	}
	because := ""
	if m.Reason != "" {
		because = ": " + m.Reason
	}
	if vm.Leaving() && m.State == "off" {
		return "on its way off " + host + ", which is drained", Info, m.Since
	}
	switch m.State {
	case "running":
		return "", "", since
	case "paused":
		return "paused on " + host + because, Warning, m.Since
	case "off":
		return "its guest powered off on " + host + because, Warning, m.Since
	case "failed":
		return "could not start on " + host + because, Error, m.Since
	}
	return m.State + " on " + host + because, Warning, m.Since
}

// downBecause returns the loss that explains why a VM does not run, or nil.
func (b *board) downBecause(vm cluster.VM) *Condition {
	if c := b.byHost[vm.Host]; c != nil {
		return c
	}
	for _, rec := range b.v.State.Incidents {
		if rec.Val.Closed != nil {
			continue
		}
		for _, id := range rec.Val.Hosts {
			if c := b.byHost[id]; c != nil && movedBy(rec.Val, b.v, vm) {
				return c
			}
		}
	}
	return nil
}

// movedBy reports whether an incident assigned a VM to the host it is on.
func movedBy(inc cluster.Incident, v *placement.View, vm cluster.VM) bool {
	text := ha.AssignedText(vm.Name, v.HostName(vm.Host), vm.Generation)
	return slices.ContainsFunc(inc.Steps, func(s cluster.Step) bool { return s.What == ha.Assigned && s.Text == text })
}

// held tells that the brake holds restarts.
func (b *board) held() {
	for _, rec := range b.v.State.SortedIncidents() {
		if !ha.HeldNow(rec.Val) {
			continue
		}
		b.holding = true
		b.cause("restarts-held/"+rec.Val.ID, Error, "restarts are held: too many hosts vanished at once; they begin by themselves after two minutes, or when enough hosts are back", rec.Val.Opened)
	}
}

// hostsSay passes on what the hosts report of themselves.
func (b *board) hostsSay() {
	var reduced []string
	b.versions()
	moves := placement.Moves(b.v, nil)
	for _, h := range b.v.Hosts {
		if h.Drained {
			b.drained(h, moves)
		}
		if !h.Up() {
			continue
		}
		for _, c := range h.Alive.Conditions {
			b.causes = append(b.causes, &Condition{Condition: cluster.Condition{
				ID: c.ID + "@" + h.Name, Severity: known(c.Severity), Text: ofHost(h.Name, c.Text), Since: c.Since}})
		}
		if strings.HasPrefix(h.Alive.Sandbox, "reduced") { // why is said behind it
			reduced = append(reduced, h.Name)
		}
	}
	if len(reduced) > 0 {
		b.cause("sandbox-reduced", Info, fmt.Sprintf("sandbox: reduced on %s: without root, machines are less confined", list(reduced)), time.Time{})
	}
}

// ofHost puts the name of a host before what it says, unless it names itself.
func ofHost(name, text string) string {
	words := strings.Fields(text)
	for i := 1; i < len(words); i++ {
		if words[i-1] == "host" && strings.TrimRight(words[i], ",;:") == name {
			return text
		}
	}
	return "host " + name + ": " + text
}

// drained tells how far the draining of a host is.
func (b *board) drained(h *placement.Host, moves []placement.Move) {
	text, severity := fmt.Sprintf("host %s is drained: nothing is placed on it", h.Name), Info
	under, waiting := 0, 0
	for _, m := range moves {
		switch {
		case m.From != h.ID:
		case m.Stage == placement.Stays:
			severity = Warning
			text += fmt.Sprintf("; VM %s stays: %s", m.Name, m.Reason())
		case m.Stage == placement.Waiting:
			waiting++
		default:
			under++
		}
	}
	if under+waiting > 0 {
		text += fmt.Sprintf("; %s to move, %d of them on the way", count(under+waiting, "VM", "VMs"), under)
	}
	if vols := b.used(h); len(vols) > 0 {
		text += fmt.Sprintf("; initiators still use it for %s: let them connect again, at any other host", list(vols))
	}
	b.cause("host-drained/"+h.Name, severity, text, time.Time{})
}

// used names the volumes whose sessions, by what a drained host says, would end
// with it.
func (b *board) used(h *placement.Host) (names []string) {
	if !h.Up() {
		return nil
	}
	for _, id := range h.Alive.Writes {
		if v, ok := b.v.State.Volumes[id]; ok {
			names = append(names, v.Val.Name)
		}
	}
	return names
}

// known returns a severity that Holdfast knows: what it does not is no less
// than a warning.
func known(severity string) string {
	if rank(severity) < 0 {
		return Warning
	}
	return severity
}

// unreadable tells of records that could not be read.
func (b *board) unreadable() {
	if n := len(b.v.State.Bad); n > 0 {
		b.cause("records-unreadable", Error, fmt.Sprintf("%s of the cluster cannot be read: what was last read counts; give all hosts the newest version of Holdfast", count(n, "record", "records")), time.Time{})
	}
}

// Tolerable lists the racks and hosts that can be lost, each alone, and why
// others cannot.
func Tolerable(v placement.Verdict, p placement.Plan) (racks []string, hosts []holdfast.HostID, notRacks map[string]string, notHosts map[holdfast.HostID]string) {
	notRacks, notHosts = map[string]string{}, map[holdfast.HostID]string{}
	for _, j := range v.Racks {
		if j.Can {
			racks = append(racks, j.Name)
		} else {
			notRacks[j.Name] = j.Reasons[0]
		}
	}
	for i, j := range v.Hosts {
		id := p.Hosts[i].Lost[0]
		if j.Can {
			hosts = append(hosts, id)
		} else {
			notHosts[id] = j.Reasons[0]
		}
	}
	return racks, hosts, notRacks, notHosts
}
