package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/fakevm"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

const (
	segmentBytes = 512 << 10
	mapMemory    = 512 << 10
)

// host is one computer over all its lives: its disk lasts, its power and its
// process come and go.
type host struct {
	s    *simulation
	name string
	rec  cluster.Host
	disk *memdisk.Disk
	size int64
	did  holdfast.DiskID
	skew simclock.Skew

	second   *memdisk.Disk // nil: it has one disk
	secondID holdfast.DiskID

	swapped *host // it and this one have each other's first disk

	lives    int
	computer *simclock.Host // nil: no power
	vmhost   *fakevm.Host
	agent    *simclock.Host // nil: no process
	node     *node.Node
	exports  *exports
	paused   bool
	stood    bool          // paused with its clocks
	wokeAt   time.Duration // when its clocks last went on; 0: they never stood still
	blindAt  time.Duration // when the process last began, or went on
	unsound  string        // why the disk could not be used, from the last boot
	reopened int           // disks, in this life of the process

	offAt  time.Duration    // when it last lost power
	copies [2]*memdisk.Disk // of its disks, as they once were

	kvCut [2]bool // its requests to the control plane are lost, the replies to it

	floor cluster.Floor // what it has kept of the control plane, when that is set back
}

// bytesOf is a seeded io.Reader.
type bytesOf struct{ r *rand.Rand }

func (b bytesOf) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b.r.Uint32())
	}
	return len(p), nil
}

func (s *simulation) uuid() holdfast.UUID {
	u, err := holdfast.NewUUID(bytesOf{s.rng})
	s.must(err, "uuid")
	return u
}

func (s *simulation) newHost(p hostPlan) *host {
	h := &host{s: s, name: p.name, size: p.size, skew: p.skew}
	h.did = holdfast.DiskID{UUID: s.uuid()}
	h.disk = memdisk.New(h.size, s.w.Rand("disk "+h.name))
	h.rec = cluster.Host{ID: holdfast.HostID{UUID: s.uuid()}, Name: h.name, Domain: p.domain, Addr: "127.0.0.1:1", APIAddr: "127.0.0.1:2"}
	if p.disks > 1 {
		h.addSecond()
	}
	return h
}

// powerOn begins a life of the computer, and of the process on it.
func (h *host) powerOn() {
	if h.computer == nil {
		h.computer = h.s.w.Host("computer "+h.name, h.skew)
		h.vmhost = fakevm.NewHost(fakevm.Config{Clock: h.computer, Slots: vmSlots, Pace: 50 * time.Millisecond,
			Report: func(vm holdfast.VMID, l probe.Line) { h.s.vms.report(h, vm, l) }})
	}
	h.boot()
}

// boot begins a life of the process.
func (h *host) boot() {
	if h.agent != nil {
		return
	}
	h.lives++
	h.blindAt = h.s.w.Now()
	// A host may believe in any date: after a flat battery, in 1970.
	h.skew.Wall = time.Unix(int64(h.s.rng.Uint32()), 0).UTC()
	h.agent = h.s.w.Host("agent "+h.name, h.skew)
	clk := h.agent
	h.agent.Go(func() { h.begin(clk) })
}

// start begins a life of the process where there is power.
func (h *host) start() {
	if h.computer != nil {
		h.boot()
	}
}

func (h *host) begin(clk *simclock.Host) {
	s := h.s
	rnd := bytesOf{s.w.Rand(fmt.Sprintf("life %s %d", h.name, h.lives))}
	boot, err := holdfast.NewUUID(rnd)
	if err != nil {
		panic(err)
	}
	ep := s.net.Open(h.rec.ID, h.rec.Domain.Rack, clk)
	h.exports = &exports{targets: make(map[string]export.Target)}
	log := s.log.With("host", h.name)
	n := node.New(node.Config{
		Host: cluster.Alive{Host: h.rec.ID, Boot: holdfast.BootID{UUID: boot}, CPUs: 4, MemoryMiB: 4096, Accelerator: "tcg", Sandbox: "full", Version: "sim"},
		Log:  log, Floor: h.floor, HA: ha.Config{Visits: &s.visited.ha},
		Reopen: func(was *store.Store) (*store.Store, error) {
			return h.reopen(was, clk, rnd)
		},
	}, node.Seams{
		Clock: clk, Rand: rnd, KV: s.kv.Handle(h.name, clk), Net: ep,
		Hyper: h.vmhost.Hypervisor(clk, h.openDisk), Exports: h.exports,
	})
	if !s.keyless || h.lives == 1 {
		n.Keys.Add(s.sealings.key)
	}
	n.Volumes.Sealed = s.sealed
	n.Volumes.Visits = &s.visited.volumes
	h.unsound, h.reopened = "", 0
	for i, d := range h.media() {
		st, err := h.openStore(d, clk, rnd)
		if err != nil {
			h.unsound = err.Error()
			s.tell("%s: its disk %d cannot be used: %v", h.name, i+1, err)
		} else {
			n.AddStore(st)
			if h.lives > 1 {
				s.res.Recoveries++
			}
		}
	}
	if err := ep.Start(); err != nil {
		panic(err)
	}
	if err := n.Start(); err != nil {
		panic(err)
	}
	h.node = n
}

