package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// VMRef names a VM in a path.
type VMRef struct {
	VM string `path:"vm" maxLength:"63" doc:"Name or identity"`
}

func (s *Server) vmRoutes() {
	list(s, listing[v1.VM]{path: "/v1/vms", id: "vm-list", summary: "The VMs",
		key: func(v v1.VM) string { return keyOf(v.Name, v.ID) },
		all: func(_ context.Context, p picture) ([]v1.VM, error) { return render(p.vms(), p.renderVM), nil }})
	read(s, "/v1/vms/{vm}", "vm-show", "One VM", func(p picture, in *VMRef) (v1.VM, error) {
		v, err := p.vm(in.VM)
		return p.renderVM(v), err
	})
	act(s, s.operation("POST", "/v1/vms", "vm-create", "Make a VM, and start it unless told otherwise", 201), s.createVM)
	type remove struct {
		VMRef
		Force    bool `query:"force" doc:"Also if it should run: end its process first"`
		KeepDisk bool `query:"keep_disk" doc:"Keep its boot disk as a volume"`
		Disks    bool `query:"disks" doc:"Delete its other disks too, which else stay as volumes"`
	}
	do(s, s.operation("DELETE", "/v1/vms/{vm}", "vm-delete", "Delete a VM and its boot disk", 204),
		func(ctx context.Context, in *remove) error {
			v, err := lookup(ctx, s, in.VM, picture.vm)
			if err != nil {
				return err
			}
			if err := s.changer(ctx).DeleteVM(ctx, v.ID, cluster.VMRemoval{Force: in.Force, KeepDisk: in.KeepDisk, Disks: in.Disks}); err != nil {
				return err
			}
			return s.left(ctx, ownedVM(v.ID), disksOf(v)...)
		})
	s.vmPower("start", "Start a VM", s.o.Backend.StartVM)
	s.vmPower("reset", "Press a VM's reset button", s.o.Backend.ResetVM)
	type change struct {
		VMRef
		Body v1.VMSet
	}
	act(s, s.operation("PATCH", "/v1/vms/{vm}", "vm-set", "Change a VM; its machine is told some of it when it is started the next time", 200),
		func(ctx context.Context, in *change) (v1.VM, error) {
			c, err := s.vmChange(ctx, in.VM, in.Body)
			if err != nil {
				return v1.VM{}, err
			}
			return s.changeVM(ctx, in.VM, func(ctx context.Context, id holdfast.VMID) error {
				return s.resized(ctx, ownedVM(id), func(x account.Share) account.Share {
					if c.CPUs != nil {
						x.CPUs = int64(*c.CPUs)
					}
					if c.MemoryMiB != nil {
						x.MemoryMiB = int64(*c.MemoryMiB)
					}
					return x
				}, func() error { return s.changer(ctx).ChangeVM(ctx, id, c) })
			})
		})
	type stop struct {
		VMRef
		Body v1.StopSpec
	}
	act(s, s.operation("POST", "/v1/vms/{vm}/stop", "vm-stop", "Press a VM's power button, or end its process", 200),
		func(ctx context.Context, in *stop) (v1.VM, error) {
			return s.changeVM(ctx, in.VM, func(ctx context.Context, id holdfast.VMID) error {
				return s.o.Backend.StopVM(ctx, id, in.Body.Force)
			})
		})
}

