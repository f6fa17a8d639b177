// Package node is the composition root: it makes one host's part of the
// cluster from its seams and starts and stops it in order, nothing else.
// internal/serve gives it the real seams, internal/sim simulated ones.
package node

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/agent"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/fence"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/reconcile"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Seams are the places where the outside world enters.
type Seams struct {
	Clock    clock.Clock
	Rand     io.Reader
	KV       kv.Store
	Net      transport.Network
	Hyper    hypervisor.Hypervisor
	Exports  export.Server
	Watchdog fence.Watchdog   // may be nil
	Voters   reconcile.Voters // nil: not ours to choose
}

// Config is what a host is told.
type Config struct {
	Host cluster.Alive // what it says of itself, Boot included
	// Witness: it opens no volumes, keeps no cluster keys and makes no plans.
	Witness bool
	Log     *slog.Logger
	HA      ha.Config
	// RebuildRate is how many bytes a second rebuilds may read from a disk and
	// write to it, together; 0: no limit but what the foreground leaves.
	RebuildRate int64
	Agent       func(*agent.Config) // may set the agent's surface hooks; nil: none
	// Floor is what this host has once read of the control plane.
	Floor cluster.Floor
	// Retire ends the use of a disk for good: it closes the store, if it is open,
	// and forgets the disk; it may be called again. nil: disks are never removed.
	Retire func(cluster.Disk) error
	// Reopen opens the disk of a store anew that was given up, after it has closed
	// that one; kind NotFound: it is no disk of this host any more. It may be called
	// again after an error. nil: it stays given up.
	Reopen func(*store.Store) (*store.Store, error)
}

// Node is one running host.
type Node struct {
	Seams
	Config
	Self    holdfast.HostID
	Cluster *cluster.Client
	Volumes *volume.Service
	Agent   *agent.Agent
	Make    *provision.Provisioner
	Keys    *keyring.Ring // the cluster keys in this host's memory

	alive        *cluster.KeepAlive
	election     *cluster.Election
	loop         *reconcile.Loop
	tasks        *clock.Group
	changed      clock.Event
	stopping     clock.Event
	keysStop     clock.Event
	keysWake     clock.Event
	born         time.Duration
	conds        conditions
	tended       tended
	absent       absent
	publishing   sync.Mutex
	published    []cluster.DiskUse // under publishing
	toldDrain    drainSaid         // owned by follow
	told         []keyring.ID      // keys that the host has said it has; owned by followKeys
	toldFaults   []string          // conditions of volumes, owned by follow
	toldSkew     bool              // owned by followClocks
	clockStop    clock.Event
	toldMachines machines // owned by follow
	// toldUnknown are conditions of disks, owned by whoever retires them.
	toldUnknown []string
}

