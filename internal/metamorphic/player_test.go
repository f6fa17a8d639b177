package metamorphic

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/sim"
)

const (
	hosts     = 4
	diskBytes = 96 << 20
	tinyMaps  = 40 << 10 // three pages
	patience  = 2 * time.Minute
	healing   = 10 * time.Minute
)

// player plays a history on a cluster of a configuration.
type player struct {
	bed    *sim.Bed
	cfg    config
	h      *history
	rng    *rand.Rand // places and troubles; nothing that the history knows of
	vols   map[string]holdfast.VolumeID
	snaps  map[string]holdfast.SnapshotID
	open   map[string]*opened
	down   []int    // hosts that are away until the end of the step
	diffs  []string // what was told to differ, one line each
	stopAt bool     // something is wrong: the rest would say nothing new
}

// opened is a session on some host.
type opened struct {
	host int
	d    export.Disk
}

// play plays a history and returns what was wrong, and what was told to differ.
func play(h *history, cfg config, out, log io.Writer) (wrong, diffs []string) {
	o := sim.BedOptions{Seed: h.seed, Hosts: hosts, DiskBytes: diskBytes, Out: out, Log: log, Trace: slog.LevelDebug}
	if cfg.tiny {
		o.MapMemory = tinyMaps
	}
	p := &player{cfg: cfg, h: h, rng: rand.New(rand.NewPCG(h.seed, 0x7269)),
		vols: map[string]holdfast.VolumeID{}, snaps: map[string]holdfast.SnapshotID{}, open: map[string]*opened{}}
	wrong = sim.OnBed(o, func(b *sim.Bed) {
		p.bed = b
		p.run()
	})
	return wrong, p.diffs
}

func (p *player) run() {
	p.create(firstVolume, provision.VolumeSpec{Name: firstVolume, Blocks: uint64(p.h.blocks), Copies: p.cfg.copies, Compression: p.cfg.compression, Encrypt: p.cfg.encrypt})
	for i := range p.h.steps {
		st := &p.h.steps[i]
		p.bed.Tell("step %d", i+1)
		early := st.strike >= 0 && p.cfg.copies > 1 // the memory of the others keeps what was not flushed
		for k, o := range st.ops {
			if early && k == st.strike {
				p.strike(false)
			}
			p.bed.Tell("%v", o)
			p.do(o)
			if p.stopAt {
				return
			}
		}
		for _, name := range st.want.names() {
			p.do(op{kind: opFlush, vol: name})
		}
		p.seen(st.want)
		if st.strike >= 0 {
			p.strike(true)
		}
		p.back()
		p.seen(st.want)
		p.heal()
		p.verify(st.want, i)
		if p.stopAt {
			return
		}
	}
}

func (p *player) fail(format string, args ...any) {
	p.stopAt = true
	p.bed.Fail(format, args...)
}

// somewhere chooses a host that serves.
func (p *player) somewhere() int {
	for {
		if h := p.rng.IntN(hosts); p.bed.Serving(h) {
			return h
		}
		clock.Sleep(p.bed.Clock(), 100*time.Millisecond)
	}
}

// writer is the host that writes a volume; -1: none.
func (p *player) writer(vol string) int {
	for h := range hosts {
		if p.bed.Serving(h) {
			var opened bool
			p.bed.On(h, patience, func(n *node.Node) error { opened = n.Volumes.Opened(p.vols[vol]) != nil; return nil })
			if opened {
				return h
			}
		}
	}
	return -1
}

