package httpapi

import (
	"context"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// changeRoutes are what can be changed about a volume while it is used.
func (s *Server) changeRoutes() {
	type move struct {
		VolumeRef
		Body v1.VolumeMoveSpec
	}
	type change struct {
		VolumeRef
		Body v1.VolumeSet
	}
	act(s, s.operation("POST", "/v1/volumes/{volume}/move", "volume-move", "Have a copy of a volume, or of an image, built elsewhere and then let go where it is", 200),
		func(ctx context.Context, in *move) (v1.VolumeMove, error) {
			return s.moveVolume(ctx, in.Volume, in.Body)
		})
	act(s, s.operation("PATCH", "/v1/volumes/{volume}", "volume-set", "Change a volume while it is used", 200),
		func(ctx context.Context, in *change) (v1.VolumeChanged, error) {
			return s.changeVolume(ctx, in.Volume, in.Body)
		})
}

// somewhere reads HOST, HOST/PATH, HOST:PATH or a disk's identity.
func (p picture) somewhere(ref string) (out placement.Somewhere, err error) {
	if ref == "" {
		return out, nil
	}
	if i := strings.IndexAny(ref, "/:"); i >= 0 {
		ref = ref[:i] + ":/" + strings.TrimLeft(ref[i:], "/:")
	} else if _, err := holdfast.ParseUUID(ref); err != nil {
		h, err := p.host(ref)
		return placement.Somewhere{Host: h.ID}, err
	}
	d, err := p.disk(ref)
	return placement.Somewhere{Host: d.Host, Disk: d.ID}, err
}

// volumeOrImage finds either.
func (p picture) volumeOrImage(ref string) (cluster.Volume, error) {
	return p.anyVolume("volume", ref, func(cluster.Volume) bool { return true })
}

func (s *Server) moveVolume(ctx context.Context, ref string, m v1.VolumeMoveSpec) (out v1.VolumeMove, err error) {
	p, err := s.picture(ctx)
	if err != nil {
		return out, err
	}
	v, err := p.volumeOrImage(ref)
	if err != nil {
		return out, err
	}
	out.Volume = v.Name
	if m.Stop {
		if err := s.o.Backend.StayReplicas(ctx, v.ID); err != nil {
			return out, err
		}
		s.noted(ctx, false, taskMove, v.ID.String(), "", "")
		return out, nil
	}
	if m.From == "" {
		return out, holdfast.Errorf(holdfast.Invalid, "say where the copy of volume %s is to go from: a host, or one of its disks as HOST/PATH", v.Name)
	}
	from, err := p.somewhere(m.From)
	if err != nil {
		return out, err
	}
	to, err := p.somewhere(m.To)
	if err != nil {
		return out, err
	}
	goes, spot, why, err := placement.PlaceMove(p.State, v, from, to)
	if err == nil && !m.Plan {
		goes, spot, err = s.o.Backend.MoveReplica(ctx, v.ID, from, to)
	}
	if err != nil {
		return out, err
	}
	look := placement.Look(p.State)
	out.From, out.To, out.Why = look.DiskName(goes), look.SpotName(spot), strings.Join(why.Chosen, "; ")
	if !m.Plan {
		s.note(ctx, taskMove, v.ID.String(), v.Name, "from "+out.From+" to "+out.To)
	}
	return out, nil
}

func (s *Server) changeVolume(ctx context.Context, ref string, in v1.VolumeSet) (out v1.VolumeChanged, err error) {
	p, err := s.picture(ctx)
	if err != nil {
		return out, err
	}
	v, err := p.volume(ref)
	if err != nil {
		return out, err
	}
	c := placement.Change{Copies: in.Copies, Min: in.Min, IOPS: in.IOPS, MBps: in.MBps, BurstMS: in.BurstMS, Shared: in.Shared, Weight: in.Weight}
	if in.Durability != nil {
		d := cluster.Durability(*in.Durability)
		c.Durability = &d
	}
	if in.Reads != nil {
		r := cluster.Reads(*in.Reads)
		c.Reads = &r
	}
	if c == (placement.Change{}) {
		return out, holdfast.Errorf(holdfast.Invalid, "volume %s: nothing is to be changed; say what", v.Name)
	}
	_, _, steps, err := placement.ChangeVolume(p.State, v, c)
	if err != nil {
		return out, err
	}
	if !in.Plan {
		if v, err = s.o.Backend.ChangeVolume(ctx, v.ID, c); err != nil {
			return out, err
		}
	}
	out.Steps = append([]string{}, steps...)
	out.Volume, err = s.volumeAnswer(ctx, v)
	return out, err
}
