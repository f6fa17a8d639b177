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

// SnapshotVM keeps a VM as it is.
func (c *Client) SnapshotVM(ctx context.Context, vm string, s v1.VMSnapshotSpec) (v1.VMSnapshot, error) {
	return create[v1.VMSnapshot](ctx, c, path("vms", vm, "snapshots"), s)
}

// VMSnapshots lists the snapshots of a VM, the newest last.
func (c *Client) VMSnapshots(ctx context.Context, vm string) ([]v1.VMSnapshot, error) {
	return fetch[[]v1.VMSnapshot](ctx, c, "GET", path("vms", vm, "snapshots"), nil)
}

// DeleteVMSnapshot lets a snapshot of a VM go.
func (c *Client) DeleteVMSnapshot(ctx context.Context, vm, snapshot string) error {
	return c.call(ctx, "DELETE", path("vms", vm, "snapshots", snapshot), nil, nil)
}

// RevertVM sets a VM back to a snapshot.
func (c *Client) RevertVM(ctx context.Context, vm, snapshot string, s v1.VMRevertSpec) (v1.VMReverted, error) {
	return fetch[v1.VMReverted](ctx, c, "POST", path("vms", vm, "snapshots", snapshot, "revert"), s)
}

// CloneVM makes a VM with linked clones of another one's disks.
func (c *Client) CloneVM(ctx context.Context, vm string, s v1.VMCloneSpec) (v1.VM, error) {
	return create[v1.VM](ctx, c, path("vms", vm, "clone"), s)
}
