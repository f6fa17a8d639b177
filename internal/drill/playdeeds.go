package drill

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// strike has a fault of the story happen, and be undone when its time is over, or
// all is.
func (p *player) strike(ctx, undoing context.Context, l story.Line) error {
	hosts, err := p.struck(ctx, l.Command)
	if err != nil {
		return err
	}
	if len(hosts) == 0 && (l.Has("place") || l.Has("host") || l.Has("disk")) {
		return holdfast.Errorf(holdfast.NotFound, "there is no such place just now")
	}
	undo, err := p.deed(ctx, l.Command, hosts)
	times := l.Times("for")
	if err != nil || len(times) == 0 {
		return err
	}
	for i, u := range undo {
		lasts := times[min(i, len(times)-1)]
		p.undo.Go(func() {
			rest(undoing, lasts)
			if err := u(); err != nil && undoing.Err() == nil {
				p.note("trouble", "%s could not be undone: %v", l.Command, err)
				p.mu.Lock()
				p.fails = append(p.fails, err)
				p.mu.Unlock()
			}
		})
	}
	return nil
}

// struck are the hosts that a line names.
func (p *player) struck(ctx context.Context, c story.Command) ([]lab.Host, error) {
	name := c.Text("host")
	if c.Has("disk") {
		name, _ = c.Disk("disk")
	}
	if name != "" {
		return []lab.Host{hostOf(p.o.Lab, name)}, nil
	}
	return p.at(ctx, c, "place")
}

// deed does it and returns what undoes it; of what strikes several hosts by
// themselves, host by host.
func (p *player) deed(ctx context.Context, c story.Command, hosts []lab.Host) (undo []func() error, err error) {
	start := func(h lab.Host) func() error {
		return func() error { return p.start(context.WithoutCancel(ctx), []lab.Host{h}) }
	}
	switch c.Kind {
	case "kill":
		return p.away(hosts, "killed", lab.KillServe, start)
	case "power off":
		return p.away(hosts, "without power", lab.Kill, start)
	case "freeze":
		return p.away(hosts, "frozen", lab.Freeze, p.thaw)
	case "freeze process":
		return p.away(hosts, "frozen", lab.FreezeServe, p.thaw)
	case "start", "power on":
		return nil, p.start(ctx, hosts)
	case "power cycle":
		return nil, errors.Join(lab.Kill(hosts), p.start(ctx, hosts))
	case "restart":
		return nil, errors.Join(lab.Thaw(hosts), lab.KillServe(hosts), p.start(ctx, hosts))
	case "thaw":
		for _, h := range hosts {
			err = errors.Join(err, p.thaw(h)())
		}
		return nil, err
	case "cut", "kv away", "mend", "heal":
		return p.network(c, hosts)
	case "slow":
		return p.slow(c, hosts[0])
	case "disk full":
		return []func() error{hosts[0].FreeBay}, hosts[0].FillBay()
	case "disk pull":
		return []func() error{p.push(hosts[0])}, p.pull(hosts[0])
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "a lab does not know '%s'", c.Kind)
}

// away ends or stops some hosts, which are not asked anything until they are back.
func (p *player) away(hosts []lab.Host, how string, end func([]lab.Host) error, back func(lab.Host) func() error) (undo []func() error, err error) {
	for _, h := range hosts {
		p.missing(h, how)
		undo = append(undo, back(h))
	}
	return undo, end(hosts)
}

// missing notes why a host is not asked; "": it is.
func (p *player) missing(h lab.Host, how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.gone, h.Name); how != "" {
		p.gone[h.Name] = how
	}
	p.shun()
}

// shun has nobody asked who is away or cut off from somebody: it knows what was.
// p.mu is held.
func (p *player) shun() {
	var names []string
	for _, h := range p.o.Lab.Hosts {
		if p.gone[h.Name] != "" || slices.ContainsFunc(p.cuts, func(x *cutting) bool { return x.shunned(h) }) {
			names = append(names, h.Name)
		}
	}
	if len(names) == len(p.o.Lab.Hosts) {
		names = nil // nobody knows better
	}
	p.cloud.without(names...)
}

func (p *player) start(ctx context.Context, hosts []lab.Host) error {
	err := p.o.Lab.StartHosts(ctx, p.o.Binary, hosts)
	for _, h := range hosts {
		if err == nil {
			p.missing(h, "")
		}
	}
	return err
}

func (p *player) thaw(h lab.Host) func() error {
	return func() error {
		err := lab.Thaw([]lab.Host{h})
		p.missing(h, "")
		return err
	}
}

