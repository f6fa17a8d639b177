package serve

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Verify implements httpapi.Volumes.
func (h *Host) Verify(ctx context.Context, id holdfast.VolumeID, from httpapi.VerifyPlace) (out v1.Verify, err error) {
	m, err := h.member()
	if err != nil {
		return out, err
	}
	err = h.onWriter(m, id, func() error {
		v, err := m.node.Volumes.Open(id)
		if err == nil {
			out, err = verify(v, m.node.Cluster.State(), from)
		}
		return err
	}, func(c *client.Client) error {
		text := ""
		if !from.Started.IsZero() {
			text = from.String()
		}
		out, err = c.VerifyPart(ctx, id.String(), text)
		return err
	})
	return out, err
}

// verify compares from a place on, and puts into the volume's record what is
// found: differences at once, that there are none at the end.
func verify(v *volume.Volume, st *cluster.State, from httpapi.VerifyPlace) (out v1.Verify, err error) {
	if from.Started.IsZero() {
		from.Started = time.Now().UTC().Truncate(time.Second)
	}
	c, err := v.Compare(volume.Place{Root: from.Root, Addr: from.Addr})
	if err != nil {
		return out, err
	}
	next := httpapi.VerifyPlace{Started: from.Started, Differ: from.Differ + uint64(len(c.Differences)), Root: c.Next.Root, Addr: c.Next.Addr}
	if len(c.Differences) > 0 || !c.More {
		if err := v.NoteCompared(from.Started, next.Differ); err != nil {
			return out, err
		}
	}
	out = renderVerify(c, v.Record(), st)
	if out.Started = from.Started; c.More {
		out.Next = next.String()
	}
	return out, nil
}

func renderVerify(c volume.Comparison, rec cluster.Volume, st *cluster.State) v1.Verify {
	out := v1.Verify{LSN: c.At.String(), Blocks: int64(c.Blocks), Busy: int64(c.Busy), Done: c.Done, Copies: []string{}, Differences: []v1.CopyDifference{}}
	for _, ref := range c.Replicas {
		name := ref.Host.Short()
		if h, ok := st.Hosts[ref.Host]; ok {
			name = h.Val.Name
		}
		out.Copies = append(out.Copies, name)
	}
	for _, d := range c.Differences {
		x := v1.CopyDifference{Offset: int64(d.Addr) * holdfast.BlockSize, Lacking: d.Lacking}
		if !d.Snapshot.IsZero() {
			x.Snapshot = d.Snapshot.String()
			if i := slices.IndexFunc(rec.Snapshots, func(s cluster.Snapshot) bool { return s.ID == d.Snapshot }); i >= 0 && rec.Snapshots[i].Name != "" {
				x.Snapshot = rec.Snapshots[i].Name
			}
		}
		for i, held := range d.Held {
			x.Held = append(x.Held, renderHeld(held, d.Lacking, rec.ID, out.Copies[i]))
		}
		out.Differences = append(out.Differences, x)
	}
	return out
}

func renderHeld(h volume.Held, snapshot bool, of holdfast.VolumeID, host string) v1.HeldCopy {
	out := v1.HeldCopy{Host: host, State: "data", Size: int64(h.Blocks) * holdfast.BlockSize}
	switch {
	case snapshot && h.LSN == 0:
		out.State = "lacking"
	case snapshot:
		out.State = "kept"
	case h.LSN == 0:
		out.State = "unwritten"
	case h.Hole:
		out.State = "zero"
	default:
		out.Hash = fmt.Sprintf("%016x", h.Hash)
	}
	if h.LSN != 0 {
		out.LSN = h.LSN.String()
		if !snapshot && h.Origin != of {
			out.Volume = h.Origin.String()
		}
	}
	return out
}

// RebuildCopies implements httpapi.Volumes.
func (h *Host) RebuildCopies(ctx context.Context, id holdfast.VolumeID, hosts []string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return h.onWriter(m, id, func() error {
		v, err := m.node.Volumes.Open(id)
		if err != nil {
			return err
		}
		st := m.node.Cluster.State()
		var ids []holdfast.ReplicaID
		for _, ref := range v.Record().InSync {
			if x, ok := st.Hosts[ref.Host]; ok && slices.Contains(hosts, x.Val.Name) {
				ids = append(ids, ref.ID)
			}
		}
		if len(ids) < len(hosts) {
			return holdfast.Errorf(holdfast.Conflict, "not all of these copies are in sync any more; compare again")
		}
		return v.GiveUp(ids)
	}, func(c *client.Client) error { return c.RebuildCopies(ctx, id.String(), hosts) })
}
