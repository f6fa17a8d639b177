package httpapi

import (
	"cmp"
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

func (s *Server) workRoutes() {
	act(s, s.operation("GET", "/v1/work", "work", "What long work the hosts are at or have waiting: copies that are built or brought up to date, scrubs", 200),
		func(ctx context.Context, in *local) (v1.Works, error) {
			return s.o.Backend.Work(ctx, in.Local)
		})
	type which struct {
		ID    string `path:"task" maxLength:"32" doc:"Its id, as the list of long work shows it"`
		Local bool   `query:"local" doc:"Only on the answering host"`
	}
	do(s, s.operation("DELETE", "/v1/work/{task}", "work-cancel", "Cancel a backup or a restore; what else hosts are at goes on", 204),
		func(ctx context.Context, in *which) error { return s.o.Backend.CancelWork(ctx, in.ID, in.Local) })
}

// progressOf is what health needs to know of it.
func progressOf(w v1.Works) health.Progress {
	out := health.Progress{}
	for _, x := range w.Work {
		if x.Kind != "rebuild" && x.Kind != "resync" {
			continue
		}
		if id, err := holdfast.ParseUUID(x.VolumeID); err == nil {
			out[holdfast.VolumeID{UUID: id}] = health.Copying{Percent: int(x.Done * 100), Waits: x.Waits}
		}
	}
	return out
}

// renderWork is what is under way, evacuations first: they are why copies move.
func (p picture) renderWork(w v1.Works) []v1.Work {
	out := []v1.Work{}
	for _, d := range p.disks() {
		if d.Evacuate {
			if x, ok := p.renderEvacuation(d, w); ok {
				out = append(out, x)
			}
		}
	}
	for _, x := range w.Work {
		if !x.Waits {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b v1.Work) int {
		return cmp.Or(cmp.Compare(workRank(a), workRank(b)), cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Disk, b.Disk), cmp.Compare(a.Host, b.Host))
	})
	return out
}

func workRank(w v1.Work) int {
	return slices.Index([]string{"evacuation", "rebuild", "resync", "scrub", "backup", "restore"}, w.Kind)
}

// renderEvacuation sums up what the copies of the volumes that leave a disk are
// at; ok is false if nothing stands on it any more. How long it still takes is
// told from how fast those go that go now.
func (p picture) renderEvacuation(d cluster.Disk, w v1.Works) (out v1.Work, ok bool) {
	out = v1.Work{Kind: "evacuation", Host: p.hostName(d.Host), Disk: p.hostName(d.Host) + ":" + d.Path}
	on := func(r cluster.Replica) bool { return r.Disk == d.ID }
	now := make(map[string]v1.Work)
	for _, x := range w.Work {
		if (x.Kind == "rebuild" || x.Kind == "resync") && !x.Waits {
			now[x.VolumeID] = x
		}
	}
	var copied, pace float64 // bytes, bytes a second, by address
	for _, v := range p.volumes() {
		if !slices.ContainsFunc(v.InSync, on) && !slices.ContainsFunc(v.Others, on) {
			continue
		}
		size := float64(v.Blocks) * holdfast.BlockSize
		out.Copies++
		out.Total += int64(size)
		there := len(slices.DeleteFunc(slices.Clone(v.InSync), on))
		if x, ok := now[v.ID.String()]; there >= v.Copies {
			copied += size // it has its copies elsewhere, and is let go here
		} else if ok {
			copied += x.Done * size
			out.Rate += x.Rate
			if x.LeftSecs > 0 {
				pace += (1 - x.Done) * size / float64(x.LeftSecs)
			}
		}
	}
	if out.Total > 0 {
		out.Done = copied / float64(out.Total)
	}
	if pace > 0 {
		out.LeftSecs = int64((float64(out.Total) - copied) / pace)
	}
	return out, out.Copies > 0
}
