package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// Limits on what a story may ask for.
const (
	maxHosts   = 30
	maxRacks   = 10
	maxSites   = 2
	maxClients = 12
	maxVMs     = 12
	maxCopies  = 5
	leastDisk  = 13 << 20
	mostDisk   = 1 << 30
	// maxDrift is in parts of a million. Any two clocks' rates differ by less than
	// a fiftieth, which is all that the product assumes (docs/INVARIANTS.md).
	maxDrift = 9900
)

// plan is what a run begins with.
type plan struct {
	hosts   []hostPlan
	links   []story.Line
	clients int
	vms     int
	copies  map[string]int // of clients' volumes by name
}

type hostPlan struct {
	name   string
	domain holdfast.FaultDomain
	disks  int
	size   int64 // of each
	skew   simclock.Skew
}

// prepare decides what the run begins with, by the story and for the rest by the
// seed. An error says what of the story cannot be.
func (s *simulation) prepare() (err error) {
	s.quiet = (s.story.End > 0 || len(s.story.Lines) > 0) && !s.said("seed")
	if n := s.story.Of("operations"); s.o.Steps == 0 && len(n) > 0 {
		s.o.Steps = n[0].Count("operations")
	}
	if n := len(s.story.Lines); s.said("operations") && s.said("seed") && n > 0 && s.story.End > s.story.Lines[n-1].At {
		s.over = s.story.End // it was recorded with what came after them
	}
	if s.o.Steps == 0 && s.o.Lasts == 0 && s.said("seed") {
		s.o.Lasts = s.story.End // it was recorded by its minutes
	}
	if s.o.Steps == 0 && s.o.Lasts == 0 && !s.quiet {
		s.o.Steps = defaultSteps
	}
	if !s.quiet {
		s.add("seed %d", s.o.Seed)
	}
	if s.o.Steps > 0 {
		s.add("operations %d", s.o.Steps)
	}
	for _, l := range s.story.Setup {
		if l.Kind != "seed" && l.Kind != "operations" && l.Kind != "racks" {
			s.setup = append(s.setup, l)
		}
	}
	rng := s.w.Rand("topology")
	s.drawHosts(rng)
	if s.plan, err = s.planOf(); err != nil {
		return err
	}
	if !s.quiet {
		s.drawWorkload(rng)
	}
	if s.plan, err = s.planOf(); err != nil {
		return err
	}
	return s.checkNames()
}

// add writes a line of the setup down.
func (s *simulation) add(format string, args ...any) {
	s.setup = append(s.setup, story.Line{Command: s.say(format, args...)})
}

// said reports whether the story has lines of a kind.
func (s *simulation) said(kind string) bool { return len(s.story.Of(kind)) > 0 }

// drawHosts draws the hosts where the story does not name them.
func (s *simulation) drawHosts(rng *rand.Rand) {
	racks, perRack, disks := 3+rng.IntN(2), 1+rng.IntN(2), 1
	if s.disks.IntN(3) == 0 && !s.quiet {
		disks = 2
	}
	large := rng.IntN(largeEvery) == 0 && !s.quiet
	if large {
		racks, perRack = 5+rng.IntN(maxRacks-4), 2
	}
	for _, l := range s.story.Of("racks") {
		racks, perRack, large = min(l.Count("racks"), 26), min(l.Count("hosts"), maxHosts+1), false
	}
	if s.said("host") {
		return
	}
	for r := range racks {
		if large {
			s.add("rack %s in site %s", rackName(r), []string{"east", "west"}[r%2])
		}
		for n := range perRack {
			s.add("host %s%d in rack %s disks %d of %dM clock %v drift %d", rackName(r), n+1, rackName(r), disks,
				s.memories.roomy([]int{13, 16, 24, 64}[rng.IntN(4)]), time.Duration(rng.IntN(1000))*time.Hour, s.drift(rng.Float64()*2-1, rng.IntN(2) == 0))
		}
	}
	if large {
		s.add("link site east site west latency %v jitter 1ms", time.Millisecond*time.Duration(1+rng.IntN(10)))
	}
}

