package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// BackupSchedules lists the schedules of backups.
func (c *Client) BackupSchedules(ctx context.Context) ([]v1.BackupSchedule, error) {
	return fetch[[]v1.BackupSchedule](ctx, c, "GET", path("backup-schedules"), nil)
}

// BackupSchedule shows one schedule.
func (c *Client) BackupSchedule(ctx context.Context, name string) (v1.BackupSchedule, error) {
	return fetch[v1.BackupSchedule](ctx, c, "GET", path("backup-schedules", name), nil)
}

// CreateBackupSchedule has volumes backed up again and again.
func (c *Client) CreateBackupSchedule(ctx context.Context, s v1.BackupScheduleSpec) (v1.BackupSchedule, error) {
	return create[v1.BackupSchedule](ctx, c, path("backup-schedules"), s)
}

// SetBackupSchedule changes a schedule.
func (c *Client) SetBackupSchedule(ctx context.Context, name string, s v1.BackupScheduleSet) (v1.BackupSchedule, error) {
	return fetch[v1.BackupSchedule](ctx, c, "PATCH", path("backup-schedules", name), s)
}

// DeleteBackupSchedule ends a schedule; its backups stay.
func (c *Client) DeleteBackupSchedule(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", path("backup-schedules", name), nil, nil)
}

// RunBackupSchedule has a schedule's backup made now.
func (c *Client) RunBackupSchedule(ctx context.Context, name string) error {
	return c.call(ctx, "POST", path("backup-schedules", name, "run"), nil, nil)
}
