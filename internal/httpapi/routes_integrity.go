package httpapi

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

type local struct {
	Local bool `query:"local" doc:"Only the answering host"`
}

func (s *Server) integrityRoutes() {
	type volume struct {
		VolumeRef
		Local bool `query:"local" doc:"Only the replicas of the answering host"`
	}
	type disk struct {
		Disk string `path:"disk" maxLength:"63" doc:"Identity"`
	}
	act(s, s.operation("GET", "/v1/integrity", "integrity", "What the hosts know of the bytes on their disks: scrubs, when each copy was last proved good, faults", 200),
		func(ctx context.Context, in *local) (v1.Integrity, error) {
			return s.o.Backend.Integrity(ctx, in.Local)
		})
	do(s, s.operation("POST", "/v1/disks/{disk}/scrub", "disk-scrub", "Verify everything on a disk now", 204),
		func(ctx context.Context, in *disk) error {
			d, err := lookup(ctx, s, in.Disk, picture.disk)
			if err != nil {
				return err
			}
			return s.o.Backend.ScrubDisk(ctx, d.ID)
		})
	do(s, s.operation("POST", "/v1/volumes/{volume}/scrub", "volume-scrub", "Verify every copy of a volume now", 204),
		func(ctx context.Context, in *volume) error {
			v, err := lookup(ctx, s, in.Volume, picture.stored)
			if err != nil {
				return err
			}
			return s.o.Backend.ScrubVolume(ctx, v.ID, in.Local)
		})
	act(s, s.operation("GET", "/v1/volumes/{volume}/faults", "volume-faults", "The blocks of a volume that did not match their hash, and where that was seen first", 200), s.faults)
	do(s, s.operation("POST", "/v1/volumes/{volume}/faults/acknowledge", "volume-faults-acknowledge", "Take the faults known by now out of the status", 204),
		func(ctx context.Context, in *volume) error {
			v, err := lookup(ctx, s, in.Volume, picture.stored)
			if err != nil {
				return err
			}
			return s.o.Backend.Acknowledge(ctx, v.ID, in.Local)
		})
}

func (s *Server) faults(ctx context.Context, in *VolumeRef) ([]v1.Fault, error) {
	v, err := lookup(ctx, s, in.Volume, picture.stored)
	if err != nil {
		return nil, err
	}
	all, err := s.o.Backend.Integrity(ctx, false)
	if err != nil {
		return nil, err
	}
	out := []v1.Fault{}
	for _, r := range all.Replicas {
		if r.Volume == v.Name {
			out = append(out, r.Faults...)
		}
	}
	slices.SortStableFunc(out, func(a, b v1.Fault) int { return b.Last.Compare(a.Last) })
	return out, nil
}

// proved adds what the hosts know of a volume's replicas. What they do not tell
// is left out: that a volume is shown does not depend on all of them.
func (s *Server) proved(ctx context.Context, v v1.Volume) v1.Volume {
	s.rebuilt(ctx, &v)
	all, err := s.o.Backend.Integrity(ctx, false)
	if err != nil {
		return v
	}
	for i := range v.Replicas {
		r := &v.Replicas[i]
		for _, x := range all.Replicas {
			if x.Replica != r.ID {
				continue
			}
			r.Proved, r.Scrub = x.Proved, x.Scrub
			for _, f := range x.Faults {
				if f.State == "bad" || f.State == "lost" {
					r.Bad++
				}
			}
		}
	}
	return v
}

// scrubbed adds what the hosts know of the disks, as far as they tell.
func (s *Server) scrubbed(ctx context.Context, disks []v1.Disk) []v1.Disk {
	all, err := s.o.Backend.Integrity(ctx, false)
	if err != nil {
		return disks
	}
	for i := range disks {
		for _, x := range all.Disks {
			if x.Disk == disks[i].ID {
				disks[i].Scrubbed, disks[i].Scrub = x.Scrubbed, x.Scrub
			}
		}
	}
	return disks
}

// stored finds a volume, or an image if no volume is called that.
func (p picture) stored(ref string) (cluster.Volume, error) {
	v, err := p.volume(ref)
	if holdfast.IsKind(err, holdfast.NotFound) {
		if i, ierr := p.image(ref); ierr == nil {
			return i, nil
		}
	}
	return v, err
}

// rebuilt adds how a replica is being built, and what waited for the volume's
// limits, as far as the writer tells.
func (s *Server) rebuilt(ctx context.Context, v *v1.Volume) {
	limited := v.IOPS > 0 || v.MBps > 0
	if !limited && !slices.ContainsFunc(v.Replicas, func(r v1.Replica) bool { return !r.InSync && r.Alive }) {
		return
	}
	id, err := holdfast.ParseUUID(v.ID)
	if err != nil {
		return
	}
	a, err := s.o.Backend.Activity(ctx, holdfast.VolumeID{UUID: id})
	if err != nil {
		return
	}
	if v.Delayed = a.Delayed; a.Resync == "" {
		return
	}
	for i := range v.Replicas {
		if r := &v.Replicas[i]; !r.InSync && r.Host == a.ResyncHost {
			r.Rebuild = &v1.Rebuild{Done: a.ResyncDone, Rate: a.ResyncRate, LeftSecs: a.ResyncLeftSecs,
				Waits: a.ResyncWaits, Ahead: a.ResyncAhead, Limit: a.ResyncLimit, LimitedBy: a.ResyncLimitedBy}
		}
	}
}
