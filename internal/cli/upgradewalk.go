package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

const (
	walkPoll = 500 * time.Millisecond
	walkAsk  = 30 * time.Second // for one answer
	// walkCalm is before the next host has its turn: a copy that got lost on the way is
	// noticed within less.
	walkCalm = 3 * time.Second
)

// walk gives hosts another program, one after the other.
type walk struct {
	a      *app
	c      *client.Client
	ask    client.UpgradeAsk
	file   io.ReaderAt // the program that is sent; nil: none is
	size   int64
	atRisk bool
	wait   time.Duration
	poll   time.Duration // from one look to the next
	calm   time.Duration // for how long the cluster has to be whole, without a break
	begun  time.Time
	went   map[string]bool // hosts that have had their turn
}

// say prints a line of progress.
func (w *walk) say(format string, args ...any) {
	out := w.a.Stdout
	if w.a.structured() {
		out = w.a.Stderr
	}
	fmt.Fprintf(out, "%6.1f s  %s\n", time.Since(w.begun).Seconds(), plain(fmt.Sprintf(format, args...)))
}

// run walks on from where a plan says the hosts are.
func (w *walk) run(ctx context.Context, p v1.Upgrade) error {
	switch {
	case toDo(p) == nil:
	case len(p.Blocked) > 0:
		w.a.printUpgrade(w.a.Stderr, p)
		return holdfast.Errorf(holdfast.Conflict, "nothing was done: %s", p.Blocked[0])
	case len(p.Risks) > 0 && !w.atRisk:
		w.a.printUpgrade(w.a.Stderr, p)
		return holdfast.Errorf(holdfast.Conflict, "nothing was done: %s; --at-risk goes on all the same", p.Risks[0])
	}
	w.went = map[string]bool{}
	for s := toDo(p); s != nil; s = toDo(p) {
		w.went[s.Host] = true
		var err error
		if p, err = w.host(ctx, *s); err != nil {
			return w.stands(s.Host, err)
		}
	}
	for _, r := range p.Racks {
		for _, s := range r.Hosts {
			if s.State == "skipped" && !w.went[s.Host] {
				w.say("host %s is left as it is: %s", s.Host, s.Why)
			}
		}
	}
	switch len(w.went) {
	case 0:
		w.say("nothing was to be done")
	case 1:
		w.say("done: 1 host")
	default:
		w.say("done: %d hosts", len(w.went))
	}
	if w.a.structured() {
		return w.a.encode(p)
	}
	return nil
}

// stands says where the walk has ended and how to go on.
func (w *walk) stands(host string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	how := "'holdfast upgrade' again, with the same flags, goes on there; 'holdfast upgrade --back' gives the hosts what they ran before"
	if holdfast.IsKind(err, holdfast.Unavailable) { // as far as can be known from here
		how += ". If the host does not come back, its log tells why; 'mv PROGRAM.previous PROGRAM' there, and a start of its service, put the former program back"
	}
	return fmt.Errorf("the walk stands at host %s: %w. %s", host, err, how)
}

// toDo is the host whose turn it is; nil: there is none left.
func toDo(p v1.Upgrade) *v1.UpgradeStep {
	for i := range p.Racks {
		for j := range p.Racks[i].Hosts {
			if s := &p.Racks[i].Hosts[j]; s.State == "to-do" {
				return s
			}
		}
	}
	return nil
}

// host gives one host its program, and returns what is left to do once the cluster is
// whole with it.
func (w *walk) host(ctx context.Context, s v1.UpgradeStep) (v1.Upgrade, error) {
	begin := time.Now()
	w.say("host %s: %s -> %s", s.Host, s.From.Version, nameBuild(s))
	if err := w.send(ctx, s); err != nil {
		return v1.Upgrade{}, err
	}
	vms, err := w.machines(ctx, s.Host)
	if err != nil {
		return v1.Upgrade{}, err
	}
	if _, err := w.c.StartProgram(ctx, s.Host, v1.ProgramStart{SHA256: s.To.SHA256, Back: w.ask.Back, AtRisk: w.atRisk}); err != nil {
		return v1.Upgrade{}, err
	}
	p, err := w.await(ctx, s, vms)
	if err == nil {
		w.say("host %s: the cluster is whole again, %.1f s after its turn began", s.Host, time.Since(begin).Seconds())
	}
	return p, err
}

