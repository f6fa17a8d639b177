package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/diary"
)

// The times of a split.
const (
	pauseLimit = 10 * time.Second // for the cut-off side to hold its guests
	goOnFor    = 3 * time.Second  // how long guests must write before and after
)

// SplitOptions are what a split is made with.
type SplitOptions struct {
	Site
	Guests    int
	Isolation string        // what the cut-off hosts do with their machines
	Hold      time.Duration // how long the rack stays cut off once all is done elsewhere
}

// SplitReport is what came of it.
type SplitReport struct {
	Rack     string       `json:"rack"` // that was cut off
	Before   string       `json:"before"`
	CutAt    time.Time    `json:"cut_at"`
	Timeline []Mark       `json:"timeline"`
	Guests   []SplitGuest `json:"guests"`
	Checks   []Check      `json:"checks"`
	OK       bool         `json:"ok"`
}

// SplitGuest is what became of one guest.
type SplitGuest struct {
	VM     string  `json:"vm"`
	From   string  `json:"from_host"`
	To     string  `json:"to_host"`
	CutOff bool    `json:"cut_off"`
	Acked  uint32  `json:"acknowledged"` // the highest counter that its first boot reported as flushed
	Found  uint32  `json:"found"`        // by the boot after: on another host, or of the reset in the end
	Away   float64 `json:"away_seconds"` // the longest time without a flush
}

// split is one run. It uses a drill for its clock, its timeline and its way to
// the cluster.
type split struct {
	*drill
	o      SplitOptions
	diary  *diary.Diary
	vms    []v1.VM // as they were before the cut
	moved  map[string]v1.VM
	report SplitReport
}

// Split runs the drill. The report says what happened as far as it got, also if
// there is an error.
func Split(ctx context.Context, o SplitOptions) (SplitReport, error) {
	if o.Lab.Network == nil {
		return SplitReport{}, holdfast.Errorf(holdfast.Invalid, "the lab in %s has no network of its own, so that no rack of it can be cut off; make one with 'holdfast lab up --netns', as root", o.Lab.Dir)
	}
	s := &split{o: o, moved: map[string]v1.VM{}, drill: newDrill(Options{Site: o.Site})}
	defer s.cloud.close()
	err := s.run(ctx)
	if s.diary != nil {
		s.diary.Close()
		s.tell()
	}
	if s.report.Rack != "" {
		// Whatever went wrong, the lab is left connected and as it was.
		if herr := o.Lab.Heal(""); err == nil {
			err = herr
		}
	}
	s.cloud.all()
	for _, vm := range s.vms {
		if rerr := s.cloud.remove(context.WithoutCancel(ctx), vm.Name); err == nil {
			err = rerr
		}
	}
	s.report.Timeline, s.report.Checks = s.drill.report.Timeline, s.drill.report.Checks
	slices.SortStableFunc(s.report.Timeline, func(a, b Mark) int { return int((a.After - b.After) * 1e6) })
	s.report.OK = err == nil && len(s.report.Checks) > 0 && !slices.ContainsFunc(s.report.Checks, func(c Check) bool { return !c.OK })
	return s.report, err
}

func (s *split) run(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.cutOff(ctx); err != nil {
		return err
	}
	if err := s.heal(ctx); err != nil {
		return err
	}
	return s.verify(ctx)
}

