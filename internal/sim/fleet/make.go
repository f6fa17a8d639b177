package fleet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

const (
	vmsPerHost = 24 // at most, so that the loss of a rack leaves room
	gib        = 1 << 30
	blocksGiB  = gib / holdfast.BlockSize
)

// plan is a fleet as it is made: everything well, and everything in its place. The
// same seed makes the same.
type plan struct {
	rng *rand.Rand
	now time.Time

	cluster  cluster.Cluster
	hosts    []cluster.Host
	alive    []cluster.Alive // in the order of hosts
	pools    []cluster.Pool
	disks    []cluster.Disk
	volumes  []cluster.Volume
	vms      []cluster.VM
	machines []cluster.Machine
	exports  []cluster.Export
	backups  []cluster.BackupSchedule

	racks [][]int                 // hosts of each
	of    map[holdfast.HostID]int // their numbers
	main  []holdfast.DiskID       // of each host, in the default pool
	deep  []holdfast.DiskID       // and in the pool of large disks, zero: none
}

// made returns the records of a fleet.
func made(o Options, now time.Time) *plan {
	p := &plan{rng: rand.New(rand.NewPCG(o.Seed, 7)), now: now, of: map[holdfast.HostID]int{}}
	p.cluster = cluster.Cluster{ID: holdfast.ClusterID{UUID: p.id()}, Name: "simulated", Format: cluster.Format}
	p.pools = []cluster.Pool{{ID: holdfast.PoolID{UUID: p.id()}, Name: "archive", Tier: cluster.HDD, Created: p.ago(300)}}
	for i := range o.Hosts {
		p.host(i, o.Racks)
	}
	p.vote()
	for _, name := range []string{"debian-12", "ubuntu-24-04", "alpine-3-20", "windows-2022"} {
		p.image(name)
	}
	for i := range o.VMs {
		p.vm(i)
	}
	for i := range min(6, o.VMs/10) {
		p.export(i)
	}
	p.backup()
	return p
}

