package httpapi

import (
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// RenderBuild renders a build of the program.
func RenderBuild(b upgrade.Build) v1.Build {
	return v1.Build{Version: b.Version, SHA256: b.Sum, Arch: b.Arch}
}

// RenderUpgrade renders a plan.
func RenderUpgrade(p upgrade.Plan) v1.Upgrade {
	out := v1.Upgrade{Racks: []v1.UpgradeRack{}, Blocked: orNone(p.Blocked), Risks: orNone(p.Risks), Notes: orNone(p.Notes)}
	for _, r := range p.Racks {
		rack := v1.UpgradeRack{Rack: r.Domain.String(), Hosts: []v1.UpgradeStep{}}
		for _, s := range r.Steps {
			x := v1.UpgradeStep{Host: s.Name, State: "to-do", From: RenderBuild(s.From), To: RenderBuild(s.To), Why: s.Skipped, VMs: orNone(s.VMs), Away: orNone(s.Away)}
			switch {
			case s.Done:
				x.State, x.Why = "done", ""
			case s.Skipped != "":
				x.State = "skipped"
			}
			rack.Hosts = append(rack.Hosts, x)
		}
		out.Racks = append(out.Racks, rack)
	}
	return out
}

// orNone is a list that is never null on the wire.
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
