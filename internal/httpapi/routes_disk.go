package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// DiskRef names a disk in a path.
type DiskRef struct {
	Disk string `path:"disk" maxLength:"4200" doc:"Identity, or HOST:PATH"`
}

func (s *Server) diskRoutes() {
	list(s, listing[v1.Disk]{path: "/v1/disks", id: "disk-list", summary: "The disks of all hosts", more: true,
		key: func(d v1.Disk) string { return keyOf(d.Rack, d.Host, d.Path, d.ID) },
		all: func(ctx context.Context, p picture) ([]v1.Disk, error) {
			return s.scrubbed(ctx, render(p.disks(), p.renderDisk)), nil
		}})
	act(s, s.operation("POST", "/v1/disks", "disk-add", "Give a disk of the answering host to the cluster; its content is lost", 201), s.addDisk)
	do(s, s.operation("DELETE", "/v1/disks/{disk}", "disk-remove", "Have a disk evacuated and then taken back", 204), func(ctx context.Context, in *DiskRef) error {
		d, err := lookup(ctx, s, in.Disk, picture.disk)
		if err != nil {
			return err
		}
		if err := s.changer(ctx).EvacuateDisk(ctx, d.ID, true, true); err != nil {
			return err
		}
		return s.evacuates(ctx, d, "and is given back")
	})
	type replace struct {
		DiskRef
		Body v1.DiskSpec
	}
	act(s, s.operation("POST", "/v1/disks/{disk}/replace", "disk-replace", "Give a new disk of the same host to the cluster in a disk's place, which is then evacuated and taken back; the new one's content is lost", 201),
		func(ctx context.Context, in *replace) (v1.Disk, error) {
			old, err := lookup(ctx, s, in.Disk, picture.disk)
			if err != nil {
				return v1.Disk{}, err
			}
			p, err := s.picture(ctx)
			if err != nil {
				return v1.Disk{}, err
			}
			if in.Body.Pool == "" {
				in.Body.Pool = p.PoolName(old.Pool)
			}
			n, err := s.newDisk(p, in.Body)
			if err != nil {
				return v1.Disk{}, err
			}
			if n.Pool.ID != old.Pool {
				return v1.Disk{}, holdfast.Errorf(holdfast.Invalid, "a disk of pool %s is replaced by one of that pool, not of %s", p.PoolName(old.Pool), in.Body.Pool)
			}
			d, err := s.changer(ctx).ReplaceDisk(ctx, old.ID, n)
			if err != nil {
				return v1.Disk{}, err
			}
			if err := s.evacuates(ctx, old, "and is replaced"); err != nil {
				return v1.Disk{}, err
			}
			if p, err = s.picture(ctx); err != nil {
				return v1.Disk{}, err
			}
			return p.renderDisk(d), nil
		})
	s.evacuationRoutes()
}

func (s *Server) evacuationRoutes() {
	type evacuate struct {
		DiskRef
		Body v1.EvacuationSpec
	}
	act(s, s.operation("GET", "/v1/disks/{disk}/evacuation", "disk-evacuation-show", "What evacuating a disk would move, or what is still to be moved", 200),
		func(ctx context.Context, in *DiskRef) (v1.Evacuation, error) { return s.evacuation(ctx, in.Disk) })
	act(s, s.operation("POST", "/v1/disks/{disk}/evacuation", "disk-evacuate", "Move copies of volumes off a disk, or let it have some again", 200),
		func(ctx context.Context, in *evacuate) (v1.Evacuation, error) {
			d, err := lookup(ctx, s, in.Disk, picture.disk)
			if err != nil {
				return v1.Evacuation{}, err
			}
			if in.Body.Remove && !in.Body.On {
				return v1.Evacuation{}, holdfast.Errorf(holdfast.Invalid, "a disk that may have copies is not taken back: remove goes with on")
			}
			if err := s.changer(ctx).EvacuateDisk(ctx, d.ID, in.Body.On, in.Body.Remove); err != nil {
				return v1.Evacuation{}, err
			}
			if !in.Body.On {
				s.noted(ctx, false, taskEvacuation, d.ID.String(), "", "")
			} else if err := s.evacuates(ctx, d, ""); err != nil {
				return v1.Evacuation{}, err
			}
			return s.evacuation(ctx, d.ID.String())
		})
}

// evacuates notes that a disk is evacuated.
func (s *Server) evacuates(ctx context.Context, d cluster.Disk, detail string) error {
	p, err := s.picture(ctx)
	if err != nil {
		return err
	}
	s.note(ctx, taskEvacuation, d.ID.String(), p.hostName(d.Host)+":"+d.Path, detail)
	return nil
}

// evacuation says how far the evacuation of a disk is.
func (s *Server) evacuation(ctx context.Context, ref string) (v1.Evacuation, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Evacuation{}, err
	}
	d, err := p.disk(ref)
	if err != nil {
		return v1.Evacuation{}, err
	}
	work, err := s.o.Backend.Work(ctx, false)
	if err != nil {
		return v1.Evacuation{}, err
	}
	progress := progressOf(work)
	out := v1.Evacuation{Disk: p.hostName(d.Host) + ":" + d.Path, ID: d.ID.String(), Evacuating: d.Evacuate, Remove: d.Remove, Moves: []v1.Departure{}}
	for _, m := range placement.Departures(p.State, d.ID) {
		x := v1.Departure{Volume: m.Name, Size: int64(m.Blocks) * holdfast.BlockSize, Stage: string(m.Stage), To: m.To, Why: m.Why}
		if m.Stage == placement.Copying {
			x.Done = progress[m.Volume].Percent
		}
		out.Moves = append(out.Moves, x)
	}
	return out, nil
}
