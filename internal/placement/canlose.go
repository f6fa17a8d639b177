package placement

import (
	"fmt"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Verdict says what the cluster can lose without losing data, the control
// plane, or a VM for want of room.
type Verdict struct {
	Sentence string     // "Can lose any 1 rack."
	Racks    []Judgment // of racks with a living host
	Hosts    []Judgment // of living hosts
}

// Judgment is the verdict on one rack or host.
type Judgment struct {
	Name    string
	Can     bool
	Reasons []string // why not, the worst first
}

// CanLose judges the loss of each rack and each host. A yes is backed by a
// plan that was carried out on paper; a no may be too careful.
func CanLose(s *cluster.State) Verdict { return Judge(FailoverPlan(s)) }

// Judge condenses a failover plan.
func Judge(p Plan) Verdict {
	v := Verdict{Racks: judgeAll(p.Racks), Hosts: judgeAll(p.Hosts)}
	v.Sentence = sentence(v)
	return v
}

func judgeAll(losses []Loss) []Judgment {
	var out []Judgment
	for _, l := range losses {
		r := l.Reasons()
		out = append(out, Judgment{Name: l.Name, Can: len(r) == 0, Reasons: r})
	}
	return out
}

func sentence(v Verdict) string {
	rackYes, rackNo := split(v.Racks)
	hostYes, hostNo := split(v.Hosts)
	switch {
	case len(v.Hosts) == 0:
		return "Can lose nothing: no host is alive."
	case len(v.Hosts) == 1:
		return fmt.Sprintf("Cannot lose host %s: it is the only one alive.", v.Hosts[0].Name)
	case len(v.Racks) == 1:
		return hostSentence(hostYes, hostNo) + fmt.Sprintf(" Cannot lose rack %s: it is the only one alive.", v.Racks[0].Name)
	case len(rackNo) == 0 && len(hostNo) == 0:
		return "Can lose any 1 rack."
	case len(rackYes) == 0:
		return strings.TrimSpace(canHosts(hostYes, hostNo) + " " + cannot("rack", rackNo))
	}
	can := "Can lose " + list("rack", rackYes)
	if len(hostNo) == 0 {
		can += " or any 1 host"
	}
	return strings.TrimSpace(can + ". " + cannotEither(rackNo, hostNo))
}

func split(js []Judgment) (yes, no []Judgment) {
	for _, j := range js {
		if j.Can {
			yes = append(yes, j)
		} else {
			no = append(no, j)
		}
	}
	return yes, no
}

// canHosts says which hosts can be lost where no whole rack can.
func canHosts(yes, no []Judgment) string {
	switch {
	case len(yes) == 0:
		return ""
	case len(no) == 0:
		return "Can lose any 1 host."
	}
	return "Can lose " + list("host", yes) + "."
}

// hostSentence is the verdict where there is one rack only.
func hostSentence(yes, no []Judgment) string {
	s := canHosts(yes, no)
	if len(no) > 0 {
		s += " " + cannot("host", no)
	}
	return strings.TrimSpace(s)
}

func cannotEither(rackNo, hostNo []Judgment) string {
	if len(rackNo) > 0 {
		return cannot("rack", rackNo)
	}
	return cannot("host", hostNo)
}

// cannot names everything that cannot be lost and gives the first reason.
func cannot(what string, no []Judgment) string {
	first := no[0]
	s := fmt.Sprintf("Cannot lose %s %s: %s", what, first.Name, first.Reasons[0])
	if n := len(first.Reasons) - 1; n > 0 {
		s += fmt.Sprintf(" (and %s)", count(n, "more reason", "more reasons"))
	}
	s += "."
	if len(no) > 1 {
		s += " Nor " + list(what, no[1:]) + "."
	}
	return s
}

// list prints "rack a", "rack a or b", "rack a, b or c", and no more than five
// names.
func list(what string, js []Judgment) string {
	var names []string
	for i, j := range js {
		if i == 5 && len(js) > 6 {
			names = append(names, fmt.Sprintf("%d more", len(js)-i))
			break
		}
		names = append(names, j.Name)
	}
	if n := len(names); n > 1 {
		return what + " " + strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
	return what + " " + names[0]
}
