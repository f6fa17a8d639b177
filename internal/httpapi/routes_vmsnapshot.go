package httpapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// VMSnapshots is about what VMs were at some point.
type VMSnapshots interface {
	// SnapshotVM keeps all of a VM's disks at one point, and its configuration:
	// wholly or not at all; with its memory if it runs and that is asked for. Exists:
	// it has a snapshot of that name.
	SnapshotVM(ctx context.Context, id holdfast.VMID, name string, memory bool) (cluster.VMSnapshot, error)
	// DeleteVMSnapshot lets one go.
	DeleteVMSnapshot(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot) error
	// RevertVM sets a VM back, and returns the name under which is kept what it was
	// before. Conflict: it runs. What was interrupted may be repeated.
	RevertVM(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how Revert) (safety string, err error)
	// CloneVM makes a VM of linked clones of what was kept, nil: of what is now.
	CloneVM(ctx context.Context, id holdfast.VMID, of *cluster.VMSnapshot, name string, p cluster.PowerState) (cluster.VM, error)
}

// Revert says how a VM is set back.
type Revert struct {
	Stop          bool // end it first
	NoSafety      bool // do not keep what it is now
	WithoutMemory bool // its disks only: it is off then
}

func (s *Server) vmSnapshotRoutes() {
	type take struct {
		VMRef
		Body v1.VMSnapshotSpec
	}
	act(s, s.operation("POST", "/v1/vms/{vm}/snapshots", "vm-snapshot-create", "Keep a VM as it is: all its disks at one point, and its configuration", 201),
		func(ctx context.Context, in *take) (v1.VMSnapshot, error) {
			v, err := lookup(ctx, s, in.VM, picture.vm)
			if err == nil {
				err = holdfast.CheckName("snapshot", in.Body.Name)
			}
			if err != nil {
				return v1.VMSnapshot{}, err
			}
			of, err := s.o.Backend.SnapshotVM(ctx, v.ID, in.Body.Name, in.Body.Memory)
			if err != nil {
				return v1.VMSnapshot{}, err
			}
			p, err := s.picture(ctx)
			return p.renderVMSnapshot(p.VMs[v.ID].Val, of), err
		})
	read(s, "/v1/vms/{vm}/snapshots", "vm-snapshot-list", "The snapshots of a VM, the newest last", func(p picture, in *VMRef) ([]v1.VMSnapshot, error) {
		v, err := p.vm(in.VM)
		out := []v1.VMSnapshot{}
		for _, of := range v.Snapshots {
			out = append(out, p.renderVMSnapshot(v, of))
		}
		return out, err
	})
	type ref struct {
		VMRef
		Snapshot string `path:"snapshot" maxLength:"63" doc:"Name or identity"`
	}
	do(s, s.operation("DELETE", "/v1/vms/{vm}/snapshots/{snapshot}", "vm-snapshot-delete", "Let a snapshot of a VM go", 204),
		func(ctx context.Context, in *ref) error {
			v, of, err := s.vmSnapshot(ctx, in.VM, in.Snapshot)
			if err != nil {
				return err
			}
			return s.changer(ctx).DeleteVMSnapshot(ctx, v.ID, of)
		})
	type revert struct {
		VMRef
		Snapshot string `path:"snapshot" maxLength:"63" doc:"Name or identity"`
		Body     v1.VMRevertSpec
	}
	act(s, s.operation("POST", "/v1/vms/{vm}/snapshots/{snapshot}/revert", "vm-snapshot-revert", "Set a VM back to a snapshot; it must be off", 200),
		func(ctx context.Context, in *revert) (v1.VMReverted, error) {
			return s.revertVM(ctx, in.VM, in.Snapshot, in.Body)
		})
	type clone struct {
		VMRef
		Body v1.VMCloneSpec
	}
	act(s, s.operation("POST", "/v1/vms/{vm}/clone", "vm-clone", "Make a VM with linked clones of another one's disks", 201),
		func(ctx context.Context, in *clone) (v1.VM, error) { return s.cloneVM(ctx, in.VM, in.Body) })
}

// vmSnapshot finds a snapshot of a VM by its name or identity.
func (s *Server) vmSnapshot(ctx context.Context, vm, ref string) (v cluster.VM, of cluster.VMSnapshot, err error) {
	if v, err = lookup(ctx, s, vm, picture.vm); err != nil {
		return v, of, err
	}
	of, err = find("snapshot of VM "+v.Name, ref, v.Snapshots,
		func(o cluster.VMSnapshot) holdfast.UUID { return o.ID.UUID },
		func(o cluster.VMSnapshot) string { return o.Name },
		func(cluster.VMSnapshot) bool { return false })
	return v, of, err
}

