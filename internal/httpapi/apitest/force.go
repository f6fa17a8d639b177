package apitest

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
)

// PlanForce implements httpapi.Backend: copies of hosts that are alive answer, and
// stale ones hold everything up to 1.8.
func (b *Backend) PlanForce(_ context.Context, id holdfast.VolumeID, from holdfast.HostID) (v1.Force, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.St.Volumes[id].Val
	out := v1.Force{Volume: v.Name, Size: int64(v.Blocks) * holdfast.BlockSize, Snapshots: []string{}, Lost: []v1.ForceLost{}, Stale: []v1.ForceStale{}, Missing: "everything: no stale copy can be used"}
	host := func(r cluster.Replica) string { return b.St.Hosts[r.Host].Val.Name }
	for _, r := range v.InSync {
		if b.St.AliveHost(r.Host) {
			out.Refused = "volume " + v.Name + " has a copy in sync on host " + host(r) + ", which answers: nothing is to be forced"
		}
		out.NeedsLost = true
		out.Lost = append(out.Lost, v1.ForceLost{Host: host(r), Why: "its host is away", Back: true})
	}
	for _, r := range v.Others {
		if !b.St.AliveHost(r.Host) || !from.IsZero() && from != r.Host {
			out.Stale = append(out.Stale, v1.ForceStale{Host: host(r), Unfit: "its host is away"})
			continue
		}
		out.From, out.Holds, out.Seen = host(r), "1.8", "1.9"
		out.Missing = "every write, flushed or not, with an LSN above 1.8, of which those up to 1.9 at least were made"
		out.Stale = append(out.Stale, v1.ForceStale{Host: host(r), Holds: "1.8"})
	}
	if out.From == "" && out.Refused == "" {
		out.Refused = "volume " + v.Name + " has no other copy than those that are lost; delete it, and make it again from a backup"
	}
	return out, nil
}

// ForceOpen implements httpapi.Backend.
func (b *Backend) ForceOpen(ctx context.Context, id holdfast.VolumeID, f httpapi.Force) (cluster.Volume, error) {
	plan, err := b.PlanForce(ctx, id, f.From)
	switch {
	case err != nil:
		return cluster.Volume{}, err
	case plan.Refused != "":
		return cluster.Volume{}, holdfast.Errorf(holdfast.Conflict, "%s", plan.Refused)
	case plan.NeedsLost && !f.Lost:
		return cluster.Volume{}, holdfast.Errorf(holdfast.Conflict, "the copies in sync of volume %s may come back; bring their hosts back, or say that they will not: --lost", plan.Volume)
	}
	return b.edit(id, func(v *cluster.Volume) error {
		i := slices.IndexFunc(v.Others, func(r cluster.Replica) bool { return b.St.Hosts[r.Host].Val.Name == plan.From })
		v.Epoch++
		v.Forced = &cluster.Forced{At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), By: f.By, Epoch: v.Epoch, Replica: v.Others[i].ID, Upto: holdfast.MakeLSN(1, 8), Seen: holdfast.MakeLSN(1, 9)}
		for _, r := range v.InSync {
			v.Forced.Lost = append(v.Forced.Lost, cluster.LostCopy{Replica: r})
		}
		v.InSync, v.Others = v.Others[i:i+1], slices.Delete(slices.Clone(v.Others), i, i+1)
		return nil
	})
}

// AcknowledgeForce implements httpapi.Backend.
func (b *Backend) AcknowledgeForce(_ context.Context, id holdfast.VolumeID) (cluster.Volume, error) {
	return b.edit(id, func(v *cluster.Volume) error {
		if v.Forced == nil || v.Forced.Acknowledged != nil {
			return holdfast.Errorf(holdfast.NotFound, "volume %s is not marked as forced open", v.Name)
		}
		at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		v.Forced.Acknowledged = &at
		return nil
	})
}

// Stale has a copy of a volume left behind, as its writer does that goes on
// without it.
func (b *Backend) Stale(volume, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, v := range b.St.Volumes {
		if v.Val.Name != volume {
			continue
		}
		for _, r := range slices.Clone(v.Val.InSync) {
			if b.St.Hosts[r.Host].Val.Name == host {
				v.Val.Eject(r, time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC), holdfast.MakeLSN(1, 9))
			}
		}
		b.St.Volumes[id] = v
	}
}
