package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Root is one side of a comparison: a snapshot, the head (zero), or with
// Nothing a volume in which nothing was ever written.
type Root struct {
	Snapshot holdfast.SnapshotID
	Nothing  bool
}

// The words that stand for a root that is no snapshot. A snapshot that is
// called so is compared by its identity.
const (
	wordHead    = "head"
	wordNothing = "nothing"
)

// String prints a root as the API takes it.
func (r Root) String() string {
	switch {
	case r.Nothing:
		return wordNothing
	case r.Snapshot.IsZero():
		return wordHead
	}
	return r.Snapshot.String()
}

// Comparison asks which blocks of To, from block Addr on, do not hold what From
// holds: at most Limit extents.
type Comparison struct {
	From, To Root
	Addr     uint64
	Limit    int
}

type comparison struct {
	VolumeRef
	From   string `query:"from" required:"true" minLength:"1" maxLength:"63" doc:"A snapshot, 'head' (as it is now) or 'nothing' (as if nothing was ever written)"`
	To     string `query:"to" required:"true" minLength:"1" maxLength:"63" doc:"Likewise; a comparison to the head shows all that was acknowledged before it began, and perhaps later writes"`
	Offset int64  `query:"offset" minimum:"0" maximum:"70368744177664" multipleOf:"4096" doc:"Where to begin, in bytes: 'next' of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"2048" default:"2048" doc:"Most extents in a page"`
}

func (s *Server) diffRoute() {
	act(s, s.operation("GET", "/v1/volumes/{volume}/diff", "volume-diff", "A page of what differs between two snapshots of a volume, or a snapshot and what it holds now", 200),
		func(ctx context.Context, in *comparison) (v1.Diff, error) {
			v, err := lookup(ctx, s, in.Volume, picture.volume)
			if err != nil {
				return v1.Diff{}, err
			}
			c := Comparison{Addr: uint64(in.Offset) / holdfast.BlockSize, Limit: in.Limit}
			if c.From, err = rootOf(v, in.From); err != nil {
				return v1.Diff{}, err
			}
			if c.To, err = rootOf(v, in.To); err != nil {
				return v1.Diff{}, err
			}
			return s.o.Backend.Diff(ctx, v.ID, c)
		})
}

func rootOf(v cluster.Volume, ref string) (Root, error) {
	switch ref {
	case wordHead:
		return Root{}, nil
	case wordNothing:
		return Root{Nothing: true}, nil
	}
	s, err := snapshot(v, ref)
	return Root{Snapshot: s.ID}, err
}
