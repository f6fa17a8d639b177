package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Removal is what striking hosts from the membership would mean.
type Removal struct {
	Hosts    []holdfast.HostID
	Lost     bool          // they will not come back
	Refused  []string      // why it cannot be done, what to do; none: it can
	Restarts []Restart     // VMs of theirs, and where they start
	Unplaced []Unplaced    // VMs of theirs that run nowhere
	Volumes  []RemovedCopy // volumes that have a copy there, by name
	Votes    Votes
}

// RemovedCopy is a volume with a copy on a host that is to be removed.
type RemovedCopy struct {
	Volume cluster.Volume
	Left   int // copies in sync that are left and can be used now
	// Unreachable: nobody can read it any more, or not before Waits are back.
	Unreachable bool
	Waits       []string // hosts that are away and have a copy in sync
	Stale       []string // hosts that have one that is not
	Build       Why      // where the copy is built anew, or why nowhere
}

// Reason says in a few words what becomes of the volume.
func (c RemovedCopy) Reason() string {
	left := fmt.Sprintf("%d of %s left", c.Left, count(c.Volume.Copies, "copy", "copies"))
	switch {
	case c.Unreachable && len(c.Waits) > 0:
		return "no copy in sync is left on a living host: it waits for host " + strings.Join(c.Waits, " or ")
	case c.Unreachable && len(c.Stale) > 0:
		return "its only copies in sync are there; what host " + strings.Join(c.Stale, " and ") + " has is stale"
	case c.Unreachable:
		return "its only copies are there"
	case len(c.Build.Chosen) > 0:
		return left + "; another is built on " + c.Build.Chosen[0]
	case c.Build.Short != "":
		return left + "; " + c.Build.Short
	case c.Left >= c.Volume.Copies:
		return "it has its copies without the one there"
	}
	return left
}

// Votes is what a removal means to the control plane; all zero with an external
// one.
type Votes struct {
	All   int      // voters now
	Go    []string // those that go, by place
	Left  int      // those that are left
	Alive int      // of these
	Now   int      // alive of all
}

// Needed is how many of those that are left must agree.
func (v Votes) Needed() int { return v.Left/2 + 1 }

// Unreachable returns the volumes that nobody could read any more.
func (r Removal) Unreachable() (out []RemovedCopy) {
	for _, c := range r.Volumes {
		if c.Unreachable {
			out = append(out, c)
		}
	}
	return out
}

// PlanRemoval says what striking hosts would mean: lost ones, or such that were
// drained.
func PlanRemoval(s *cluster.State, hosts []holdfast.HostID, lost bool) Removal {
	v := Look(s)
	r := Removal{Lost: lost}
	var gone []*Host
	for _, h := range v.Hosts {
		if slices.Contains(hosts, h.ID) {
			r.Hosts = append(r.Hosts, h.ID)
			gone = append(gone, h)
		}
	}
	after := v.without(gone)
	r.copies(v, after)
	var vms []cluster.VM
	for _, vm := range v.VMs {
		if vm.Power == cluster.On && r.goes(vm.Host) {
			vms = append(vms, vm)
		}
	}
	r.Restarts, r.Unplaced = after.restarts(newRooms(after), vms, nil)
	r.votes(v)
	r.refuse(v, gone)
	return r
}

func (r *Removal) goes(h holdfast.HostID) bool { return slices.Contains(r.Hosts, h) }

// copies finds the volumes that lose a copy.
func (r *Removal) copies(now, after *View) {
	there := func(c cluster.Replica) bool { return r.goes(c.Host) }
	for _, vol := range now.Volumes {
		if !slices.ContainsFunc(slices.Concat(vol.InSync, vol.Others), there) {
			continue
		}
		c := RemovedCopy{Volume: vol, Left: len(after.InSync(vol))}
		for _, m := range vol.InSync {
			if !there(m) && !now.Usable(m) && !now.State.Lost(m) {
				c.Waits = append(c.Waits, now.HostName(m.Host))
			}
		}
		for _, m := range vol.Others {
			if !there(m) && !now.State.Lost(m) {
				c.Stale = append(c.Stale, now.HostName(m.Host))
			}
		}
		c.Unreachable = c.Left == 0 && slices.ContainsFunc(vol.InSync, there)
		if !c.Unreachable && after.Lost(vol) > 0 {
			_, _, c.Build = after.placeReplica(vol, Constraints{})
		}
		r.Volumes = append(r.Volumes, c)
	}
}

