package provision

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// poolOf returns a pool that takes volumes and disks.
func poolOf(st *cluster.State, id holdfast.PoolID) (cluster.Pool, error) {
	pool, ok := st.Pool(id)
	switch {
	case !ok:
		return pool, holdfast.Errorf(holdfast.NotFound, "pool %s does not exist", id.Short())
	case pool.Deleted:
		return pool, holdfast.Errorf(holdfast.Conflict, "pool %s is being deleted; choose another", pool.Name)
	}
	return pool, nil
}

// CreatePool makes a pool of that name, tier, number of copies and i/o, and
// returns it as committed. It has no disks yet.
func (p *Provisioner) CreatePool(pool cluster.Pool) (cluster.Pool, error) {
	u, err := p.uuid()
	if err != nil {
		return pool, err
	}
	pool.ID, pool.Created = holdfast.PoolID{UUID: u}, p.Clock.Wall()
	tx := p.Cluster.Begin()
	tx.PutPool(pool, 0)
	return pool, p.settled(tx)
}

// DeletePool removes a pool that no disk and no volume is in. It is first
// closed, so that what it is then seen to hold is all it will ever hold: who
// puts something into a pool requires its record to be as it was.
func (p *Provisioner) DeletePool(id holdfast.PoolID) error {
	if err := p.closePool(id, true); err != nil {
		return err
	}
	st, err := p.fresh()
	if err != nil {
		return err
	}
	pool, ok := st.Pools[id]
	if !ok {
		return nil
	}
	if len(st.Bad) > 0 {
		return holdfast.Errorf(holdfast.Conflict, "pool %s: %d records of the cluster cannot be read now, and one of them may be in it", pool.Val.Name, len(st.Bad))
	}
	if holds := inPool(st, id); holds != "" {
		if err := p.closePool(id, false); err != nil {
			return err
		}
		return holdfast.Errorf(holdfast.Conflict, "pool %s holds %s; remove or delete that first", pool.Val.Name, holds)
	}
	tx := p.Cluster.Begin()
	tx.DeletePool(id, pool.Mod)
	return p.settled(tx)
}

// closePool says that a pool takes nothing new, or takes that back.
func (p *Provisioner) closePool(id holdfast.PoolID, closed bool) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	pool, ok := st.Pools[id]
	if !ok {
		return holdfast.Errorf(holdfast.NotFound, "pool %s does not exist", id.Short())
	}
	if pool.Val.Deleted == closed {
		return nil
	}
	pool.Val.Deleted = closed
	tx := p.Cluster.Begin()
	tx.PutPool(pool.Val, pool.Mod)
	return p.settled(tx)
}

// inPool names something that is in a pool, or "".
func inPool(st *cluster.State, id holdfast.PoolID) string {
	for _, v := range st.SortedVolumes() {
		if v.Val.Pool == id {
			return "volume " + v.Val.Name
		}
	}
	for _, d := range st.SortedDisks() {
		if d.Val.Pool == id {
			return "disk " + st.Hosts[d.Val.Host].Val.Name + ":" + d.Val.Path
		}
	}
	return ""
}

func (p *Provisioner) settled(tx *cluster.Txn) error {
	rev, err := tx.Settle(settle)
	if err == nil {
		p.Cluster.WaitRev(rev, kv.CallTimeout)
	}
	return err
}

// AddDisk records a disk of this host, in a pool that stands.
func (p *Provisioner) AddDisk(d cluster.Disk) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	if _, err := poolOf(st, d.Pool); err != nil {
		return err
	}
	tx := p.Cluster.Begin()
	tx.RequirePool(d.Pool, st.Pools[d.Pool].Mod)
	tx.PutDisk(d, 0)
	return p.settled(tx)
}

// RenewDisk replaces the records of disks in memory that went with an earlier
// life of this host by that of the disk that takes their place. Kind NotFound:
// none of them has a record any more, the disk was taken back.
func (p *Provisioner) RenewDisk(d cluster.Disk, were ...holdfast.DiskID) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	tx := p.Cluster.Begin()
	for _, id := range were {
		if rec, ok := st.Disks[id]; ok && rec.Val.Host == p.Self && rec.Val.RAM {
			tx.DeleteDisk(id, rec.Mod)
		}
	}
	if tx.Len() == 0 {
		return holdfast.Errorf(holdfast.NotFound, "disk %s was taken back", d.Path)
	}
	tx.PutDisk(d, 0)
	return p.settled(tx)
}
