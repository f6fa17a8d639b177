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
	return dropGroup(ctx, g, h.DeleteSnapshot)
}

// dropper lets a snapshot of a volume go.
type dropper func(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error

// dropGroup lets what is left of a group go.
func dropGroup(ctx context.Context, g cluster.SnapshotGroup, drop dropper) error {
	for _, member := range g.Members {
		err := drop(ctx, member.Volume, member.Snapshot.ID)
		if err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
			return holdfast.Errorf(holdfast.KindOf(err), "snapshot %s of volume %s is not let go, and what comes after it in the group; try again: %w", g.Name, member.Name, err)
		}
	}
	return nil
}