// id is the next identity.
func (p *plan) id() holdfast.UUID {
	var u holdfast.UUID
	binary.BigEndian.PutUint64(u[:8], p.rng.Uint64())
	binary.BigEndian.PutUint64(u[8:], p.rng.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // RFC 9562, version 4
	return u
}

// ago is up to so many days ago.
func (p *plan) ago(days int) time.Time {
	return p.now.Add(-time.Duration(p.rng.Int64N(int64(days)*24*3600)+60) * time.Second).Truncate(time.Second)
}

// rackName is a, b, … z, aa, ab, …
func rackName(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return rackName(i/26-1) + string(rune('a'+i%26))
}

// host makes a host, its disks and what it says of itself.
func (p *plan) host(i, racks int) {
	rack := i % racks
	if rack == len(p.racks) {
		p.racks = append(p.racks, nil)
	}
	p.racks[rack] = append(p.racks[rack], i)
	h := cluster.Host{ID: holdfast.HostID{UUID: p.id()}, Name: fmt.Sprintf("%s%d", rackName(rack), len(p.racks[rack])), Domain: holdfast.FaultDomain{Rack: rackName(rack)}}
	ip := fmt.Sprintf("10.%d.%d.%d", 64+rack/250, rack%250+1, len(p.racks[rack])%250+10)
	h.Addr, h.APIAddr = ip+":7441", ip+":7440"
	a := cluster.Alive{Host: h.ID, Boot: holdfast.BootID{UUID: p.id()}, CPUs: pick(p.rng, 16, 24, 32, 48), MemoryMiB: pick(p.rng, 192, 256, 384) << 10,
		Accelerator: "kvm", Sandbox: "full", UEFI: true, Version: "simulated"}
	p.of[h.ID] = i
	p.main = append(p.main, p.disk(&a, "/dev/nvme0n1", pick[int64](p.rng, 4, 8)<<40, holdfast.PoolID{}))
	if i/racks%3 == 0 {
		p.deep = append(p.deep, p.disk(&a, "/dev/sda", 16<<40, p.pools[0].ID))
	} else {
		p.deep = append(p.deep, holdfast.DiskID{})
	}
	p.hosts, p.alive = append(p.hosts, h), append(p.alive, a)
}

func (p *plan) disk(a *cluster.Alive, path string, size int64, pool holdfast.PoolID) holdfast.DiskID {
	d := cluster.Disk{ID: holdfast.DiskID{UUID: p.id()}, Host: a.Host, Path: path, Size: size, Pool: pool}
	p.disks = append(p.disks, d)
	a.Disks = append(a.Disks, cluster.DiskUse{Disk: d.ID, Total: size, Free: size / 100 * int64(45+p.rng.IntN(40)), WriteAmp: 1 + p.rng.Float64()/2, MapAmp: p.rng.Float64() / 10})
	return d.ID
}

// vote has a host in each of up to five racks vote, and an odd number of them.
func (p *plan) vote() {
	n := min(5, len(p.racks))
	for r := range n - (1 - n%2) {
		h := &p.hosts[p.racks[r][0]]
		h.Voter, h.Peer, h.Client = true, "https://"+h.Addr, "https://"+h.Addr
	}
}

// places are hosts in distinct racks, the first one given.
func (p *plan) places(first, n int, fits func(host int) bool) []int {
	out, racks := []int{first}, []int{first % len(p.racks)}
	for range 8 * len(p.hosts) {
		if len(out) == min(n, len(p.racks)) {
			break
		}
		if h := p.rng.IntN(len(p.hosts)); fits(h) && !slices.Contains(racks, h%len(p.racks)) {
			out, racks = append(out, h), append(racks, h%len(p.racks))
		}
	}
	return out
}

// volume makes a volume with copies on hosts.
func (p *plan) volume(name string, size uint64, hosts []int, on []holdfast.DiskID) *cluster.Volume {
	v := cluster.Volume{ID: holdfast.VolumeID{UUID: p.id()}, Name: name, Blocks: size * blocksGiB, Copies: len(hosts), Min: 1, Durability: cluster.OnFlush,
		Epoch: holdfast.Epoch(1 + p.rng.IntN(9)), Generation: 1, Created: p.ago(300)}
	if on[hosts[0]] == p.deep[hosts[0]] {
		v.Pool = p.pools[0].ID
	}
	for _, h := range hosts {
		v.InSync = append(v.InSync, cluster.Replica{ID: holdfast.ReplicaID{UUID: p.id()}, Host: p.hosts[h].ID, Disk: on[h]})
	}
	p.volumes = append(p.volumes, v)
	return &p.volumes[len(p.volumes)-1]
}

func (p *plan) anywhere(int) bool { return true }

func (p *plan) image(name string) {
	v := p.volume(name, uint64(2+p.rng.IntN(8)), p.places(p.rng.IntN(len(p.hosts)), 3, p.anywhere), p.main)
	v.Image, v.Sealed = true, true
}

// export makes a target of a volume for computers that are no VMs.
func (p *plan) export(i int) {
	at := p.rng.IntN(len(p.hosts))
	v := p.volume(fmt.Sprintf("lun-%d", i+1), uint64(100+100*p.rng.IntN(9)), p.places(at, 2, p.anywhere), p.main)
	name := fmt.Sprintf("legacy-%d", i+1)
	p.exports = append(p.exports, cluster.Export{ID: holdfast.ExportID{UUID: p.id()}, Name: name, Target: "iqn.2026-01.org.holdfast:simulated:" + name, Created: v.Created,
		Units: []cluster.Unit{{Volume: v.ID}}, Initiators: []cluster.Initiator{{Name: fmt.Sprintf("iqn.1993-08.org.debian:01:%08x", p.rng.Uint32())}}})
}

// backup has the disks of the first VMs backed up every night.
func (p *plan) backup() {
	if len(p.vms) == 0 {
		return
	}
	s := cluster.BackupSchedule{Name: "nightly", Host: p.hosts[0].ID, Dir: "/srv/backup", Every: 24 * time.Hour, Keep: "7d", Created: p.ago(100)}
	for _, v := range p.vms[:min(8, len(p.vms))] {
		s.Volumes = append(s.Volumes, v.Volume)
	}
	s.Began = p.now.Add(-5 * time.Hour)
	s.Good, s.Ended, s.Next, s.Length = s.Began, s.Began.Add(11*time.Minute), s.Began.Add(s.Every), 7*gib
	p.backups = append(p.backups, s)
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }
