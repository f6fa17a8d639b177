package apitest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

func (b *Backend) nameTaken(name string) error {
	for _, v := range b.St.Volumes {
		if v.Val.Name == name && !v.Val.Deleted {
			return holdfast.Errorf(holdfast.Exists, "there is a volume called %s already; choose another name", name)
		}
	}
	return nil
}

// newVolume commits a volume with copies in the first racks.
func (b *Backend) newVolume(n httpapi.NewVolume) (cluster.Volume, error) {
	if err := b.nameTaken(n.Name); err != nil {
		return cluster.Volume{}, err
	}
	v := cluster.Volume{ID: holdfast.VolumeID{UUID: b.id()}, Name: n.Name, Blocks: n.Blocks, Copies: n.Copies, Min: max(n.Min, 1),
		Durability: n.Durability, Reads: n.Reads, Origin: n.Origin, Pool: n.Pool, Limits: n.Limits, Weight: n.Weight, Epoch: 1, Created: epoch0()}
	if v.Copies == 0 {
		v.Copies = min(2, len(b.St.Hosts))
	}
	if n.Origin != nil {
		v.Blocks = max(n.Blocks, b.St.Volumes[n.Origin.Volume].Val.Blocks)
	}
	if v.Compression = n.Compression; v.Compression == "off" {
		v.Compression = ""
	}
	if n.Encrypt {
		if b.St.Keyring.Mod == 0 {
			return v, holdfast.Errorf(holdfast.Invalid, "volume %s: the cluster has no key to encrypt with; make one with 'holdfast cluster key init'", v.Name)
		}
		v.Keys = []keyring.Wrapped{{Volume: v.ID, Under: b.St.Keyring.Val.Current().ID, Data: make([]byte, 60)}}
	}
	if o := n.Origin; o != nil {
		v.Pool = b.St.Volumes[o.Volume].Val.Pool
	}
	for _, name := range []string{"alpha", "beta", "gamma"}[:v.Copies] {
		h := b.Host(name)
		for _, d := range b.St.SortedDisks() {
			if d.Val.Host == h && d.Val.Pool == v.Pool {
				v.InSync = append(v.InSync, cluster.Replica{ID: holdfast.ReplicaID{UUID: b.id()}, Host: h, Disk: d.Val.ID})
				break
			}
		}
	}
	put(b, b.St.Volumes, v.ID, v)
	return v, nil
}

// CreateVolume implements httpapi.Backend.
func (b *Backend) CreateVolume(_ context.Context, n httpapi.NewVolume) (v cluster.Volume, err error) {
	err = b.change(func() (err error) { v, err = b.newVolume(n); return err })
	return v, err
}

// edit changes a volume record.
func (b *Backend) edit(id holdfast.VolumeID, f func(*cluster.Volume) error) (v cluster.Volume, err error) {
	err = b.change(func() error {
		v = b.St.Volumes[id].Val
		if err := f(&v); err != nil {
			return err
		}
		put(b, b.St.Volumes, id, v)
		return nil
	})
	return v, err
}

// DeleteVolume implements httpapi.Backend.
func (b *Backend) DeleteVolume(_ context.Context, id holdfast.VolumeID, erase bool) error {
	return b.change(func() error {
		v := b.St.Volumes[id].Val
		if erase && !v.Encrypted() {
			return holdfast.Errorf(holdfast.Invalid, "volume %s is not encrypted", v.Name)
		}
		if vm, ok := b.St.VMs[v.VM]; ok {
			return holdfast.Errorf(holdfast.Conflict, "volume %s is the disk of VM %s; delete the VM instead", v.Name, vm.Val.Name)
		}
		if vm, ok := b.St.InDriveOf(id); ok {
			return holdfast.Errorf(holdfast.Conflict, "image %s lies in the CD-ROM drive of VM %s; take it out first: 'holdfast vm cdrom eject %s'", v.Name, vm.Name, vm.Name)
		}
		delete(b.St.Volumes, id)
		return nil
	})
}

// GrowVolume implements httpapi.Backend.
func (b *Backend) GrowVolume(_ context.Context, id holdfast.VolumeID, blocks uint64) (cluster.Volume, error) {
	return b.edit(id, func(v *cluster.Volume) error { v.Blocks = blocks; return nil })
}

