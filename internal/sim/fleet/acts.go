package fleet

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// What can be done on records alone is done; serve.Deeds has most of it.

// tries is how often a change is decided anew when somebody else was quicker.
const tries = 8

// transact has decide put what is to be changed, by the newest picture.
func (f *Fleet) transact(decide func(*cluster.State, *cluster.Txn) error) (err error) {
	for range tries {
		var st *cluster.State
		if st, err = f.Records.Refresh(); err != nil {
			return err
		}
		t := f.Records.Begin()
		if err = decide(st, t); err != nil {
			return err
		}
		var rev kv.Rev
		if rev, err = t.Commit(); err == nil {
			f.Records.WaitRev(rev, kv.CallTimeout)
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
	}
	return err
}

func (f *Fleet) changeVolume(id holdfast.VolumeID, change func(*cluster.State, *cluster.Volume) error) error {
	return f.transact(func(st *cluster.State, t *cluster.Txn) error {
		rec, ok := st.Volumes[id]
		if !ok || rec.Val.Deleted {
			return holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
		}
		v := rec.Val
		if err := change(st, &v); err != nil {
			return err
		}
		t.PutVolume(v, rec.Mod)
		return nil
	})
}

// keep adds a snapshot to a volume.
func keep(v *cluster.Volume, s cluster.Snapshot) error {
	if slices.ContainsFunc(v.Snapshots, func(have cluster.Snapshot) bool { return have.Name == s.Name && !have.Hidden }) {
		return holdfast.Errorf(holdfast.Exists, "volume %s has a snapshot named %q; choose another name", v.Name, s.Name)
	}
	s.LSN = holdfast.MakeLSN(v.Epoch, uint64(time.Now().Unix()))
	v.Snapshots = append(slices.Clone(v.Snapshots), s)
	return nil
}

func snapshotNamed(name string) (s cluster.Snapshot, err error) {
	if err := holdfast.CheckName("snapshot", name); err != nil {
		return s, err
	}
	u, err := newUUID()
	return cluster.Snapshot{ID: holdfast.SnapshotID{UUID: u}, Name: name, Created: time.Now().UTC()}, err
}

// Snapshot implements httpapi.Volumes.
func (f *Fleet) Snapshot(_ context.Context, id holdfast.VolumeID, name string) (cluster.Snapshot, error) {
	s, err := snapshotNamed(name)
	if err != nil {
		return s, err
	}
	return s, f.changeVolume(id, func(_ *cluster.State, v *cluster.Volume) error {
		err := keep(v, s)
		if err == nil {
			s = v.Snapshots[len(v.Snapshots)-1]
		}
		return err
	})
}

// DeleteSnapshot implements httpapi.Volumes.
func (f *Fleet) DeleteSnapshot(_ context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	return f.changeVolume(id, func(st *cluster.State, v *cluster.Volume) error {
		i := slices.IndexFunc(v.Snapshots, func(s cluster.Snapshot) bool { return s.ID == snap })
		if i < 0 {
			return holdfast.Errorf(holdfast.NotFound, "volume %s has no such snapshot", v.Name)
		}
		if vm, of, kept := st.KeptFor(*v, snap); kept {
			return holdfast.Errorf(holdfast.Conflict, "snapshot %s of volume %s belongs to that of VM %s: 'holdfast vm snapshot delete %s %s'", v.Snapshots[i].Name, v.Name, vm.Name, vm.Name, of.Name)
		}
		v.Snapshots = slices.Delete(slices.Clone(v.Snapshots), i, i+1)
		return nil
	})
}

// Revert implements httpapi.Volumes.
func (f *Fleet) Revert(_ context.Context, id holdfast.VolumeID, _ holdfast.SnapshotID) error {
	return f.changeVolume(id, func(st *cluster.State, v *cluster.Volume) error {
		if vm, ok := st.VMs[v.VM]; ok && vm.Val.Power == cluster.On {
			return holdfast.Errorf(holdfast.Conflict, "VM %s runs on volume %s; stop it first", vm.Val.Name, v.Name)
		}
		v.Epoch++
		return nil
	})
}

// SnapshotGroup implements httpapi.Groups.
func (f *Fleet) SnapshotGroup(_ context.Context, ids []holdfast.VolumeID, name string) (g cluster.SnapshotGroup, err error) {
	of, err := newUUID()
	if err != nil {
		return g, err
	}
	g = cluster.SnapshotGroup{ID: holdfast.GroupID{UUID: of}, Name: name, Created: time.Now().UTC(), Size: len(ids)}
	return g, f.transact(func(st *cluster.State, t *cluster.Txn) error {
		g.Members = nil
		for _, id := range ids {
			rec, ok := st.Volumes[id]
			if !ok {
				return holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
			}
			s, err := snapshotNamed(name)
			if err != nil {
				return err
			}
			v := rec.Val
			s.Group, s.GroupSize = g.ID, len(ids)
			if err := keep(&v, s); err != nil {
				return err
			}
			g.Members = append(g.Members, cluster.GroupMember{Volume: id, Name: v.Name, Snapshot: v.Snapshots[len(v.Snapshots)-1]})
			t.PutVolume(v, rec.Mod)
		}
		return nil
	})
}

// DeleteSnapshotGroup implements httpapi.Groups.
func (f *Fleet) DeleteSnapshotGroup(ctx context.Context, g cluster.SnapshotGroup) error {
	for _, m := range g.Members {
		if err := f.DeleteSnapshot(ctx, m.Volume, m.Snapshot.ID); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return err
		}
	}
	return nil
}

