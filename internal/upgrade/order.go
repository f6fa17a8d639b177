package upgrade

import (
	"cmp"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// order puts the racks in the order of their turns, and the hosts of each: on the
// way back what ails, then what was begun, then those that only vote, and whoever
// leads last, so that the lead changes once.
func (a Ask) order(racks []Rack) {
	turn := func(s Step) int {
		switch {
		case a.Back && !s.Done && s.Skipped == "" && ails(a.State, s.Host):
			return 0
		case a.Hosts[s.Host].LeadsKV || a.State.Leader == s.Host:
			return 2
		}
		return 1
	}
	rank := func(r Rack) int {
		first, last := 1, 1
		begun, left, votes := false, false, true
		for _, s := range r.Steps {
			first, last = min(first, turn(s)), max(last, turn(s))
			begun = begun || s.Done
			left = left || !s.Done && s.Skipped == ""
			votes = votes && a.State.Hosts[s.Host].Val.Witness
		}
		switch {
		case !left:
			return 0
		case first == 0:
			return 1
		case begun:
			return 2
		case last == 2:
			return 5
		case votes:
			return 3
		}
		return 4
	}
	slices.SortStableFunc(racks, func(x, y Rack) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), strings.Compare(x.Domain.String(), y.Domain.String()))
	})
	for _, r := range racks {
		slices.SortStableFunc(r.Steps, func(x, y Step) int {
			return cmp.Or(cmp.Compare(turn(x), turn(y)), strings.Compare(x.Name, y.Name))
		})
	}
}

// ails reports whether a host has not brought up to date what it has, or not started
// what it should.
func ails(s *cluster.State, id holdfast.HostID) bool {
	for _, v := range s.Volumes {
		if !v.Val.Deleted && slices.ContainsFunc(v.Val.Others, func(r cluster.Replica) bool { return r.Host == id }) {
			return true
		}
	}
	for _, vm := range s.VMs {
		if vm.Val.Host == id && vm.Val.Power == cluster.On && s.Machines[vm.Val.ID].Val.State != "running" {
			return true
		}
	}
	return false
}
