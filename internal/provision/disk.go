package provision

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// Evacuation is what is wanted of a disk.
type Evacuation struct {
	On        bool            // move its replicas off; false: let it take replicas again
	Remove    bool            // and give it back when nothing needs it any more
	Successor holdfast.DiskID // where its replicas go first; zero: anywhere
}

// EvacuateDisk has a disk's replicas moved off it, or lets it take replicas
// again. The planner does it; nothing waits here.
func (p *Provisioner) EvacuateDisk(id holdfast.DiskID, e Evacuation) (rec cluster.Disk, err error) {
	err = p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		d, ok := st.Disks[id]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "disk %s is not known", id.Short())
		}
		rec = d.Val
		switch {
		case e.On:
			rec.Evacuate, rec.Remove = true, rec.Remove || e.Remove
			if !e.Successor.IsZero() {
				rec.Successor = e.Successor
			}
		default:
			rec.Evacuate, rec.Remove, rec.Successor = false, false, holdfast.DiskID{}
		}
		tx.PutDisk(rec, d.Mod)
		return nil
	})
	return rec, err
}

// MoveReplica has a replica's successor built elsewhere; then the writer lets go
// of the old one. It returns the replica that goes.
func (p *Provisioner) MoveReplica(id holdfast.VolumeID, from, to placement.Somewhere) (vol cluster.Volume, goes cluster.Replica, spot placement.Spot, err error) {
	vol, err = p.change(id, func(st *cluster.State, rec *cluster.Volume) error {
		var err error
		if goes, spot, _, err = placement.PlaceMove(st, *rec, from, to); err != nil {
			return err
		}
		rec.Moving = append(slices.Clone(rec.Moving), goes.ID)
		return p.addReplica(rec, spot)
	})
	return vol, goes, spot, err
}

// StayReplicas takes back that replicas of a volume are to move. Copies that are
// being built in their place go again.
func (p *Provisioner) StayReplicas(id holdfast.VolumeID) (cluster.Volume, error) {
	return p.change(id, func(_ *cluster.State, rec *cluster.Volume) error {
		if len(rec.Moving) == 0 {
			return holdfast.Errorf(holdfast.NotFound, "no copy of volume %s is being moved", rec.Name)
		}
		rec.Moving = nil
		return nil
	})
}

func (p *Provisioner) addReplica(rec *cluster.Volume, s placement.Spot) error {
	ref, err := p.replicaOn(s.Host, s.Disk)
	if err == nil {
		rec.Others = append(slices.Clone(rec.Others), ref)
	}
	return err
}

// ChangeVolume changes a volume while it is used: copies that are added are
// built, those that are too many let go, the rest counts from now on.
func (p *Provisioner) ChangeVolume(id holdfast.VolumeID, c placement.Change) (cluster.Volume, error) {
	return p.change(id, func(st *cluster.State, rec *cluster.Volume) error {
		next, spots, _, err := placement.ChangeVolume(st, *rec, c)
		if err != nil {
			return err
		}
		*rec = next
		for _, s := range spots {
			if err := p.addReplica(rec, s); err != nil {
				return err
			}
		}
		return nil
	})
}