// SnapshotVM implements httpapi.VMSnapshots.
func (f *Fleet) SnapshotVM(_ context.Context, id holdfast.VMID, name string, memory bool) (of cluster.VMSnapshot, err error) {
	if memory {
		return of, needs(noGuest)
	}
	u, err := newUUID()
	if err != nil {
		return of, err
	}
	return of, f.transact(func(st *cluster.State, t *cluster.Txn) error {
		rec, ok := st.VMs[id]
		if !ok || rec.Val.Deleted {
			return holdfast.Errorf(holdfast.NotFound, "VM %s does not exist", id.Short())
		}
		v := rec.Val
		if slices.ContainsFunc(v.Snapshots, func(s cluster.VMSnapshot) bool { return s.Name == name }) {
			return holdfast.Errorf(holdfast.Exists, "VM %s has a snapshot named %q; choose another name", v.Name, name)
		}
		of = cluster.VMSnapshot{ID: holdfast.GroupID{UUID: u}, Name: name, Created: time.Now().UTC(), Config: v.Config()}
		for _, d := range v.Volumes() {
			s, err := snapshotNamed(name)
			if err != nil {
				return err
			}
			vol := st.Volumes[d].Val
			s.Group, s.GroupSize = of.ID, len(v.Volumes())
			if err := keep(&vol, s); err != nil {
				return err
			}
			t.PutVolume(vol, st.Volumes[d].Mod)
			of.Disks = append(of.Disks, cluster.VMSnapshotDisk{Volume: d, Slot: v.SlotOf(d), Snapshot: s.ID})
		}
		v.Snapshots = append(slices.Clone(v.Snapshots), of)
		t.PutVM(v, rec.Mod)
		return nil
	})
}

// DeleteVMSnapshot implements httpapi.VMSnapshots.
func (f *Fleet) DeleteVMSnapshot(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot) error {
	if err := f.Make.ForgetVMSnapshot(id, of.ID); err != nil {
		return err
	}
	for _, d := range of.Disks {
		if err := f.DeleteSnapshot(ctx, d.Volume, d.Snapshot); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return err
		}
	}
	return nil
}

// RemoveHosts implements httpapi.Members.
func (f *Fleet) RemoveHosts(ctx context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	if slices.Contains(ids, f.self.ID) {
		return holdfast.Errorf(holdfast.Conflict, "host %s answers here itself; ask another host to remove it", f.self.Name)
	}
	if err := f.Deeds.RemoveHosts(ctx, ids, lost, giveUp); err != nil {
		return err
	}
	for _, id := range ids {
		err := f.transact(func(st *cluster.State, t *cluster.Txn) error {
			rec, ok := st.Hosts[id]
			if !ok {
				return nil
			}
			for _, d := range st.SortedDisks() {
				if d.Val.Host == id {
					t.DeleteDisk(d.Val.ID, d.Mod)
				}
			}
			t.DeleteHost(id, rec.Mod)
			return nil
		})
		if err != nil {
			return err
		}
		f.fall(func(h cluster.Host) bool { return h.ID == id })
	}
	return nil
}

// MoveReplica implements httpapi.Volumes.
func (f *Fleet) MoveReplica(_ context.Context, id holdfast.VolumeID, from, to placement.Somewhere) (cluster.Replica, placement.Spot, error) {
	_, goes, spot, err := f.Make.MoveReplica(id, from, to)
	return goes, spot, err
}

// StayReplicas implements httpapi.Volumes.
func (f *Fleet) StayReplicas(_ context.Context, id holdfast.VolumeID) error {
	_, err := f.Make.StayReplicas(id)
	return err
}

// ChangeVolume implements httpapi.Volumes.
func (f *Fleet) ChangeVolume(_ context.Context, id holdfast.VolumeID, c placement.Change) (cluster.Volume, error) {
	return f.Make.ChangeVolume(id, c)
}

// AcknowledgeForce implements httpapi.Volumes.
func (f *Fleet) AcknowledgeForce(_ context.Context, id holdfast.VolumeID) (cluster.Volume, error) {
	return f.Make.AcknowledgeForce(id)
}

// ImportImage implements httpapi.Images: it counts the bytes, and keeps none.
func (f *Fleet) ImportImage(_ context.Context, n httpapi.NewImage, r io.Reader) (v cluster.Volume, err error) {
	size, err := io.Copy(io.Discard, r)
	if err != nil {
		return v, err
	}
	if size == 0 || n.Size >= 0 && size != n.Size {
		return v, holdfast.Errorf(holdfast.Invalid, "image %s: %d bytes came instead of %d", n.Name, size, n.Size)
	}
	blocks := uint64(size+holdfast.BlockSize-1) / holdfast.BlockSize
	v, err = f.Make.CreateVolume(provision.VolumeSpec{Name: n.Name, Blocks: blocks, Copies: n.Copies, Pool: n.Pool, Image: true, Encrypt: n.Encrypt, Compression: n.Compression})
	if err != nil {
		return v, err
	}
	return f.Make.Seal(v.ID, blocks)
}

// StartVM implements httpapi.VMs.
func (f *Fleet) StartVM(_ context.Context, id holdfast.VMID) error { return f.Make.StartVM(id) }

// StopVM implements httpapi.VMs.
func (f *Fleet) StopVM(_ context.Context, id holdfast.VMID, force bool) error {
	return f.Make.StopVM(id, force)
}

// ResetVM implements httpapi.VMs.
func (f *Fleet) ResetVM(_ context.Context, id holdfast.VMID) error { return f.Make.ResetVM(id) }
