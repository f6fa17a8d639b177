package httpapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// renderStatus puts together what people look at first. The sentence is made
// from the same picture as the figures and conditions below it.
func (p picture) renderStatus(self Self, r Report) v1.Status {
	c := p.renderCluster()
	s := v1.Status{Host: renderSelf(self), Cluster: &c, Counts: p.counts(), CanLose: p.renderTolerance(r.Tolerance)}
	s.Conditions = p.conditions(r)
	s.Level = level(s.Conditions)
	s.Sentence = p.sentence(s, r)
	return s
}

// strayStatus is the status of a host that is in no cluster.
func strayStatus(self Self) v1.Status {
	return v1.Status{
		Sentence: "Host " + self.Name + " is in no cluster. Run 'holdfast cluster init --name NAME' to make one here, or 'holdfast host join CODE' to join one.",
		Level:    "warning", Host: renderSelf(self), Conditions: []v1.Condition{},
		CanLose: v1.CanLose{Racks: []string{}, Hosts: []string{}, Unknown: "this host is in no cluster"},
	}
}

// blindStatus is the status of a member that has no picture of the cluster.
func blindStatus(self Self, why error) v1.Status {
	return v1.Status{
		Sentence: "Nothing is known of the cluster: " + why.Error(),
		Level:    "error", Host: renderSelf(self), Conditions: []v1.Condition{},
		CanLose: v1.CanLose{Racks: []string{}, Hosts: []string{}, Unknown: why.Error()},
	}
}

func (p picture) counts() v1.Counts {
	c := v1.Counts{Racks: len(p.racks()), Hosts: len(p.Hosts), Disks: len(p.Disks)}
	for _, h := range p.hosts() {
		if p.alive(h.ID) {
			c.HostsAlive++
		}
	}
	for _, v := range p.vms() {
		if v.Deleted {
			continue
		}
		c.VMs++
		if v.Power == cluster.On {
			c.VMsOn++
			if s, _ := p.vmState(v); s == "running" {
				c.VMsRunning++
			}
		}
	}
	for _, v := range p.volumes() {
		switch p.volumeState(v) {
		case "deleting":
			continue
		case "degraded", "unavailable":
			c.VolumesDegraded++
		}
		c.Volumes++
	}
	var none cluster.Host
	c.BytesTotal, c.BytesFree = p.space(none.ID)
	return c
}

func (p picture) renderTolerance(t Tolerance) v1.CanLose {
	out := v1.CanLose{Racks: append([]string{}, t.Racks...), Hosts: []string{}, NotRacks: t.NotRacks, Unknown: t.Unknown}
	slices.Sort(out.Racks)
	for _, h := range t.Hosts {
		out.Hosts = append(out.Hosts, p.hostName(h))
	}
	slices.Sort(out.Hosts)
	for h, why := range t.NotHosts {
		if out.NotHosts == nil {
			out.NotHosts = map[string]string{}
		}
		out.NotHosts[p.hostName(h)] = why
	}
	return out
}

