package apitest

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// noProgram is what a fake answers that was given no place for programs.
func noProgram() error {
	return holdfast.Errorf(holdfast.Unavailable, "this host cannot be given another program")
}

// builds are what the fake's hosts say they run: the version of its name.
func (b *Backend) builds() map[holdfast.HostID]upgrade.Host {
	was := upgrade.Build{Version: "v1.0.0", Sum: sum("v1.0.0"), Arch: "amd64"}
	out := map[holdfast.HostID]upgrade.Host{}
	for id := range b.St.Hosts {
		x := upgrade.Host{Running: was, Disk: was}
		if b.Runs[id].Sum != "" {
			x.Running, x.Disk, x.Previous = b.Runs[id], b.Runs[id], was
		}
		out[id] = x
	}
	return out
}

// sum is the hash of a build that does not exist.
func sum(version string) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 64)
	for i := range out {
		out[i] = digits[(int(version[i%len(version)])+i)%len(digits)]
	}
	return string(out)
}

// UpgradePlan implements httpapi.Upgrader.
func (b *Backend) UpgradePlan(_ context.Context, a httpapi.UpgradeAsk) (v1.Upgrade, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := upgrade.Make(upgrade.Ask{State: b.St, Hosts: b.builds(), Way: a.Way, File: a.File, Back: a.Back})
	return httpapi.RenderUpgrade(p), nil
}

// Program implements httpapi.Upgrader.
func (b *Backend) Program(_ context.Context, host holdfast.HostID) (v1.Program, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.builds()[host]
	disk := httpapi.RenderBuild(x.Disk)
	p := v1.Program{Host: b.St.Hosts[host].Val.Name, Path: "/usr/bin/holdfast", Running: httpapi.RenderBuild(x.Running), Disk: &disk, VMs: []string{}}
	for _, vm := range b.St.VMs {
		if vm.Val.Host == host {
			p.VMs = append(p.VMs, vm.Val.Name)
		}
	}
	return p, nil
}

// TakeProgram implements httpapi.Upgrader.
func (b *Backend) TakeProgram(ctx context.Context, host holdfast.HostID, o program.Offer) (v1.Program, error) {
	if b.Place == nil {
		return v1.Program{}, noProgram()
	}
	if _, err := b.Place.Take(ctx, "v1.0.0", o); err != nil {
		return v1.Program{}, err
	}
	return b.Program(ctx, host)
}

// StartProgram implements httpapi.Upgrader: the host runs it at once.
func (b *Backend) StartProgram(ctx context.Context, host holdfast.HostID, s v1.ProgramStart) (v1.Program, error) {
	if b.Place == nil {
		return v1.Program{}, noProgram()
	}
	to, err := b.Place.Find(ctx, s.SHA256)
	if err != nil {
		return v1.Program{}, err
	}
	b.mu.Lock()
	if b.Runs == nil {
		b.Runs = map[holdfast.HostID]upgrade.Build{}
	}
	b.Runs[host] = to
	b.mu.Unlock()
	return b.Program(ctx, host)
}
