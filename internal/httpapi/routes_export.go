package httpapi

import (
	"context"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// ExportRef names an export in a path.
type ExportRef struct {
	Export string `path:"export" maxLength:"63" doc:"Name or identity"`
}

func (s *Server) exportRoutes() {
	list(s, listing[v1.Export]{path: "/v1/exports", id: "export-list", summary: "The volumes that are reachable over iSCSI",
		key: func(e v1.Export) string { return keyOf(e.Name, e.ID) },
		all: func(_ context.Context, p picture) ([]v1.Export, error) {
			return render(p.exports(), p.renderExport), nil
		}})
	read(s, "/v1/exports/{export}", "export-show", "One export", func(p picture, in *ExportRef) (v1.Export, error) {
		e, err := p.export(in.Export)
		return p.renderExport(e), err
	})
	act(s, s.operation("POST", "/v1/exports", "export-create", "Make volumes reachable as an iSCSI target; nobody may log in yet", 201),
		func(ctx context.Context, in *request[v1.ExportSpec]) (v1.Export, error) {
			p, err := s.picture(ctx)
			if err != nil {
				return v1.Export{}, err
			}
			units, err := p.newUnits(in.Body)
			if err != nil {
				return v1.Export{}, err
			}
			e, err := s.changer(ctx).CreateExport(ctx, in.Body.Name, units)
			return s.exportAnswer(ctx, e, err)
		})
	do(s, s.operation("DELETE", "/v1/exports/{export}", "export-delete", "End an export and its sessions; the volumes stay", 204),
		func(ctx context.Context, in *ExportRef) error {
			e, err := lookup(ctx, s, in.Export, picture.export)
			if err != nil {
				return err
			}
			return s.changer(ctx).DeleteExport(ctx, e.ID)
		})
	type allow struct {
		ExportRef
		Body v1.InitiatorSpec
	}
	act(s, s.operation("POST", "/v1/exports/{export}/initiators", "export-allow", "Let an initiator log in, or change its secrets", 200),
		func(ctx context.Context, in *allow) (v1.Export, error) {
			e, err := lookup(ctx, s, in.Export, picture.export)
			if err != nil {
				return v1.Export{}, err
			}
			i, err := newInitiator(in.Body)
			if err != nil {
				return v1.Export{}, err
			}
			e, err = s.changer(ctx).AllowInitiator(ctx, e.ID, i)
			return s.exportAnswer(ctx, e, err)
		})
	type deny struct {
		ExportRef
		Initiator string `path:"initiator" maxLength:"223" doc:"Its iSCSI name"`
	}
	act(s, s.operation("DELETE", "/v1/exports/{export}/initiators/{initiator}", "export-deny", "Let an initiator log in no more, and end its sessions", 200),
		func(ctx context.Context, in *deny) (v1.Export, error) {
			e, err := lookup(ctx, s, in.Export, picture.export)
			if err != nil {
				return v1.Export{}, err
			}
			e, err = s.changer(ctx).DenyInitiator(ctx, e.ID, in.Initiator)
			return s.exportAnswer(ctx, e, err)
		})
}

// exportAnswer renders a record that the backend just committed.
func (s *Server) exportAnswer(ctx context.Context, e cluster.Export, err error) (v1.Export, error) {
	if err != nil {
		return v1.Export{}, err
	}
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Export{}, err
	}
	return p.renderExport(e), nil
}

// newUnits checks a request and resolves its names.
func (p picture) newUnits(s v1.ExportSpec) ([]cluster.Unit, error) {
	if err := holdfast.CheckName("export", s.Name); err != nil {
		return nil, err
	}
	var units []cluster.Unit
	for i, u := range s.Units {
		v, err := p.anyVolume("volume", u.Volume, func(cluster.Volume) bool { return true })
		if err != nil {
			return nil, err
		}
		units = append(units, cluster.Unit{LUN: i, Volume: v.ID, ReadOnly: u.ReadOnly, Removable: u.Removable, BlockSize: u.BlockSize})
	}
	return units, nil
}

// The lengths of a CHAP secret in bytes (RFC 7143 §9.2.1).
const minSecret, maxSecret = 12, 255

