package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/lab"
)

// orderWithin is how long somebody tries who orders something.
const orderWithin = time.Minute

// drainSeconds is what a guest of a story gets to shut down; a probe does not.
const drainSeconds = 2

// playImage is the image of a story's guests.
const playImage = "probe"

// order has somebody order it, who tries again when it fails.
func (p *player) order(ctx context.Context, l story.Line) error {
	switch l.Kind {
	case "start vm":
		return p.startVM(ctx, l.Text("vm"))
	case "stop vm":
		name := l.Text("vm")
		p.off = append(p.off, name)
		return p.cloud.until(ctx, p.patient(orderWithin), "VM "+name+" to be stopped", func(ctx context.Context) (bool, string, error) {
			_, err := ask(ctx, p.cloud, askTimeout, func(ctx context.Context, k *client.Client) (v1.VM, error) {
				return k.StopVM(ctx, name, v1.StopSpec{Force: true})
			})
			return err == nil, "", refused(err)
		})
	}
	if l.Kind == "scrub" {
		name, _ := l.Disk("disk")
		return p.scrub(ctx, hostOf(p.o.Lab, name))
	}
	hosts, err := p.at(ctx, l.Command, "place")
	if err != nil {
		return err
	}
	return p.drain(ctx, hosts, l.Kind == "drain")
}

// drain has hosts be empty, or take work again.

func (p *player) drain(ctx context.Context, hosts []lab.Host, on bool) error {
	spec := v1.DrainSpec{On: on}
	if on {
		spec.GuestSeconds = drainSeconds
	}
	for _, h := range hosts {
		err := p.cloud.until(ctx, p.patient(orderWithin), "host "+h.Name+" to be told", func(ctx context.Context) (bool, string, error) {
			_, err := ask(ctx, p.cloud, askTimeout, func(ctx context.Context, k *client.Client) (v1.Drain, error) {
				return k.Drain(ctx, h.Name, spec)
			})
			return err == nil, "", refused(err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// startVM starts a VM, or makes it.
func (p *player) startVM(ctx context.Context, name string) error {
	if slices.ContainsFunc(p.vms, func(vm v1.VM) bool { return vm.Name == name }) {
		p.off = slices.DeleteFunc(p.off, func(off string) bool { return off == name })
		return p.cloud.until(ctx, p.patient(orderWithin), "VM "+name+" to be started", func(ctx context.Context) (bool, string, error) {
			_, err := ask(ctx, p.cloud, askTimeout, func(ctx context.Context, k *client.Client) (v1.VM, error) { return k.StartVM(ctx, name) })
			return err == nil, "", refused(err)
		})
	}
	if !p.made {
		if err := (&probeGuest{d: p.drill, from: playImage}).image(ctx); err != nil {
			return err
		}
		p.made = true
	}
	vm, err := p.cloud.haveVM(ctx, v1.VMSpec{Name: name, Image: playImage, MemoryMiB: 32})
	if err == nil {
		p.vms = append(p.vms, vm)
	}
	return err
}

// sighting is where a VM was when a story last looked.
type sighting struct {
	host     string
	assigned int64
	boots    int
}

// expect waits until it is so, for as long as the line says; of guests and clients
// that are to go on, until they have done more than when that began.
func (p *player) expect(ctx context.Context, l story.Line) error {
	was := p.progress(l)
	why, err := p.unlike(ctx, l)
	more := func() string {
		if n := p.progress(l); n >= 0 && n <= was {
			return "nothing more was done"
		}
		return ""
	}
	if err == nil && why == "" {
		why = more()
	}
	for end := time.Now().Add(p.patient(l.Time("within"))); (err != nil || why != "") && time.Now().Before(end) && rest(ctx, pollEvery); {
		if why, err = p.unlike(ctx, l); err == nil && why == "" {
			why = more()
		}
		if err := p.good(); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case why != "":
		return holdfast.Errorf(holdfast.Conflict, "%s", why)
	}
	p.note("it is so", "")
	return nil
}

// progress counts what a guest or a client has done; -1: the line is about neither.
func (p *player) progress(l story.Line) int64 {
	switch l.Kind {
	case "vm writes":
		return int64(p.diary.Flushed(l.Text("vm")))
	case "client goes on":
		for _, w := range p.watch {
			if w.name == l.Text("volume") {
				return w.g.Done()
			}
		}
	}
	return -1
}

// unlike says what is not as the line says.
func (p *player) unlike(ctx context.Context, l story.Line) (why string, err error) {
	switch l.Kind {
	case "vm runs", "vm stays", "vm moved":
		return p.unlikeVM(ctx, l)
	case "volume whole":
		v, err := p.cloud.volume(ctx, l.Text("volume"))
		if err == nil && (v.State != "ok" || !mended(v, "")) {
			why = fmt.Sprintf("it is %s, with %d copies wanted", v.State, v.Copies)
		}
		return why, err
	case "everything whole":
		return p.cloud.whole(ctx, len(p.o.Lab.Hosts))
	case "nothing lost":
		return p.lost(ctx)
	case "condition":
		return p.unlikeCondition(ctx, l)
	}
	return "", nil
}

// unlikeVM compares a VM with what was last seen of it.
func (p *player) unlikeVM(ctx context.Context, l story.Line) (string, error) {
	vm, err := p.cloud.vm(ctx, l.Text("vm"))
	if err != nil {
		return "", err
	}
	was, now := p.seen[vm.Name], sighting{vm.Host, vm.Assigned, len(p.diary.Bouts(vm.Name))}
	m := vm.Machine
	switch {
	case m == nil || vm.State != "running" || m.State != "running" || m.Host != vm.Host || m.Generation != vm.Assigned:
		return fmt.Sprintf("it is %s on host %s %s", vm.State, vm.Host, vm.Reason), nil
	case now.boots == 0:
		return "its guest has not booted", nil
	case l.Kind == "vm stays" && now != was:
		return fmt.Sprintf("it was on host %s, assigned %d times and booted %d times, and is on %s, %d, %d", was.host, was.assigned, was.boots, now.host, now.assigned, now.boots), nil
	case l.Kind == "vm moved" && now.host == was.host:
		return "it is still on host " + now.host, nil
	}
	p.seen[vm.Name] = now
	return "", nil
}

// unlikeCondition looks for a condition, its own or an effect.
func (p *player) unlikeCondition(ctx context.Context, l story.Line) (string, error) {
	st, err := p.cloud.status(ctx)
	if err != nil {
		return "", err
	}
	var named []string
	raised := false
	var look func([]v1.Condition)
	look = func(all []v1.Condition) {
		for _, c := range all {
			named = append(named, c.ID)
			name, _, _ := strings.Cut(c.ID, "/")
			raised = raised || name == l.Text("condition")
			look(c.Effects)
		}
	}
	look(st.Conditions)
	if raised == (l.Text("state") == "raised") {
		return "", nil
	}
	return fmt.Sprintf("the conditions are %v", named), nil
}

// lost has every client read everything once more and end, its history judged, and
// every guest that is to run verify its disk.
func (p *player) lost(ctx context.Context) (string, error) {
	if err := p.stopWatching(ctx); err != nil {
		return "", err
	}
	all := p.vms
	defer func() { p.vms = all }()
	p.vms = slices.DeleteFunc(slices.Clone(all), func(vm v1.VM) bool { return slices.Contains(p.off, vm.Name) })
	return "", p.verifyGuests(ctx)
}