// vmDiskRoutes are about the disks of a VM beside the one that it boots from.
func (s *Server) vmDiskRoutes() {
	type add struct {
		VMRef
		Body v1.VMDiskSpec
	}
	act(s, s.operation("POST", "/v1/vms/{vm}/disks", "vm-disk-add", "Give a VM a disk, while it runs if its guest takes it", 200),
		func(ctx context.Context, in *add) (v1.VM, error) {
			p, err := s.picture(ctx)
			if err != nil {
				return v1.VM{}, err
			}
			d, err := p.newVMDisk(in.Body)
			if err != nil {
				return v1.VM{}, err
			}
			return s.changeVM(ctx, in.VM, func(ctx context.Context, id holdfast.VMID) error {
				if !d.Volume.IsZero() {
					return s.changer(ctx).AddVMDisk(ctx, id, d)
				}
				more := int64(d.New.Blocks) * holdfast.BlockSize
				return s.resized(ctx, ownedVM(id), func(x account.Share) account.Share { x.Bytes += more; return x },
					func() error { return s.changer(ctx).AddVMDisk(ctx, id, d) })
			})
		})
	type ref struct {
		VMRef
		Disk string `path:"disk" maxLength:"63" doc:"Name or identity of the volume"`
	}
	act(s, s.operation("DELETE", "/v1/vms/{vm}/disks/{disk}", "vm-disk-remove", "Take a disk away from a VM; its volume stays", 200),
		func(ctx context.Context, in *ref) (v1.VM, error) {
			d, err := lookup(ctx, s, in.Disk, picture.volume)
			if err != nil {
				return v1.VM{}, err
			}
			return s.changeVM(ctx, in.VM, func(ctx context.Context, id holdfast.VMID) error {
				if err := s.changer(ctx).RemoveVMDisk(ctx, id, d.ID); err != nil {
					return err
				}
				return s.parted(ctx, id, d)
			})
		})
	type resize struct {
		VMRef
		Disk string `path:"disk" maxLength:"63" doc:"Name or identity of the volume"`
		Body v1.GrowSpec
	}
	act(s, s.operation("POST", "/v1/vms/{vm}/disks/{disk}/resize", "vm-disk-resize", "Make a disk of a VM larger, while it runs", 200),
		func(ctx context.Context, in *resize) (v1.VM, error) {
			p, err := s.picture(ctx)
			if err != nil {
				return v1.VM{}, err
			}
			d, blocks, err := p.vmDiskSize(in.VM, in.Disk, in.Body.Size)
			if err != nil {
				return v1.VM{}, err
			}
			return s.changeVM(ctx, in.VM, func(ctx context.Context, id holdfast.VMID) error {
				return s.grown(ctx, p, d, blocks, func() error {
					_, err := s.changer(ctx).GrowVolume(ctx, d, blocks)
					return err
				})
			})
		})
}

func (s *Server) vmPower(verb, summary string, f func(context.Context, holdfast.VMID) error) {
	act(s, s.operation("POST", "/v1/vms/{vm}/"+verb, "vm-"+verb, summary, 200),
		func(ctx context.Context, in *VMRef) (v1.VM, error) { return s.changeVM(ctx, in.VM, f) })
}

// changeVM acts on the VM that ref names and answers with what it is then.
func (s *Server) changeVM(ctx context.Context, ref string, f func(context.Context, holdfast.VMID) error) (v1.VM, error) {
	v, err := lookup(ctx, s, ref, picture.vm)
	if err != nil {
		return v1.VM{}, err
	}
	if err := f(ctx, v.ID); err != nil {
		return v1.VM{}, err
	}
	p, err := s.picture(ctx)
	if err != nil {
		return v1.VM{}, err
	}
	if v, err = p.vm(v.ID.String()); err != nil {
		return v1.VM{}, err
	}
	return p.renderVM(v), nil
}

func (s *Server) createVM(ctx context.Context, in *request[v1.VMSpec]) (v1.VM, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.VM{}, err
	}
	n, err := p.newVM(in.Body)
	if err != nil {
		return v1.VM{}, err
	}
	var v cluster.VM
	share := account.Share{VMs: 1, CPUs: int64(n.CPUs), MemoryMiB: int64(n.MemoryMiB)}
	if n.Volume.IsZero() {
		share.Bytes = max(int64(n.Blocks)*holdfast.BlockSize, p.sizeOf(n.Image))
	}
	err = s.admitted(ctx, share, func() (string, error) {
		v, err = s.changer(ctx).CreateVM(ctx, n)
		return ownedVM(v.ID), err
	})
	if err != nil {
		return v1.VM{}, err
	}
	if p, err = s.picture(ctx); err != nil {
		return v1.VM{}, err
	}
	return p.renderVM(v), nil
}
