package provision

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// SnapshotGroup keeps the content of several volumes at one point, whichever
// hosts write them: if a write is in its volume's snapshot, every write to one of
// the volumes that was acknowledged before it was submitted is in its volume's.
// All snapshots have the name, and are named in one commit: all of them are
// there, or none. Of none, what the replicas keep meanwhile goes by itself.
func (p *Provisioner) SnapshotGroup(ids []holdfast.VolumeID, name string) (cluster.SnapshotGroup, error) {
	return p.snapshotGroup(ids, name, func(*cluster.State, *cluster.Txn, cluster.SnapshotGroup) error { return nil })
}

// with adds to the commit that names a group.
type with func(*cluster.State, *cluster.Txn, cluster.SnapshotGroup) error

// snapshotGroup is SnapshotGroup, with more in its commit.
func (p *Provisioner) snapshotGroup(ids []holdfast.VolumeID, name string, also with) (cluster.SnapshotGroup, error) {
	var none cluster.SnapshotGroup
	if err := holdfast.CheckName("snapshot", name); err != nil {
		return none, err
	}
	st, err := p.fresh()
	if err != nil {
		return none, err
	}
	vols, err := groupOf(st, ids, name)
	if err != nil {
		return none, err
	}
	cut, err := p.Volumes.CutGroup(vols)
	if err != nil {
		return none, holdfast.Errorf(holdfast.KindOf(err), "nothing was kept of group snapshot %s: %w", name, err)
	}
	out, err := p.nameGroup(cut, name, also)
	switch {
	case err == nil:
		cut.Named()
	case holdfast.IsKind(err, holdfast.Unknown):
		err = holdfast.Errorf(holdfast.Unknown, "whether group snapshot %s was kept is not known; look before trying again: %w", name, err)
	default:
		cut.Drop()
		err = holdfast.Errorf(holdfast.KindOf(err), "nothing was kept of group snapshot %s: %w", name, err)
	}
	return out, err
}

// groupOf looks whether these volumes can be kept together under a name.
func groupOf(st *cluster.State, ids []holdfast.VolumeID, name string) ([]cluster.Volume, error) {
	if len(ids) == 0 || len(ids) > cluster.MaxGroup {
		return nil, holdfast.Errorf(holdfast.Invalid, "a group snapshot of %d volumes: 1 to %d are allowed", len(ids), cluster.MaxGroup)
	}
	var out []cluster.Volume
	for i, id := range ids {
		v, ok := st.Volumes[id]
		switch {
		case !ok || v.Val.Deleted:
			return nil, holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
		case slices.Contains(ids[:i], id):
			return nil, holdfast.Errorf(holdfast.Invalid, "volume %s is named twice; name each volume of a group once", v.Val.Name)
		case v.Val.Image:
			return nil, holdfast.Errorf(holdfast.Invalid, "%s is an image; it does not change and needs no snapshot", v.Val.Name)
		}
		if err := nameIsFree(&v.Val, name); err != nil {
			return nil, err
		}
		out = append(out, v.Val)
	}
	return out, nil
}

func nameIsFree(rec *cluster.Volume, name string) error {
	for _, s := range rec.Snapshots {
		if s.Name == name && !s.Hidden {
			return holdfast.Errorf(holdfast.Exists, "volume %s has a snapshot named %q; choose another name", rec.Name, name)
		}
	}
	return nil
}

// nameGroup names the snapshots of a group in their volumes' records. Before
// every try, and after the records were read that it depends on, the writers are
// asked whether it still may: a writer that lets a snapshot go changes the record
// first.
func (p *Provisioner) nameGroup(cut *volume.Group, name string, also with) (cluster.SnapshotGroup, error) {
	out := cluster.SnapshotGroup{ID: cut.ID, Name: name, Size: len(cut.Parts), Created: p.Clock.Wall()}
	err := p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		if len(out.Members) > 0 && slices.ContainsFunc(cut.Parts, func(part volume.Part) bool {
			rec := st.Volumes[part.Volume.ID].Val
			return names(&rec, part.Snapshot)
		}) {
			return errStands
		}
		if err := cut.Renew(); err != nil {
			return err
		}
		out.Members = out.Members[:0]
		for _, part := range cut.Parts {
			m, err := nameMember(tx, st, part, out)
			if err != nil {
				return err
			}
			out.Members = append(out.Members, m)
		}
		return also(st, tx, out)
	})
	return out, err
}

// nameMember adds one volume's snapshot to the commit.
func nameMember(tx *cluster.Txn, st *cluster.State, part volume.Part, of cluster.SnapshotGroup) (m cluster.GroupMember, err error) {
	v, ok := st.Volumes[part.Volume.ID]
	rec := v.Val
	switch {
	case !ok || rec.Deleted:
		return m, holdfast.Errorf(holdfast.NotFound, "volume %s was deleted meanwhile", part.Volume.Name)
	case rec.Epoch != part.Epoch: // its writer of now lets go what the record does not name
		return m, holdfast.Errorf(holdfast.Conflict, "volume %s moved to another host while the snapshot was taken; take it again", rec.Name)
	}
	if err := nameIsFree(&rec, of.Name); err != nil {
		return m, err
	}
	snap := cluster.Snapshot{ID: part.Snapshot, Name: of.Name, LSN: part.LSN, Created: of.Created, Group: of.ID, GroupSize: of.Size}
	rec.Snapshots = append(slices.Clip(rec.Snapshots), snap)
	tx.PutVolume(rec, v.Mod)
	return cluster.GroupMember{Volume: rec.ID, Name: rec.Name, Snapshot: snap}, nil
}