// reopen opens the disk of a store anew that was given up.
func (h *host) reopen(was *store.Store, clk *simclock.Host, rnd bytesOf) (*store.Store, error) {
	_ = was.Close()
	d := h.disk
	if was.Identity().Disk != h.did {
		d = h.second
	}
	if clk == h.agent { // else its process is over
		d.Kill() // the device is closed
	}
	st, err := h.openStore(d, clk, rnd)
	if err == nil && clk == h.agent {
		h.reopened++
	}
	h.s.tell("%s: a disk that was given up is opened anew: %v", h.name, err)
	return st, err
}

func (h *host) openStore(d *memdisk.Disk, clk clock.Clock, rnd bytesOf) (*store.Store, error) {
	dev, err := d.Open(clk, memdisk.SSD())
	if err != nil {
		return nil, err
	}
	return store.Open(dev, h.storeOptions(clk, rnd))
}

func (h *host) storeOptions(clk clock.Clock, rnd bytesOf) store.Options {
	return store.Options{Clock: clk, Rand: rnd, Log: h.s.log.With("host", h.name), SegmentBytes: segmentBytes, MapMemory: h.s.mapMemory}
}

// format prepares the disks before the first boot.
func (h *host) format(cl holdfast.ClusterID) {
	h.formatDisk(cl, h.disk, h.did, "format "+h.name)
	if h.second != nil {
		h.formatDisk(cl, h.second, h.secondID, "format second "+h.name)
	}
}

func (h *host) formatDisk(cl holdfast.ClusterID, d *memdisk.Disk, id holdfast.DiskID, stream string) {
	clk := h.s.w.Host("format", simclock.Skew{})
	fin := h.s.c.NewEvent()
	var dev disk.Device
	var err error
	clk.Go(func() {
		if dev, err = d.Open(clk, memdisk.Options{}); err == nil {
			err = store.Format(dev, store.Identity{Cluster: cl, Disk: id, Host: h.rec.ID}, h.storeOptions(clk, bytesOf{h.s.w.Rand(stream)}))
		}
		if err == nil {
			err = dev.Close()
		}
		fin.Set()
	})
	fin.Wait(clock.Forever)
	h.s.must(err, "format")
	clk.Kill()
}

// openDisk is how machines find their disks.
func (h *host) openDisk(socket, _ string) (export.Disk, error) {
	t := h.exports.targets[socket]
	if t == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "nothing is exported at %s", socket)
	}
	return t.Open(false)
}

// processDies ends the process as SIGKILL does.
func (h *host) processDies() {
	if h.agent == nil {
		return
	}
	for _, d := range h.media() {
		d.Kill()
	}
	h.agent.Kill()
	h.s.net.HangUp(h.rec.ID)
	h.agent, h.node, h.exports = nil, nil, nil
	h.vmhost.AgentDied()
}

// powerCut ends everything at once; the disk loses what was not synced.
func (h *host) powerCut() {
	if h.computer == nil {
		return
	}
	for _, d := range h.media() {
		d.Crash()
	}
	if h.agent != nil {
		h.agent.Kill()
		h.agent, h.node, h.exports = nil, nil, nil
	}
	h.offAt = h.s.w.Now()
	h.vmhost.PowerOff()
	h.computer.Kill()
	h.computer, h.vmhost = nil, nil
	h.paused, h.stood = false, false
}

func (h *host) pause() {
	if h.computer != nil && !h.paused {
		h.paused = true
		h.computer.Pause()
		if h.agent != nil {
			h.agent.Pause()
		}
	}
}

// pauseProcess stops the process; the computer and its machines go on.
func (h *host) pauseProcess() {
	if h.agent != nil && !h.paused {
		h.paused = true
		h.agent.Pause()
	}
}

func (h *host) resume() {
	if h.paused {
		if h.stood {
			h.stood, h.wokeAt = false, h.s.w.Now()
		}
		h.paused, h.blindAt = false, h.s.w.Now()
		h.computer.Resume()
		if h.agent != nil {
			h.agent.Resume()
		}
	}
}

// serving reports whether clients can reach the host's exports.
func (h *host) serving() bool { return h.node != nil && !h.paused }

// exports is the fake export.Server of one life: a directory in memory.
type exports struct{ targets map[string]export.Target }

// Publish implements export.Server.
func (e *exports) Publish(id holdfast.VolumeID, _ string, t export.Target) (string, error) {
	e.targets[id.String()] = t
	return id.String(), nil
}

// Withdraw implements export.Server.
func (e *exports) Withdraw(id holdfast.VolumeID) { delete(e.targets, id.String()) }