func newInitiator(s v1.InitiatorSpec) (cluster.Initiator, error) {
	i := cluster.Initiator{Name: strings.ToLower(s.Name), User: s.User, Secret: cluster.Secret(s.Secret), MutualUser: s.MutualUser, MutualSecret: cluster.Secret(s.MutualSecret)}
	if i.Name != "*" && !initiatorName(i.Name) {
		return i, holdfast.Errorf(holdfast.Invalid, "%q is no initiator's name; one looks like iqn.1993-08.org.debian:01:host1 (on Linux it stands in /etc/iscsi/initiatorname.iscsi), and * stands for any", clip(s.Name))
	}
	for _, secret := range []string{s.Secret, s.MutualSecret} {
		if secret != "" && (len(secret) < minSecret || len(secret) > maxSecret) {
			return i, holdfast.Errorf(holdfast.Invalid, "a CHAP secret of %d bytes: %d to %d are allowed", len(secret), minSecret, maxSecret)
		}
	}
	switch {
	case s.MutualSecret != "" && s.Secret == "":
		return i, holdfast.Errorf(holdfast.Invalid, "a secret of the target goes with one of the initiator; give that too")
	case s.Secret != "" && s.Secret == s.MutualSecret:
		return i, holdfast.Errorf(holdfast.Invalid, "the secrets of the two directions must differ: an initiator could send back what it was asked")
	case s.Secret == "" && s.User != "" || s.MutualSecret == "" && s.MutualUser != "":
		return i, holdfast.Errorf(holdfast.Invalid, "a CHAP name goes with a secret; give that too")
	}
	return i, nil
}

// initiatorName reports whether s has the form of an iSCSI name in lower case
// (RFC 7143 §4.2.7).
func initiatorName(s string) bool {
	if !strings.HasPrefix(s, "iqn.") && !strings.HasPrefix(s, "eui.") && !strings.HasPrefix(s, "naa.") || len(s) < 5 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.:") == ""
}

// renderExport shows an export, without secrets.
func (p picture) renderExport(e cluster.Export) v1.Export {
	out := v1.Export{ID: e.ID.String(), Name: e.Name, Target: e.Target, State: "idle", Units: []v1.Unit{}, Initiators: []v1.Initiator{},
		Portals: []v1.Portal{}, Created: e.Created}
	serving, served := p.Serving[e.ID]
	switch {
	case served && p.alive(serving.Val.Host):
		out.State, out.Host = "served", p.hostName(serving.Val.Host)
	case served:
		out.State, out.Host = "away", p.hostName(serving.Val.Host)
	case len(e.Initiators) == 0:
		out.State = "closed"
	}
	for _, u := range e.Units {
		unit := v1.Unit{LUN: u.LUN, Volume: p.volumeName(u.Volume), ReadOnly: u.ReadOnly, Removable: u.Removable, BlockSize: max(u.BlockSize, 512)}
		if v, ok := p.Volumes[u.Volume]; ok {
			unit.Size = int64(v.Val.Blocks) * holdfast.BlockSize
		}
		out.Units = append(out.Units, unit)
	}
	for _, i := range e.Initiators {
		chap := "none"
		switch {
		case i.MutualSecret != "":
			chap = "mutual"
		case i.Secret != "":
			chap = "one-way"
		}
		out.Initiators = append(out.Initiators, v1.Initiator{Name: i.Name, User: i.User, CHAP: chap, MutualUser: i.MutualUser})
	}
	out.Portals = p.renderPortals(serving.Val.Host)
	return out
}

// renderPortals shows the portals as paths to a target that a host serves.
func (p picture) renderPortals(serving holdfast.HostID) []v1.Portal {
	group := p.Hosts[serving].Val.PortalGroup
	out := []v1.Portal{}
	for _, h := range p.hosts() {
		if h.Portal == "" {
			continue
		}
		state := "non-optimized"
		switch {
		case !p.alive(h.ID):
			state = "unavailable"
		case group != 0 && h.PortalGroup == group:
			state = "optimized"
		}
		out = append(out, v1.Portal{Addr: h.Portal, Group: h.PortalGroup, Host: h.Name, Rack: h.Domain.String(), State: state})
	}
	return out
}
