package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

func (s *Server) drainRoutes() {
	type drain struct {
		HostRef
		Body v1.DrainSpec
	}
	read(s, "/v1/hosts/{host}/drain", "host-drain-show", "What draining a host would move, or what is still to be moved", func(p picture, in *HostRef) (v1.Drain, error) {
		h, err := p.host(in.Host)
		if err != nil {
			return v1.Drain{}, err
		}
		return p.renderDrain(h), nil
	})
	act(s, s.operation("POST", "/v1/hosts/{host}/drain", "host-drain", "Move work off a host, or let it take work again", 200),
		func(ctx context.Context, in *drain) (v1.Drain, error) {
			h, err := lookup(ctx, s, in.Host, picture.host)
			if err != nil {
				return v1.Drain{}, err
			}
			if !in.Body.On && in.Body.GuestSeconds != 0 {
				return v1.Drain{}, holdfast.Errorf(holdfast.Invalid, "guest_seconds goes with draining: a host that takes work again shuts no guest down")
			}
			if err := s.changer(ctx).Drain(ctx, h.ID, in.Body.On, in.Body.GuestSeconds); err != nil {
				return v1.Drain{}, err
			}
			s.noted(ctx, in.Body.On, taskDrain, h.ID.String(), h.Name, "")
			p, err := s.picture(ctx)
			if err != nil {
				return v1.Drain{}, err
			}
			if h, err = p.host(h.ID.String()); err != nil {
				return v1.Drain{}, err
			}
			return p.renderDrain(h), nil
		})
}

// renderDrain shows where the VMs of a host are to go, or would.
func (p picture) renderDrain(h cluster.Host) v1.Drain {
	out := v1.Drain{Host: h.Name, Drained: h.Drained, Moves: []v1.Move{}, Needed: []string{}, Written: []string{}}
	alive, here := p.Alive[h.ID]
	out.Noticed = !here || alive.Val.Drained == h.Drained
	for _, id := range alive.Val.Writes {
		out.Written = append(out.Written, p.volumeName(id))
	}
	for _, m := range placement.Moves(placement.Look(p.State), nil, h.ID) {
		if m.From == h.ID {
			out.Moves = append(out.Moves, v1.Move{VM: m.Name, Stage: string(m.Stage), To: p.hostName(m.To), Why: m.Reason()})
		}
	}
	for _, l := range placement.FailoverPlan(p.State).Hosts {
		if l.Name == h.Name {
			out.Needed = append(out.Needed, l.Reasons()...)
		}
	}
	return out
}
