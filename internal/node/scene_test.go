package node_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/fakevm"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// scene is a small data centre in memory: racks a, b, c of one computer each,
// which are plugged in by hand.
type scene struct {
	*testing.T
	w     *simclock.World
	net   *simnet.Net
	kv    *memkv.Server
	id    holdfast.ClusterID
	boxes []*box
	eye   *cluster.Client // sees the records
	eyes  *simclock.Host
	over  bool
	n     byte
}

// box is one computer over all its lives.
type box struct {
	s        *scene
	name     string
	rec      cluster.Host
	did      holdfast.DiskID
	disk     *memdisk.Disk
	lives    int
	computer *simclock.Host
	vms      *fakevm.Host
	clk      *simclock.Host // of the process; nil: it does not run
	node     *node.Node
	exports  exports
	absent   bool // the disk is not there when the process begins
	skew     simclock.Skew
}

type seeded struct{ r *rand.Rand }

func (s seeded) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.r.Uint32())
	}
	return len(p), nil
}

// exports is a directory of exports in memory.
type exports map[string]export.Target

func (e exports) Publish(id holdfast.VolumeID, _ string, t export.Target) (string, error) {
	e[id.String()] = t
	return id.String(), nil
}
func (e exports) Withdraw(id holdfast.VolumeID) { delete(e, id.String()) }

func (s *scene) uuid() holdfast.UUID {
	s.n++
	return holdfast.UUID{s.n, 6: 0x40, 8: 0x80}
}

// newScene founds a cluster of racks with all hosts running.
func newScene(t *testing.T, seed uint64, racks int) *scene {
	w := simclock.NewWorld(seed)
	s := &scene{T: t, w: w, net: simnet.New(w, simnet.LAN())}
	s.kv = memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	s.id = holdfast.ClusterID{UUID: s.uuid()}
	t.Cleanup(s.close)
	eye := w.Host("eye", simclock.Skew{})
	s.eyes = eye
	s.eye = cluster.Open(s.kv.Handle("eye", eye), eye, slog.New(slog.DiscardHandler))
	for r := range racks {
		s.boxes = append(s.boxes, s.newBox(string(rune('a'+r))))
	}
	s.as(eye, func() { s.ok(s.eye.Init(cluster.Cluster{ID: s.id, Name: "story"}, s.boxes[0].rec)) })
	for i, b := range s.boxes {
		if i > 0 {
			s.as(eye, func() { s.admit(b) })
		}
		s.as(eye, func() { s.register(b) })
		b.powerOn()
	}
	s.until("the hosts come up", func(st *cluster.State) bool {
		for _, b := range s.boxes {
			if a, ok := st.Alive[b.rec.ID]; !ok || len(a.Val.Disks) == 0 {
				return false
			}
		}
		return !st.Leader.IsZero()
	})
	return s
}

func (s *scene) close() {
	if s.over {
		return
	}
	s.over = true
	all := []*simclock.Host{s.eyes}
	for _, b := range s.boxes {
		for _, h := range []*simclock.Host{b.clk, b.computer} {
			if h != nil {
				all = append(all, h)
			}
		}
	}
	s.w.Close(all...)
}

func (s *scene) newBox(rack string) *box {
	b := &box{s: s, name: rack + "1", disk: memdisk.New(32<<20, s.w.Rand("disk "+rack))}
	b.did = holdfast.DiskID{UUID: s.uuid()}
	b.rec = cluster.Host{ID: holdfast.HostID{UUID: s.uuid()}, Name: b.name, Domain: holdfast.FaultDomain{Rack: rack},
		Addr: "127.0.0.1:1", APIAddr: "127.0.0.1:2", CertKey: "key of " + b.name}
	clk := s.w.Host("format", simclock.Skew{})
	s.as(clk, func() {
		dev, err := b.disk.Open(clk, memdisk.Options{})
		s.ok(err)
		s.ok(store.Format(dev, store.Identity{Cluster: s.id, Disk: b.did, Host: b.rec.ID}, b.storeOptions(clk)))
		s.ok(dev.Close())
	})
	clk.Kill()
	return b
}

