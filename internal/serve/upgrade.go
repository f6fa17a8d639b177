package serve

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/turn"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// programWait bounds how long a host may take to say which programs it has: a small
// computer has to read them first.
const programWait = 20 * time.Second

// UpgradePlan implements httpapi.Upgrader.
func (h *Host) UpgradePlan(ctx context.Context, a httpapi.UpgradeAsk) (v1.Upgrade, error) {
	m, err := h.member()
	if err != nil {
		return v1.Upgrade{}, err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return v1.Upgrade{}, err
	}
	p := upgrade.Make(upgrade.Ask{State: st, Hosts: h.programs(ctx, m, st), Work: h.inTheWay(ctx, m), Way: a.Way, File: a.File, Back: a.Back})
	return httpapi.RenderUpgrade(p), nil
}

// programs asks all hosts that are alive for their programs.
func (h *Host) programs(ctx context.Context, m *member, st *cluster.State) map[holdfast.HostID]upgrade.Host {
	ctx, cancel := context.WithTimeout(ctx, programWait)
	defer cancel()
	out := make(map[holdfast.HostID]upgrade.Host)
	var mu sync.Mutex
	note := func(id holdfast.HostID, p v1.Program, err error) {
		mu.Lock()
		defer mu.Unlock()
		said := upgrade.Host{Running: build(&p.Running), Disk: build(p.Disk), Previous: build(p.Previous), LeadsKV: p.LeadsKV}
		if err != nil {
			said.Silent = err.Error()
		}
		out[id] = said
	}
	own, err := h.ownProgram(ctx)
	note(h.dir.id.Host, own, err)
	m.everyOther(st, h.dir.id.Host, func(rec cluster.Host, c *client.Client) error {
		p, err := c.Program(ctx, rec.ID.String())
		note(rec.ID, p, err)
		return err
	})
	return out
}

// inTheWay is the long work that the restart of a host would break off, or that shows
// that something is being mended.
func (h *Host) inTheWay(ctx context.Context, m *member) (out []string) {
	w, err := h.Work(ctx, false)
	if err == nil {
		for _, x := range w.Work {
			switch x.Kind {
			case "rebuild", "resync":
				out = append(out, fmt.Sprintf("a %s of volume %s on host %s goes on: wait until it is done", x.Kind, x.Volume, x.Host))
			case "backup", "restore":
				out = append(out, fmt.Sprintf("a %s of volume %s by host %s goes on and would be broken off: wait until it is done", x.Kind, x.Volume, x.Host))
			}
		}
	}
	for _, t := range m.long.All() {
		if !t.Over() && t.Kind != "restore" {
			out = append(out, fmt.Sprintf("the %s of %s goes on and would be broken off: wait until it is done, or end it with 'holdfast task cancel %s'", t.Kind, t.Subject, t.ID))
		}
	}
	return out
}

// elsewhere calls f with a client of another host; there is none if the host is this
// one.
func (h *Host) elsewhere(id holdfast.HostID, f func(c *client.Client) (v1.Program, error)) (p v1.Program, there bool, err error) {
	m, err := h.member()
	if err != nil {
		return p, true, err
	}
	if id == h.dir.id.Host {
		return p, false, nil
	}
	rec, ok := m.node.Cluster.State().Hosts[id]
	if !ok {
		return p, true, holdfast.Errorf(holdfast.NotFound, "host %s is not a member any more", id.Short())
	}
	c := m.peer(rec.Val)
	defer c.Close()
	p, err = f(c)
	return p, true, err
}

// Program implements httpapi.Upgrader.
func (h *Host) Program(ctx context.Context, id holdfast.HostID) (v1.Program, error) {
	p, there, err := h.elsewhere(id, func(c *client.Client) (v1.Program, error) { return c.Program(ctx, id.String()) })
	if there {
		return p, err
	}
	return h.ownProgram(ctx)
}

func (h *Host) ownProgram(ctx context.Context) (v1.Program, error) {
	running, err := h.program.Running(h.version)
	if err != nil {
		return v1.Program{}, err
	}
	p := v1.Program{Host: h.cfg.Name, Path: h.program.Path(), Running: httpapi.RenderBuild(running), LeadsKV: h.Self().LeadsKV}
	p.VMs, p.Failed = h.lookedAfter(), h.program.Trial(h.dir.path).Failed()
	p.Disk, p.Next, p.Previous = found(h.program.Disk(ctx)), found(h.program.Next(ctx)), found(h.program.Previous(ctx))
	return p, nil
}

// lookedAfter are the VMs whose machines this host's process has.
func (h *Host) lookedAfter() []string {
	out := []string{}
	m, err := h.member()
	if err != nil || h.cfg.Witness {
		return out
	}
	for id, rec := range m.node.Cluster.State().VMs {
		if rec.Val.Host == h.dir.id.Host && m.node.Agent.Machine(id) != nil {
			out = append(out, rec.Val.Name)
		}
	}
	slices.Sort(out)
	return out
}