func (s *Server) revertVM(ctx context.Context, vm, ref string, in v1.VMRevertSpec) (out v1.VMReverted, err error) {
	v, of, err := s.vmSnapshot(ctx, vm, ref)
	if err != nil {
		return out, err
	}
	out.Changed = []string{}
	out.Changed = append(out.Changed, configChanges(v.Config(), of.Config)...)
	if out.Safety, err = s.changer(ctx).RevertVM(ctx, v.ID, of, Revert{Stop: in.Stop, NoSafety: in.NoSafety, WithoutMemory: in.WithoutMemory}); err != nil {
		return out, err
	}
	p, err := s.picture(ctx)
	if err != nil {
		return out, err
	}
	out.VM = p.renderVM(p.VMs[v.ID].Val)
	out.Memory = of.Memory != nil && !in.WithoutMemory
	for _, d := range v.Disks {
		if !slices.ContainsFunc(of.Disks, func(o cluster.VMSnapshotDisk) bool { return o.Volume == d.Volume }) {
			out.Kept = append(out.Kept, p.volumeName(d.Volume))
		}
	}
	return out, nil
}

// configChanges says what of a configuration is another one.
func configChanges(was, is cluster.VMConfig) (out []string) {
	if was.CPUs != is.CPUs {
		out = append(out, fmt.Sprintf("cpus %d instead of %d", is.CPUs, was.CPUs))
	}
	if was.MemoryMiB != is.MemoryMiB {
		out = append(out, fmt.Sprintf("%d MiB of memory instead of %d", is.MemoryMiB, was.MemoryMiB))
	}
	for _, c := range []struct {
		what  string
		other bool
	}{{"user data", was.UserData != is.UserData}, {"ssh keys", !slices.Equal(was.SSHKeys, is.SSHKeys)},
		{"kernel", was.Kernel != is.Kernel || was.Initrd != is.Initrd || was.Append != is.Append},
		{"boot order", !slices.Equal(was.Boot, is.Boot)}} {
		if c.other {
			out = append(out, c.what)
		}
	}
	return out
}

func (s *Server) cloneVM(ctx context.Context, vm string, in v1.VMCloneSpec) (v1.VM, error) {
	v, err := lookup(ctx, s, vm, picture.vm)
	if err == nil {
		err = holdfast.CheckName("VM", in.Name)
	}
	if err != nil {
		return v1.VM{}, err
	}
	var of *cluster.VMSnapshot
	if in.Snapshot != "" {
		_, o, err := s.vmSnapshot(ctx, vm, in.Snapshot)
		if err != nil {
			return v1.VM{}, err
		}
		of = &o
	}
	power := cluster.On
	if in.Off {
		power = cluster.Stopped
	}
	p, err := s.picture(ctx)
	if err != nil {
		return v1.VM{}, err
	}
	var made cluster.VM
	share := account.Share{VMs: 1, CPUs: int64(v.CPUs), MemoryMiB: int64(v.MemoryMiB), Bytes: p.sizeOf(disksOf(v)...)}
	err = s.admitted(ctx, share, func() (string, error) {
		made, err = s.o.Backend.CloneVM(ctx, v.ID, of, in.Name, power)
		return ownedVM(made.ID), err
	})
	if err != nil {
		return v1.VM{}, err
	}
	if p, err = s.picture(ctx); err != nil {
		return v1.VM{}, err
	}
	if made, err = p.vm(made.ID.String()); err != nil {
		return v1.VM{}, err
	}
	return p.renderVM(made), nil
}

func (p picture) renderVMSnapshot(v cluster.VM, of cluster.VMSnapshot) v1.VMSnapshot {
	c := of.Config
	out := v1.VMSnapshot{ID: of.ID.String(), Name: of.Name, Created: of.Created, Disks: []string{}, Whole: true,
		CPUs: c.CPUs, MemoryMiB: c.MemoryMiB, UserData: c.UserData, SSHKeys: c.SSHKeys, Kernel: c.Kernel, Initrd: c.Initrd, Append: c.Append, Boot: c.Boot}
	if m := of.Memory; m != nil {
		rec, ok := p.Volumes[m.Volume]
		out.Memory = &v1.KeptMemory{Volume: p.volumeName(m.Volume), Bytes: m.Bytes, Kind: m.Kind, Gone: !ok || rec.Val.Deleted}
	}
	for _, d := range of.Disks {
		out.Disks = append(out.Disks, p.volumeName(d.Volume))
		kept := slices.ContainsFunc(p.Volumes[d.Volume].Val.Snapshots, func(s cluster.Snapshot) bool { return s.ID == d.Snapshot })
		out.Whole = out.Whole && v.Has(d.Volume) && kept
	}
	return out
}
