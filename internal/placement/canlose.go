package placement

import (
	"fmt"
	"slices"
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
	Witness bool     // it is a witness, or its rack
	Reasons []string // why not, the worst first
}

// CanLose judges the loss of each rack and each host. A yes is backed by a
// plan that was carried out on paper; a no may be too careful.
func CanLose(s *cluster.State) Verdict { return Judge(FailoverPlan(s)) }

// Judge condenses a failover plan.
func Judge(p Plan) Verdict {
	v := Verdict{Racks: judgeAll(p.Racks), Hosts: judgeAll(p.Hosts)}
	v.Sentence = sentence(v)
	stops := func(l Loss) bool { return l.Control != "" }
	if p.WantsWitness && slices.ContainsFunc(p.Racks, stops) {
		v.Sentence += " With a witness either could be lost: see 'holdfast serve --help'."
	}
	if p.External && slices.ContainsFunc(slices.Concat(v.Racks, v.Hosts), func(j Judgment) bool { return j.Can }) {
		v.Sentence += " That is without the external etcd, which is to stand elsewhere."
	}
	return v
}

func judgeAll(losses []Loss) []Judgment {
	var out []Judgment
	for _, l := range losses {
		r := l.Reasons()
		out = append(out, Judgment{Name: l.Name, Can: len(r) == 0, Witness: l.Witness, Reasons: r})
	}
	return out
}

func sentence(v Verdict) string {
	rackYes, rackNo := split(v.Racks)
	hostYes, hostNo := split(v.Hosts)
	racks, witnesses := apart(v.Racks)
	hosts, _ := apart(v.Hosts)
	switch {
	case len(v.Hosts) == 0:
		return "Can lose nothing: no host is alive."
	case len(hosts) == 0:
		return fmt.Sprintf("Can lose nothing: of all hosts only %s is alive, which has no data.", list("rack", witnesses))
	case len(hosts) == 1:
		return fmt.Sprintf("Cannot lose host %s: it is the only one alive%s.", hosts[0].Name, andWitness(witnesses)) + norWitness(witnesses)
	case len(racks) == 1:
		_, no := split(hosts)
		return hostSentence(hostYes, no) + fmt.Sprintf(" Cannot lose rack %s: it is the only one alive%s.", racks[0].Name, andWitness(witnesses)) + norWitness(witnesses)
	case len(rackNo) == 0 && len(hostNo) == 0 && len(witnesses) > 0:
		return "Can lose any 1 rack or the witness."
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

// apart parts the judgments on what holds data from those on witnesses.
func apart(js []Judgment) (data, witnesses []Judgment) {
	for _, j := range js {
		if j.Witness {
			witnesses = append(witnesses, j)
		} else {
			data = append(data, j)
		}
	}
	return data, witnesses
}

// andWitness qualifies "the only one alive" where a witness is, too.
func andWitness(witnesses []Judgment) string {
	if len(witnesses) == 0 {
		return ""
	}
	return " that has data"
}

// norWitness says that a witness cannot be lost either, where that is so.
func norWitness(witnesses []Judgment) string {
	_, no := split(witnesses)
	if len(no) == 0 {
		return ""
	}
	return fmt.Sprintf(" Nor %s: %s.", list("rack", no), no[0].Reasons[0])
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
	s := fmt.Sprintf("Cannot lose %s: %s", list(what, no[:1]), first.Reasons[0])
	if n := len(first.Reasons) - 1; n > 0 {
		s += fmt.Sprintf(" (and %s)", count(n, "more reason", "more reasons"))
	}
	s += "."
	if len(no) > 1 {
		s += " Nor " + list(what, no[1:]) + "."
	}
	return s
}

// list prints "rack a", "rack a or b", "rack a, b or the witness w", and no more
// than five names.
func list(what string, js []Judgment) string {
	data, witnesses := apart(js)
	var names []string
	for i, j := range data {
		if i == 5 && len(data) > 6 {
			names = append(names, fmt.Sprintf("%d more", len(data)-i))
			break
		}
		names = append(names, j.Name)
	}
	if len(names) > 0 {
		names[0] = what + " " + names[0]
	}
	for _, j := range witnesses {
		names = append(names, "the witness "+j.Name)
	}
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
	return names[0]
}