// MoveReplica implements httpapi.Backend. The copy is there at once.
func (b *Backend) MoveReplica(_ context.Context, id holdfast.VolumeID, from, to placement.Somewhere) (goes cluster.Replica, spot placement.Spot, err error) {
	_, err = b.edit(id, func(v *cluster.Volume) error {
		var err error
		if goes, spot, _, err = placement.PlaceMove(b.St, *v, from, to); err != nil {
			return err
		}
		v.InSync = append(slices.DeleteFunc(slices.Clone(v.InSync), func(r cluster.Replica) bool { return r.ID == goes.ID }),
			cluster.Replica{ID: holdfast.ReplicaID{UUID: b.id()}, Host: spot.Host, Disk: spot.Disk})
		return nil
	})
	return goes, spot, err
}

// StayReplicas implements httpapi.Backend.
func (b *Backend) StayReplicas(_ context.Context, id holdfast.VolumeID) error {
	_, err := b.edit(id, func(v *cluster.Volume) error {
		return holdfast.Errorf(holdfast.NotFound, "no copy of volume %s is being moved", v.Name)
	})
	return err
}

// ChangeVolume implements httpapi.Backend.
func (b *Backend) ChangeVolume(_ context.Context, id holdfast.VolumeID, c placement.Change) (cluster.Volume, error) {
	return b.edit(id, func(v *cluster.Volume) error {
		next, add, _, err := placement.ChangeVolume(b.St, *v, c)
		if err != nil {
			return err
		}
		*v = next
		for _, s := range add {
			v.InSync = append(slices.Clone(v.InSync), cluster.Replica{ID: holdfast.ReplicaID{UUID: b.id()}, Host: s.Host, Disk: s.Disk})
		}
		return nil
	})
}

// Snapshot implements httpapi.Backend.
func (b *Backend) Snapshot(_ context.Context, id holdfast.VolumeID, name string) (s cluster.Snapshot, err error) {
	_, err = b.edit(id, func(v *cluster.Volume) error {
		for _, have := range v.Snapshots {
			if have.Name == name {
				return holdfast.Errorf(holdfast.Exists, "volume %s has a snapshot called %s already", v.Name, name)
			}
		}
		s = cluster.Snapshot{ID: holdfast.SnapshotID{UUID: b.id()}, Name: name, LSN: max(holdfast.MakeLSN(1, 7), b.lsn[id]+1), Created: epoch0()}
		b.lsn[id] = s.LSN
		v.Snapshots = append(v.Snapshots[:len(v.Snapshots):len(v.Snapshots)], s)
		return nil
	})
	return s, err
}

// SnapshotGroup implements httpapi.Backend.
func (b *Backend) SnapshotGroup(ctx context.Context, ids []holdfast.VolumeID, name string) (cluster.SnapshotGroup, error) {
	g := cluster.SnapshotGroup{Name: name, Size: len(ids), Created: epoch0()}
	if err := b.change(func() error { g.ID.UUID = b.id(); return nil }); err != nil {
		return g, err
	}
	for _, id := range ids {
		s, err := b.Snapshot(ctx, id, name)
		if err != nil {
			return g, err
		}
		v, err := b.edit(id, func(v *cluster.Volume) error {
			v.Snapshots = slices.Clone(v.Snapshots)
			last := &v.Snapshots[len(v.Snapshots)-1]
			last.Group, last.GroupSize = g.ID, g.Size
			return nil
		})
		if err != nil {
			return g, err
		}
		g.Members = append(g.Members, cluster.GroupMember{Volume: id, Name: v.Name, Snapshot: s})
	}
	return g, nil
}

// DeleteSnapshotGroup implements httpapi.Backend.
func (b *Backend) DeleteSnapshotGroup(ctx context.Context, g cluster.SnapshotGroup) error {
	for _, m := range g.Members {
		if err := b.DeleteSnapshot(ctx, m.Volume, m.Snapshot.ID); err != nil {
			return err
		}
	}
	return nil
}

// DeleteSnapshot implements httpapi.Backend.
func (b *Backend) DeleteSnapshot(_ context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	_, err := b.edit(id, func(v *cluster.Volume) error {
		var kept []cluster.Snapshot
		for _, s := range v.Snapshots {
			if s.ID != snap {
				kept = append(kept, s)
			}
		}
		v.Snapshots = kept
		return nil
	})
	return err
}

// Revert implements httpapi.Backend.
func (b *Backend) Revert(_ context.Context, id holdfast.VolumeID, _ holdfast.SnapshotID) error {
	_, err := b.edit(id, func(v *cluster.Volume) error { v.Generation++; return nil })
	return err
}