// drawWorkload draws what uses the cluster.
func (s *simulation) drawWorkload(rng *rand.Rand) {
	racks := map[string]bool{}
	for _, h := range s.plan.hosts {
		racks[h.domain.Rack] = true
	}
	if !s.said("clients") {
		s.add("clients %d", clients)
		s.plan.clients = clients
	}
	if n := 1 + rng.IntN(2); !s.said("vms") {
		s.add("vms %d", n)
	}
	for i := range s.plan.clients {
		name := clientVolume(i)
		if n := 2 + rng.IntN(2); s.plan.copies[name] == 0 {
			s.add("volume %s copies %d", name, min(n, len(racks)))
		}
	}
}

// clientNames are the names of the clients' volumes.
func (s *simulation) clientNames() (out []string) {
	for i := range s.plan.clients {
		out = append(out, clientVolume(i))
	}
	return out
}

func clientVolume(i int) string { return fmt.Sprintf("v%d", i) }

func clientVolumes(n int) (names []string) {
	for i := range n {
		names = append(names, clientVolume(i))
	}
	return names
}

// largeEvery is how many seeds there are to one with a large cluster.
const largeEvery = 64

func rackName(r int) string { return string(rune('a' + r)) }

// drift draws a clock's rate error; some are as far off as is allowed.
func (s *simulation) drift(d float64, most bool) int {
	if most {
		d = math.Copysign(1, d)
	}
	return int(d * maxDrift)
}

// planOf reads the setup.
func (s *simulation) planOf() (p plan, err error) {
	p.copies = make(map[string]int)
	sites := make(map[string]string)
	bad := func(l story.Line, format string, args ...any) error {
		return s.wrong(l, fmt.Sprintf(format, args...))
	}
	for _, l := range s.setup {
		switch l.Kind {
		case "rack":
			sites[l.Text("rack")] = l.Text("site")
		case "host":
			h, why := hostOf(l)
			if why != "" {
				return p, bad(l, "%s", why)
			}
			p.hosts = append(p.hosts, h)
		case "link":
			p.links = append(p.links, l)
		case "clients":
			if p.clients = l.Count("clients"); p.clients > maxClients {
				return p, bad(l, "there are %d clients at most", maxClients)
			}
		case "vms":
			if p.vms = l.Count("vms"); p.vms > maxVMs {
				return p, bad(l, "there are %d VMs at most", maxVMs)
			}
		case "copies":
			n := l.Count("copies")
			if n < 1 || n > maxCopies {
				return p, bad(l, "a volume has 1 to %d copies", maxCopies)
			}
			p.copies[l.Text("volume")] = n
		}
	}
	for i := range p.hosts {
		p.hosts[i].domain.Site = sites[p.hosts[i].domain.Rack]
	}
	return p, p.check()
}

// wrong is an error about a line of the story.
func (s *simulation) wrong(l story.Line, why string) error {
	return holdfast.Errorf(holdfast.Invalid, "%s:%d: %s", s.story.Name, l.N, why)
}

// checkNames sees that whatever the story strikes is there.
func (s *simulation) checkNames() error {
	for _, l := range append(slices.Clone(s.plan.links), s.story.Lines...) {
		for _, slot := range []string{"place", "a", "b"} {
			if what, _ := l.Place(slot); l.Has(slot) && !strings.HasSuffix(what, " of") && !slices.ContainsFunc(s.plan.hosts, func(h hostPlan) bool { return isAt(l.Command, slot, h.name, h.domain) }) {
				return s.wrong(l, "there is no "+l.Text(slot))
			}
		}
		if v := l.Text("volume"); (l.Kind == "read" || l.Kind == "burst") && !slices.ContainsFunc(clientVolumes(s.plan.clients), func(name string) bool { return name == v }) {
			return s.wrong(l, "there is no client of "+v)
		}
		disk, n := l.Disk("disk")
		for _, name := range append(l.Names("from"), l.Text("host"), l.Text("other"), disk) {
			i := slices.IndexFunc(s.plan.hosts, func(h hostPlan) bool { return h.name == name })
			if name != "" && (i < 0 || name == disk && n > s.plan.hosts[i].disks) {
				return s.wrong(l, "there is no "+name+", or no such disk of it")
			}
		}
	}
	for _, l := range s.story.Lines {
		if l.Kind == "force" && !slices.ContainsFunc(s.clientNames(), func(n string) bool { return n == l.Text("volume") }) {
			return s.wrong(l, "no client has a volume of that name")
		}
	}
	for _, l := range s.setup {
		if l.Kind == "mix" && !slices.ContainsFunc(faultKinds(), func(k faultKind) bool { return k.name == l.Text("kind") }) {
			return s.wrong(l, "there is no kind of fault of that name; there are "+kindNames())
		}
	}
	return nil
}

