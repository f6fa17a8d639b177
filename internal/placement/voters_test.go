package placement_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// votes carries out the changes that are planned, one after the other: "+b1" is
// a vote given, "-b1" one taken away.
func votes(s *cluster.State) (steps []string) {
	for len(steps) < 20 {
		c, ok := placement.NextVote(s)
		if !ok {
			break
		}
		rec := s.Hosts[c.Host.ID]
		if rec.Val.Voter = !c.Retire; c.Retire {
			rec.Val.Peer = ""
			steps = append(steps, "-"+c.Host.Name)
		} else {
			steps = append(steps, "+"+c.Host.Name)
		}
		s.Hosts[c.Host.ID] = rec
	}
	return steps
}

func TestVotersComeInOddNumbersOneInEachRack(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"one host", "host a1 rack=a voter", ""},
		{"a second rack alone changes nothing", "host a1 rack=a voter\nhost b1 rack=b peer", ""},
		{"three racks", "host a1 rack=a voter\nhost b1 rack=b peer\nhost b2 rack=b peer\nhost c1 rack=c peer", "+b1 +c1"},
		{"a learner that is away is no help", "host a1 rack=a voter\nhost b1 rack=b peer\nhost c1 rack=c peer down", ""},
		{"four racks", "host a1 rack=a voter\nhost b1 rack=b peer\nhost c1 rack=c peer\nhost d1 rack=d peer", "+b1 +c1"},
		{"five racks", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter\nhost d1 rack=d peer\nhost e1 rack=e peer", "+d1 +e1"},
		{"two racks, three hosts", "host a1 rack=a voter\nhost a2 rack=a peer\nhost b1 rack=b peer", "+b1 +a2"},
		{"one rack, three hosts", "host a1 rack=a voter\nhost a2 rack=a peer\nhost a3 rack=a peer", "+a2 +a3"},
		{"an external etcd", "host a1 rack=a\nhost b1 rack=b peer\nhost c1 rack=c peer", ""},
		{"hosts that cannot vote", "host a1 rack=a voter\nhost b1 rack=b\nhost c1 rack=c", ""},

		{"two racks and a witness", "host a1 rack=a voter\nhost b1 rack=b peer\nhost w1 rack=w witness peer", "+b1 +w1"},
		{"a witness is the third rather than a rack", "host a1 rack=a voter\nhost b1 rack=b peer\nhost c1 rack=c peer\nhost w1 rack=w witness peer", "+b1 +w1"},
		{"nobody's vote goes for a witness", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter\nhost w1 rack=w witness peer", ""},
		{"four racks and a witness", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter\nhost d1 rack=d peer\nhost w1 rack=w witness peer", "+d1 +w1"},

		{"a third rack comes where one has two votes", "host a1 rack=a voter\nhost a2 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c peer", "+c1 -a2"},
		{"a witness comes where a rack has two votes", "host a1 rack=a voter\nhost a2 rack=a voter\nhost b1 rack=b voter\nhost w1 rack=w witness peer", "+w1 -a2"},
		{"two racks come where one has all votes", "host a1 rack=a voter\nhost a2 rack=a voter\nhost a3 rack=a voter\nhost b1 rack=b peer\nhost c1 rack=c peer", "+b1 -a3 +c1 -a2"},
		{"no vote moves while a voter is away", "host a1 rack=a voter\nhost a2 rack=a voter\nhost b1 rack=b voter down\nhost c1 rack=c peer", ""},
		{"one vote too many waits for all to be there", "host a1 rack=a voter\nhost a2 rack=a voter\nhost b1 rack=b voter down\nhost c1 rack=c voter", ""},
		{"two racks in which no vote can be spread better", "host a1 rack=a voter\nhost a2 rack=a voter\nhost b1 rack=b voter\nhost b2 rack=b peer", ""},
		{"one of five racks is gone for good", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter\nhost d1 rack=d voter", "-d1"},
		{"the witness is gone for good", "host a1 rack=a voter\nhost b1 rack=b voter", "-b1"},
		{"a rack is gone for good, the witness is left", "host a1 rack=a voter\nhost w1 rack=w witness voter", "-w1"},
		{"a rack is gone for good, another host learns soon", "host a1 rack=a voter\nhost a2 rack=a\nhost b1 rack=b voter", ""},
		{"one of two votes is away", "host a1 rack=a voter\nhost b1 rack=b voter down", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(votes(draw(t, c.lines)), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Votes that were lost go to hosts that had no member of the control plane.
func TestAHostIsEnlistedWhereVotesAreMissing(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"one rack", "host a1 rack=a voter\nhost a2 rack=a\nhost a3 rack=a", ""},
		{"two racks that began with one vote", "host a1 rack=a voter\nhost a2 rack=a\nhost b1 rack=b peer", ""},
		{"the learner of two racks is gone", "host a1 rack=a voter\nhost a2 rack=a\nhost b2 rack=b", "b2"},
		{"two racks are left of three", "host a1 rack=a voter\nhost a2 rack=a\nhost b1 rack=b voter\nhost b2 rack=b", "a2"},
		{"two racks are left with a host each", "host a1 rack=a voter\nhost b1 rack=b voter", ""},
		{"another learns already", "host a1 rack=a voter\nhost a2 rack=a\nhost b1 rack=b voter\nhost b2 rack=b peer", ""},
		{"the voter of a rack was removed", "host a1 rack=a voter\nhost b1 rack=b voter\nhost b2 rack=b\nhost c2 rack=c", "c2"},
		{"three racks with a member each", "host a1 rack=a voter\nhost b1 rack=b peer\nhost b2 rack=b\nhost c1 rack=c peer", ""},
		{"a voter that is away may come back", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter down\nhost c2 rack=c", ""},
		{"a fourth rack is not needed", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter\nhost d1 rack=d", ""},
		{"the fifth rack is", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c1 rack=c voter\nhost d1 rack=d peer\nhost e1 rack=e", "e1"},
		{"drained hosts are left alone", "host a1 rack=a voter\nhost b1 rack=b voter\nhost c2 rack=c drained\nhost c3 rack=c", "c3"},
		{"an external etcd", "host a1 rack=a\nhost b1 rack=b\nhost c1 rack=c", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if h, _ := placement.Enlisted(draw(t, c.lines)); h.Name != c.want {
				t.Errorf("got %q, want %q", h.Name, c.want)
			}
		})
	}
}

// From whatever votes there are, the changes come to an end, and none of them
// leaves less than a majority alive or takes a rack's last vote while another
// rack has several.
func TestPropertyVotesComeToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyCluster(t)
		for i := 0; ; i++ {
			alive, all := 0, 0
			for id, h := range s.Hosts {
				if h.Val.Voter {
					if all++; s.AliveHost(id) {
						alive++
					}
				}
			}
			c, ok := placement.NextVote(s)
			switch {
			case !ok:
				return
			case i > 20:
				t.Fatal("the votes do not come to rest")
			case c.Retire && alive < all:
				t.Fatalf("%s loses its vote while %d of %d voters are away", c.Host.Name, all-alive, all)
			case c.Retire && all < 2:
				t.Fatal("the last vote is taken away")
			case !c.Retire && !s.AliveHost(c.Host.ID):
				t.Fatalf("%s gets a vote and is away", c.Host.Name)
			}
			rec := s.Hosts[c.Host.ID]
			if rec.Val.Voter = !c.Retire; c.Retire {
				rec.Val.Peer = ""
			}
			s.Hosts[c.Host.ID] = rec
		}
	})
}

// A witness takes no VM and no copy, whatever it says of itself.
func TestNothingIsPlacedOnAWitness(t *testing.T) {
	s := draw(t, "host a1 rack=a cpus=1 mem=512\nhost w1 rack=w witness cpus=64 mem=65536")
	a := s.Alive[placement.Look(s).Hosts[1].ID]
	a.Val.Disks = slices.Clone(s.Alive[placement.Look(s).Hosts[0].ID].Val.Disks)
	s.Alive[a.Val.Host] = a
	if h, why := placement.PlaceVM(s, cluster.VM{Name: "big", CPUs: 2, MemoryMiB: 4096}, placement.VMOptions{}); !h.IsZero() || !strings.Contains(fmt.Sprint(why), "a witness") {
		t.Errorf("a VM was put on %v: %v", h, why)
	}
	if spots, why := placement.PlaceVolume(s, 1000, 2, placement.Constraints{}); len(spots) != 1 || !strings.Contains(fmt.Sprint(why), "not w1: a witness") {
		t.Errorf("copies were put on %v: %v", spots, why)
	}
}
