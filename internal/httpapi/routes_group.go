package httpapi

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Groups is about snapshots of several volumes that are made at one point.
type Groups interface {
	// SnapshotGroup makes one, wholly or not at all. Exists: one of the volumes
	// has a snapshot of that name. Unavailable: one cannot be written now. Busy,
	// Conflict: not now, try again.
	SnapshotGroup(ctx context.Context, ids []holdfast.VolumeID, name string) (cluster.SnapshotGroup, error)
	// DeleteSnapshotGroup lets what is left of one go, volume by volume.
	DeleteSnapshotGroup(ctx context.Context, g cluster.SnapshotGroup) error
}

type groupRef struct {
	Group string `path:"group" maxLength:"63" doc:"Identity"`
}

func (s *Server) groupRoutes() {
	type take struct{ Body v1.SnapshotGroupSpec }
	act(s, s.operation("POST", "/v1/snapshot-groups", "snapshot-group-create", "Keep several volumes as they are at one point", 201),
		func(ctx context.Context, in *take) (v1.SnapshotGroup, error) {
			if err := holdfast.CheckName("snapshot", in.Body.Name); err != nil {
				return v1.SnapshotGroup{}, err
			}
			ids, err := s.groupVolumes(ctx, in.Body.Volumes)
			if err != nil {
				return v1.SnapshotGroup{}, err
			}
			g, err := s.o.Backend.SnapshotGroup(ctx, ids, in.Body.Name)
			return renderGroup(g), err
		})
	read(s, "/v1/snapshot-groups", "snapshot-group-list", "All snapshots that were made of several volumes at one point, the newest last", func(p picture, _ *none) ([]v1.SnapshotGroup, error) {
		out := []v1.SnapshotGroup{}
		for _, g := range p.SnapshotGroups() {
			out = append(out, renderGroup(g))
		}
		return out, nil
	})
	act(s, s.operation("GET", "/v1/snapshot-groups/{group}", "snapshot-group-show", "What is left of one group", 200),
		func(ctx context.Context, in *groupRef) (v1.SnapshotGroup, error) {
			g, err := lookup(ctx, s, in.Group, picture.group)
			return renderGroup(g), err
		})
	do(s, s.operation("DELETE", "/v1/snapshot-groups/{group}", "snapshot-group-delete", "Let all snapshots of a group go", 204),
		func(ctx context.Context, in *groupRef) error {
			g, err := lookup(ctx, s, in.Group, picture.group)
			if err != nil {
				return err
			}
			return s.changer(ctx).DeleteSnapshotGroup(ctx, g)
		})
}

// groupVolumes resolves the names of a group's volumes.
func (s *Server) groupVolumes(ctx context.Context, refs []string) (ids []holdfast.VolumeID, err error) {
	for _, ref := range refs {
		v, err := lookup(ctx, s, ref, picture.volume)
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids, v.ID) {
			return nil, holdfast.Errorf(holdfast.Invalid, "volume %s is named twice; name each volume of a group once", v.Name)
		}
		ids = append(ids, v.ID)
	}
	return ids, nil
}

// group finds a group by its identity.
func (p picture) group(ref string) (cluster.SnapshotGroup, error) {
	for _, g := range p.SnapshotGroups() {
		if g.ID.String() == ref {
			return g, nil
		}
	}
	return cluster.SnapshotGroup{}, holdfast.Errorf(holdfast.NotFound, "no group of snapshots has the identity %q: see 'holdfast volume snapshot groups -o wide'", clip(ref))
}

func renderGroup(g cluster.SnapshotGroup) v1.SnapshotGroup {
	out := v1.SnapshotGroup{ID: g.ID.String(), Name: g.Name, Created: g.Created, Volumes: g.Size, Members: []v1.SnapshotGroupMember{}}
	for _, m := range g.Members {
		out.Members = append(out.Members, v1.SnapshotGroupMember{Volume: m.Name, Snapshot: m.Snapshot.ID.String(), LSN: m.Snapshot.LSN.String()})
	}
	return out
}
