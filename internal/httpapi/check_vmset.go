package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// vmChange checks what is to be changed of the VM that ref names.
func (s *Server) vmChange(ctx context.Context, ref string, in v1.VMSet) (c cluster.VMChange, err error) {
	p, err := s.picture(ctx)
	if err != nil {
		return c, err
	}
	v, err := p.vm(ref)
	if err != nil {
		return c, err
	}
	if in == (v1.VMSet{}) {
		return c, holdfast.Errorf(holdfast.Invalid, "VM %s: nothing is to be changed; say what", v.Name)
	}
	if in.Name != nil {
		if err := holdfast.CheckName("VM", *in.Name); err != nil {
			return c, err
		}
	}
	if in.MemoryMiB != nil {
		if err := checkMemory(v.Name, *in.MemoryMiB); err != nil {
			return c, err
		}
	}
	c = cluster.VMChange{Name: in.Name, CPUs: in.CPUs, MemoryMiB: in.MemoryMiB, UserData: in.UserData, SSHKeys: in.SSHKeys,
		Kernel: in.Kernel, Initrd: in.Initrd, Append: in.Append, Boot: in.Boot}
	if in.CDROM != nil {
		image, err := p.vmMedium(v.Name, *in.CDROM)
		if err != nil {
			return c, err
		}
		c.CDROM = &image
	}
	if in.Priority != nil {
		n := priorityOf(*in.Priority)
		c.Priority = &n
	}
	if in.Isolation != nil {
		n := cluster.Isolation(*in.Isolation)
		c.Isolation = &n
	}
	return c, p.vmChanged(v, in, &c)
}

// vmChanged checks what a VM would be with the change, by the rules for new ones.
func (p picture) vmChanged(v cluster.VM, in v1.VMSet, c *cluster.VMChange) error {
	with := v
	c.Apply(&with)
	s := v1.VMSpec{Name: v.Name, UserData: with.UserData, SSHKeys: with.SSHKeys, Kernel: with.Kernel, Initrd: with.Initrd, Append: with.Append, Boot: with.Boot}
	if err := p.vmBoot(s); err != nil || in.Publish == nil {
		return err
	}
	s.Publish = *in.Publish
	list, err := p.vmPublish(v.ID, s)
	c.Publish = &list
	return err
}