// try does something until it succeeds: a host may be away.
func (p *player) try(what string, f func() error) {
	var err error
	for end := p.bed.Clock().Now() + patience; p.bed.Clock().Now() < end; clock.Sleep(p.bed.Clock(), 500*time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	p.fail("%s: not within %v: %v", what, patience, err)
}

// session returns an open session on a volume.
func (p *player) session(vol string) (*opened, error) {
	if s := p.open[vol]; s != nil {
		return s, nil
	}
	s := &opened{host: p.somewhere()}
	rec := p.bed.Records().Volumes[p.vols[vol]].Val
	err := p.bed.On(s.host, patience, func(n *node.Node) (err error) {
		s.d, err = n.Volumes.Target(rec).Open(false)
		return err
	})
	if err == nil {
		p.open[vol] = s
	}
	return s, err
}

// close ends a session, in whatever state it is.
func (p *player) close(vol string) {
	if s := p.open[vol]; s != nil {
		delete(p.open, vol)
		p.bed.On(s.host, 10*time.Second, func(*node.Node) error { s.d.Close(); return nil })
	}
}

// submit hands requests to a volume at once and waits for all of them.
func (p *player) submit(vol string, reqs []export.Request) error {
	s, err := p.session(vol)
	if err != nil {
		return err
	}
	err = p.bed.On(s.host, patience, func(n *node.Node) (first error) {
		left := len(reqs)
		all := n.Clock.NewEvent()
		for i := range reqs {
			reqs[i].Done = func(_ *export.Request, err error) {
				if err != nil {
					first = err
				}
				if left--; left == 0 {
					all.Set()
				}
			}
			n.Clock.Go(func() { s.d.Submit(&reqs[i]) })
		}
		all.Wait(clock.Forever)
		return first
	})
	if err != nil {
		p.close(vol)
	}
	return err
}

func (o op) request() export.Request {
	r := export.Request{Off: o.off, Length: o.n, FUA: o.fua}
	switch o.kind {
	case opWrite:
		r.Op, r.Data = export.Write, o.data()
	case opTrim:
		r.Op = export.Trim
	case opZero:
		r.Op = export.Zero
	case opFlush:
		r = export.Request{Op: export.Flush}
	case opRead:
		r.Op, r.Data, r.FUA = export.Read, make([]byte, o.n), false
	}
	return r
}

// do does one operation, whatever it takes.
func (p *player) do(o op) {
	switch o.kind {
	case opWrite, opTrim, opZero, opFlush, opBurst:
		parts := []op{o}
		if o.kind == opBurst {
			parts = o.parts
		}
		if len(parts) == 0 {
			return
		}
		p.try(o.String(), func() error {
			var reqs []export.Request
			for _, part := range parts {
				reqs = append(reqs, part.request())
			}
			return p.submit(o.vol, reqs)
		})
	case opRead:
		if got := p.read(o.vol, o.off, o.n); got != nil && !bytes.Equal(got, o.want) {
			p.fail("%v: wrong bytes", o)
		}
	default:
		p.arrange(o)
	}
}

// read reads through a session; nil: that failed, which was told.
func (p *player) read(vol string, off, n int64) (got []byte) {
	p.try("read "+vol, func() error {
		reqs := []export.Request{op{kind: opRead, off: off, n: n}.request()}
		err := p.submit(vol, reqs)
		if err == nil {
			got = reqs[0].Data
		}
		return err
	})
	return got
}

// arrange does what is asked of the cluster, not of a session. An attempt that
// fails may have succeeded all the same: what is there already is done.
func (p *player) arrange(o op) {
	id := p.vols[o.vol]
	snap := p.snaps[o.snap]
	at := func(f func(*provision.Provisioner) error) func() error {
		return func() error {
			h := p.writer(o.vol)
			if h < 0 {
				h = p.somewhere()
			}
			return p.bed.On(h, patience, func(n *node.Node) error { return f(n.Make) })
		}
	}
	switch o.kind {
	case opSnapshot:
		p.try(o.String(), func() error {
			if kept, ok := p.kept(id, o.snap); ok {
				p.snaps[o.snap] = kept
				return nil
			}
			return at(func(m *provision.Provisioner) (err error) {
				s, err := m.Snapshot(id, o.snap)
				p.snaps[o.snap] = s.ID
				return err
			})()
		})
	case opRevert:
		p.close(o.vol)
		p.try(o.String(), at(func(m *provision.Provisioner) error { return m.Revert(id, snap) }))
	case opDrop:
		p.try(o.String(), at(func(m *provision.Provisioner) error {
			if err := m.DeleteSnapshot(id, snap); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
				return err
			}
			return nil
		}))
	case opClone:
		p.create(o.name, provision.VolumeSpec{Name: o.name, Copies: p.cfg.copies, Origin: &cluster.Origin{Volume: id, Snapshot: snap}})
	case opGrow:
		p.try(o.String(), at(func(m *provision.Provisioner) error {
			_, err := m.GrowVolume(id, uint64(o.n))
			return err
		}))
		p.grown(o.vol, o.n*blockSize)
	case opDelete:
		p.close(o.vol)
		p.try(o.String(), at(func(m *provision.Provisioner) error {
			if err := m.DeleteVolume(id, false); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
				return err
			}
			return nil
		}))
	}
}

// create makes a volume or a clone.
func (p *player) create(name string, spec provision.VolumeSpec) {
	p.try("create "+name, func() error {
		if v, ok := p.bed.Records().VolumeByName(name); ok {
			p.vols[name] = v.Val.ID
			return nil
		}
		return p.bed.On(p.somewhere(), patience, func(n *node.Node) error {
			v, err := n.Make.CreateVolume(spec)
			p.vols[name] = v.ID
			return err
		})
	})
}

// kept finds a snapshot that an attempt made whose answer was lost.
func (p *player) kept(id holdfast.VolumeID, name string) (holdfast.SnapshotID, bool) {
	for _, s := range p.bed.Records().Volumes[id].Val.Snapshots {
		if s.Name == name && !s.Hidden {
			return s.ID, true
		}
	}
	return holdfast.SnapshotID{}, false
}

// grown waits until sessions see a volume's new size.
func (p *player) grown(vol string, size int64) {
	p.try(fmt.Sprintf("%s: its new size of %d bytes", vol, size), func() error {
		s, err := p.session(vol)
		if err != nil {
			return err
		}
		var now int64
		err = p.bed.On(s.host, patience, func(*node.Node) error { now = s.d.Size(); return nil })
		if err == nil && now == size {
			return nil
		}
		p.close(vol)
		return holdfast.Errorf(holdfast.Unavailable, "it has %d bytes: %v", now, err)
	})
}
