package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// The router's rules (ip-rule(8)), the first that fits counts: what is cut is
// lost without a word, as in a cable that is; what comes from the line goes on;
// what a line carries goes there.
const (
	prioCut   = 100
	prioFrom  = 150
	prioLine  = 200
	tableLine = 200
)

// Way is one direction between two hosts, by their names, or a part of what goes
// there.
type Way struct {
	From string `json:"from"`
	To   string `json:"to"`
	Part string `json:"part,omitempty"` // Control, Data, or "" for everything
}

// The parts of what goes between hosts that can be cut by themselves.
const (
	Control = "kv"   // the control plane's members and their clients
	Data    = "data" // between volumes and replicas, and all else that hosts say to each other
)

// ports returns the TCP ports of a part.
func ports(part string) *netlink.RulePortRange {
	if part == Control {
		return netlink.NewRulePortRange(config.PortEtcdPeer, config.PortEtcdClient)
	}
	return netlink.NewRulePortRange(config.PortTransport, config.PortTransport)
}

// Line is what lies between two places one way, each a rack, a host, or "*" for
// everything else.
type Line struct {
	From  string     `json:"from"`
	To    string     `json:"to"`
	Shape link.Shape `json:"shape"`
}

func (n Line) name() string { return n.From + ">" + n.To }

// elsewhere is everything that does not belong to the other end of a line.
const elsewhere = "*"

// racks returns the names of the racks in order.
func (l *Lab) racks() []string {
	var out []string
	for _, h := range l.Hosts {
		if !slices.Contains(out, h.Rack) {
			out = append(out, h.Rack)
		}
	}
	return out
}

// place returns the hosts of a rack, or one host.
func (l *Lab) place(name string) ([]Host, error) {
	for _, h := range l.Hosts {
		if h.Name == name {
			return []Host{h}, nil
		}
	}
	hosts, err := l.Rack(name)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "the lab has no rack or host %q; its racks are %s", name, strings.Join(l.racks(), ", "))
	}
	return hosts, nil
}

// parseCut reads what parse does, of which ":kv" or ":data" may be cut alone.
func (l *Lab) parseCut(text string) (lines []Line, part string, err error) {
	where, part, some := strings.Cut(text, ":")
	if some && part != Control && part != Data {
		return nil, "", holdfast.Errorf(holdfast.Invalid, "%q: there is :%s for the control plane and :%s for volumes and all else between hosts", text, Control, Data)
	}
	lines, err = l.parse(where)
	return lines, part, err
}

// parse reads what is between places: A is a rack or host and everything else,
// A-B both ways between two, A>B the way from A to B. It returns lines without
// shapes.
func (l *Lab) parse(text string) ([]Line, error) {
	from, to, oneWay := strings.Cut(text, ">")
	if !oneWay {
		both := false
		if from, to, both = strings.Cut(text, "-"); !both {
			to = elsewhere
		}
	}
	a, err := l.place(from)
	if err != nil {
		return nil, err
	}
	if to != elsewhere {
		b, err := l.place(to)
		if err != nil {
			return nil, err
		}
		for _, h := range b {
			if slices.Contains(a, h) {
				return nil, holdfast.Errorf(holdfast.Invalid, "%q: %s and %s are not apart", text, from, to)
			}
		}
	}
	lines := []Line{{From: from, To: to}}
	if !oneWay {
		lines = append(lines, Line{From: to, To: from})
	}
	return lines, nil
}

// ways returns the pairs of hosts that a line lies between.
func (l *Lab) ways(n Line) []Way {
	var out []Way
	for _, a := range l.Hosts {
		for _, b := range l.Hosts {
			if a != b && n.joins(a, b) {
				out = append(out, Way{From: a.Name, To: b.Name})
			}
		}
	}
	return out
}

// joins reports whether a line lies between two hosts, from a to b.
func (n Line) joins(a, b Host) bool {
	in := func(h Host, place, other string) bool {
		if place == elsewhere {
			return h.Name != other && h.Rack != other
		}
		return h.Name == place || h.Rack == place
	}
	return in(a, n.From, n.To) && in(b, n.To, n.From)
}

// Cut cuts what is between places: "a" a rack or host off from everything else,
// "a-b" two from each other, "a>b" only what a sends to b. What is cut is lost
// without a word. With ":kv" or ":data" behind it only that part is. Kind
// Conflict for a lab without a network of its own.
func (l *Lab) Cut(what string) error {
	lines, part, err := l.parseCut(what)
	if err != nil {
		return err
	}
	return l.change(func(n *Network) {
		for _, line := range lines {
			for _, w := range l.ways(line) {
				w.Part = part
				if !slices.Contains(n.Cuts, w) {
					n.Cuts = append(n.Cuts, w)
				}
			}
		}
	})
}

