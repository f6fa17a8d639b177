package fleet

import (
	"fmt"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// service is something that VMs do, and what they need for it.
type service struct {
	name      string
	share     int // of all VMs
	cpus      int
	memoryMiB int
	diskGiB   uint64 // of the boot disk
	dataGiB   uint64 // of a second one, 0: none
	deep      bool   // that stands in the pool of large disks
	copies    int
	priority  int
	port      int // published of the first of them
}

func services() []service {
	return []service{
		{"web", 20, 2, 4 << 10, 20, 0, false, 2, 1, 443},
		{"db", 12, 4, 16 << 10, 40, 200, false, 3, 2, 5432},
		{"maps", 10, 4, 8 << 10, 40, 500, true, 2, 1, 8080},
		{"mail", 8, 2, 4 << 10, 40, 100, false, 2, 1, 993},
		{"pbx", 8, 2, 2 << 10, 16, 0, false, 2, 2, 5061},
		{"clinic", 8, 2, 8 << 10, 40, 0, false, 2, 2, 8443},
		{"files", 7, 2, 4 << 10, 20, 1000, true, 2, 1, 445},
		{"cache", 6, 1, 4 << 10, 10, 0, false, 2, 0, 0},
		{"wiki", 5, 1, 2 << 10, 20, 0, false, 2, 0, 0},
		{"ldap", 4, 1, 1 << 10, 10, 0, false, 3, 2, 636},
		{"build", 6, 8, 8 << 10, 80, 0, false, 2, 0, 0},
		{"desk", 6, 2, 4 << 10, 60, 0, false, 2, 0, 0},
	}
}

// vm makes a VM with its volumes and, unless it is off, its machine.
func (p *plan) vm(i int) {
	s := p.service()
	at := i % len(p.hosts)
	v := cluster.VM{ID: holdfast.VMID{UUID: p.id()}, Name: fmt.Sprintf("%s-%04d", s.name, i+1), CPUs: s.cpus, MemoryMiB: s.memoryMiB, Power: cluster.On,
		Priority: s.priority, Isolation: cluster.IsolationPause, MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16&0xff, i>>8&0xff, i&0xff),
		Host: p.hosts[at].ID, Generation: int64(1 + p.rng.IntN(4)), Created: p.ago(300)}
	if s.port > 0 && i%40 == 0 {
		v.Publish = []cluster.Publish{{Port: 20000 + i, GuestPort: s.port}}
	}
	if p.rng.IntN(100) < 7 {
		v.Power = cluster.Stopped
	}
	boot := p.volume(v.Name, s.diskGiB, p.places(at, s.copies, p.anywhere), p.main)
	p.belongs(boot, v)
	v.Volume = boot.ID
	if s.dataGiB > 0 {
		first, disks, fits := at, p.main, p.anywhere
		if s.deep {
			racks := len(p.racks)
			first, disks, fits = at/racks/3*3*racks+at%racks, p.deep, func(h int) bool { return h/racks%3 == 0 }
		}
		data := p.volume(v.Name+"-data", s.dataGiB, p.places(first, s.copies, fits), disks)
		p.belongs(data, v)
		v.AddDisk(data.ID)
	}
	p.vms = append(p.vms, v)
	if v.Power == cluster.On {
		p.machines = append(p.machines, machine(v, "running", p.ago(40)))
	}
}

// belongs makes a volume a disk of a VM.
func (p *plan) belongs(vol *cluster.Volume, v cluster.VM) {
	vol.VM, vol.Created = v.ID, v.Created
	if v.Power == cluster.On {
		vol.Writer = v.Host
	}
	if p.rng.IntN(4) > 0 {
		return
	}
	for day := range 1 + p.rng.IntN(3) {
		at := p.now.AddDate(0, 0, -day-1)
		vol.Snapshots = append([]cluster.Snapshot{{ID: holdfast.SnapshotID{UUID: p.id()}, Name: at.Format("daily-2006-01-02"), Created: at,
			LSN: holdfast.MakeLSN(1, p.rng.Uint64N(1<<30))}}, vol.Snapshots...)
	}
}

func (p *plan) service() service {
	all := services()
	n := p.rng.IntN(100)
	for _, s := range all {
		if n -= s.share; n < 0 {
			return s
		}
	}
	return all[0]
}
