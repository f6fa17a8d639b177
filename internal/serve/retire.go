package serve

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// EvacuateDisk implements httpapi.Disks.
func (h *Host) EvacuateDisk(ctx context.Context, id holdfast.DiskID, on, remove bool) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	d, ok := st.Disks[id]
	if ok && remove && !st.AliveHost(d.Val.Host) && len(placement.Holds(st, id)) == 0 {
		tx := m.node.Cluster.Begin() // its host will find that it is no disk of the cluster any more
		tx.DeleteDisk(id, d.Mod)
		rev, err := tx.Settle(kv.CallTimeout)
		if err == nil {
			m.node.Cluster.WaitRev(rev, kv.CallTimeout)
		}
		return err
	}
	_, err = m.node.Make.EvacuateDisk(id, provision.Evacuation{On: on, Remove: remove})
	return err
}

// ReplaceDisk implements httpapi.Disks.
func (h *Host) ReplaceDisk(ctx context.Context, id holdfast.DiskID, n httpapi.NewDisk) (cluster.Disk, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Disk{}, err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return cluster.Disk{}, err
	}
	old, ok := st.Disks[id]
	if !ok {
		return cluster.Disk{}, holdfast.Errorf(holdfast.NotFound, "disk %s is not known", id.Short())
	}
	if old.Val.Host != h.dir.id.Host {
		return m.replaceElsewhere(ctx, st, old.Val, n)
	}
	d, err := h.AddDisk(ctx, n)
	if err != nil {
		return d, err
	}
	_, err = m.node.Make.EvacuateDisk(id, provision.Evacuation{On: true, Remove: true, Successor: d.ID})
	return d, err
}

// replaceElsewhere has the host of a disk replace it.
func (m *member) replaceElsewhere(ctx context.Context, st *cluster.State, old cluster.Disk, n httpapi.NewDisk) (cluster.Disk, error) {
	host := st.Hosts[old.Host].Val
	if !st.AliveHost(old.Host) {
		return cluster.Disk{}, holdfast.Errorf(holdfast.Unavailable, "host %s, whose disk is to be replaced, is away", host.Name)
	}
	c := m.peer(host)
	defer c.Close()
	d, err := c.ReplaceDisk(ctx, old.ID.String(), v1.DiskSpec{Path: n.Path, Size: n.Size, RAM: n.RAM})
	if err != nil {
		return cluster.Disk{}, err
	}
	u, err := holdfast.ParseUUID(d.ID)
	return cluster.Disk{ID: holdfast.DiskID{UUID: u}, Host: old.Host, Path: d.Path, Size: d.Size, Pool: old.Pool, RAM: d.RAM}, err
}

// retireDisk ends the use of a disk for good. It may be called again.
func (h *Host) retireDisk(m *member, d cluster.Disk) error {
	if d.RAM {
		if err := h.rememberMemory(m, d.Path, nil); err != nil {
			return err
		}
	} else if !takenOver(m.node.Cluster.State(), d) {
		if err := h.remember(m, func(ms *membership) {
			ms.Disks = slices.DeleteFunc(ms.Disks, func(path string) bool { return path == d.Path })
			if ms.IO != nil {
				ms.IO = cloned(ms.IO)
				delete(ms.IO, d.Path)
			}
		}); err != nil {
			return err
		}
	}
	m.mu.Lock()
	i := slices.IndexFunc(m.stores, func(st opened) bool { return st.Identity().Disk == d.ID })
	var st opened
	if i >= 0 {
		st = m.stores[i]
		m.stores = slices.Delete(m.stores, i, i+1)
	}
	m.mu.Unlock()
	m.node.Condition("disk/"+d.Path, "", "")
	if st.Store == nil {
		return nil
	}
	if err := st.Close(); err != nil {
		h.log.Warn("a disk that is given back was not closed cleanly", "path", d.Path, "error", err)
	}
	if err := st.dev.Close(); err != nil && !holdfast.IsKind(err, holdfast.Closed) {
		h.log.Warn("a disk that is given back was not closed", "path", d.Path, "error", err)
	}
	return nil
}

// takenOver reports whether another disk stands where a disk stood.
func takenOver(st *cluster.State, d cluster.Disk) bool {
	for id, o := range st.Disks {
		if id != d.ID && o.Val.Host == d.Host && o.Val.Path == d.Path {
			return true
		}
	}
	return false
}

// MoveReplica implements httpapi.Volumes.
func (h *Host) MoveReplica(ctx context.Context, id holdfast.VolumeID, from, to placement.Somewhere) (cluster.Replica, placement.Spot, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Replica{}, placement.Spot{}, err
	}
	_, goes, spot, err := m.node.Make.MoveReplica(id, from, to)
	return goes, spot, err
}

// StayReplicas implements httpapi.Volumes.
func (h *Host) StayReplicas(ctx context.Context, id holdfast.VolumeID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	_, err = m.node.Make.StayReplicas(id)
	return err
}

// ChangeVolume implements httpapi.Volumes.
func (h *Host) ChangeVolume(ctx context.Context, id holdfast.VolumeID, c placement.Change) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	return m.node.Make.ChangeVolume(id, c)
}