// conditions gathers what is wrong: what the picture shows, what hosts say of
// themselves and what the backend reports, each once, the worst first.
func (p picture) conditions(r Report) []v1.Condition {
	byKey := map[string]v1.Condition{}
	add := func(c v1.Condition) {
		if old, ok := byKey[c.ID]; !ok || rank(c.Severity) > rank(old.Severity) {
			byKey[c.ID] = c
		}
	}
	for _, c := range r.Conditions {
		add(renderCondition(c))
	}
	for _, h := range p.hosts() {
		if a, ok := p.Alive[h.ID]; ok {
			for _, c := range a.Val.Conditions {
				add(renderCondition(c))
			}
		}
	}
	for _, c := range p.derived() {
		add(c)
	}
	out := []v1.Condition{}
	for _, c := range byKey {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b v1.Condition) int {
		return cmp.Or(rank(b.Severity)-rank(a.Severity), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func rank(severity string) int { return slices.Index([]string{"info", "warning", "error"}, severity) }

func level(cs []v1.Condition) string {
	out := "ok"
	for _, c := range cs {
		switch {
		case c.Severity == "error":
			return "error"
		case c.Severity == "warning":
			out = "warning"
		}
	}
	return out
}

// derived are the conditions that follow from the picture alone.
func (p picture) derived() []v1.Condition {
	var out []v1.Condition
	add := func(severity, id, format string, args ...any) {
		out = append(out, v1.Condition{ID: id, Severity: severity, Text: fmt.Sprintf(format, args...)})
	}
	for _, h := range p.hosts() {
		if !p.alive(h.ID) {
			add("warning", "host-away/"+h.Name, "host %s in rack %s does not answer", h.Name, h.Domain)
		}
	}
	for _, d := range p.disks() {
		if u, ok := p.use(d); ok && u.Error != "" {
			add("error", "disk-failed/"+p.hostName(d.Host)+d.Path, "disk %s of host %s is not in use: %s", d.Path, p.hostName(d.Host), u.Error)
		}
	}
	for _, v := range p.volumes() {
		alive := p.inSyncAlive(v)
		switch p.volumeState(v) {
		case "unavailable":
			add("error", "volume-unavailable/"+v.Name, "volume %s cannot be used: %d of its %d in-sync copies can be reached", v.Name, alive, len(v.InSync))
		case "degraded":
			add("warning", "volume-degraded/"+v.Name, "volume %s has %s; it should have %d", v.Name, copies(alive), v.Copies)
		}
	}
	for _, v := range p.vms() {
		state, why := p.vmState(v)
		if v.Power != cluster.On || v.Deleted || state == "running" {
			continue
		}
		severity := "warning"
		if state == "failed" || state == "waiting" {
			severity = "error"
		}
		add(severity, "vm-not-running/"+v.Name, "VM %s should run and is %s%s", v.Name, state, because(why))
	}
	return out
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func copies(n int) string {
	if n == 1 {
		return "one copy left"
	}
	return fmt.Sprintf("%d copies", n)
}

// sentence is the truth in one line: what runs, what is away, what is short of
// copies, what may be lost.
func (p picture) sentence(s v1.Status, r Report) string {
	var parts []string
	if r.Stale != "" {
		parts = append(parts, "The picture is old: "+strings.TrimSuffix(r.Stale, ".")+".")
	}
	parts = append(parts, p.sayVMs(s.Counts))
	if away := p.sayAway(); away != "" {
		parts = append(parts, away)
	}
	if n := s.Counts.VolumesDegraded; n > 0 {
		parts = append(parts, p.sayDegraded(n))
	}
	parts = append(parts, p.sayTolerance(s.CanLose))
	return strings.Join(parts, " ")
}

func (p picture) sayVMs(c v1.Counts) string {
	switch {
	case c.VMsOn == 0 && c.VMs == 0:
		return "No VMs yet."
	case c.VMsOn == 0:
		return "No VM should run."
	case c.VMsRunning == 1 && c.VMsOn == 1:
		return "The only VM runs."
	case c.VMsRunning == c.VMsOn:
		return fmt.Sprintf("All %d VMs run.", c.VMsOn)
	}
	var down []string
	for _, v := range p.vms() {
		if state, _ := p.vmState(v); v.Power == cluster.On && !v.Deleted && state != "running" {
			down = append(down, v.Name+" is "+state)
		}
	}
	return fmt.Sprintf("%d of %d VMs run: %s.", c.VMsRunning, c.VMsOn, list(few(down), "and"))
}

// few keeps a sentence short.
func few(words []string) []string {
	if len(words) <= 4 {
		return words
	}
	return append(slices.Clone(words[:3]), fmt.Sprintf("%d more", len(words)-3))
}

// sayAway names whole racks, and hosts of racks that are not wholly away.
func (p picture) sayAway() string {
	there := map[string]bool{}
	for _, h := range p.hosts() {
		if p.alive(h.ID) {
			there[h.Domain.String()] = true
		}
	}
	var racks, hosts []string
	for _, r := range p.racks() {
		if !there[r] {
			racks = append(racks, r)
		}
	}
	for _, h := range p.hosts() {
		if !p.alive(h.ID) && there[h.Domain.String()] {
			hosts = append(hosts, h.Name)
		}
	}
	var say []string
	if len(racks) > 0 {
		say = append(say, plural(len(racks), "Rack", "Racks")+" "+list(few(racks), "and"))
	}
	if len(hosts) > 0 {
		say = append(say, plural(len(hosts), "host", "hosts")+" "+list(few(hosts), "and"))
	}
	if len(say) == 0 {
		return ""
	}
	text := strings.Join(say, " and ") + " " + plural(len(racks)+len(hosts), "is", "are") + " away."
	return strings.ToUpper(text[:1]) + text[1:]
}

func (p picture) sayDegraded(n int) string {
	if n > 1 {
		return fmt.Sprintf("%d volumes are short of copies.", n)
	}
	for _, v := range p.volumes() {
		switch p.volumeState(v) {
		case "degraded":
			return fmt.Sprintf("Volume %s has %s.", v.Name, copies(p.inSyncAlive(v)))
		case "unavailable":
			return fmt.Sprintf("Volume %s cannot be reached.", v.Name)
		}
	}
	return ""
}

func (p picture) sayTolerance(c v1.CanLose) string {
	if c.Unknown != "" {
		return "What may be lost is not known: " + strings.TrimSuffix(c.Unknown, ".") + "."
	}
	racks, hosts := len(p.racks()), len(p.Hosts)
	allHosts := len(c.Hosts) == hosts && hosts > 1
	switch {
	case len(c.Racks) == racks && racks > 1:
		return "Can lose any 1 rack."
	case len(c.Racks) > 0 && allHosts:
		return "Can lose rack " + list(c.Racks, "or") + ", or any 1 host." + why(c.NotRacks)
	case len(c.Racks) > 0:
		return "Can lose rack " + list(c.Racks, "or") + "." + why(c.NotRacks)
	case allHosts:
		return "Can lose any 1 host, but no rack" + reason(c.NotRacks) + "."
	case len(c.Hosts) > 0:
		return "Can lose host " + list(few(c.Hosts), "or") + ", but no rack" + reason(c.NotRacks) + "."
	case racks <= 1 && hosts <= 1:
		return "Can lose nothing: there is only one host."
	}
	return "Cannot lose any rack or host" + reason(c.NotRacks) + "."
}

// why appends " Not rack b: because." for the racks that may not be lost.
func why(not map[string]string) string {
	var names []string
	for r := range not {
		names = append(names, r)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, r := range few(names) {
		if text, ok := not[r]; ok {
			b.WriteString(" Not rack " + r + ": " + strings.TrimSuffix(text, ".") + ".")
		}
	}
	return b.String()
}

// reason is the first of the reasons, as ": because".
func reason(not map[string]string) string {
	first := ""
	for r := range not {
		if first == "" || r < first {
			first = r
		}
	}
	if first == "" {
		return ""
	}
	return ": " + strings.TrimSuffix(not[first], ".")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