// TakeProgram implements httpapi.Upgrader.
func (h *Host) TakeProgram(ctx context.Context, id holdfast.HostID, o program.Offer) (v1.Program, error) {
	p, there, err := h.elsewhere(id, func(c *client.Client) (v1.Program, error) {
		return c.SendProgram(ctx, id.String(), client.NewProgram{SHA256: o.Sum, Size: o.Size, Back: o.Back}, o.Body)
	})
	if there {
		return p, err
	}
	if h.cfg.Upgrade == "from-disk" {
		return p, holdfast.Errorf(holdfast.Denied, "the configuration of host %s has 'upgrade: from-disk': it takes no program by the API; install it there, and run 'holdfast upgrade --from-disk'", h.cfg.Name)
	}
	b, err := h.program.Take(ctx, h.version, o)
	if err != nil {
		return v1.Program{}, err
	}
	h.log.Info("a program was taken in", "version", b.Version, "sha256", b.Sum)
	return h.ownProgram(ctx)
}

// StartProgram implements httpapi.Upgrader.
func (h *Host) StartProgram(ctx context.Context, id holdfast.HostID, s v1.ProgramStart) (v1.Program, error) {
	p, there, err := h.elsewhere(id, func(c *client.Client) (v1.Program, error) { return c.StartProgram(ctx, id.String(), s) })
	if there {
		return p, err
	}
	to, err := h.mayStart(ctx, s)
	if err != nil {
		return p, err
	}
	if p, err = h.ownProgram(ctx); err != nil || p.Running.SHA256 == s.SHA256 && p.Disk != nil && p.Disk.SHA256 == s.SHA256 {
		return p, err // it runs already
	}
	if err := h.exchange(ctx, to, p.Running.SHA256); err != nil {
		return p, err
	}
	h.log.Warn("this process becomes another program; VMs go on", "from", h.version, "to", to.Version, "sha256", to.Sum)
	time.AfterFunc(answerFirst, h.become)
	return h.ownProgram(ctx)
}

// triesConfig asks a program whether it would start with what this process was started
// with: keys of configurations come and go. The way back is not barred by that.
func (h *Host) triesConfig(ctx context.Context, to upgrade.Build, back bool) error {
	if back || len(os.Args) < 2 || os.Args[1] != "serve" { // a test is the process
		return nil
	}
	return h.program.Try(ctx, to.Sum, append(slices.Clone(os.Args[1:]), "--check")...)
}

// exchange puts a program in its place, on trial if there is a way back to the one that
// runs, and takes the turn.
func (h *Host) exchange(ctx context.Context, to upgrade.Build, runs string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	if err := turn.Take(m.kv, h.dir.id.Host, h.cfg.Name); err != nil {
		return err
	}
	trial := h.program.Trial(h.dir.path)
	if err = h.program.Exchange(ctx, to.Sum); err == nil {
		err = trial.Clear()
	}
	if before, berr := h.program.Previous(ctx); err == nil && berr == nil && before.Sum == runs {
		err = trial.Begin(to)
	}
	if err != nil {
		_ = turn.Give(m.kv, h.dir.id.Host) // or it ends by itself
	}
	return err
}

// mayStart finds the program that this host is to become, unless this is no time for
// that.
func (h *Host) mayStart(ctx context.Context, s v1.ProgramStart) (to upgrade.Build, err error) {
	m, err := h.member()
	if err != nil {
		return to, err
	}
	if to, err = h.program.Find(ctx, s.SHA256); err != nil {
		return to, err
	}
	from, err := h.program.Running(h.version)
	if err != nil {
		return to, err
	}
	if to.Arch != from.Arch {
		return to, holdfast.Errorf(holdfast.Invalid, "the program at %s is for %s, and this host needs one for %s", h.program.Path(), to.Arch, from.Arch)
	}
	if err := h.triesConfig(ctx, to, s.Back); err != nil {
		return to, err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return to, err
	}
	except := holdfast.HostID{}
	if s.Back {
		except = h.dir.id.Host
	} else if err := upgrade.Older(from, to); err != nil {
		return to, err
	}
	if why := upgrade.Unsafe(st, h.inTheWay(ctx, m), except); len(why) > 0 {
		return to, holdfast.Errorf(holdfast.Conflict, "not now: %s", why[0])
	}
	if why := upgrade.Risks(st, h.cfg.Domain()); len(why) > 0 && !s.AtRisk {
		return to, holdfast.Errorf(holdfast.Conflict, "not without your word, which --at-risk is: %s", why[0])
	}
	return to, nil
}

func build(b *v1.Build) upgrade.Build {
	if b == nil {
		return upgrade.Build{}
	}
	return upgrade.Build{Version: b.Version, Sum: b.SHA256, Arch: b.Arch}
}

// found is a build that is there and could be read.
func found(b upgrade.Build, err error) *v1.Build {
	if err != nil {
		return nil
	}
	out := httpapi.RenderBuild(b)
	return &out
}
