package fleet

import (
	"fmt"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// fill writes a plan into an empty control plane.
func fill(c *cluster.Client, p *plan) error {
	if err := c.Init(p.cluster, p.hosts[0]); err != nil {
		return err
	}
	b := &batch{c: c}
	for _, x := range p.hosts[1:] {
		b.add(func(t *cluster.Txn) { t.PutHost(x, 0) })
	}
	for _, x := range p.pools {
		b.add(func(t *cluster.Txn) { t.PutPool(x, 0) })
	}
	for _, x := range p.disks {
		b.add(func(t *cluster.Txn) { t.PutDisk(x, 0) })
	}
	for _, x := range p.volumes {
		b.add(func(t *cluster.Txn) { t.PutVolume(x, 0) })
	}
	for _, x := range p.vms {
		b.add(func(t *cluster.Txn) { t.PutVM(x, 0) })
	}
	for _, x := range p.machines {
		b.add(func(t *cluster.Txn) { t.PutMachine(x, 0) })
	}
	b.flush() // their volumes are to be there
	for _, x := range p.exports {
		b.add(func(t *cluster.Txn) { t.PutExport(x, 0) })
	}
	for _, x := range p.backups {
		b.add(func(t *cluster.Txn) { t.PutSchedule(x, 0) })
	}
	b.flush()
	if b.err == nil {
		c.WaitRev(b.rev, kv.CallTimeout)
	}
	return b.err
}

// batch puts many records, in as few commits as can be.
type batch struct {
	c       *cluster.Client
	t       *cluster.Txn
	touched map[holdfast.VolumeID]bool // that were put: their next change is for the next picture
	rev     kv.Rev                     // of the last commit
	err     error                      // of the last one that failed
}

// most is what one record may take of a commit: itself, its names and its pages.
const most = 12

func (b *batch) add(put func(*cluster.Txn)) {
	if b.t == nil {
		b.t = b.c.Begin()
	}
	if put(b.t); b.t.Len()+b.t.Conditions() > kv.MaxOps-most {
		b.flush()
	}
}

func (b *batch) flush() {
	if b.t == nil {
		return
	}
	rev, err := b.t.Commit()
	if b.t = nil; err != nil {
		b.err = err
	}
	b.rev = max(b.rev, rev)
}

// share gives some VMs to projects.
func share(a *account.Store, p *plan) error {
	for i, name := range []string{"clinic", "telecom"} {
		if len(p.vms) < 20 {
			return nil
		}
		if err := a.SetProject(name, account.Share{VMs: 40, CPUs: 160, MemoryMiB: 512 << 10, Bytes: 20 << 40}, true); err != nil {
			return err
		}
		for j := range 5 {
			v := p.vms[5*i+j]
			if err := a.Assign("vm-"+v.ID.String(), name, account.Share{VMs: 1, CPUs: int64(v.CPUs), MemoryMiB: int64(v.MemoryMiB)}); err != nil {
				return fmt.Errorf("project %s: %w", name, err)
			}
		}
	}
	return nil
}