func (b *box) storeOptions(clk *simclock.Host) store.Options {
	return store.Options{Clock: clk, Rand: seeded{b.s.w.Rand(fmt.Sprintf("store %s %d", b.name, b.lives))}, Log: slog.New(slog.DiscardHandler),
		SegmentBytes: 512 << 10, MapMemory: 2 << 20}
}

func (s *scene) admit(b *box) {
	tx := s.eye.Begin()
	tx.PutHost(b.rec, 0)
	_, err := tx.Settle(time.Minute)
	s.ok(err)
}

func (s *scene) register(b *box) {
	tx := s.eye.Begin()
	tx.PutDisk(cluster.Disk{ID: b.did, Host: b.rec.ID, Path: "/disk", Size: 32 << 20}, 0)
	_, err := tx.Settle(time.Minute)
	s.ok(err)
}

// powerOn begins a life of the computer, and of the process on it.
func (b *box) powerOn() {
	if b.computer == nil {
		b.computer = b.s.w.Host("computer "+b.name, simclock.Skew{})
		b.vms = fakevm.NewHost(fakevm.Config{Clock: b.computer, Slots: 16, Pace: 50 * time.Millisecond})
	}
	b.start()
}

// start begins a life of the process.
func (b *box) start() {
	b.lives++
	clk := b.s.w.Host("agent "+b.name, b.skew)
	b.clk = clk
	clk.Go(func() {
		s := b.s
		rnd := seeded{s.w.Rand(fmt.Sprintf("life %s %d", b.name, b.lives))}
		boot, err := holdfast.NewUUID(rnd)
		s.ok(err)
		ep := s.net.Open(b.rec.ID, b.rec.Domain.Rack, clk)
		ex := exports{}
		n := node.New(node.Config{
			Host: cluster.Alive{Host: b.rec.ID, Boot: holdfast.BootID{UUID: boot}, CPUs: 4, MemoryMiB: 4096, Accelerator: "tcg", Sandbox: "full", Version: "story"},
			Log:  slog.New(slog.DiscardHandler),
			Reopen: func(was *store.Store) (*store.Store, error) {
				_ = was.Close()
				b.disk.Kill() // the device is closed
				dev, err := b.disk.Open(clk, memdisk.SSD())
				if err != nil {
					return nil, err
				}
				return store.Open(dev, b.storeOptions(clk))
			},
		}, node.Seams{Clock: clk, Rand: rnd, KV: s.kv.Handle(b.name, clk), Net: ep, Exports: ex,
			Hyper: b.vms.Hypervisor(clk, func(socket, _ string) (export.Disk, error) {
				if t := ex[socket]; t != nil {
					return t.Open(false)
				}
				return nil, holdfast.Errorf(holdfast.Unavailable, "nothing is exported at %s", socket)
			})})
		open := func() (bool, error) {
			if b.absent {
				return false, holdfast.Errorf(holdfast.NotFound, "it is not there")
			}
			dev, err := b.disk.Open(clk, memdisk.SSD())
			s.ok(err)
			st, err := store.Open(dev, b.storeOptions(clk))
			s.ok(err)
			n.AddStore(st)
			return false, err
		}
		if _, err := open(); err != nil {
			n.AwaitDisk("/disk", err, open)
		}
		s.ok(ep.Start())
		s.ok(n.Start())
		b.node, b.exports = n, ex
	})
}

// kill ends the process as SIGKILL does; its machines go on.
func (b *box) kill() {
	b.disk.Kill()
	b.clk.Kill()
	b.s.net.HangUp(b.rec.ID)
	b.clk, b.node, b.exports = nil, nil, nil
	b.vms.AgentDied()
}

// pull pulls the plug: what was not synced is lost.
func (b *box) pull() {
	b.disk.Crash()
	if b.clk != nil {
		b.clk.Kill()
	}
	b.vms.PowerOff()
	b.computer.Kill()
	b.clk, b.node, b.exports, b.computer, b.vms = nil, nil, nil, nil, nil
}

