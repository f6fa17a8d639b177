package httpapi

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

type snapshotRef struct {
	VolumeRef
	Snapshot string `path:"snapshot" maxLength:"63" doc:"Name or identity"`
}

func (s *Server) snapshotRoutes() {
	type take struct {
		VolumeRef
		Body v1.SnapshotSpec
	}
	type revert struct {
		VolumeRef
		Body v1.RevertSpec
	}
	act(s, s.operation("POST", "/v1/volumes/{volume}/snapshots", "snapshot-create", "Keep the volume as it is now", 201),
		func(ctx context.Context, in *take) (v1.Snapshot, error) {
			if err := holdfast.CheckName("snapshot", in.Body.Name); err != nil {
				return v1.Snapshot{}, err
			}
			v, err := lookup(ctx, s, in.Volume, picture.volume)
			if err != nil {
				return v1.Snapshot{}, err
			}
			snap, err := s.o.Backend.Snapshot(ctx, v.ID, in.Body.Name)
			return renderSnapshot(snap), err
		})
	act(s, s.operation("GET", "/v1/volumes/{volume}/snapshots", "snapshot-list", "A page of the snapshots of a volume, in the order of their making", 200), s.listSnapshots)
	act(s, s.operation("GET", "/v1/volumes/{volume}/snapshots/{snapshot}", "snapshot-show", "One snapshot", 200),
		func(ctx context.Context, in *snapshotRef) (v1.Snapshot, error) {
			_, snap, err := s.snapshotOf(ctx, in.Volume, in.Snapshot)
			return renderSnapshot(snap), err
		})
	do(s, s.operation("DELETE", "/v1/volumes/{volume}/snapshots/{snapshot}", "snapshot-delete", "Let a snapshot go", 204),
		func(ctx context.Context, in *snapshotRef) error {
			v, snap, err := s.snapshotOf(ctx, in.Volume, in.Snapshot)
			if err != nil {
				return err
			}
			return s.changer(ctx).DeleteSnapshot(ctx, v.ID, snap.ID)
		})
	do(s, s.operation("POST", "/v1/volumes/{volume}/revert", "volume-revert", "Set the volume back to a snapshot; what was written since is lost", 204),
		func(ctx context.Context, in *revert) error {
			v, snap, err := s.snapshotOf(ctx, in.Volume, in.Body.Snapshot)
			if err != nil {
				return err
			}
			return s.changer(ctx).Revert(ctx, v.ID, snap.ID)
		})
}

func (s *Server) snapshotOf(ctx context.Context, vol, ref string) (cluster.Volume, cluster.Snapshot, error) {
	v, err := lookup(ctx, s, vol, picture.volume)
	if err != nil {
		return v, cluster.Snapshot{}, err
	}
	snap, err := snapshot(v, ref)
	return v, snap, err
}

type snapshotPage struct {
	VolumeRef
	After string `query:"after" maxLength:"24" doc:"The LSN after which to begin: 'next' of the page before; it need not be there any more"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
}

func (s *Server) listSnapshots(ctx context.Context, in *snapshotPage) (v1.SnapshotList, error) {
	v, err := lookup(ctx, s, in.Volume, picture.volume)
	if err != nil {
		return v1.SnapshotList{}, err
	}
	var after holdfast.LSN
	if in.After != "" {
		if after, err = parseLSN(in.After); err != nil {
			return v1.SnapshotList{}, err
		}
	}
	return pageOf(v, after, in.Limit), nil
}

// pageOf renders the first snapshots after an LSN. Every snapshot has an LSN of
// its own, which does not change, so a walk misses none that stays, whatever
// comes and goes between its pages.
func pageOf(v cluster.Volume, after holdfast.LSN, limit int) v1.SnapshotList {
	all := slices.DeleteFunc(slices.Clone(v.Snapshots), func(s cluster.Snapshot) bool { return s.Hidden })
	slices.SortFunc(all, func(a, b cluster.Snapshot) int { return cmp.Compare(a.LSN, b.LSN) })
	out := v1.SnapshotList{Snapshots: []v1.Snapshot{}, Total: len(all)}
	for _, s := range all {
		if s.LSN <= after {
			continue
		}
		if n := len(out.Snapshots); n == limit {
			out.Next = out.Snapshots[n-1].LSN
			break
		}
		out.Snapshots = append(out.Snapshots, renderSnapshot(s))
	}
	return out
}

// visible counts the snapshots of a volume that people made and did not delete.
func visible(v cluster.Volume) (n int) {
	for i := range v.Snapshots {
		if !v.Snapshots[i].Hidden {
			n++
		}
	}
	return n
}

// parseLSN reads what holdfast.LSN.String prints.
func parseLSN(s string) (holdfast.LSN, error) {
	epoch, counter, _ := strings.Cut(s, ".")
	e, err := strconv.ParseUint(epoch, 10, 64)
	n, cerr := strconv.ParseUint(counter, 10, 64)
	if err != nil || cerr != nil || e > uint64(holdfast.MaxEpoch) || n > holdfast.MaxCounter {
		return 0, holdfast.Errorf(holdfast.Invalid, "%q is not an LSN; give what 'next' of the page before says, like 12.345", clip(s))
	}
	return holdfast.MakeLSN(holdfast.Epoch(e), n), nil
}