// send sends the program, unless the host has it.
func (w *walk) send(ctx context.Context, s v1.UpgradeStep) error {
	if w.file == nil {
		return nil
	}
	has, err := w.c.Program(ctx, s.Host)
	if err != nil {
		return err
	}
	for _, b := range []*v1.Build{has.Disk, has.Next, has.Previous} {
		if b != nil && b.SHA256 == s.To.SHA256 {
			w.say("host %s: it has the program", s.Host)
			return nil
		}
	}
	b := w.a.progress("sending it to host "+s.Host, w.size)
	_, err = w.c.SendProgram(ctx, s.Host, client.NewProgram{SHA256: s.To.SHA256, Size: w.size, Back: w.ask.Back}, b.reader(io.NewSectionReader(w.file, 0, w.size)))
	if b.done(err); err == nil {
		w.say("host %s: it has taken the program in, %s", s.Host, formatSize(w.size))
	}
	return err
}

// machines are the processes of the VMs that run on a host, by their names.
func (w *walk) machines(ctx context.Context, host string) (map[string]int, error) {
	all, err := w.c.VMs(ctx)
	out := map[string]int{}
	for _, vm := range all {
		if vm.Host == host && vm.State == "running" && vm.Machine != nil {
			out[vm.Name] = vm.Machine.PID
		}
	}
	return out, err
}

// await waits until a host runs its program, looks after the machines that it had,
// and the cluster is whole.
func (w *walk) await(ctx context.Context, s v1.UpgradeStep, vms map[string]int) (v1.Upgrade, error) {
	last := "nothing was heard of it"
	answered, told := false, false
	var calm time.Time // since when all is well
	for begin := time.Now(); time.Since(begin) < w.wait; {
		p, why, err := w.look(ctx, s, vms)
		switch {
		case ctx.Err() != nil:
			return p, ctx.Err()
		case err != nil:
			return p, err
		case why != "":
			calm = time.Time{}
			if last = why; !answered && len(p.Racks) > 0 && isDone(p, s.Host) {
				answered = true
				w.say("host %s: it answers with the new program; waiting: %s", s.Host, why)
			}
		case calm.IsZero():
			if calm = time.Now(); !told {
				w.say("host %s: it answers with the new program and looks after %s", s.Host, countVMs(len(vms)))
			}
			answered, told = true, true
		case time.Since(calm) >= w.calm:
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(w.poll):
		}
	}
	return v1.Upgrade{}, holdfast.Errorf(holdfast.Unavailable, "it is not well %v after it was to run the new program (%s)", w.wait, last)
}

// look says what is still to be waited for, and fails with what will not come.
func (w *walk) look(ctx context.Context, s v1.UpgradeStep, vms map[string]int) (p v1.Upgrade, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, walkAsk)
	defer cancel()
	p, err = w.c.UpgradePlan(ctx, w.ask)
	switch {
	case err != nil: // the host that is asked may be the one that begins anew
		return p, err.Error(), nil
	}
	has, err := w.c.Program(ctx, s.Host)
	switch {
	case err != nil:
		return p, err.Error(), nil
	case has.Failed != "":
		return p, "", holdfast.Errorf(holdfast.Conflict, "it runs %s as before, because %s", has.Running.Version, has.Failed)
	case !isDone(p, s.Host):
		return p, "host " + s.Host + " does not run the new program yet", nil
	}
	all, err := w.c.VMs(ctx)
	if err != nil {
		return p, err.Error(), nil
	}
	for _, vm := range all {
		was, ran := vms[vm.Name]
		switch {
		case !ran || vm.Power != "on":
		case vm.Host != s.Host:
			return p, "", holdfast.Errorf(holdfast.Conflict, "VM %s was started anew on host %s, because this one was away for too long; it runs there", vm.Name, vm.Host)
		case !slices.Contains(has.VMs, vm.Name) || vm.State != "running" || vm.Machine == nil:
			why = "host " + s.Host + " does not look after VM " + vm.Name + " yet"
		case vm.Machine.PID != was:
			return p, "", holdfast.Errorf(holdfast.Conflict, "VM %s was started anew (process %d, before %d)", vm.Name, vm.Machine.PID, was)
		}
	}
	if why == "" && len(p.Blocked) > 0 {
		why = p.Blocked[0]
	}
	return p, why, nil
}

func isDone(p v1.Upgrade, host string) bool {
	return slices.ContainsFunc(p.Racks, func(r v1.UpgradeRack) bool {
		return slices.ContainsFunc(r.Hosts, func(s v1.UpgradeStep) bool {
			return s.Host == host && s.State != "to-do" && !strings.HasPrefix(s.Why, "it does not answer")
		})
	})
}

func countVMs(n int) string {
	switch n {
	case 0:
		return "no VMs, as before"
	case 1:
		return "1 VM, the same process as before"
	}
	return fmt.Sprintf("%d VMs, the same processes as before", n)
}
