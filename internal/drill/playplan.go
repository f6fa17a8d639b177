package drill

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/lab"
)

// staging is the lab that a story is played in.
type staging struct {
	racks, perRack int
	cables         int // the first line that needs a network of the lab's own; 0: none
	power          int // likewise hosts that forget what they have not synced
	bays           int // likewise disks on file systems of their own
}

const (
	playRacks, playPerRack = 3, 1 // if the story does not say
	mostPlayHosts          = 12   // each is a process with an etcd, on one computer
	mostPlayClients        = 12
	mostPlayVMs            = 12
)

// unplayable says why lines of a kind cannot be struck on real processes; "": they
// can.
func unplayable(kind string) string {
	switch kind {
	case "rack":
		return "a lab is one site"
	case "seed", "operations", "without", "mix", "pace":
		return "nothing is drawn in a lab: it does what the story says"
	case "suspend":
		return "hosts of a lab share one computer's clocks, which do not stand still"
	case "calendar":
		return "hosts of a lab share one computer's calendar"
	case "storm":
		return "what real connections carry comes in order and whole"
	case "kv leader", "kv slow", "kv lossy", "kv forget":
		return "a real etcd cannot be told to"
	case "disk slow", "disk hang", "disk failsync", "disk evict", "disk flaky", "disk lose", "disk misdirect":
		return "the kernel's file systems answer as they do"
	case "disk copy", "disk restore", "disk swap":
		return "a running host's disk is not exchanged below it"
	case "machines stuck":
		return "QEMU is as it is"
	case "read":
		return "clients of a lab read where they are let in"
	case "burst":
		return "clients of a lab write as they always do"
	case "force":
		return "a lab's hosts all come back"
	case "keep vm", "set vm back", "forget":
		return "a lab's guests take what is set back for lost"
	case "racks", "host", "link", "clients", "copies", "vms",
		"kill", "start", "power off", "power on", "power cycle", "restart", "freeze", "freeze process", "thaw",
		"cut", "mend", "heal", "slow", "kv away", "disk full", "disk pull",
		"start vm", "stop vm", "drain", "undrain", "scrub", "advance", "end",
		"vm runs", "vm stays", "vm moved", "vm writes", "client goes on", "volume whole", "everything whole", "nothing lost", "condition":
		return ""
	}
	return untold
}

// untold is of lines that are newer than this.
const untold = "nobody has said how a lab does that"

// inForm says why a line of a kind that can be struck cannot be as it stands.
func inForm(l story.Line) string {
	for _, slot := range []string{"place", "a", "b"} {
		if what, _ := l.Place(slot); what == "site" {
			return "a lab is one site"
		}
	}
	switch {
	case l.Kind == "host" && (l.Has("offset") || l.Has("drift")):
		return "hosts of a lab share one computer's clocks"
	case l.Kind == "host" && (l.Has("disks") || l.Has("size")):
		return "hosts of a lab have one disk each, all alike"
	case l.Has("disk") && strings.HasSuffix(l.Text("disk"), "/2"):
		return "hosts of a lab have one disk each"
	}
	return ""
}

// stage finds the lab that a story needs. Kind Invalid, with the line, if no lab
// can play it.
func stage(s *story.Story) (st staging, err error) {
	st = staging{racks: playRacks, perRack: playPerRack}
	var hosts []string
	for _, l := range slices.Concat(s.Setup, s.Lines) {
		why := unplayable(l.Kind)
		if why == "" {
			why = inForm(l)
		}
		if why != "" {
			return st, holdfast.Errorf(holdfast.Invalid, "%s:%d: '%s' has no counterpart on real processes (%s); it plays in 'holdfast sim play'", s.Name, l.N, l.Command, why)
		}
		switch l.Kind {
		case "racks":
			st.racks, st.perRack = l.Count("racks"), l.Count("hosts")
		case "host":
			hosts = append(hosts, l.Text("rack")+" "+l.Text("host"))
		case "clients":
			err = most(s, l, "clients", mostPlayClients)
		case "vms":
			err = most(s, l, "vms", mostPlayVMs)
		}
		if err != nil {
			return st, err
		}
		st.need(l)
	}
	if err := st.judged(s); err != nil {
		return st, err
	}
	if len(hosts) > 0 {
		if st.racks, st.perRack, err = arrayed(s, hosts); err != nil {
			return st, err
		}
	}
	if n := st.racks * st.perRack; n < 1 || n > mostPlayHosts || st.racks > 26 {
		return st, holdfast.Errorf(holdfast.Invalid, "%s: a lab plays stories of 1 to %d hosts, not of %d; it plays in 'holdfast sim play'", s.Name, mostPlayHosts, n)
	}
	return st, st.named(s)
}

// judged refuses what is expected of clients after their history was judged.
func (st *staging) judged(s *story.Story) error {
	at := 0
	for _, l := range s.Lines {
		switch {
		case l.Kind == "nothing lost":
			at = l.N
		case l.Kind == "client goes on" && at > 0:
			return holdfast.Errorf(holdfast.Invalid, "%s:%d: '%s' has no counterpart on real processes (their clients end when line %d has their history judged); it plays in 'holdfast sim play'", s.Name, l.N, l.Command, at)
		}
	}
	return nil
}

