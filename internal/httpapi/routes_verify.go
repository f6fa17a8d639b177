package httpapi

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// VerifyPlace is where a comparison of copies goes on, with what came of it so
// far; the zero place is its beginning.
type VerifyPlace struct {
	Started time.Time    // to the second
	Differ  uint64       // found so far
	Root    holdfast.LSN // the snapshot; the highest is what the volume holds now
	Addr    uint64       // block
}

// String codes a place as four numbers.
func (p VerifyPlace) String() string {
	return fmt.Sprintf("%d.%d.%d.%d", p.Started.Unix(), p.Differ, uint64(p.Root), p.Addr)
}

// ParseVerifyPlace reads what String wrote; nothing is the beginning.
func ParseVerifyPlace(text string) (p VerifyPlace, err error) {
	if text == "" {
		return p, nil
	}
	parts := strings.Split(text, ".")
	var n [4]uint64
	for i := range n {
		if err == nil && len(parts) == len(n) {
			n[i], err = strconv.ParseUint(parts[i], 10, 64)
		}
	}
	if err != nil || len(parts) != len(n) || n[0] > math.MaxUint32 || n[3] > holdfast.MaxVolumeBlocks {
		return VerifyPlace{}, holdfast.Errorf(holdfast.Invalid, "%q is no place of a comparison; pass 'next' of the part before", text)
	}
	return VerifyPlace{Started: time.Unix(int64(n[0]), 0).UTC(), Differ: n[1], Root: holdfast.LSN(n[2]), Addr: n[3]}, nil
}

func (s *Server) verifyRoutes() {
	type verify struct {
		VolumeRef
		Body v1.VerifySpec
	}
	type rebuild struct {
		VolumeRef
		Body v1.RebuildSpec
	}
	act(s, s.operation("POST", "/v1/volumes/{volume}/verify", "volume-verify", "A part of a comparison of a volume's copies by their block maps", 200),
		func(ctx context.Context, in *verify) (out v1.Verify, err error) {
			v, err := lookup(ctx, s, in.Volume, picture.stored)
			if err != nil {
				return out, err
			}
			from, err := ParseVerifyPlace(in.Body.From)
			if err != nil {
				return out, err
			}
			return s.o.Backend.Verify(ctx, v.ID, from)
		})
	do(s, s.operation("POST", "/v1/volumes/{volume}/rebuild", "volume-rebuild", "Do without copies that are not to be relied on, and have others built in their place from the rest", 204),
		func(ctx context.Context, in *rebuild) error {
			v, err := lookup(ctx, s, in.Volume, picture.stored)
			if err != nil {
				return err
			}
			var names []string
			for _, host := range in.Body.Hosts {
				h, err := lookup(ctx, s, host, picture.host)
				if err != nil {
					return err
				}
				names = append(names, h.Name)
				if !slices.ContainsFunc(v.InSync, func(r cluster.Replica) bool { return r.Host == h.ID }) {
					return holdfast.Errorf(holdfast.NotFound, "host %s has no copy of volume %s in sync", h.Name, v.Name)
				}
			}
			return s.o.Backend.RebuildCopies(ctx, v.ID, names)
		})
}
