package fleet

import (
	"context"
	"io"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/program"
)

// refusals are what only real hosts can do.
type refusals struct{}

func needs(what string) error {
	return holdfast.Errorf(holdfast.Unavailable, "this cluster is simulated (holdfast sim --serve): %s; try it in a lab, 'holdfast lab up'", what)
}

const (
	noBytes    = "its volumes hold no bytes"
	noHosts    = "no host can join it or be given anything"
	noKeys     = "there is nothing to encrypt"
	noRing     = "its control plane is in memory and in one place"
	noGuest    = "its VMs have no guests"
	noPrograms = "no host of it runs a program"
)

// InitCluster implements httpapi.Members.
func (refusals) InitCluster(context.Context, string) (httpapi.Admin, error) {
	return httpapi.Admin{}, holdfast.Errorf(holdfast.Conflict, "this host is in a cluster already, which is simulated")
}

// CreateJoinCode implements httpapi.Members.
func (refusals) CreateJoinCode(context.Context, string, time.Duration) (string, error) {
	return "", needs(noHosts)
}

// Join implements httpapi.Members.
func (refusals) Join(context.Context, v1.JoinCode) error { return needs(noHosts) }

// Admit implements httpapi.Members.
func (refusals) Admit(context.Context, v1.JoinRequest) (v1.JoinAnswer, error) {
	return v1.JoinAnswer{}, needs(noHosts)
}

// AddDisk implements httpapi.Disks.
func (refusals) AddDisk(context.Context, httpapi.NewDisk) (cluster.Disk, error) {
	return cluster.Disk{}, needs(noHosts)
}

// ReplaceDisk implements httpapi.Disks.
func (refusals) ReplaceDisk(context.Context, holdfast.DiskID, httpapi.NewDisk) (cluster.Disk, error) {
	return cluster.Disk{}, needs(noHosts)
}

// InitKey implements httpapi.Keys.
func (refusals) InitKey(context.Context, httpapi.NewKey) error { return needs(noKeys) }

// UnlockKey implements httpapi.Keys.
func (refusals) UnlockKey(context.Context, httpapi.NewKey) error { return needs(noKeys) }

// RotateKey implements httpapi.Keys.
func (refusals) RotateKey(context.Context, httpapi.NewKey) error { return needs(noKeys) }

// Diff implements httpapi.Volumes.
func (refusals) Diff(context.Context, holdfast.VolumeID, httpapi.Comparison) (v1.Diff, error) {
	return v1.Diff{}, needs(noBytes)
}

// CopyOut implements httpapi.Volumes.
func (refusals) CopyOut(context.Context, holdfast.VolumeID, httpapi.CopyOut) (io.ReadCloser, int64, error) {
	return nil, 0, needs(noBytes)
}

// Verify implements httpapi.Volumes.
func (refusals) Verify(context.Context, holdfast.VolumeID, httpapi.VerifyPlace) (v1.Verify, error) {
	return v1.Verify{}, needs(noBytes)
}

// PlanForce implements httpapi.Volumes.
func (refusals) PlanForce(context.Context, holdfast.VolumeID, holdfast.HostID) (v1.Force, error) {
	return v1.Force{}, needs(noBytes)
}

// ForceOpen implements httpapi.Volumes.
func (refusals) ForceOpen(context.Context, holdfast.VolumeID, httpapi.Force) (cluster.Volume, error) {
	return cluster.Volume{}, needs(noBytes)
}

// RebuildCopies implements httpapi.Volumes.
func (refusals) RebuildCopies(context.Context, holdfast.VolumeID, []string) error {
	return needs(noBytes)
}

// ScrubDisk implements httpapi.Integrity.
func (refusals) ScrubDisk(context.Context, holdfast.DiskID) error { return needs(noBytes) }

// ScrubVolume implements httpapi.Integrity.
func (refusals) ScrubVolume(context.Context, holdfast.VolumeID, bool) error { return needs(noBytes) }

// Acknowledge implements httpapi.Integrity.
func (refusals) Acknowledge(context.Context, holdfast.VolumeID, bool) error { return needs(noBytes) }

