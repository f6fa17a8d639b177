package serve

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// SnapshotGroup implements httpapi.Groups: whichever hosts write the volumes,
// this one asks them.
func (h *Host) SnapshotGroup(ctx context.Context, ids []holdfast.VolumeID, name string) (cluster.SnapshotGroup, error) {
	m, err := h.member()
	if err != nil {
		return cluster.SnapshotGroup{}, err
	}
	return m.node.Make.SnapshotGroup(ids, name)
}

// DeleteSnapshotGroup implements httpapi.Groups.
func (h *Host) DeleteSnapshotGroup(ctx context.Context, g cluster.SnapshotGroup) error {
	for _, member := range g.Members {
		err := h.DeleteSnapshot(ctx, member.Volume, member.Snapshot.ID)
		if err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return holdfast.Errorf(holdfast.KindOf(err), "snapshot %s of volume %s is not let go, and what comes after it in the group; try again: %w", g.Name, member.Name, err)
		}
	}
	return nil
}