// Diff implements httpapi.Backend: every comparison finds the same extents, in
// steps of 1 MiB, but those of a root with itself.
func (b *Backend) Diff(_ context.Context, id holdfast.VolumeID, c httpapi.Comparison) (v1.Diff, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const step = 1 << 20
	out := v1.Diff{Size: int64(b.St.Volumes[id].Val.Blocks) * holdfast.BlockSize, Extents: []v1.Extent{}}
	at := int64(c.Addr) * holdfast.BlockSize
	if out.Next = at + step; out.Next >= out.Size {
		out.Next = 0
	}
	if c.From == c.To {
		return out, nil
	}
	for _, e := range []v1.Extent{{Offset: 8192, Length: 4096}, {Offset: 12288, Length: 65536, Zero: true}, {Offset: step - 4096, Length: 2*step + 4096}} {
		from, to := max(e.Offset, at), min(e.Offset+e.Length, at+step)
		if from >= to {
			continue
		}
		if len(out.Extents) == c.Limit {
			out.Next = from
			break
		}
		out.Extents = append(out.Extents, v1.Extent{Offset: from, Length: to - from, Zero: e.Zero})
	}
	return out, nil
}

// Verify implements httpapi.Backend, in two parts. The copies are equal, but of a
// volume that is called torn: its first copy has another block 7 than the others.
func (b *Backend) Verify(_ context.Context, id holdfast.VolumeID, from httpapi.VerifyPlace) (v1.Verify, error) {
	out := v1.Verify{Started: from.Started, LSN: "1.9", Blocks: 100, Done: 1, Differences: []v1.CopyDifference{}}
	if from.Started.IsZero() {
		out.Started = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		out.Done, out.Next = 0.5, "more"
	}
	_, err := b.edit(id, func(v *cluster.Volume) error {
		if len(v.InSync) < 2 {
			return holdfast.Errorf(holdfast.Unavailable, "volume %s has %d copy in sync; there is nothing to compare it with", v.Name, len(v.InSync))
		}
		d := v1.CopyDifference{Offset: 7 * holdfast.BlockSize}
		for i, r := range v.InSync {
			host := b.St.Hosts[r.Host].Val.Name
			out.Copies = append(out.Copies, host)
			d.Held = append(d.Held, v1.HeldCopy{Host: host, State: "data", LSN: "1.8", Hash: "00000000000000f8"})
			if i == 0 {
				d.Held[0] = v1.HeldCopy{Host: host, State: "zero", LSN: "1.7"}
			}
		}
		if v.Name == "torn" && out.Next != "" {
			out.Differences = append(out.Differences, d)
		}
		v.Compared = &cluster.Compared{At: out.Started, Differ: from.Differ + uint64(len(out.Differences))}
		if out.Next != "" {
			out.Next = httpapi.VerifyPlace{Started: out.Started, Differ: v.Compared.Differ, Addr: 512}.String()
		}
		return nil
	})
	return out, err
}

// RebuildCopies implements httpapi.Backend.
func (b *Backend) RebuildCopies(_ context.Context, id holdfast.VolumeID, hosts []string) error {
	_, err := b.edit(id, func(v *cluster.Volume) error {
		left := slices.DeleteFunc(slices.Clone(v.InSync), func(r cluster.Replica) bool { return slices.Contains(hosts, b.St.Hosts[r.Host].Val.Name) })
		if len(left) < max(v.Min, 1) {
			return holdfast.Errorf(holdfast.Conflict, "volume %s would have %d copies in sync", v.Name, len(left))
		}
		v.InSync, v.Compared = left, nil
		return nil
	})
	return err
}

// ImportImage implements httpapi.Backend.
func (b *Backend) ImportImage(_ context.Context, n httpapi.NewImage, r io.Reader) (v cluster.Volume, err error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return v, err
	}
	err = b.change(func() (err error) {
		switch {
		case n.Size >= 0 && int64(len(data)) != n.Size:
			return holdfast.Errorf(holdfast.Invalid, "image %s: it has %d bytes, %d were announced; send the whole image", n.Name, len(data), n.Size)
		case b.Space > 0 && int64(len(data)) > b.Space:
			return holdfast.Errorf(holdfast.NoSpace, "image %s: %d bytes do not fit, %d are free; add a disk", n.Name, len(data), b.Space)
		}
		blocks := (uint64(len(data)) + holdfast.BlockSize - 1) / holdfast.BlockSize
		v, err = b.newVolume(httpapi.NewVolume{Name: n.Name, Blocks: blocks, Copies: n.Copies, Durability: cluster.OnFlush})
		if err != nil {
			return err
		}
		v.Image, v.Sealed = true, true
		put(b, b.St.Volumes, v.ID, v)
		b.Content[v.ID] = data
		return nil
	})
	return v, err
}

