package apitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// Made is a build that nobody made, of a version.
func Made(version string) upgrade.Build {
	h := sha256.Sum256([]byte(version))
	return upgrade.Build{Version: version, Sum: hex.EncodeToString(h[:]), Arch: runtime.GOARCH}
}

// programs are what the hosts say of theirs.
func (b *Backend) programs() map[holdfast.HostID]upgrade.Host {
	out := map[holdfast.HostID]upgrade.Host{}
	for id := range b.St.Hosts {
		x, ok := b.Runs[id]
		if !ok {
			x = upgrade.Host{Running: Made("v1.0.0"), Disk: Made("v1.0.0")}
		}
		out[id] = x
	}
	return out
}

// Installed has a build stand in its place on every host, as a package puts it there.
func (b *Backend) Installed(x upgrade.Build) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.programs()
	for id, h := range now {
		h.Disk = x
		now[id] = h
	}
	b.Runs = now
}

// Change changes the records.
func (b *Backend) Change(f func(*cluster.State)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b.St)
}

// UpgradePlan implements httpapi.Upgrader.
func (b *Backend) UpgradePlan(_ context.Context, a httpapi.UpgradeAsk) (v1.Upgrade, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return httpapi.RenderUpgrade(upgrade.Make(upgrade.Ask{State: b.St, Hosts: b.programs(), Way: a.Way, File: a.File, Back: a.Back})), nil
}

// Program implements httpapi.Upgrader.
func (b *Backend) Program(_ context.Context, host holdfast.HostID) (v1.Program, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.programs()[host]
	p := v1.Program{Host: b.St.Hosts[host].Val.Name, Path: "/usr/bin/holdfast", Running: httpapi.RenderBuild(x.Running), VMs: []string{}}
	for at, build := range map[**v1.Build]upgrade.Build{&p.Disk: x.Disk, &p.Previous: x.Previous} {
		if build.Sum != "" {
			out := httpapi.RenderBuild(build)
			*at = &out
		}
	}
	for _, vm := range b.St.VMs {
		if vm.Val.Host == host {
			p.VMs = append(p.VMs, vm.Val.Name)
		}
	}
	slices.Sort(p.VMs)
	return p, nil
}

// TakeProgram implements httpapi.Upgrader.
func (b *Backend) TakeProgram(ctx context.Context, host holdfast.HostID, o program.Offer) (v1.Program, error) {
	if b.Place == nil {
		return v1.Program{}, holdfast.Errorf(holdfast.Unavailable, "this host cannot be given another program")
	}
	if _, err := b.Place.Take(ctx, "v1.0.0", o); err != nil {
		return v1.Program{}, err
	}
	return b.Program(ctx, host)
}

// StartProgram implements httpapi.Upgrader: the host runs it at once.
func (b *Backend) StartProgram(ctx context.Context, host holdfast.HostID, s v1.ProgramStart) (v1.Program, error) {
	b.mu.Lock()
	now := b.programs()
	x := now[host]
	name := b.St.Hosts[host].Val.Name
	b.mu.Unlock()
	var next upgrade.Build
	if b.Place != nil {
		next, _ = b.Place.Next(ctx) // there may be none
	}
	switch s.SHA256 {
	case x.Disk.Sum, next.Sum:
		if x.Previous = x.Running; s.SHA256 == next.Sum {
			x.Disk = next
		}
		x.Running = x.Disk
	case x.Previous.Sum:
		x.Running, x.Disk, x.Previous = x.Previous, x.Previous, upgrade.Build{}
	default:
		return v1.Program{}, holdfast.Errorf(holdfast.NotFound, "this host has no program with the SHA-256 %s; send it first", s.SHA256)
	}
	if b.Started != nil {
		if err := b.Started(name); err != nil {
			return b.Program(ctx, host)
		}
	}
	b.mu.Lock()
	now[host], b.Runs = x, now
	b.mu.Unlock()
	return b.Program(ctx, host)
}