// New wires a node over its seams; Start sets it going. Handlers are on the
// network afterwards, which the caller has not started yet.
func New(c Config, s Seams) *Node {
	n := &Node{Seams: s, Config: c, Self: c.Host.Host, Keys: keyring.NewRing(),
		born: s.Clock.Now(), tasks: clock.NewGroup(s.Clock), changed: s.Clock.NewEvent(), stopping: s.Clock.NewEvent(), keysStop: s.Clock.NewEvent(), keysWake: s.Clock.NewEvent(), clockStop: s.Clock.NewEvent()}
	c.Host.Machines = s.Hyper.Kind()
	n.toldMachines = machines{kind: c.Host.Machines, uefi: c.Host.UEFI}
	n.conds.set = make(map[string]cluster.Condition)
	n.tended.disks = make(map[holdfast.DiskID]*failing)
	n.Cluster = cluster.OpenAbove(s.KV, s.Clock, c.Log, c.Floor)
	n.alive = n.Cluster.KeepAlive(c.Host)
	ctl := &control{n}
	n.Volumes = volume.New(volume.Config{
		Self: n.Self, Boot: c.Host.Boot, Clock: s.Clock, Rand: s.Rand, Net: s.Net, Records: ctl, Log: c.Log,
		MayOpen:    func(id holdfast.VolumeID) error { return n.Agent.MayOpen(id) },
		MaySession: func(id holdfast.VolumeID, generation uint32) error { return n.Agent.MaySession(id, generation) },
		Known: func(id holdfast.VolumeID) (cluster.Volume, bool) {
			rec, ok := n.Cluster.State().Volumes[id]
			return rec.Val, ok
		},
		Belongs: func(id holdfast.VolumeID) bool { return n.Agent.Belongs(id) },
		Runs:    func(id holdfast.VolumeID) bool { return n.Agent.Runs(id) },
		Drained: func(h holdfast.HostID) bool { return n.Cluster.State().Hosts[h].Val.Drained },
		Keys:    n.dataKeys, Priority: n.priority, RebuildRate: c.RebuildRate,
	})
	s.Net.Handle(kindKeys, n.serveKeys)
	s.Net.Handle(kindClock, n.serveClock)
	ac := agent.Config{Self: n.Self, Clock: s.Clock, Rand: s.Rand, Control: ctl, Volumes: n.Volumes,
		Hyper: s.Hyper, Exports: s.Exports, Watchdog: s.Watchdog, Log: c.Log,
		SetAside: func(id holdfast.VolumeID, lost holdfast.ReplicaID) error { return n.Make.SetAside(id, lost) }}
	if c.Agent != nil {
		c.Agent(&ac)
	}
	n.Agent = agent.New(ac)
	n.Make = &provision.Provisioner{Self: n.Self, Boot: c.Host.Boot, Cluster: n.Cluster, Volumes: n.Volumes, Keys: n.Keys, AwaitKeys: n.TellKeys, Clock: s.Clock, Rand: s.Rand, Log: c.Log}
	return n
}

// AddStore puts a disk to use.
func (n *Node) AddStore(st *store.Store) {
	n.Volumes.AddStore(st)
	st.OnFence(n.changed.Set)
	n.publishDisks()
}

// Start begins to serve. The caller has added the disks it knows and then
// started the network.
func (n *Node) Start() error {
	if err := n.Agent.Start(); err != nil {
		return err
	}
	n.Cluster.Subscribe(n.changed)
	n.alive.Subscribe(n.changed)
	n.tasks.Go(n.follow)
	if n.Witness {
		return nil
	}
	n.election = n.Cluster.Campaign(n.alive, n.Self)
	n.loop = reconcile.Start(reconcile.Options{
		Clock: n.Clock, Cluster: n.Cluster, Office: n.election, Voters: n.Voters, Rand: n.Rand, Log: n.Log, HA: n.HA,
	})
	n.tasks.Go(n.followKeys)
	n.tasks.Go(n.followClocks)
	return nil
}

// follow wakes the agent at every change of the picture, and keeps what the
// host says of its disks fresh.
func (n *Node) follow() {
	next := n.Clock.Now()
	wait := diskReport
	for {
		n.changed.Wait(wait)
		if n.stopping.Wait(0) {
			return
		}
		n.Agent.Wake()
		n.drain()
		if st := n.Cluster.State(); st.Keyring.Mod != 0 && !n.Keys.Has(st.Keyring.Val.Current().ID) {
			n.keysWake.Set() // ask at once: the next host may be about to restart
		}
		var told bool
		if told, wait = n.tendDisks(); told {
			n.publishDisks()
		}
		wait = min(wait, n.tryAbsent())
		if now := n.Clock.Now(); now >= next {
			next = now + diskReport
			n.publishDisks()
			n.tellMachines()
			n.tellRot()
			n.tellRebuilds()
			n.retireDisks()
		}
	}
}

// Stop ends the node in order and leaves machines running. The caller closes
// the network, the stores and kv afterwards.
func (n *Node) Stop() {
	if n.loop != nil {
		n.loop.Stop()
		n.election.Stop()
	}
	n.Agent.Stop()
	n.stopping.Set()
	n.keysStop.Set()
	n.clockStop.Set()
	n.keysWake.Set()
	n.changed.Set()
	n.tasks.Wait()
	n.Volumes.Close()
	n.alive.Stop()
	n.Cluster.Close()
}

// Lease returns the keeper of this host's lease.
func (n *Node) Lease() *cluster.KeepAlive { return n.alive }
