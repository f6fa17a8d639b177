package serve

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// diffSteps bounds the steps of one answer. A step compares 2,048 blocks that
// may differ; what two roots share costs nothing.
const diffSteps = 128

// Diff implements httpapi.Volumes.
func (h *Host) Diff(ctx context.Context, id holdfast.VolumeID, c httpapi.Comparison) (out v1.Diff, err error) {
	m, err := h.member()
	if err != nil {
		return out, err
	}
	err = h.onWriter(m, id, func() error {
		v, err := m.node.Volumes.Open(id)
		if err != nil {
			return err
		}
		out, err = compare(ctx, c, func(addr uint64, limit int) (replica.Diff, error) {
			return v.Diff(replica.RootRef(c.From), replica.RootRef(c.To), addr, limit)
		})
		return err
	}, func(peer *client.Client) error {
		out, err = peer.DiffPage(ctx, id.String(), client.DiffAsk{From: c.From.String(), To: c.To.String(),
			Offset: int64(c.Addr) * holdfast.BlockSize, Limit: c.Limit})
		return err
	})
	return out, err
}

// compare makes a page of steps: until it is full, all is compared, the steps
// are as many as one answer may take, or the client has gone away.
func compare(ctx context.Context, c httpapi.Comparison, step func(addr uint64, limit int) (replica.Diff, error)) (v1.Diff, error) {
	var found []replica.Extent
	var d replica.Diff
	for addr, steps := c.Addr, 0; steps < diffSteps && len(found) < c.Limit; addr, steps = d.Next, steps+1 {
		if err := ctx.Err(); err != nil {
			return v1.Diff{}, err
		}
		var err error
		if d, err = step(addr, c.Limit-len(found)); err != nil {
			return v1.Diff{}, err
		}
		for _, e := range d.Extents {
			if k := len(found) - 1; k >= 0 && found[k].Addr+found[k].Blocks == e.Addr && found[k].Hole == e.Hole {
				found[k].Blocks += e.Blocks
			} else {
				found = append(found, e)
			}
		}
		if d.Next >= d.Size {
			return renderDiff(found, 0, d.Size), nil
		}
	}
	return renderDiff(found, d.Next, d.Size), nil
}

// renderDiff is a page; next 0: the last.
func renderDiff(found []replica.Extent, next, size uint64) v1.Diff {
	out := v1.Diff{Size: int64(size) * holdfast.BlockSize, Next: int64(next) * holdfast.BlockSize, Extents: make([]v1.Extent, len(found))}
	for i, e := range found {
		out.Extents[i] = v1.Extent{Offset: int64(e.Addr) * holdfast.BlockSize, Length: int64(e.Blocks) * holdfast.BlockSize, Zero: e.Hole}
	}
	return out
}