// BackupVolume implements httpapi.Backups.
func (refusals) BackupVolume(context.Context, holdfast.VolumeID, httpapi.BackupAsk) (io.ReadCloser, error) {
	return nil, needs(noBytes)
}

// RestoreVolume implements httpapi.Backups.
func (refusals) RestoreVolume(context.Context, httpapi.NewRestore, *backup.Reader) (cluster.Volume, error) {
	return cluster.Volume{}, needs(noBytes)
}

// BackupCluster implements httpapi.Backups.
func (refusals) BackupCluster(context.Context) (io.ReadCloser, error) { return nil, needs(noBytes) }

// CreateSchedule implements httpapi.Schedules.
func (refusals) CreateSchedule(context.Context, cluster.BackupSchedule) error { return needs(noBytes) }

// SetSchedule implements httpapi.Schedules.
func (refusals) SetSchedule(context.Context, cluster.BackupSchedule, cluster.BackupSchedule) error {
	return needs(noBytes)
}

// DeleteSchedule implements httpapi.Schedules.
func (refusals) DeleteSchedule(context.Context, string) error { return needs(noBytes) }

// AskSchedule implements httpapi.Schedules.
func (refusals) AskSchedule(context.Context, string) error { return needs(noBytes) }

// CancelWork implements httpapi.Reader.
func (refusals) CancelWork(_ context.Context, id string, _ bool) error {
	return holdfast.Errorf(holdfast.NotFound, "there is no task %.60s", id)
}

// RecoveryPlan implements httpapi.Recoverer.
func (refusals) RecoveryPlan(context.Context, httpapi.RecoverFrom) (v1.Recovery, error) {
	return v1.Recovery{}, needs(noRing)
}

// Recover implements httpapi.Recoverer.
func (refusals) Recover(context.Context, string, httpapi.RecoverFrom) (v1.Recovery, error) {
	return v1.Recovery{}, needs(noRing)
}

// MovePlan implements httpapi.Mover.
func (refusals) MovePlan(context.Context) (v1.KVMove, error) { return v1.KVMove{}, needs(noRing) }

// MoveKV implements httpapi.Mover.
func (refusals) MoveKV(context.Context, string) (v1.KVMove, error) {
	return v1.KVMove{}, needs(noRing)
}

// CancelMove implements httpapi.Mover.
func (refusals) CancelMove(context.Context) error { return needs(noRing) }

// Console implements httpapi.VMs.
func (refusals) Console(context.Context, holdfast.VMID, bool) (io.ReadWriteCloser, error) {
	return nil, needs(noGuest)
}

// Screen implements httpapi.VMs.
func (refusals) Screen(context.Context, holdfast.VMID, bool) (io.ReadWriteCloser, error) {
	return nil, needs(noGuest)
}

// RevertVM implements httpapi.VMSnapshots.
func (refusals) RevertVM(context.Context, holdfast.VMID, cluster.VMSnapshot, httpapi.Revert) (string, error) {
	return "", needs(noBytes)
}

// CloneVM implements httpapi.VMSnapshots.
func (refusals) CloneVM(context.Context, holdfast.VMID, *cluster.VMSnapshot, string, cluster.PowerState) (cluster.VM, error) {
	return cluster.VM{}, needs(noBytes)
}

// UpgradePlan implements httpapi.Upgrader.
func (refusals) UpgradePlan(context.Context, httpapi.UpgradeAsk) (v1.Upgrade, error) {
	return v1.Upgrade{}, needs(noPrograms)
}

// Program implements httpapi.Upgrader.
func (refusals) Program(context.Context, holdfast.HostID) (v1.Program, error) {
	return v1.Program{}, needs(noPrograms)
}

// TakeProgram implements httpapi.Upgrader.
func (refusals) TakeProgram(context.Context, holdfast.HostID, program.Offer) (v1.Program, error) {
	return v1.Program{}, needs(noPrograms)
}

// StartProgram implements httpapi.Upgrader.
func (refusals) StartProgram(context.Context, holdfast.HostID, v1.ProgramStart) (v1.Program, error) {
	return v1.Program{}, needs(noPrograms)
}