// prepare makes the VMs and waits until all of them write and nothing is wrong.
func (s *split) prepare(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := (&probeGuest{d: s.drill}).image(ctx); err != nil {
		return err
	}
	var names []string
	for i := range s.o.Guests {
		names = append(names, fmt.Sprintf("drill-split-%d", i+1))
	}
	for _, name := range names {
		if err := s.cloud.remove(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range names {
		vm, err := s.cloud.createVM(ctx, v1.VMSpec{Name: name, Image: "probe", MemoryMiB: 32, Isolation: s.o.Isolation})
		if err != nil {
			return err
		}
		s.vms = append(s.vms, vm)
	}
	s.diary = diary.Follow(s.o.Lab, names...)
	for i := range s.vms {
		vm, err := s.running(ctx, s.vms[i])
		if err != nil {
			return err
		}
		if err := s.writes(ctx, vm.Name, vm.Host, probeFirst); err != nil {
			return err
		}
	}
	if err := s.allHealthy(ctx); err != nil {
		return err
	}
	for i := range s.vms { // where they are now
		vm, err := s.running(ctx, s.vms[i])
		if err != nil {
			return err
		}
		s.vms[i] = vm
		s.say("VM %s runs on host %s", vm.Name, vm.Host)
	}
	return nil
}

// allHealthy waits until for a while nothing has been wrong, and every disk has
// had its copies.
func (s *split) allHealthy(ctx context.Context) error {
	for round := 0; round < 2; round++ {
		for _, vm := range s.vms {
			err := s.cloud.until(ctx, time.Minute, "the disk of VM "+vm.Name+" to have its copies", func(ctx context.Context) (bool, string, error) {
				v, err := s.cloud.volume(ctx, vm.Volume)
				return err == nil && v.State == "ok", "volume " + v.Name + " is " + v.State, err
			})
			if err != nil {
				return err
			}
		}
		if round == 0 { // and still have them once nothing has been wrong for a while
			if _, err := s.healthy(ctx, s.vms[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

// writes waits until a VM's machine on a host has flushed more than after.
func (s *split) writes(ctx context.Context, vm, host string, after uint32) error {
	return s.cloud.until(ctx, backTimeout, "VM "+vm+" to write", func(context.Context) (bool, string, error) {
		b, _ := s.diary.On(vm, host)
		return b.Last > after, fmt.Sprintf("it has flushed %d on host %s", b.Last, host), s.wrong()
	})
}

// wrong ends the drill if something happened that never must.
func (s *split) wrong() error {
	if w := s.diary.Wrong(); len(w) > 0 {
		return stop{holdfast.Errorf(holdfast.Corrupt, "VM %s", w[0])}
	}
	return nil
}

// victims are the VMs of the rack that is cut off.
func (s *split) victims() (in, out []v1.VM) {
	for _, vm := range s.vms {
		if vm.Rack == s.report.Rack {
			in = append(in, vm)
		} else {
			out = append(out, vm)
		}
	}
	return in, out
}

// cutOff cuts the rack of the first VM off and follows both sides until its
// guests write elsewhere and are held where they were.
func (s *split) cutOff(ctx context.Context) error {
	st, err := s.cloud.status(ctx)
	if err != nil {
		return err
	}
	s.report.Rack, s.report.Before = s.vms[0].Rack, st.Sentence
	in, out := s.victims()
	if len(out) == 0 {
		return holdfast.Errorf(holdfast.Invalid, "all %d VMs came to rack %s; nobody is left who must not notice; use more --guests", len(s.vms), s.report.Rack)
	}
	time.Sleep(rand.N(time.Second)) // no moment is better than another
	s.cloud.without(s.report.Rack)
	s.mu.Lock()
	s.zero = time.Now()
	s.mu.Unlock()
	s.report.CutAt = s.zero
	if err := s.o.Lab.Cut(s.report.Rack); err != nil {
		return err
	}
	s.say("rack %s is cut off with %d of %d guests; it lives on", s.report.Rack, len(in), len(s.vms))
	for _, vm := range in {
		if err := s.held(ctx, vm); err != nil {
			return err
		}
	}
	for _, vm := range in {
		if err := s.taken(ctx, vm); err != nil {
			return err
		}
	}
	return s.pass(ctx, s.o.Hold)
}

// held waits until the cut-off host has done with a machine what it is to do.
func (s *split) held(ctx context.Context, vm v1.VM) error {
	want := map[string]string{"pause": "paused", "off": "off"}[s.o.Isolation]
	if want == "" {
		return nil
	}
	k := client.Socket(hostOf(s.o.Lab, vm.Host).Socket())
	defer k.Close()
	err := s.cloud.until(ctx, 3*pauseLimit, "the machine of VM "+vm.Name+" to be "+want+" on host "+vm.Host, func(ctx context.Context) (bool, string, error) {
		s.followIncident(ctx)
		try, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		got, err := k.VM(try, vm.ID)
		if err != nil || got.Machine == nil {
			return false, "", err
		}
		return got.Machine.State == want, "it is " + got.Machine.State, nil
	})
	if err != nil {
		return err
	}
	s.mark("guest "+want+" on the cut-off side", time.Now(), vm.Name)
	return nil
}

// taken waits until a VM of the rack writes on a host of another one.
func (s *split) taken(ctx context.Context, before v1.VM) error {
	var vm v1.VM
	err := s.cloud.until(ctx, backTimeout, "VM "+before.Name+" to run elsewhere", func(ctx context.Context) (bool, string, error) {
		s.followIncident(ctx)
		if err := s.wrong(); err != nil {
			return false, "", err
		}
		var err error
		vm, err = s.cloud.vm(ctx, before.ID)
		return err == nil && vm.Machine != nil && vm.Machine.State == "running" && vm.Machine.Generation > before.Assigned, "it is " + vm.State + " " + vm.Reason, err
	})
	if err != nil {
		return err
	}
	s.moved[vm.Name] = vm
	s.mark("VM process running", vm.Machine.Since, vm.Name+" on host "+vm.Host)
	if err := s.writes(ctx, vm.Name, vm.Host, 0); err != nil {
		return err
	}
	b, _ := s.diary.On(vm.Name, vm.Host)
	s.mark("guest answering", b.FirstAt, fmt.Sprintf("%s flushed %d", vm.Name, b.First))
	return nil
}

// pass lets time pass, and looks for what must not happen meanwhile.
func (s *split) pass(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	return s.cloud.until(ctx, d+time.Minute, "time to pass", func(ctx context.Context) (bool, string, error) {
		s.followIncident(ctx)
		return time.Now().After(end), "", s.wrong()
	})
}

// heal connects the rack again and waits until all is as before, with one
// machine for each VM.
func (s *split) heal(ctx context.Context) error {
	if err := s.o.Lab.Heal(""); err != nil {
		return err
	}
	s.mark("rack connected again", time.Now(), "")
	in, _ := s.victims()
	for _, vm := range in {
		err := s.cloud.until(ctx, backTimeout, "the old machine of VM "+vm.Name+" to end", func(context.Context) (bool, string, error) {
			all, err := lab.Machines([]lab.Host{hostOf(s.o.Lab, vm.Host)})
			return !slices.ContainsFunc(all, func(m lab.Machine) bool { return m.VM == vm.Name }), "it is still there", err
		})
		if err != nil {
			return err
		}
		s.mark("old machine gone", time.Now(), vm.Name)
	}
	s.cloud.all()
	err := s.cloud.until(ctx, backTimeout, "the cluster to be whole again", func(ctx context.Context) (bool, string, error) {
		if err := s.wrong(); err != nil {
			return false, "", err
		}
		st, err := s.cloud.status(ctx)
		return err == nil && s.isWhole(st), st.Sentence, err
	})
	if err != nil {
		return err
	}
	s.mark("everything whole again", time.Now(), "")
	return s.pass(ctx, goOnFor)
}

func hostOf(l *lab.Lab, name string) lab.Host {
	for _, h := range l.Hosts {
		if h.Name == name {
			return h
		}
	}
	return lab.Host{}
}

// tell fills in what became of each guest.
func (s *split) tell() {
	for _, vm := range s.vms {
		g := SplitGuest{VM: vm.Name, From: vm.Host, To: vm.Host, CutOff: vm.Rack == s.report.Rack}
		var last time.Time
		for i, b := range s.diary.Bouts(vm.Name) {
			switch {
			case i == 0:
				g.Acked = b.Last
			case i == 1 && b.Verified != nil:
				g.Found = b.Verified.Counter
			}
			if !last.IsZero() && !b.FirstAt.IsZero() && b.FirstAt.After(s.zero) && last.Before(s.zero.Add(pauseLimit)) {
				g.Away = max(g.Away, b.FirstAt.Sub(last).Seconds())
			}
			if b.PauseAt.After(s.zero.Add(-time.Second)) {
				g.Away = max(g.Away, b.Pause.Seconds())
			}
			last = b.LastAt
		}
		if to, ok := s.moved[vm.Name]; ok {
			g.To = to.Host
		}
		s.report.Guests = append(s.report.Guests, g)
	}
}
