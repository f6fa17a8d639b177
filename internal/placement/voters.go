package placement

import (
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// maxVoters is the most voting members: more would only slow agreement down.
const maxVoters = 5

// NewVoters returns the hosts that should become voting members of the control
// plane, so that 1, 3 or 5 vote: one in each of 3 or 5 racks, and where there
// are fewer than three racks, up to three hosts spread over them. Voters are
// added only in such numbers that the result is odd; none is ever removed here.
func NewVoters(s *cluster.State) []cluster.Host {
	v := Look(s)
	have, perRack := 0, make([]int, len(v.Racks))
	var able [][]*Host
	racks := 0
	for i, r := range v.Racks {
		var a []*Host
		for _, h := range r.Hosts {
			switch {
			case h.Voter:
				have++
				perRack[i]++
			case h.Up() && h.Peer != "" && !h.Drained:
				a = append(a, h)
			}
		}
		able = append(able, a)
		if perRack[i] > 0 || len(a) > 0 {
			racks++
		}
	}
	if have == 0 {
		return nil // an external etcd counts its own votes
	}
	most := 3
	if racks >= maxVoters {
		most = maxVoters
	}
	var add []cluster.Host
	for have+len(add) < most {
		i := emptiest(perRack, able)
		if i < 0 || racks >= 3 && perRack[i] > 0 {
			break
		}
		add = append(add, able[i][0].Host)
		able[i] = able[i][1:]
		perRack[i]++
	}
	if n := len(add); n > 0 && (have+n)%2 == 0 {
		add = slices.Delete(add, n-1, n)
	}
	return add
}

// emptiest returns the rack with the fewest voters that can give one more, or -1.
func emptiest(perRack []int, able [][]*Host) int {
	best := -1
	for i := range able {
		if len(able[i]) > 0 && (best < 0 || perRack[i] < perRack[best]) {
			best = i
		}
	}
	return best
}

// Enlisted returns the host that should start a member of the control plane
// next, so that there are enough to vote: in each of 3 or 5 racks, and where
// racks were lost and two votes are left, a third one. A cluster that begins in
// one or two racks stays with one vote until there is a third rack: of two
// votes none may be lost. Every host computes it, and the one that it is acts.
func Enlisted(s *cluster.State) (cluster.Host, bool) {
	v := Look(s)
	votes, members, all, racks, covered := 0, 0, 0, 0, 0
	perRack := make([]int, len(v.Racks))
	able := make([][]*Host, len(v.Racks))
	for i, r := range v.Racks {
		for _, h := range r.Hosts {
			if h.Peer != "" || h.Voter {
				all++
			}
			switch {
			case h.Voter:
				votes++
				perRack[i]++
			case h.Up() && !h.Drained && h.Peer != "":
				perRack[i]++
			case h.Up() && !h.Drained:
				able[i] = append(able[i], h)
			}
		}
		members += perRack[i]
		if perRack[i] > 0 {
			covered++
		}
		if perRack[i] > 0 || len(able[i]) > 0 {
			racks++
		}
	}
	short := false
	switch {
	case votes == 0 || all >= maxMembers:
	case racks >= maxVoters:
		short = covered < maxVoters
	case racks >= 3:
		short = covered < 3
	case votes > 1:
		short = members < 3
	}
	if i := emptiest(perRack, able); short && i >= 0 {
		return able[i][0].Host, true
	}
	return cluster.Host{}, false
}

// maxMembers is the most members, those included that only learn or are away.
const maxMembers = maxVoters + 2
