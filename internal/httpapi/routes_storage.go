package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// VolumeRef, like the other names of path parameters, is exported because huma
// does not fill unexported embedded structs.
type VolumeRef struct {
	Volume string `path:"volume" maxLength:"63" doc:"Name or identity"`
}

func (s *Server) volumeRoutes() {
	list(s, listing[v1.Volume]{path: "/v1/volumes", id: "volume-list", summary: "The volumes that are not images",
		key: volumeKey,
		all: func(_ context.Context, p picture) ([]v1.Volume, error) {
			return render(p.only(false), p.renderVolume), nil
		}})
	act(s, s.operation("GET", "/v1/volumes/{volume}", "volume-show", "One volume", 200), func(ctx context.Context, in *VolumeRef) (v1.Volume, error) {
		p, err := s.picture(ctx)
		if err != nil {
			return v1.Volume{}, err
		}
		v, err := p.volume(in.Volume)
		if err != nil {
			return v1.Volume{}, err
		}
		return s.proved(ctx, p.renderVolume(v)), nil
	})
	act(s, s.operation("POST", "/v1/volumes", "volume-create", "Make a volume, empty or a linked clone", 201), s.createVolume)
	type remove struct {
		VolumeRef
		Erase bool `query:"erase" doc:"Refuse it unless erasing its key makes all copies unreadable"`
	}
	do(s, s.operation("DELETE", "/v1/volumes/{volume}", "volume-delete", "Delete a volume and its snapshots", 204),
		func(ctx context.Context, in *remove) error {
			v, err := lookup(ctx, s, in.Volume, picture.volume)
			if err != nil {
				return err
			}
			if err := s.changer(ctx).DeleteVolume(ctx, v.ID, in.Erase); err != nil {
				return err
			}
			return s.left(ctx, ownedVolume(v.ID))
		})
	act(s, s.operation("GET", "/v1/volumes/{volume}/activity", "volume-activity", "Counters since the volume was opened", 200),
		func(ctx context.Context, in *VolumeRef) (v1.Activity, error) {
			v, err := lookup(ctx, s, in.Volume, picture.volume)
			if err != nil {
				return v1.Activity{}, err
			}
			return s.o.Backend.Activity(ctx, v.ID)
		})
	s.changeRoutes()
	type grow struct {
		VolumeRef
		Body v1.GrowSpec
	}
	act(s, s.operation("POST", "/v1/volumes/{volume}/grow", "volume-grow", "Make a volume larger", 200),
		func(ctx context.Context, in *grow) (v1.Volume, error) {
			return s.growVolume(ctx, in.Volume, in.Body.Size)
		})
}

// only returns the images, or the volumes that are none.
func (p picture) only(images bool) []cluster.Volume {
	var out []cluster.Volume
	for _, v := range p.volumes() {
		if v.Image == images {
			out = append(out, v)
		}
	}
	return out
}

func (s *Server) createVolume(ctx context.Context, in *request[v1.VolumeSpec]) (v1.Volume, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Volume{}, err
	}
	n, err := p.newVolume(in.Body)
	if err != nil {
		return v1.Volume{}, err
	}
	var v cluster.Volume
	share := account.Share{Bytes: int64(n.Blocks) * holdfast.BlockSize}
	if n.Origin != nil {
		share.Bytes = max(share.Bytes, p.sizeOf(n.Origin.Volume))
	}
	err = s.admitted(ctx, share, func() (string, error) {
		v, err = s.changer(ctx).CreateVolume(ctx, n)
		return ownedVolume(v.ID), err
	})
	if err != nil {
		return v1.Volume{}, err
	}
	return s.volumeAnswer(ctx, v)
}

func (s *Server) growVolume(ctx context.Context, ref string, size int64) (v1.Volume, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Volume{}, err
	}
	v, err := p.volume(ref)
	if err != nil {
		return v1.Volume{}, err
	}
	blocks, err := blocksOf("volume "+v.Name, size, false)
	if err != nil {
		return v1.Volume{}, err
	}
	if blocks < v.Blocks {
		return v1.Volume{}, holdfast.Errorf(holdfast.Invalid, "volume %s has %d bytes and is never made smaller: what stands at its end would be lost", v.Name, v.Blocks*holdfast.BlockSize)
	}
	err = s.grown(ctx, p, v.ID, blocks, func() error {
		v, err = s.changer(ctx).GrowVolume(ctx, v.ID, blocks)
		return err
	})
	if err != nil {
		return v1.Volume{}, err
	}
	return s.volumeAnswer(ctx, v)
}