// CutOnly has the lab cut what these say, as in Cut, and nothing else.
func (l *Lab) CutOnly(what []string) error {
	var cuts []Way
	for _, text := range what {
		lines, part, err := l.parseCut(text)
		if err != nil {
			return err
		}
		for _, line := range lines {
			for _, w := range l.ways(line) {
				if w.Part = part; !slices.Contains(cuts, w) {
					cuts = append(cuts, w)
				}
			}
		}
	}
	return l.change(func(n *Network) { n.Cuts = cuts })
}

// Heal undoes cuts: all of them, or with what as in Cut those between places.
func (l *Lab) Heal(what string) error {
	if what == "" {
		return l.change(func(n *Network) { n.Cuts = nil })
	}
	lines, part, err := l.parseCut(what)
	if err != nil {
		return err
	}
	return l.change(func(n *Network) {
		for _, line := range lines {
			healed := l.ways(line)
			n.Cuts = slices.DeleteFunc(n.Cuts, func(w Way) bool {
				return (part == "" || part == w.Part) && slices.Contains(healed, Way{From: w.From, To: w.To})
			})
		}
	})
}

// Shape lays a line between places, as in Cut; the zero shape takes it away
// again. Where lines overlap the last one counts.
func (l *Lab) Shape(what string, s link.Shape) error {
	lines, err := l.parse(what)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return err
	}
	return l.change(func(n *Network) {
		for _, line := range lines {
			n.Lines = slices.DeleteFunc(n.Lines, func(o Line) bool { return o.name() == line.name() })
			if s != (link.Shape{}) {
				line.Shape = s
				n.Lines = append(n.Lines, line)
			}
		}
	})
}

func (l *Lab) networkLock() string { return filepath.Join(l.Dir, "network.lock") }

// change changes what is kept of the lab's network, and the network after it.
// Several may do so at once.
func (l *Lab) change(f func(*Network)) error {
	if l.Network == nil {
		return holdfast.Errorf(holdfast.Conflict, "this lab has no network of its own, so that nothing of it can be cut; make one with 'holdfast lab up --netns'")
	}
	lock, err := os.OpenFile(l.networkLock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer lock.Close() // and with it goes the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	now, err := Open(l.Dir)
	if err != nil {
		return err
	}
	if now.Network == nil || now.Network.ID != l.Network.ID {
		return holdfast.Errorf(holdfast.Conflict, "the lab in %s is another one by now", l.Dir)
	}
	f(now.Network)
	l.Network = now.Network
	if err := now.save(); err != nil {
		return err
	}
	return l.apply()
}

// apply makes the router do what is kept of the lab's network.
func (l *Lab) apply() error {
	specs, shaped := l.lanes()
	if err := l.haveLine(specs); err != nil {
		return err
	}
	return inside(l.Network.router(), func() error {
		want := map[ruleKey]*netlink.Rule{}
		for _, w := range l.Network.Cuts {
			l.rule(want, w, prioCut, func(r *netlink.Rule) { r.Type = unix.RTN_BLACKHOLE })
			if w.Part == "" {
				continue
			}
			l.rule(want, w, prioCut, func(r *netlink.Rule) { // what answers
				r.Type, r.Sport, r.Dport = unix.RTN_BLACKHOLE, r.Dport, nil
			})
		}
		for _, w := range shaped {
			l.rule(want, w, prioLine, func(r *netlink.Rule) { r.Table = tableLine })
		}
		if len(shaped) > 0 {
			r := newRule(prioFrom)
			r.IifName, r.Table = link.Device, unix.RT_TABLE_MAIN
			want[keyOf(r)] = r
		}
		return plugged("rules", replaceRules(want))
	})
}

// ruleKey is what tells the lab's rules apart.
type ruleKey struct {
	priority     int
	src, dst     string
	sport, dport string
}

func keyOf(r *netlink.Rule) ruleKey {
	text := func(v fmt.Stringer, nothing bool) string {
		if nothing {
			return ""
		}
		return v.String()
	}
	port := func(p *netlink.RulePortRange) string {
		if p == nil {
			return ""
		}
		return fmt.Sprint(p.Start, "-", p.End)
	}
	return ruleKey{r.Priority, text(r.Src, r.Src == nil), text(r.Dst, r.Dst == nil), port(r.Sport), port(r.Dport)}
}

func newRule(priority int) *netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Family = priority, netlink.FAMILY_V4
	return r
}

