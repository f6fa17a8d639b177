package client

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// SnapshotGroup keeps several volumes as they are at one point.
func (c *Client) SnapshotGroup(ctx context.Context, s v1.SnapshotGroupSpec) (v1.SnapshotGroup, error) {
	return create[v1.SnapshotGroup](ctx, c, path("snapshot-groups"), s)
}

// SnapshotGroups lists the groups of which a snapshot is left, the newest last.
func (c *Client) SnapshotGroups(ctx context.Context) ([]v1.SnapshotGroup, error) {
	return fetch[[]v1.SnapshotGroup](ctx, c, "GET", path("snapshot-groups"), nil)
}

// SnapshotGroupOf shows one group by its identity.
func (c *Client) SnapshotGroupOf(ctx context.Context, id string) (v1.SnapshotGroup, error) {
	return fetch[v1.SnapshotGroup](ctx, c, "GET", path("snapshot-groups", id), nil)
}

// DeleteSnapshotGroup lets all snapshots of a group go. What an error keeps from
// going stays in the group; it may be repeated.
func (c *Client) DeleteSnapshotGroup(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", path("snapshot-groups", id), nil, nil)
}