func (r *Removal) votes(v *View) {
	for _, h := range v.Hosts {
		switch {
		case !h.Voter:
			continue
		case r.goes(h.ID):
			r.Votes.Go = append(r.Votes.Go, h.Name)
		default:
			r.Votes.Left++
			if h.Up() {
				r.Votes.Alive++
			}
		}
		r.Votes.All++
		if h.Up() {
			r.Votes.Now++
		}
	}
}

// refuse finds what forbids the removal.
func (r *Removal) refuse(v *View, gone []*Host) {
	no := func(format string, args ...any) { r.Refused = append(r.Refused, fmt.Sprintf(format, args...)) }
	for _, h := range gone {
		switch {
		case r.Lost && h.Up():
			no("host %s is alive; only one that is lost can be removed so: stop it first, or drain it and remove it without --lost", h.Name)
		case !r.Lost && !h.Drained:
			no("host %s is not drained; run 'holdfast host drain %[1]s' first, or if it will not come back remove it with --lost", h.Name)
		}
	}
	if !r.Lost && len(r.Refused) == 0 {
		for _, vm := range v.VMs {
			if vm.Power == cluster.On && r.goes(vm.Host) {
				no("VM %s is still on host %s; 'holdfast host show %[2]s' says why", vm.Name, v.HostName(vm.Host))
			}
		}
		for _, c := range r.Volumes {
			no("a copy of volume %s is still there; move it with 'holdfast disk remove' of the host's disks, or if it is not to be had any more remove the host with --lost", c.Volume.Name)
		}
	}
	switch {
	case len(gone) == len(v.Hosts):
		no("no host would be left")
	case len(r.Votes.Go) > 0 && r.Votes.Left == 0:
		no("the only voter of the control plane is there; add a host, which then becomes one, and try again")
	case r.Votes.Now < r.Votes.All/2+1 && r.Votes.All > 0:
		no("the control plane has no majority: %d of %s alive, and nothing can be changed in it; bring others back first", r.Votes.Now, count(r.Votes.All, "voter", "voters"))
	case len(r.Votes.Go) > 0 && r.Votes.Alive < r.Votes.Needed():
		no("the control plane would have %d of %s alive, it needs %d; bring others back first", r.Votes.Alive, count(r.Votes.Left, "voter", "voters"), r.Votes.Needed())
	}
}

// Allow returns the error of a removal that is not to be done: refused, or
// leaving volumes unreachable that nobody has given up. Kind Conflict.
func (r Removal) Allow(givenUp []holdfast.VolumeID) error {
	if len(r.Refused) > 0 {
		text := strings.Join(r.Refused[:min(len(r.Refused), 3)], ". Also, ")
		if n := len(r.Refused) - 3; n > 0 {
			text += fmt.Sprintf(" (and %s)", count(n, "more reason", "more reasons"))
		}
		return holdfast.Errorf(holdfast.Conflict, "%s", text)
	}
	var names []string
	for _, c := range r.Unreachable() {
		if !slices.Contains(givenUp, c.Volume.ID) {
			names = append(names, c.Volume.Name)
		}
	}
	if len(names) > 0 {
		return holdfast.Errorf(holdfast.Conflict, "volume %s would be unreachable: there is the only good copy now; bring it back until 'holdfast volume list' shows other copies, delete what is not needed, or give up what is lost with --give-up", some(names, 3))
	}
	return nil
}

// some joins the first of a list of names and counts the rest.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
}

// HeldBy returns the volumes that have a replica on a host, in order of their
// names, those that are being deleted included.
func HeldBy(s *cluster.State, host holdfast.HostID) []cluster.Versioned[cluster.Volume] {
	on := func(r cluster.Replica) bool { return r.Host == host }
	return slices.DeleteFunc(s.SortedVolumes(), func(v cluster.Versioned[cluster.Volume]) bool {
		return !slices.ContainsFunc(v.Val.InSync, on) && !slices.ContainsFunc(v.Val.Others, on)
	})
}
