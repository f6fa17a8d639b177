package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Force is what somebody says who has a volume opened from a stale copy.
type Force struct {
	Lost bool            // the copies in sync will not come back
	By   string          // who says so
	From holdfast.HostID // whose copy; zero: that which holds most

	Holds string // up to where, by the plan that was seen; "": none was
}

func (s *Server) forceRoutes() {
	type plan struct {
		VolumeRef
		From string `query:"from" maxLength:"63" doc:"Host whose copy would be used; none: that which holds most"`
	}
	type order struct {
		VolumeRef
		Body v1.ForceSpec
	}
	act(s, s.operation("GET", "/v1/volumes/{volume}/force-open", "volume-force-plan", "What opening a volume or image from a stale copy would mean", 200),
		func(ctx context.Context, in *plan) (v1.Force, error) {
			v, from, err := s.forcing(ctx, in.Volume, in.From)
			if err != nil {
				return v1.Force{}, err
			}
			return s.o.Backend.PlanForce(ctx, v.ID, from)
		})
	act(s, s.operation("POST", "/v1/volumes/{volume}/force-open", "volume-force-open", "Open a volume or image from a stale copy: what was flushed since may be missing", 200),
		func(ctx context.Context, in *order) (v1.Volume, error) {
			v, from, err := s.forcing(ctx, in.Volume, in.Body.From)
			if err != nil {
				return v1.Volume{}, err
			}
			if in.Body.Confirm != v.Name {
				return v1.Volume{}, holdfast.Errorf(holdfast.Invalid, "nothing was opened: confirm says %q and the volume is called %s; look at the plan first", clip(in.Body.Confirm), v.Name)
			}
			if v, err = s.o.Backend.ForceOpen(ctx, v.ID, Force{Lost: in.Body.Lost, By: in.Body.By, From: from, Holds: in.Body.Holds}); err != nil {
				return v1.Volume{}, err
			}
			return s.volumeAnswer(ctx, v)
		})
	act(s, s.operation("POST", "/v1/volumes/{volume}/force-open/acknowledge", "volume-force-acknowledge", "Have it no longer told that a volume was opened from a stale copy", 200),
		func(ctx context.Context, in *VolumeRef) (v1.Volume, error) {
			v, _, err := s.forcing(ctx, in.Volume, "")
			if err != nil {
				return v1.Volume{}, err
			}
			if v, err = s.o.Backend.AcknowledgeForce(ctx, v.ID); err != nil {
				return v1.Volume{}, err
			}
			return s.volumeAnswer(ctx, v)
		})
}

// forcing finds the volume or image, and the host if one is named.
func (s *Server) forcing(ctx context.Context, volume, host string) (v cluster.Volume, from holdfast.HostID, err error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v, from, err
	}
	if host != "" {
		h, err := p.host(host)
		if err != nil {
			return v, from, err
		}
		from = h.ID
	}
	v, err = p.volumeOrImage(volume)
	return v, from, err
}

func (p picture) renderForced(v cluster.Volume) *v1.Forced {
	f := v.Forced
	if f == nil {
		return nil
	}
	out := &v1.Forced{At: f.At, By: f.By, Holds: f.Upto.String(), StaleFrom: f.Stale, Snapshots: f.Snapshots, Acknowledged: f.Acknowledged, Copies: []v1.ForcedCopy{}}
	if f.Seen != 0 {
		out.Seen = f.Seen.String()
	}
	for _, s := range v.Snapshots {
		if s.ID == f.Snapshot {
			out.Snapshot = s.Name
		}
	}
	for _, l := range f.Lost {
		x := v1.ForcedCopy{Host: p.hostName(l.Host), At: l.At, Blocks: int64(l.Blocks), Damaged: l.Damaged}
		if x.Host == "" {
			x.Host = l.Host.Short()
		}
		if l.At != nil {
			x.Volume, x.Holds = l.Name, l.Prefix.String()
			if now, ok := p.Volumes[l.Volume]; ok {
				x.Volume = now.Val.Name
			}
		}
		for _, r := range l.Runs {
			x.Extents = append(x.Extents, v1.Extent{Offset: int64(r.Addr) * holdfast.BlockSize, Length: int64(r.Blocks) * holdfast.BlockSize})
		}
		out.Copies = append(out.Copies, x)
	}
	return out
}
