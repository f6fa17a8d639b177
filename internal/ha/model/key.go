package model

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

type kvRev = kv.Rev

// key is a state without what makes no difference: two of one key go on alike.
type key [16]byte

// ranks numbers values that are only compared by their order.
type ranks[T ~int64 | ~uint32] []T

func (r *ranks[T]) note(v ...T) { *r = append(*r, v...) }

func (r *ranks[T]) done() {
	slices.Sort(*r)
	*r = slices.Compact(*r)
}

func (r ranks[T]) of(v T) byte {
	i, _ := slices.BinarySearch(r, v)
	return byte(i)
}

// coder writes a state down.
type coder struct {
	w      *world
	s      *state
	b      []byte
	revs   ranks[kv.Rev]
	epochs ranks[holdfast.Epoch]
	gens   ranks[int64]
}

func (w *world) key(s *state) key {
	c := &coder{w: w, s: s, b: make([]byte, 0, 512)}
	c.rank()
	c.code()
	sum := sha256.Sum256(c.b)
	return key(sum[:16])
}

func (c *coder) pictures() []*cluster.State {
	return []*cluster.State{c.s.records, c.s.hosts[0].pic, c.s.hosts[1].pic}
}

func (c *coder) rank() {
	c.revs.note(0)
	c.epochs.note(0)
	c.gens.note(0)
	for _, p := range c.pictures() {
		if p == nil {
			continue
		}
		c.revs.note(p.VMs[c.w.vm].Mod, p.Volumes[c.w.vol].Mod)
		for _, id := range c.w.ids {
			c.revs.note(p.Alive[id].Mod)
		}
		c.epochs.note(p.Volumes[c.w.vol].Val.Epoch)
		c.gens.note(p.VMs[c.w.vm].Val.Generation)
	}
	for i := range c.s.hosts {
		x := &c.s.hosts[i]
		e, _ := x.auth.Granted()
		c.epochs.note(x.w.epoch, x.o.epoch, x.auth.Promise(), e, x.w.late.epoch)
		c.revs.note(x.o.mod, x.word.First())
		c.gens.note(x.m.gen)
	}
	for _, ch := range c.s.lead.pending {
		c.eachRev(ch, func(r kv.Rev) { c.revs.note(r) })
		for _, v := range ch.Volumes {
			c.epochs.note(v.Val.Epoch)
		}
		for _, v := range ch.VMs {
			c.gens.note(v.Val.Generation)
		}
	}
	c.revs.done()
	c.epochs.done()
	c.gens.done()
}

func (c *coder) eachRev(ch ha.Change, f func(kv.Rev)) {
	for _, l := range ch.Lives {
		f(l.Mod)
	}
	for _, v := range ch.Volumes {
		f(v.Mod)
	}
	for _, v := range ch.VMs {
		f(v.Mod)
	}
}

func (c *coder) byte(v ...byte) { c.b = append(c.b, v...) }

func (c *coder) flags(f ...bool) {
	var x uint16
	for i, on := range f {
		if on {
			x |= 1 << i
		}
	}
	c.b = binary.LittleEndian.AppendUint16(c.b, x)
}

// time writes a time from now, none that are further away than most.
func (c *coder) time(clock int, at, most time.Duration) {
	d := at - c.w.local(clock, c.s.now)
	c.b = binary.AppendVarint(c.b, int64(max(min(d, most), -most)))
}

func (c *coder) picture(p *cluster.State) {
	if p == nil {
		c.byte(0xff)
		return
	}
	vm, vol := p.VMs[c.w.vm], p.Volumes[c.w.vol]
	c.byte(byte(c.w.host(vm.Val.Host)), c.gens.of(vm.Val.Generation), c.revs.of(vm.Mod), c.revs.of(vol.Mod))
	c.volume(vol.Val)
	for _, id := range c.w.ids {
		c.byte(c.revs.of(p.Alive[id].Mod))
	}
}

func (c *coder) volume(v cluster.Volume) {
	c.byte(c.epochs.of(v.Epoch), byte(c.w.host(v.Writer)))
	c.flags(c.w.inSync(v, 0), c.w.inSync(v, 1), v.Release != nil)
}

// incidents writes what the leader's machine has of them.
func (c *coder) incidents(p *cluster.State) {
	vm := p.VMs[c.w.vm].Val
	for _, rec := range p.SortedIncidents() {
		inc := rec.Val
		last := map[string]int{}
		var away [2]bool
		named := false
		for i, st := range inc.Steps {
			last[st.What] = i + 1
			for h, name := range []string{"a1", "b1"} {
				if (st.What == ha.Lost || st.What == ha.Returned) && len(st.Text) > 2 && st.Text[len(st.Text)-2:] == name {
					away[h] = st.What == ha.Lost
				}
			}
			named = named || st.What == ha.Assigned && st.Text == ha.AssignedText(vm.Name, hostNames[max(c.w.host(vm.Host), 0)]+"1", vm.Generation)
		}
		if inc.Closed != nil && !away[0] && !away[1] {
			continue
		}
		c.flags(inc.Closed != nil, away[0], away[1], last[ha.Planned] > last[ha.Lost], named, last[ha.Held] > last[ha.Released],
			slices.Contains(inc.Hosts, c.w.ids[0]), slices.Contains(inc.Hosts, c.w.ids[1]))
	}
}

