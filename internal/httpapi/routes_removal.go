package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// RackRef names a rack in a path.
type RackRef struct {
	Rack string `path:"rack" maxLength:"127" doc:"RACK, or SITE/RACK"`
}

// LostFlag asks for the plan of a loss.
type LostFlag struct {
	Lost bool `query:"lost" doc:"They will not come back"`
}

func (s *Server) removalRoutes() {
	type hostPlan struct {
		HostRef
		LostFlag
	}
	type hostRemoval struct {
		HostRef
		Body v1.RemovalSpec
	}
	type rackPlan struct {
		RackRef
		LostFlag
	}
	type rackRemoval struct {
		RackRef
		Body v1.RemovalSpec
	}
	one := func(p picture, ref string) ([]cluster.Host, error) {
		h, err := p.host(ref)
		return []cluster.Host{h}, err
	}
	read(s, "/v1/hosts/{host}/removal", "host-removal", "What striking a host from the membership would mean", func(p picture, in *hostPlan) (v1.Removal, error) {
		hosts, err := one(p, in.Host)
		return p.renderRemoval(hosts, in.Lost), err
	})
	act(s, s.operation("POST", "/v1/hosts/{host}/removal", "host-remove", "Strike a host from the membership", 200),
		func(ctx context.Context, in *hostRemoval) (v1.Removal, error) {
			return s.remove(ctx, one, in.Host, in.Body)
		})
	read(s, "/v1/racks", "rack-list", "The racks", func(p picture, _ *none) ([]v1.Rack, error) { return p.renderRacks(), nil })
	read(s, "/v1/racks/{rack}", "rack-show", "One rack", func(p picture, in *RackRef) (v1.Rack, error) {
		hosts, err := p.rack(in.Rack)
		if err != nil {
			return v1.Rack{}, err
		}
		racks := p.renderRacks()
		return racks[slices.IndexFunc(racks, func(r v1.Rack) bool { return r.Name == hosts[0].Domain.String() })], nil
	})
	read(s, "/v1/racks/{rack}/removal", "rack-removal", "What striking all hosts of a rack from the membership would mean", func(p picture, in *rackPlan) (v1.Removal, error) {
		hosts, err := p.rack(in.Rack)
		return p.renderRemoval(hosts, in.Lost), err
	})
	act(s, s.operation("POST", "/v1/racks/{rack}/removal", "rack-remove", "Strike all hosts of a rack from the membership", 200),
		func(ctx context.Context, in *rackRemoval) (v1.Removal, error) {
			return s.remove(ctx, picture.rack, in.Rack, in.Body)
		})
}

// remove strikes hosts and answers with what was planned.
func (s *Server) remove(ctx context.Context, find func(picture, string) ([]cluster.Host, error), ref string, spec v1.RemovalSpec) (v1.Removal, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Removal{}, err
	}
	hosts, err := find(p, ref)
	if err != nil {
		return v1.Removal{}, err
	}
	var giveUp []holdfast.VolumeID
	for _, name := range spec.GiveUp {
		v, err := p.volumeOrImage(name)
		if err != nil {
			return v1.Removal{}, err
		}
		giveUp = append(giveUp, v.ID)
	}
	plan := p.renderRemoval(hosts, spec.Lost)
	return plan, s.changer(ctx).RemoveHosts(ctx, identities(hosts), spec.Lost, giveUp)
}

func identities(hosts []cluster.Host) (ids []holdfast.HostID) {
	for _, h := range hosts {
		ids = append(ids, h.ID)
	}
	return ids
}

// rack returns the hosts of a rack, by its name with or without that of its
// site.
func (p picture) rack(ref string) (hosts []cluster.Host, err error) {
	sites := map[string]bool{}
	for _, h := range p.hosts() {
		if h.Domain.String() == ref || h.Domain.Rack == ref {
			hosts = append(hosts, h)
			sites[h.Domain.String()] = true
		}
	}
	switch {
	case len(hosts) == 0:
		return nil, holdfast.Errorf(holdfast.NotFound, "no host is in a rack %q; there are %s", clip(ref), strings.Join(p.racks(), ", "))
	case len(sites) > 1:
		return nil, holdfast.Errorf(holdfast.Invalid, "several sites have a rack %s; say SITE/RACK", ref)
	}
	return hosts, nil
}

func (p picture) renderRacks() []v1.Rack {
	out := []v1.Rack{}
	can := map[string]bool{}
	for _, j := range placement.CanLose(p.State).Racks {
		can[j.Name] = j.Can
	}
	for _, h := range p.hosts() {
		name := h.Domain.String()
		if n := len(out); n == 0 || out[n-1].Name != name {
			out = append(out, v1.Rack{Name: name, Hosts: []string{}, Alive: []string{}, Voters: []string{}, VMs: []string{}, Witness: true, CanLose: can[name]})
		}
		r := &out[len(out)-1]
		r.Hosts = append(r.Hosts, h.Name)
		r.Witness = r.Witness && h.Witness
		if p.alive(h.ID) {
			r.Alive = append(r.Alive, h.Name)
		}
		if h.Voter {
			r.Voters = append(r.Voters, h.Name)
		}
		r.VMs = append(r.VMs, p.renderHost(h).VMs...)
	}
	return out
}

// renderRemoval says what striking hosts would mean.
func (p picture) renderRemoval(hosts []cluster.Host, lost bool) v1.Removal {
	r := placement.PlanRemoval(p.State, identities(hosts), lost)
	out := v1.Removal{Hosts: []string{}, Lost: lost, Refused: r.Refused, VMs: []v1.RemovalVM{}, Volumes: []v1.RemovalVolume{},
		Voters: r.Votes.Go, Control: controlText(r.Votes)}
	if out.Refused == nil {
		out.Refused = []string{}
	}
	if out.Voters == nil {
		out.Voters = []string{}
	}
	for _, id := range r.Hosts {
		out.Hosts = append(out.Hosts, p.hostName(id))
	}
	for _, s := range r.Restarts {
		out.VMs = append(out.VMs, v1.RemovalVM{VM: s.Name, To: p.hostName(s.To), Why: strings.Join(s.Why.Chosen, "; ")})
	}
	for _, u := range r.Unplaced {
		out.VMs = append(out.VMs, v1.RemovalVM{VM: u.Name, Why: strings.TrimPrefix(u.Detail(), "VM "+u.Name+" cannot start: ")})
	}
	for _, c := range r.Volumes {
		state := "degraded"
		switch {
		case c.Unreachable:
			state = "unreachable"
		case c.Left >= c.Volume.Copies:
			state = "whole"
		}
		out.Volumes = append(out.Volumes, v1.RemovalVolume{Volume: c.Volume.Name, Size: int64(c.Volume.Blocks) * holdfast.BlockSize,
			State: state, Left: c.Left, Copies: c.Volume.Copies, Why: c.Reason()})
	}
	return out
}

func controlText(v placement.Votes) string {
	switch {
	case v.All == 0:
		return "the control plane is an external etcd, which is not touched"
	case len(v.Go) == 0:
		return fmt.Sprintf("the control plane loses no vote: %d of %d are alive", v.Alive, v.Left)
	case v.Left == 0 || v.Alive < v.Needed():
		return fmt.Sprintf("the control plane would stop: %d of the %d left would be alive, it needs %d", v.Alive, v.Left, v.Needed())
	}
	return fmt.Sprintf("the control plane goes on: %d of the %d left are alive, it needs %d", v.Alive, v.Left, v.Needed())
}
