package fleet

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/serve"
)

// trial tries changes; what a fleet cannot do it refuses when tried, too.
type trial struct{ serve.Trial }

// AddDisk implements httpapi.Changer.
func (*trial) AddDisk(ctx context.Context, n httpapi.NewDisk) (cluster.Disk, error) {
	return refusals{}.AddDisk(ctx, n)
}

// ReplaceDisk implements httpapi.Changer.
func (*trial) ReplaceDisk(ctx context.Context, id holdfast.DiskID, n httpapi.NewDisk) (cluster.Disk, error) {
	return refusals{}.ReplaceDisk(ctx, id, n)
}

// RevertVM implements httpapi.Changer.
func (*trial) RevertVM(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how httpapi.Revert) (string, error) {
	return refusals{}.RevertVM(ctx, id, of, how)
}

// CreateSchedule implements httpapi.Schedules.
func (*trial) CreateSchedule(ctx context.Context, s cluster.BackupSchedule) error {
	return refusals{}.CreateSchedule(ctx, s)
}

// SetSchedule implements httpapi.Schedules.
func (*trial) SetSchedule(ctx context.Context, was, s cluster.BackupSchedule) error {
	return refusals{}.SetSchedule(ctx, was, s)
}

// DeleteSchedule implements httpapi.Schedules.
func (*trial) DeleteSchedule(ctx context.Context, name string) error {
	return refusals{}.DeleteSchedule(ctx, name)
}

// AskSchedule implements httpapi.Schedules.
func (*trial) AskSchedule(ctx context.Context, name string) error {
	return refusals{}.AskSchedule(ctx, name)
}