func (l *Lab) rule(want map[ruleKey]*netlink.Rule, w Way, priority int, what func(*netlink.Rule)) {
	from, err := l.place(w.From)
	to, err2 := l.place(w.To)
	if err != nil || err2 != nil {
		return // a file that was written by hand
	}
	r := newRule(priority)
	r.Src, r.Dst = from[0].address(), to[0].address()
	if w.Part != "" {
		r.IPProto, r.Dport = unix.IPPROTO_TCP, ports(w.Part)
	}
	what(r)
	want[keyOf(r)] = r
}

// replaceRules replaces our rules in the present namespace, the new ones first.
func replaceRules(want map[ruleKey]*netlink.Rule) error {
	have, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	var old []netlink.Rule
	for _, r := range have {
		if r.Priority < prioCut || r.Priority > prioLine {
			continue
		}
		k := keyOf(&r)
		if want[k] != nil {
			delete(want, k)
			continue
		}
		old = append(old, r)
	}
	for _, r := range want {
		if err := netlink.RuleAdd(r); err != nil {
			return err
		}
	}
	for _, r := range old {
		if err := netlink.RuleDel(&r); err != nil {
			return err
		}
	}
	return nil
}

// lanes returns the lines as their process wants them, and all ways they carry.
func (l *Lab) lanes() (specs []link.Spec, shaped []Way) {
	for i, line := range l.Network.Lines {
		s := link.Spec{Name: line.name(), Shape: line.Shape}
		for _, w := range l.ways(line) {
			if l.lineOf(w) != i {
				continue // a later line lies over it
			}
			from, _ := l.place(w.From)
			to, _ := l.place(w.To)
			a, err := netip.ParseAddr(from[0].Addr)
			b, err2 := netip.ParseAddr(to[0].Addr)
			if err == nil && err2 == nil {
				s.Pairs = append(s.Pairs, [2]netip.Addr{a, b})
				shaped = append(shaped, w)
			}
		}
		specs = append(specs, s)
	}
	return specs, shaped
}

// lineOf returns which line carries what goes one way, -1 if none does.
func (l *Lab) lineOf(w Way) int {
	for i := len(l.Network.Lines) - 1; i >= 0; i-- {
		if slices.Contains(l.ways(l.Network.Lines[i]), w) {
			return i
		}
	}
	return -1
}

// Connection is the present state of what is between two places, one way.
type Connection struct {
	From  string      `json:"from"`
	To    string      `json:"to"`
	State string      `json:"state"` // "ok", "cut", or which part is: "kv cut"
	Line  *link.Shape `json:"line,omitempty"`
	Count *link.Count `json:"count,omitempty"` // of the whole line, which may have more ends
}

// Connections tells how all racks are connected; where a rack's hosts differ in
// that, host by host.
func (l *Lab) Connections() ([]Connection, error) {
	if l.Network == nil {
		return nil, l.change(nil)
	}
	var counts map[string]link.Count
	if len(l.Network.Lines) > 0 {
		r, err := link.Ask(l.lineDir(), link.Request{})
		if err != nil {
			return nil, err
		}
		counts = r.Counts
	}
	var out []Connection
	for _, a := range l.racks() {
		for _, b := range l.racks() {
			out = append(out, l.between(a, b, counts)...)
		}
	}
	return out, nil
}

// isWhole is the state of a connection of which nothing is cut.
const isWhole = "ok"

func (l *Lab) stateOf(w Way) string {
	var parts []string
	for _, part := range []string{"", Control, Data} {
		if slices.Contains(l.Network.Cuts, Way{w.From, w.To, part}) {
			parts = append(parts, part)
		}
	}
	switch {
	case len(parts) == 0:
		return isWhole
	case parts[0] == "":
		return "cut"
	}
	return strings.Join(parts, " and ") + " cut"
}

// between returns how the hosts of a rack reach those of another, or of its own.
func (l *Lab) between(a, b string, counts map[string]link.Count) []Connection {
	var out []Connection
	same := true
	for _, w := range l.ways(Line{From: a, To: b}) {
		c := Connection{From: w.From, To: w.To, State: l.stateOf(w)}
		if i := l.lineOf(w); i >= 0 {
			c.Line = &l.Network.Lines[i].Shape
			if n, ok := counts[l.Network.Lines[i].name()]; ok {
				c.Count = &n
			}
		}
		same = same && (len(out) == 0 || c.State == out[0].State && c.Line == out[0].Line)
		out = append(out, c)
	}
	switch {
	case !same || len(out) == 0:
		return out
	case a == b && out[0].State == isWhole && out[0].Line == nil:
		return nil // as it should be within a rack
	}
	out[0].From, out[0].To = a, b
	return out[:1]
}
