package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Build is one build of the program.
type Build struct {
	Version string
	Sum     string // SHA-256 of its file, in hexadecimal digits; "": there is no such file
	Arch    string // as Go names it: amd64, arm64
}

// Host is what a host says of its program.
type Host struct {
	Running  Build // the process that answers
	Disk     Build // in its place on the disk: what is run at the next start
	Previous Build // kept from the last exchange
	LeadsKV  bool  // its member leads the votes of the control plane
	Silent   string
}

// The ways in which a host gets another program.
const (
	ByFile   = "file" // it is sent one
	FromDisk = "disk" // somebody put it there: a package, say
	Previous = "previous"
)

// Ask is what a plan is made of.
type Ask struct {
	State *cluster.State
	Hosts map[holdfast.HostID]Host
	Work  []string // what long work speaks against it, for people
	Way   string   // ByFile, FromDisk or Previous
	File  Build    // that is sent
	Back  bool     // an older version is wanted
}

// Plan is the order in which the hosts get it, and what speaks against that.
type Plan struct {
	Racks   []Rack
	Blocked []string // why not now
	Risks   []string // what would be lost if a host did not come back: to be accepted
	Notes   []string
}

// Rack is one rack's share of a plan.
type Rack struct {
	Domain holdfast.FaultDomain
	Steps  []Step
}

// Step is one host's turn.
type Step struct {
	Host     holdfast.HostID
	Name     string
	From, To Build
	Done     bool     // it runs what it should
	Skipped  string   // why it is left as it is
	VMs      []string // that run there, and go on
	Away     []string // what is not there while its process begins anew
}

// Next returns the first host whose turn it is; nil: there is none left.
func (p Plan) Next() *Step {
	for i := range p.Racks {
		for j := range p.Racks[i].Steps {
			if s := &p.Racks[i].Steps[j]; !s.Done && s.Skipped == "" {
				return s
			}
		}
	}
	return nil
}

// Make makes a plan.
func Make(a Ask) Plan {
	var p Plan
	for _, rec := range a.State.SortedHosts() {
		h := rec.Val
		s := a.step(h)
		i := slices.IndexFunc(p.Racks, func(r Rack) bool { return r.Domain == h.Domain })
		if i < 0 {
			p.Racks, i = append(p.Racks, Rack{Domain: h.Domain}), len(p.Racks)
		}
		p.Racks[i].Steps = append(p.Racks[i].Steps, s)
		if said, ok := a.Hosts[h.ID]; ok && said.Silent != "" && a.State.AliveHost(h.ID) {
			p.Blocked = append(p.Blocked, fmt.Sprintf("host %s does not tell which program it has (%s): if its version cannot, install the new one there by hand and start its process again", h.Name, said.Silent))
		}
	}
	a.order(p.Racks)
	next := p.Next()
	except := holdfast.HostID{}
	if next != nil && a.Back {
		except = next.Host
	}
	p.Blocked = append(p.Blocked, Unsafe(a.State, a.Work, except)...)
	p.Blocked = append(p.Blocked, a.older(p.Racks)...)
	p.Risks = Risks(a.State, a.risked(p)...)
	p.Notes = a.notes(p.Racks)
	return p
}

// step is a host's turn.
func (a Ask) step(h cluster.Host) Step {
	said := a.Hosts[h.ID]
	s := Step{Host: h.ID, Name: h.Name, From: said.Running, To: a.to(said)}
	s.Done = s.From.Sum != "" && s.From.Sum == s.To.Sum
	switch {
	case said.Silent != "" || said.Running.Sum == "":
		s.Skipped = "it does not answer"
	case s.To.Sum == "":
		s.Skipped = "it has no previous program"
	case s.To.Arch != s.From.Arch && s.To.Arch != "":
		s.Skipped = fmt.Sprintf("it needs a program for %s, and this one is for %s", s.From.Arch, s.To.Arch)
	}
	for _, m := range a.State.SortedMachines() {
		if m.Val.Host == h.ID && m.Val.State == "running" {
			s.VMs = append(s.VMs, a.State.VMs[m.Val.VM].Val.Name)
		}
	}
	slices.Sort(s.VMs)
	if !s.Done && s.Skipped == "" {
		s.Away = a.away(h, said)
	}
	return s
}

// to is what a host is to run.
func (a Ask) to(said Host) Build {
	switch {
	case a.Way == ByFile:
		return a.File
	case a.Way == Previous && said.Previous.Sum != "":
		return said.Previous
	case a.Way == Previous && said.Running == said.Disk:
		return Build{}
	}
	return said.Disk
}

// away is what is not there while a host's process begins anew.
func (a Ask) away(h cluster.Host, said Host) (out []string) {
	switch {
	case said.LeadsKV || a.State.Leader == h.ID:
		out = append(out, "its vote and its lead of the control plane, which another host takes over")
	case h.Voter:
		out = append(out, "its vote in the control plane")
	}
	voters := 0
	for _, rec := range a.State.Hosts {
		if rec.Val.Voter {
			voters++
		}
	}
	if h.Voter && voters > 0 && voters-1 <= voters/2 {
		out = append(out, "the control plane's majority: nothing can be changed meanwhile")
	}
	var only []string
	for _, v := range a.State.SortedVolumes() {
		if !v.Val.Deleted && len(v.Val.InSync) == 1 && v.Val.InSync[0].Host == h.ID {
			only = append(only, v.Val.Name)
		}
	}
	if len(only) > 0 {
		out = append(out, "the only copy of "+list(only)+": reads and writes wait")
	}
	return out
}

// older finds hosts that would get an older version though nobody wants that.
func (a Ask) older(racks []Rack) (out []string) {
	for _, r := range racks {
		for _, s := range r.Steps {
			if s.Done || s.Skipped != "" || a.Back {
				continue
			}
			if err := Older(s.From, s.To); err != nil {
				out = append(out, fmt.Sprintf("host %s: %v", s.Name, err))
			}
		}
	}
	return out
}

// Older refuses a build that is older than the one that runs.
func Older(from, to Build) error {
	if order, known := Compare(to.Version, from.Version); known && order < 0 {
		return holdfast.Errorf(holdfast.Conflict, "version %s is older than %s, which runs: what the newer one has written the older one may refuse to read; --back goes back all the same", to.Version, from.Version)
	}
	return nil
}

func (a Ask) notes(racks []Rack) (out []string) {
	seen := map[[2]string]bool{}
	for _, r := range racks {
		for _, s := range r.Steps {
			pair := [2]string{s.From.Version, s.To.Version}
			if s.Done || s.Skipped != "" || seen[pair] {
				continue
			}
			seen[pair] = true
			if _, known := Compare(pair[0], pair[1]); !known {
				out = append(out, fmt.Sprintf("which of the versions %s and %s is newer their names do not tell", pair[0], pair[1]))
			}
		}
	}
	if len(seen) > 0 {
		out = append(out, "VMs go on; the reads and writes of a host's VMs wait for the seconds in which its process begins anew",
			"a host that is away for longer than some four seconds counts as lost, and its VMs are started elsewhere")
	}
	return out
}

// list is some names, and how many more.
func list(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