// cutting is one cut of the lab's cables: hosts are cut off from those outside of
// them, or from some.
type cutting struct {
	hosts   []lab.Host
	from    []string // names; none: everybody else
	in, out bool     // what is lost
	part    string   // as in a lab.Way
	all     bool     // everybody from everybody
}

func (x *cutting) has(h lab.Host) bool {
	return slices.ContainsFunc(x.hosts, func(o lab.Host) bool { return o.Name == h.Name })
}

// shunned reports whether a host knows nothing new since.
func (x *cutting) shunned(h lab.Host) bool { return !x.all && len(x.from) == 0 && x.has(h) }

// parts reports whether a host is one of those cut off, and another one of those
// that they are cut off from.
func (x *cutting) parts(h, other lab.Host) bool {
	switch {
	case h.Name == other.Name || !x.has(h):
		return false
	case len(x.from) > 0:
		return slices.Contains(x.from, other.Name)
	}
	return x.all || !x.has(other)
}

// ways are what a cut cuts, in the words of 'lab cut'.
func (x *cutting) ways(all []lab.Host) (what []string) {
	for _, a := range all {
		for _, b := range all {
			if x.out && x.parts(a, b) || x.in && x.parts(b, a) {
				way := a.Name + ">" + b.Name
				if x.part != "" {
					way += ":" + x.part
				}
				what = append(what, way)
			}
		}
	}
	return what
}

// network changes the list of cuts; the lab's cables are what all of it says.
func (p *player) network(c story.Command, hosts []lab.Host) (undo []func() error, err error) {
	var x *cutting
	switch c.Kind {
	case "cut":
		x = &cutting{hosts: hosts, from: c.Names("from"), in: c.Text("way") != "out", out: c.Text("way") != "in", part: c.Text("plane"), all: len(hosts) == len(p.o.Lab.Hosts)}
	case "kv away":
		x = &cutting{hosts: p.o.Lab.Hosts, in: true, out: true, part: lab.Control, all: true}
	case "mend":
		return nil, p.recut(func(y *cutting) bool {
			return !slices.ContainsFunc(y.hosts, func(h lab.Host) bool { return !(&cutting{hosts: hosts}).has(h) })
		}, nil)
	case "heal":
		return nil, p.recut(func(*cutting) bool { return true }, nil)
	}
	none := func(*cutting) bool { return false }
	return []func() error{func() error { return p.recut(func(y *cutting) bool { return x == y }, nil) }}, p.recut(none, x)
}

// recut takes cuts off the list, adds one, and has the lab follow.
func (p *player) recut(ended func(*cutting) bool, begun *cutting) error {
	return p.wire(func() error {
		p.mu.Lock()
		p.cuts = slices.DeleteFunc(p.cuts, ended)
		if begun != nil {
			p.cuts = append(p.cuts, begun)
		}
		var what []string
		for _, x := range p.cuts {
			what = append(what, x.ways(p.o.Lab.Hosts)...)
		}
		p.shun()
		p.mu.Unlock()
		if p.o.Lab.Network == nil { // nothing of the story cuts, though it may heal
			return nil
		}
		return p.o.Lab.CutOnly(what)
	})
}

// slow has what a host sends, or is sent, take longer.
func (p *player) slow(c story.Command, h lab.Host) (undo []func() error, err error) {
	shape := func(by time.Duration) error {
		return p.wire(func() (err error) {
			for _, o := range p.o.Lab.Hosts {
				from, to := h.Name, o.Name
				if c.Text("way") == "in" {
					from, to = to, from
				}
				if o.Name != h.Name {
					err = cmp.Or(err, p.o.Lab.Shape(from+">"+to, link.Shape{Delay: by}))
				}
			}
			return err
		})
	}
	return []func() error{func() error { return shape(0) }}, shape(c.Time("by"))
}

// right takes everything back, what is done to disks too.
func (p *player) right(ctx context.Context) (err error) {
	for _, h := range p.o.Lab.Hosts {
		if h.Bay {
			err = errors.Join(err, h.FreeBay(), p.push(h)())
		}
	}
	if err = errors.Join(err, p.torture.right(ctx)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = nil
	clear(p.gone)
	p.shun()
	return nil
}

// pull has a host's disk fail, and push has it back.
func (p *player) pull(h lab.Host) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled[h.Name] = true
	return h.PullBay()
}

func (p *player) push(h lab.Host) func() error {
	return func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.pulled[h.Name] {
			return nil
		}
		delete(p.pulled, h.Name)
		return h.PushBay()
	}
}
