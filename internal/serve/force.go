package serve

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// PlanForce implements httpapi.Volumes.
func (h *Host) PlanForce(ctx context.Context, id holdfast.VolumeID, from holdfast.HostID) (v1.Force, error) {
	m, err := h.member()
	if err != nil {
		return v1.Force{}, err
	}
	plan, err := m.node.Make.PlanForce(id, from)
	if err != nil {
		return v1.Force{}, err
	}
	return renderForce(plan, m.node.Cluster.State()), nil
}

// ForceOpen implements httpapi.Volumes.
func (h *Host) ForceOpen(ctx context.Context, id holdfast.VolumeID, f httpapi.Force) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	return m.node.Make.ForceOpen(id, provision.Force{Lost: f.Lost, By: f.By, From: f.From, Holds: f.Holds})
}

// AcknowledgeForce implements httpapi.Volumes.
func (h *Host) AcknowledgeForce(ctx context.Context, id holdfast.VolumeID) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	return m.node.Make.AcknowledgeForce(id)
}

func renderForce(p provision.ForcePlan, st *cluster.State) v1.Force {
	host := func(r cluster.Replica) string {
		if h, ok := st.Hosts[r.Host]; ok {
			return h.Val.Name
		}
		return r.Host.Short()
	}
	out := v1.Force{Volume: p.Volume.Name, Size: int64(p.Volume.Blocks) * holdfast.BlockSize, NeedsLost: p.NeedsLost,
		Snapshots: []string{}, Lost: []v1.ForceLost{}, Stale: []v1.ForceStale{}}
	if p.Refused != nil {
		out.Refused = p.Refused.Error()
	}
	var last time.Time
	for _, l := range p.Lost {
		x := v1.ForceLost{Host: host(l.Replica), Disk: st.Disks[l.Disk].Val.Path, Why: l.Text, Since: when(l.Last), Back: l.Why != provision.ForceGone}
		if l.Last.After(last) {
			last = l.Last
		}
		out.Lost = append(out.Lost, x)
	}
	for _, s := range p.Stale {
		x := v1.ForceStale{Host: host(s.Replica), Unfit: s.Unfit}
		if s.Report.Prefix != 0 {
			x.Holds = s.Report.Prefix.String()
		}
		out.Stale = append(out.Stale, x)
	}
	for _, s := range p.Snapshots {
		if !s.Hidden {
			out.Snapshots = append(out.Snapshots, s.Name)
		}
	}
	if p.From.ID.IsZero() {
		out.Missing = "everything: no stale copy can be used"
		return out
	}
	out.From, out.Holds, out.LastWrite = host(p.From.Replica), p.From.Report.Prefix.String(), when(last)
	if p.Seen != 0 {
		out.Seen = p.Seen.String()
	}
	if p.From.Ejected != nil {
		out.StaleFrom = when(p.From.Ejected.At)
	}
	out.Missing = missing(p, out)
	return out
}

// missing says in words what a forced opening may lose.
func missing(p provision.ForcePlan, f v1.Force) string {
	text := "every write, flushed or not, with an LSN above " + f.Holds
	if p.Seen > p.From.Report.Prefix {
		text += fmt.Sprintf(", of which those up to %s at least were made", f.Seen)
	}
	if opened := p.Volume.Epoch - p.From.Report.Prefix.Epoch(); opened > 0 {
		text += fmt.Sprintf("; the volume is at epoch %d, the copy ends in epoch %d", p.Volume.Epoch, p.From.Report.Prefix.Epoch())
	}
	switch {
	case f.StaleFrom != nil && f.LastWrite != nil:
		text += fmt.Sprintf("; that is what was written from %s to %s", stamp(*f.StaleFrom), stamp(*f.LastWrite))
	case f.StaleFrom != nil:
		text += fmt.Sprintf("; that is what was written since %s", stamp(*f.StaleFrom))
	case f.LastWrite != nil:
		text += fmt.Sprintf("; since when is not known, up to %s", stamp(*f.LastWrite))
	}
	return text
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
