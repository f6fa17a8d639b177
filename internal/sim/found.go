package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

const (
	clients      = 3 // each with a volume of its own
	volumeBlocks = 192
	vmSlots      = 64
	vmBlocks     = 128
)

// found makes the cluster and what the clients use.
func (s *simulation) found() {
	s.must(s.prepare(), "the story")
	for _, l := range s.setup {
		s.tell("%s", l)
	}
	s.vms = newVMCheck(s)
	s.sealings, s.limits, s.groups, s.drains = s.newSealings(), s.newLimiting(), s.newGrouping(), s.newDrains()
	s.vmDisks = newVMDisks(s)
	s.forcing = s.newForcing()
	s.members = &members{s: s, stable: make(map[*blockClient]reached)}
	for _, p := range s.plan.hosts {
		s.hosts = append(s.hosts, s.newHost(p))
	}
	s.layLinks()
	s.gather()
	s.furnish()
}

// gather makes a cluster of the hosts and waits until all are there.
func (s *simulation) gather() {
	id := holdfast.ClusterID{UUID: s.uuid()}
	for _, h := range s.hosts {
		h.format(id)
		h.powerOn()
	}
	c := cluster.Open(s.kv.Handle("world", s.c), s.c, s.log)
	s.must(c.Init(cluster.Cluster{ID: id, Name: "sim"}, s.hosts[0].rec), "init")
	for i, h := range s.hosts {
		tx := c.Begin()
		if i > 0 {
			tx.PutHost(h.rec, 0)
		}
		tx.PutDisk(cluster.Disk{ID: h.did, Host: h.rec.ID, Path: "/disk", Size: h.size}, 0)
		if h.second != nil {
			tx.PutDisk(cluster.Disk{ID: h.secondID, Host: h.rec.ID, Path: secondPath, Size: h.size}, 0)
		}
		_, err := tx.Settle(time.Minute)
		s.must(err, "host "+h.name)
	}
	ready := c.WaitFor(func(st *cluster.State) bool {
		for _, h := range s.hosts {
			if a, ok := st.Alive[h.rec.ID]; !ok || len(a.Val.Disks) == 0 {
				return false
			}
		}
		return !st.Leader.IsZero()
	}, time.Minute)
	s.eye = c
	if !ready {
		s.fail("the hosts did not come up")
		panic(stop{})
	}
}

// furnish makes the volumes, an image and the VMs, through the first host.
func (s *simulation) furnish() {
	h := s.hosts[0]
	var err error
	var vols []cluster.Volume
	ok := s.runOn(h, time.Minute, func() {
		if err = s.initKey(h); err != nil {
			return
		}
		reads, least := s.w.Rand("reads"), s.w.Rand("least copies")
		for i := range s.plan.clients {
			var v cluster.Volume
			if v, err = h.node.Make.CreateVolume(s.limits.spec(s.sealings.spec(provision.VolumeSpec{Name: clientVolume(i), Blocks: volumeBlocks, Copies: s.plan.copies[clientVolume(i)], Min: s.atLeast(least, s.plan.copies[clientVolume(i)]), Reads: drawReads(reads)}))); err != nil {
				return
			}
			vols = append(vols, v)
		}
		err = s.makeVMs(h)
	})
	if !ok {
		s.fail("furnishing took too long")
		panic(stop{})
	}
	s.must(err, "furnish")
	for i, v := range vols {
		s.clients = append(s.clients, newBlockClient(s, i, v))
	}
}

// drawReads has the reads of every second volume confirmed.
func drawReads(rng *rand.Rand) cluster.Reads {
	return []cluster.Reads{"", cluster.Confirmed}[rng.IntN(2)]
}

// atLeast has one volume of three with three copies or more be written with two of
// them at least, and stand still otherwise.
func (s *simulation) atLeast(rng *rand.Rand, copies int) int {
	if rng.IntN(3) == 0 && copies >= 3 && !s.quiet {
		return 2
	}
	return 1
}

func (s *simulation) initKey(h *host) error {
	return h.node.Make.InitKey(s.sealings.key, keyring.Source{ID: s.sealings.key.ID(), From: keyring.File, Created: s.c.Wall()})
}

func (s *simulation) makeVMs(h *host) error {
	img, err := h.node.Make.CreateVolume(s.sealings.spec(provision.VolumeSpec{Name: "image", Blocks: vmBlocks, Image: true}))
	if err != nil {
		return err
	}
	if _, err := h.node.Volumes.Open(img.ID); err != nil {
		return err
	}
	if _, err := h.node.Make.Seal(img.ID, vmBlocks); err != nil {
		return err
	}
	s.image = img.ID
	for i := range s.plan.vms {
		vm, err := h.node.Make.CreateVM(provision.VMSpec{Image: img.ID, VM: cluster.VM{Name: fmt.Sprintf("vm%d", i), CPUs: 1, MemoryMiB: s.memories.memoryOf(), Power: cluster.On, Isolation: isolationOf(i)}})
		if err != nil {
			return err
		}
		s.vms.add(vm)
	}
	return nil
}

// runOn runs f on a task of the host's process and reports whether it ended in
// time; a process that dies never ends it.
func (s *simulation) runOn(h *host, limit time.Duration, f func()) bool {
	if h.agent == nil {
		return false
	}
	fin := clock.NewFuture[bool](s.c)
	h.agent.Go(func() { f(); fin.Resolve(true) })
	_, ok := fin.Wait(limit)
	return ok
}