func (s *scene) ok(err error) {
	s.Helper()
	if err != nil {
		s.Errorf("%v", err)
	}
}

func (s *scene) kind(err error, want holdfast.Kind) {
	s.Helper()
	if !holdfast.IsKind(err, want) {
		s.Errorf("%v, want an error of kind %q", err, want)
	}
}

const patience = 5 * time.Minute // of simulated time

// as runs f as a task of a clock's and returns when it has ended.
func (s *scene) as(clk *simclock.Host, f func()) {
	s.Helper()
	done := false
	clk.Go(func() { f(); done = true })
	if !s.w.RunUntil(func() bool { return done }, s.w.Now()+patience) {
		s.Fatalf("the task did not end: %v", s.w)
	}
}

// on runs f on a host, once its process is up.
func (s *scene) on(b *box, f func(p *provision.Provisioner)) {
	s.Helper()
	s.w.RunUntil(func() bool { return b.node != nil }, s.w.Now()+patience)
	s.as(b.clk, func() { f(b.node.Make) })
}

// until lets time go by until the records are as wanted.
func (s *scene) until(what string, ok func(*cluster.State) bool) {
	s.Helper()
	if !s.w.RunUntil(func() bool { return ok(s.eye.State()) }, s.w.Now()+patience) {
		s.Fatalf("not within %v: %s\n%s", patience, what, s.told())
	}
}

// told says what the records say.
func (s *scene) told() (text string) {
	st := s.eye.State()
	for _, v := range st.SortedVMs() {
		m := st.Machines[v.Val.ID].Val
		text += fmt.Sprintf("vm %s power %s deleted %v on %s generation %d leave %d: %s %s\n", v.Val.Name, v.Val.Power, v.Val.Deleted,
			st.Hosts[v.Val.Host].Val.Name, v.Val.Generation, v.Val.Leave, m.State, m.Reason)
	}
	for _, v := range st.SortedVolumes() {
		text += fmt.Sprintf("volume %s deleted %v epoch %d: %d in sync, %d others\n", v.Val.Name, v.Val.Deleted, v.Val.Epoch, len(v.Val.InSync), len(v.Val.Others))
	}
	return text
}

// run lets d pass.
func (s *scene) run(d time.Duration) { s.w.Run(s.w.Now() + d) }

// image makes an empty image that VMs can be started from.
func (s *scene) image(b *box) (id holdfast.VolumeID) {
	s.Helper()
	s.on(b, func(p *provision.Provisioner) {
		rec, err := p.CreateVolume(provision.VolumeSpec{Name: "image", Blocks: 64, Image: true})
		s.ok(err)
		_, err = b.node.Volumes.Open(rec.ID)
		s.ok(err)
		_, err = p.Seal(rec.ID, 64)
		s.ok(err)
		id = rec.ID
	})
	return id
}

func vmSpec(name string, image holdfast.VolumeID) provision.VMSpec {
	return provision.VMSpec{Image: image, VM: cluster.VM{Name: name, CPUs: 1, MemoryMiB: 64, Power: cluster.On}}
}

// runs reports whether a VM of that name runs at its present assignment.
func runs(st *cluster.State, name string) bool {
	v, ok := st.VMByName(name)
	if !ok {
		return false
	}
	m := st.Machines[v.Val.ID].Val
	return m.State == string(hypervisor.Running) && m.Generation == v.Val.Generation && m.Host == v.Val.Host && st.AliveHost(m.Host)
}

// box returns the computer of a host.
func (s *scene) box(id holdfast.HostID) *box {
	for _, b := range s.boxes {
		if b.rec.ID == id {
			return b
		}
	}
	s.Fatalf("no host %s", id)
	return nil
}

// db makes a VM of that name from an empty image, and returns it when it runs.
func (s *scene) db(b *box) (vm cluster.VM) {
	s.Helper()
	image := s.image(b)
	s.on(b, func(p *provision.Provisioner) {
		var err error
		vm, err = p.CreateVM(vmSpec("db", image))
		s.ok(err)
	})
	s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
	return vm
}
