package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// DeleteVM deletes a VM with the disks that r says.
func (c *Client) DeleteVM(ctx context.Context, vm string, r v1.VMRemoval) error {
	yes := func(b bool) string {
		if b {
			return "true"
		}
		return ""
	}
	return c.call(ctx, "DELETE", query(path("vms", vm), "force", yes(r.Force), "keep_disk", yes(r.KeepDisk), "disks", yes(r.Disks)), nil, nil)
}

// AddVMDisk gives a VM a disk beside its boot disk.
func (c *Client) AddVMDisk(ctx context.Context, vm string, s v1.VMDiskSpec) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "POST", path("vms", vm, "disks"), s)
}

// RemoveVMDisk takes a disk away from a VM; its volume stays.
func (c *Client) RemoveVMDisk(ctx context.Context, vm, disk string) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "DELETE", path("vms", vm, "disks", disk), nil)
}

// ResizeVMDisk makes a disk of a VM larger.
func (c *Client) ResizeVMDisk(ctx context.Context, vm, disk string, s v1.GrowSpec) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "POST", path("vms", vm, "disks", disk, "resize"), s)
}