func (c *coder) code() {
	s := c.s
	c.byte(byte(s.left), s.only, byte(s.slow), byte(s.slow>>8))
	c.picture(s.records)
	c.incidents(s.records)
	for h := range s.leases {
		c.flags(s.leases[h].id != 0, s.away, s.down[0], s.down[1], s.down[2])
		if s.leases[h].id != 0 {
			c.time(kvClock, s.leases[h].until, time.Minute)
		}
	}
	now := c.w.local(kvClock, s.now)
	c.b = s.lead.m.AppendThoughts(c.b, now, placement.Look(s.records))
	if s.lead.wake != never {
		c.time(kvClock, s.lead.wake, time.Minute)
	}
	for _, ch := range s.lead.pending {
		c.byte(ch.What[0], byte(len(ch.Lives)))
		c.eachRev(ch, func(r kv.Rev) { c.byte(c.revs.of(r)) })
		for _, v := range ch.Volumes {
			c.volume(v.Val)
		}
		for _, v := range ch.VMs {
			c.byte(byte(c.w.host(v.Val.Host)), c.gens.of(v.Val.Generation))
		}
		c.byte(byte(len(ch.Incidents)))
	}
	for h := range s.hosts {
		c.host(h, &s.hosts[h])
	}
}

func (c *coder) host(h int, x *host) {
	s := c.s
	c.flags(x.power, x.up, x.answer.on, x.answer.arrived, x.kept, x.w.on, x.w.late.on, x.w.late.arrived,
		x.m.held, x.m.loose, x.word.Lease() != 0, x.word.Lease() == s.leases[h].id, x.leased == s.leases[h].id, x.leased == x.word.Lease())
	c.byte(c.epochs.of(x.auth.Promise()))
	if e, until := x.auth.Granted(); e != 0 && until > c.w.local(h, s.now) {
		c.byte(c.epochs.of(e))
		c.time(h, until, time.Minute)
	}
	c.machine(h, x)
	if !x.up {
		return
	}
	if x.pic == s.records {
		c.byte(1)
	} else {
		c.picture(x.pic)
	}
	c.byte(c.revs.of(x.word.First()))
	c.flags(x.pic != nil && x.pic.Rev >= x.word.First())
	const old = cluster.LeaseTTL + time.Second
	c.time(h, x.stood, old)
	if at, ok := x.word.Confirmed(); ok && at != x.stood {
		c.time(h, at, old)
	}
	c.time(trueClock, x.beat, time.Minute)
	if x.answer.on {
		c.time(h, x.answer.asked, old)
	}
	c.writer(h, &x.w)
	c.opening(h, &x.o)
	if x.w.on {
		c.time(trueClock, x.tick, time.Minute)
	}
}

func (c *coder) machine(h int, x *host) {
	c.byte(byte(x.m.act))
	if x.m.act == none {
		return
	}
	c.byte(c.gens.of(x.m.gen))
	if x.m.act == starting || x.m.act == stopping {
		c.time(h, x.m.until, time.Minute)
	}
	if x.guard != never {
		c.time(h, x.guard, time.Minute)
	}
}

func (c *coder) writer(h int, x *writer) {
	if !x.on {
		return
	}
	c.byte(c.epochs.of(x.epoch), c.epochs.of(x.late.epoch))
	c.flags(x.inSync[0], x.inSync[1], x.asked != 0)
	if x.inSync[1-h] {
		c.time(h, x.until, time.Minute)
		if x.until == 0 {
			c.byte(1)
		}
		if x.asked != 0 {
			c.time(h, x.asked, 2*time.Second)
		}
	}
	if x.late.on {
		c.time(h, x.late.asked, askTimeout+time.Second)
	}
}

func (c *coder) opening(h int, o *opening) {
	c.byte(o.stage)
	if o.stage == 0 {
		return
	}
	c.byte(c.epochs.of(o.epoch), c.revs.of(o.mod))
	c.flags(o.got[0], o.got[1], o.keep[0], o.keep[1], o.report[0].Kept, o.report[1].Kept)
	if o.stage == outwaiting {
		c.time(h, o.until, time.Minute)
		return
	}
	c.time(h, o.began, promiseWait+time.Second)
	for i := range o.report {
		if o.got[i] {
			c.b = binary.AppendVarint(c.b, int64(o.report[i].Lease))
		}
	}
}