func most(s *story.Story, l story.Line, slot string, n int) error {
	if l.Count(slot) <= n {
		return nil
	}
	return holdfast.Errorf(holdfast.Invalid, "%s:%d: '%s': a lab has at most %d", s.Name, l.N, l.Command, n)
}

// need notes what the lab must have for a line.
func (st *staging) need(l story.Line) {
	note := func(where *int) {
		if *where == 0 {
			*where = l.N
		}
	}
	switch l.Kind {
	case "link", "cut", "slow", "kv away":
		note(&st.cables)
	case "power off", "power cycle":
		note(&st.power)
	case "disk full", "disk pull":
		note(&st.bays)
	}
}

// arrayed is a lab of the hosts that a story names, which are called as a lab's.
func arrayed(s *story.Story, hosts []string) (racks, perRack int, err error) {
	for _, h := range hosts {
		rack, _, _ := strings.Cut(h, " ")
		if len(rack) == 1 && rack[0] >= 'a' && rack[0] <= 'z' {
			racks = max(racks, int(rack[0]-'a')+1)
		}
	}
	perRack = len(hosts) / max(1, racks)
	var want []string
	for r := range racks {
		for n := range perRack {
			want = append(want, fmt.Sprintf("%c %c%d", 'a'+r, 'a'+r, n+1))
		}
	}
	have := slices.Sorted(slices.Values(hosts))
	if slices.Sort(want); !slices.Equal(have, want) || len(want) == 0 {
		return 0, 0, holdfast.Errorf(holdfast.Invalid, "%s: the hosts of a lab are a1, a2 … in rack a, b1 … in rack b, as many in each; it plays in 'holdfast sim play'", s.Name)
	}
	return racks, perRack, nil
}

// named refuses lines that name hosts, racks, volumes or VMs that there are not.
func (st *staging) named(s *story.Story) error {
	hosts, racks := map[string]bool{}, map[string]bool{}
	for r := range st.racks {
		rack := string(rune('a' + r))
		racks[rack] = true
		for n := range st.perRack {
			hosts[fmt.Sprintf("%s%d", rack, n+1)] = true
		}
	}
	volumes, vms := volumesOf(s), vmsOf(s)
	for _, l := range slices.Concat(s.Setup, s.Lines) {
		var missing []string
		lacks := func(there bool, what, name string) {
			if !there && name != "" {
				missing = append(missing, strings.TrimSpace(what+" "+name))
			}
		}
		for _, slot := range []string{"place", "a", "b"} {
			switch what, name := l.Place(slot); what {
			case "host":
				lacks(hosts[name], "host", name)
			case "rack":
				lacks(racks[name], "rack", name)
			case "host of", "rack of":
				lacks(slices.Contains(vms, name), "VM", name)
			}
		}
		if l.Class != story.Topology {
			lacks(hosts[l.Text("host")], "host", l.Text("host"))
		}
		if l.Has("disk") {
			h, _ := l.Disk("disk")
			lacks(hosts[h], "host", h)
		}
		for _, name := range l.Names("from") {
			lacks(hosts[name], "host", name)
		}
		volume := l.Text("volume")
		lacks(slices.Contains(volumes, volume) || l.Kind == "volume whole" && slices.Contains(vms, volume), "volume", volume)
		lacks(slices.Contains(vms, l.Text("vm")), "VM", l.Text("vm"))
		if len(missing) > 0 {
			return holdfast.Errorf(holdfast.Invalid, "%s:%d: there is no %s", s.Name, l.N, missing[0])
		}
	}
	return nil
}

// volumesOf are the clients' volumes, by their numbers.
func volumesOf(s *story.Story) (names []string) {
	for _, l := range s.Of("clients") {
		for i := range l.Count("clients") {
			names = append(names, fmt.Sprintf("v%d", i))
		}
	}
	return names
}

// vmsOf are all VMs that a story has, those first that are there from the
// beginning.
func vmsOf(s *story.Story) (names []string) {
	for _, l := range s.Of("vms") {
		for i := range l.Count("vms") {
			names = append(names, fmt.Sprintf("vm%d", i))
		}
	}
	for _, l := range s.Lines {
		if vm := l.Text("vm"); l.Kind == "start vm" && !slices.Contains(names, vm) {
			names = append(names, vm)
		}
	}
	return names
}

// possible says what this computer lacks for the lab, with the line that needs it.
func (st *staging) possible(s *story.Story) error {
	for _, need := range []struct {
		line int
		can  func() error
	}{{st.cables, lab.CanNetns}, {st.bays, lab.CanBays}} {
		if need.line == 0 {
			continue
		}
		if err := need.can(); err != nil {
			return holdfast.Errorf(holdfast.KindOf(err), "%s:%d: it cannot be played here: %w", s.Name, need.line, err)
		}
	}
	return nil
}