// hostOf reads a host's line.
func hostOf(l story.Line) (h hostPlan, why string) {
	h = hostPlan{name: l.Text("host"), domain: holdfast.FaultDomain{Rack: l.Text("rack")}, disks: 1, size: 64 << 20}
	if l.Has("disks") {
		h.disks = l.Count("disks")
	}
	if l.Has("size") {
		h.size = l.Size("size")
	}
	h.skew = simclock.Skew{Offset: l.Time("offset"), Drift: l.Num("drift") / 1e6}
	switch {
	case h.disks < 1 || h.disks > 2:
		return h, "a host has one disk or two"
	case h.size < leastDisk || h.size > mostDisk:
		return h, fmt.Sprintf("a disk has %dM to %dM", leastDisk>>20, mostDisk>>20)
	case math.Abs(l.Num("drift")) > maxDrift:
		return h, fmt.Sprintf("a clock is off by %d parts of a million at most", maxDrift)
	}
	return h, ""
}

// check looks at the plan as a whole.
func (p *plan) check() error {
	names, racks, sites := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, h := range p.hosts {
		if names[h.name] {
			return holdfast.Errorf(holdfast.Invalid, "host %s is there twice", h.name)
		}
		names[h.name], racks[h.domain.Rack], sites[h.domain.Site] = true, true, true
	}
	if len(p.hosts) < 1 || len(p.hosts) > maxHosts || len(racks) > maxRacks || len(sites) > maxSites {
		return holdfast.Errorf(holdfast.Invalid, "a simulated cluster has 1 to %d hosts in up to %d racks and %d sites, not %d in %d and %d", maxHosts, maxRacks, maxSites, len(p.hosts), len(racks), len(sites))
	}
	return nil
}

// layLinks gives paths between hosts what the topology says of them.
func (s *simulation) layLinks() {
	for _, l := range s.plan.links {
		p := simnet.LAN()
		if l.Has("latency") {
			p.Latency = l.Time("latency")
		}
		if l.Has("jitter") {
			p.Jitter = l.Time("jitter")
		}
		if l.Has("rate") {
			p.Bandwidth = l.Size("rate")
		}
		p.Loss = l.Share("loss")
		for _, a := range s.hosts {
			for _, b := range s.hosts {
				if a != b && (a.isAt(l.Command, "a") && b.isAt(l.Command, "b") || b.isAt(l.Command, "a") && a.isAt(l.Command, "b")) {
					s.net.SetPath(a.rec.ID, b.rec.ID, p)
				}
			}
		}
	}
}

// isAt reports whether a host is at the place that a line names.
func isAt(c story.Command, slot, host string, d holdfast.FaultDomain) bool {
	what, name := c.Place(slot)
	return what == "everything" || what == "host" && host == name || what == "rack" && d.Rack == name || what == "site" && d.Site == name
}

func (h *host) isAt(c story.Command, slot string) bool {
	what, name := c.Place(slot)
	if vm, ok := h.s.vmNamed(name); ok && strings.HasSuffix(what, " of") {
		at := h.s.byID(vm.Host)
		return at == h || at != nil && what == "rack of" && at.rec.Domain == h.rec.Domain
	}
	return isAt(c, slot, h.name, h.rec.Domain)
}

// vmNamed finds a VM's record.
func (s *simulation) vmNamed(name string) (cluster.VM, bool) {
	if s.eye != nil {
		for _, vm := range s.eye.State().SortedVMs() {
			if vm.Val.Name == name {
				return vm.Val, true
			}
		}
	}
	return cluster.VM{}, false
}