// CopyOut implements httpapi.Backend: everything that was imported is data.
func (b *Backend) CopyOut(_ context.Context, id holdfast.VolumeID, c httpapi.CopyOut) (io.ReadCloser, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := qcow2.NewMap(int64(b.St.Volumes[id].Val.Blocks) * holdfast.BlockSize)
	if err != nil {
		return nil, 0, err
	}
	data := b.Content[id]
	m.Add(0, int64(len(data)))
	var out bytes.Buffer
	if err := m.Write(&out, bytes.NewReader(data)); err != nil || !c.Raw {
		return io.NopCloser(&out), m.FileSize(), err
	}
	s, err := qcow2.NewStream(&out)
	return io.NopCloser(s), m.Size(), err
}

// CreateVM implements httpapi.Backend.
func (b *Backend) CreateVM(_ context.Context, n httpapi.NewVM) (v cluster.VM, err error) {
	err = b.change(func() error {
		for _, have := range b.St.VMs {
			if have.Val.Name == n.Name {
				return holdfast.Errorf(holdfast.Exists, "there is a VM called %s already; choose another name", n.Name)
			}
		}
		vol := b.St.Volumes[n.Volume].Val
		if n.Volume.IsZero() {
			var err error
			var origin *cluster.Origin
			if !n.Image.IsZero() {
				origin = &cluster.Origin{Volume: n.Image}
			}
			vol, err = b.newVolume(httpapi.NewVolume{Name: n.Name, Blocks: n.Blocks, Copies: n.Copies,
				Durability: cluster.OnFlush, Pool: n.Pool, Origin: origin})
			if err != nil {
				return err
			}
		}
		v = cluster.VM{ID: holdfast.VMID{UUID: b.id()}, Name: n.Name, CPUs: n.CPUs, MemoryMiB: n.MemoryMiB, Volume: vol.ID,
			Power: n.Power, Priority: n.Priority, Isolation: n.Isolation, Publish: n.Publish, UserData: n.UserData,
			SSHKeys: n.SSHKeys, Kernel: n.Kernel, Initrd: n.Initrd, Append: n.Append, CDROM: n.CDROM, Boot: n.Boot, MAC: "52:54:00:00:00:01", Created: epoch0()}
		vol.VM = v.ID
		put(b, b.St.Volumes, vol.ID, vol)
		if err := b.firmware(&v, n); err != nil {
			return err
		}
		if v.Power == cluster.On {
			b.run(&v)
		}
		put(b, b.St.VMs, v.ID, v)
		return nil
	})
	return v, err
}

// firmware gives a VM that has UEFI its variables.
func (b *Backend) firmware(v *cluster.VM, n httpapi.NewVM) (err error) {
	vars := b.St.Volumes[n.Vars].Val
	if n.UEFI && n.Vars.IsZero() {
		vars, err = b.newVolume(httpapi.NewVolume{Name: n.Name + "-uefi", Blocks: cluster.VarsBlocks, Copies: n.Copies, Durability: cluster.Always})
	}
	if n.UEFI && err == nil {
		v.Vars, vars.VM = vars.ID, v.ID
		put(b, b.St.Volumes, vars.ID, vars)
	}
	return err
}

// run assigns a VM to this host and has it running.
func (b *Backend) run(v *cluster.VM) { b.runOn(v, b.Me.ID) }

func (b *Backend) runOn(v *cluster.VM, host holdfast.HostID) {
	v.Host, v.Power = host, cluster.On
	v.Generation++
	put(b, b.St.Machines, v.ID, cluster.Machine{VM: v.ID, Host: v.Host, Generation: v.Generation, Epoch: 1,
		State: "running", Since: epoch0(), PID: 4711, CPUs: v.CPUs, MemoryMiB: v.MemoryMiB, Edition: v.Edition, Disks: v.Volumes(), CDROM: v.CDROM})
}

func (b *Backend) power(id holdfast.VMID, f func(*cluster.VM)) error {
	return b.change(func() error {
		v := b.St.VMs[id].Val
		f(&v)
		put(b, b.St.VMs, id, v)
		return nil
	})
}

