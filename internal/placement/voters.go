package placement

import (
	"cmp"
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// maxVoters is the most voting members: more would only slow agreement down.
const maxVoters = 5

// maxMembers is the most members, those included that only learn or are away.
const maxMembers = maxVoters + 2

// VoteChange is one change of who votes in the control plane.
type VoteChange struct {
	Host   cluster.Host
	Retire bool // its vote is taken away; otherwise it gets one
}

// NextVote returns the next change of the votes, so that in the end 1, 3 or 5
// vote: one in each of 3 or 5 racks, a witness rather than another as the third;
// where there are fewer than three racks, up to three hosts spread over them.
// Votes are added before others are taken away, and none is taken away while a
// voter is absent: whoever is away keeps his until somebody says that he is lost.
func NextVote(s *cluster.State) (VoteChange, bool) {
	b := countBallot(Look(s))
	if b.votes == 0 {
		return VoteChange{}, false // an external etcd counts its own votes
	}
	if h := b.next(); h != nil {
		return VoteChange{Host: h.Host}, true
	}
	if b.votes > b.most() && b.absent == 0 {
		return VoteChange{Host: b.least(s).Host, Retire: true}, true
	}
	return VoteChange{}, false
}

// Enlisted returns the host that should start a member of the control plane
// next, so that there are enough to vote: in each of 3 or 5 racks, in each of
// two, where the second one learns, and where racks were lost and two votes are
// left, a third one. A cluster that begins in one or two racks stays with one
// vote until there is a third rack: of two votes none may be lost. Every host
// computes it, and the one that it is acts.
func Enlisted(s *cluster.State) (cluster.Host, bool) {
	b := countBallot(Look(s))
	short := false
	switch n := len(b.racks); {
	case b.votes == 0 || b.all >= maxMembers:
	case n >= maxVoters:
		short = b.covered < maxVoters
	case n >= 3:
		short = b.covered < 3
	default:
		short = b.covered < n || b.votes > 1 && b.members < 3
	}
	if !short {
		return cluster.Host{}, false
	}
	r := b.emptiest(func(r *precinct) int { return len(r.voters) + len(r.learners) }, func(r *precinct) bool { return len(r.others) > 0 })
	if r == nil {
		return cluster.Host{}, false
	}
	return r.others[0].Host, true
}

// ballot is the control plane by racks: those that can vote, or do.
type ballot struct {
	racks     []*precinct
	votes     int // voters, also those away
	absent    int // voters that are away
	members   int // voters, and those that learn and could vote
	all       int // all members, also those that learn and are away
	covered   int // racks with one of members
	witnesses int // that vote
}

// precinct is a rack with its voters, those that could be made one, and those
// that could be made learners.
type precinct struct {
	voters, learners, others []*Host
	witness                  bool
}

func countBallot(v *View) ballot {
	var b ballot
	for _, r := range v.Racks {
		p := &precinct{witness: r.Witness()}
		for _, h := range r.Hosts {
			able := h.Up() && !h.Drained
			if h.Voter || h.Peer != "" {
				b.all++
			}
			switch {
			case h.Voter:
				p.voters = append(p.voters, h)
				b.votes++
				if !h.Up() {
					b.absent++
				}
			case able && h.Peer != "":
				p.learners = append(p.learners, h)
			case able:
				p.others = append(p.others, h)
			}
		}
		n := len(p.voters) + len(p.learners)
		b.members += n
		if n > 0 {
			b.covered++
		}
		if len(p.voters) > 0 && p.witness {
			b.witnesses++
		}
		if n > 0 || len(p.others) > 0 {
			b.racks = append(b.racks, p)
		}
	}
	return b
}

// most is how many should vote. A third one where there are fewer than three
// racks is worth having only if it can be had.
func (b *ballot) most() int {
	able := b.members
	if b.votes > 1 {
		for _, r := range b.racks {
			able += len(r.others) // these will be learners
		}
	}
	switch {
	case len(b.racks) >= maxVoters:
		return maxVoters
	case len(b.racks) >= 3 || able >= 3:
		return 3
	}
	return 1
}

// next returns the learner that should vote next, or nil.
func (b *ballot) next() *Host {
	most := b.most()
	free := func(r *precinct) bool { return len(r.learners) > 0 }
	voters := func(r *precinct) int { return len(r.voters) }
	if b.votes >= most {
		// One more than needed, for a rack without a vote: one of a rack with
		// several goes after that.
		if r := b.emptiest(voters, free); r != nil && len(b.racks) >= 3 && b.votes == most && b.absent == 0 && len(r.voters) == 0 && b.crowded() {
			return r.learners[0]
		}
		return nil
	}
	if b.votes%2 == 1 && b.promotable() < 2 {
		return nil // of an even number no more may be lost than of one less
	}
	r := b.emptiest(voters, free)
	for _, w := range b.racks {
		if b.votes == 2 && b.witnesses == 0 && w.witness && free(w) && len(w.voters) == 0 {
			r = w
		}
	}
	if r == nil || len(b.racks) >= 3 && len(r.voters) > 0 {
		return nil
	}
	return r.learners[0]
}

// promotable counts the learners that could vote together: one in each rack
// without a vote, or where there are fewer than three racks, all.
func (b *ballot) promotable() (n int) {
	for _, r := range b.racks {
		switch {
		case len(b.racks) < 3:
			n += len(r.learners)
		case len(r.voters) == 0 && len(r.learners) > 0:
			n++
		}
	}
	return n
}

// crowded reports whether a rack has more votes than one.
func (b *ballot) crowded() bool {
	return slices.ContainsFunc(b.racks, func(r *precinct) bool { return len(r.voters) > 1 })
}

// emptiest returns the first rack of those that will do with the fewest of
// something, or nil.
func (b *ballot) emptiest(of func(*precinct) int, will func(*precinct) bool) (best *precinct) {
	for _, r := range b.racks {
		if will(r) && (best == nil || of(r) < of(best)) {
			best = r
		}
	}
	return best
}

// least returns the voter that is needed least: in the rack with the most, not
// the witness as long as two racks have data, not the host that makes the plans.
func (b *ballot) least(s *cluster.State) *Host {
	data := 0
	for _, r := range b.racks {
		if !r.witness {
			data++
		}
	}
	flag := func(is bool) int {
		if is {
			return 1
		}
		return 0
	}
	var best *Host
	var rank []int
	for _, r := range b.racks {
		for _, h := range r.voters {
			k := []int{-len(r.voters), flag(h.Witness == (data >= 2)), flag(h.ID == s.Leader)}
			if best == nil || slices.CompareFunc(k, rank, cmp.Compare[int]) <= 0 {
				best, rank = h, k
			}
		}
	}
	return best
}