// ChangeVM implements httpapi.Backend.
func (b *Backend) ChangeVM(_ context.Context, id holdfast.VMID, c cluster.VMChange) error {
	if c.Name != nil {
		for _, v := range b.St.VMs {
			if v.Val.Name == *c.Name && v.Val.ID != id {
				return holdfast.Errorf(holdfast.Exists, "a VM named %q exists; choose another name", *c.Name)
			}
		}
	}
	return b.power(id, func(v *cluster.VM) {
		c.Apply(v)
		if m, ok := b.St.Machines[id]; ok {
			m.Val.CDROM = v.CDROM // a machine has it at once
			put(b, b.St.Machines, id, m.Val)
		}
	})
}

// StartVM implements httpapi.Backend.
func (b *Backend) StartVM(_ context.Context, id holdfast.VMID) error {
	return b.power(id, b.run)
}

// StopVM implements httpapi.Backend.
func (b *Backend) StopVM(_ context.Context, id holdfast.VMID, force bool) error {
	return b.power(id, func(v *cluster.VM) {
		v.Power = cluster.Stopped
		v.Shutdowns++
		m := b.St.Machines[id].Val
		m.State = "off"
		put(b, b.St.Machines, id, m)
	})
}

// ResetVM implements httpapi.Backend.
func (b *Backend) ResetVM(_ context.Context, id holdfast.VMID) error {
	return b.power(id, func(v *cluster.VM) { v.Resets++ })
}

// DeleteVM implements httpapi.Backend.
func (b *Backend) DeleteVM(_ context.Context, id holdfast.VMID, r cluster.VMRemoval) error {
	return b.change(func() error {
		v := b.St.VMs[id].Val
		if v.Power == cluster.On && !r.Force {
			return holdfast.Errorf(holdfast.Conflict, "VM %s runs; stop it first, or add --force", v.Name)
		}
		delete(b.St.VMs, id)
		delete(b.St.Machines, id)
		letGo := func(id holdfast.VolumeID, goes bool) {
			vol := b.St.Volumes[id].Val
			if vol.VM = (holdfast.VMID{}); goes {
				delete(b.St.Volumes, id)
			} else {
				put(b, b.St.Volumes, id, vol)
			}
		}
		letGo(v.Volume, !r.KeepDisk)
		if v.UEFI() {
			letGo(v.Vars, !r.KeepDisk)
		}
		for _, d := range v.Disks {
			letGo(d.Volume, r.Disks)
		}
		return nil
	})
}

// AddVMDisk implements httpapi.Backend: the machine has the disk at once.
func (b *Backend) AddVMDisk(_ context.Context, id holdfast.VMID, d httpapi.NewVMDisk) error {
	return b.change(func() (err error) {
		v := b.St.VMs[id].Val
		vol := b.St.Volumes[d.Volume].Val
		if d.Volume.IsZero() {
			if d.New.Name == "" {
				d.New.Name = v.Name + "-2"
			}
			if vol, err = b.newVolume(d.New); err != nil {
				return err
			}
		}
		if !vol.VM.IsZero() {
			return holdfast.Errorf(holdfast.Busy, "volume %s is the disk of VM %s; clone it", vol.Name, b.St.VMs[vol.VM].Val.Name)
		}
		if !v.AddDisk(vol.ID) {
			return holdfast.Errorf(holdfast.Invalid, "VM %s has too many disks", v.Name)
		}
		vol.VM = id
		put(b, b.St.Volumes, vol.ID, vol)
		put(b, b.St.VMs, id, v)
		b.hasDisks(v)
		return nil
	})
}

// RemoveVMDisk implements httpapi.Backend: a machine keeps it, as its guest does
// not let go.
func (b *Backend) RemoveVMDisk(_ context.Context, id holdfast.VMID, volume holdfast.VolumeID) error {
	return b.change(func() error {
		v := b.St.VMs[id].Val
		i := v.Disk(volume)
		switch {
		case i < 0:
			return holdfast.Errorf(holdfast.NotFound, "no such disk")
		case v.Power == cluster.On:
			v.Disks[i].Leaving = true
		default:
			vol := b.St.Volumes[volume].Val
			vol.VM = holdfast.VMID{}
			put(b, b.St.Volumes, volume, vol)
			v.Disks = v.WithoutDisks(volume)
		}
		put(b, b.St.VMs, id, v)
		return nil
	})
}

// hasDisks has a VM's machine have its disks.
func (b *Backend) hasDisks(v cluster.VM) {
	if m, ok := b.St.Machines[v.ID]; ok && m.Val.State == "running" {
		m.Val.Disks = v.Volumes()
		put(b, b.St.Machines, v.ID, m.Val)
	}
}
