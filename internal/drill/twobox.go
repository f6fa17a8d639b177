package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

// boxGuests is how many probe guests write during a drill of two racks.
const boxGuests = 2

// goneOn is how many more blocks a guest must have flushed that a loss does not
// concern: more than were on their way.
const goneOn = 50

// TwoBoxOptions are what a drill of two racks and a witness is run with.
type TwoBoxOptions struct {
	Site
	Times int  // how often each of the losses happens
	Quick bool // lose only the witness and the rack of the first guest
}

// TwoBox is what a drill of two racks and a witness found.
type TwoBox struct {
	Before  string    `json:"before"` // what the cluster said of itself
	VMs     []string  `json:"vms"`
	Losses  []BoxLoss `json:"losses"`
	Figures []Figure  `json:"figures"`
	Checks  []Check   `json:"checks"`
	OK      bool      `json:"ok"`
}

// BoxLoss is the loss of one place, or of all, and what became of it.
type BoxLoss struct {
	What     string    `json:"what"` // "the witness", "rack a", "everything, and rack b stays away"
	KilledAt time.Time `json:"killed_at"`
	KVLeader bool      `json:"kv_leader"` // it held the host that leads the control plane's votes
	Said     string    `json:"said"`      // by the cluster, while it was away
	Moved    []string  `json:"moved"`     // VMs that ran there
	Timeline []Mark    `json:"timeline"`
}

// twoBox is a drill under way. Each guest has a drill of its own, whose clock
// starts anew with every loss.
type twoBox struct {
	o      TwoBoxOptions
	cloud  *cloud
	base   *drill
	guests []*boxGuest
	report TwoBox
}

// boxGuest is one of the guests.
type boxGuest struct {
	d  *drill
	g  *probeGuest
	vm v1.VM // as it was before the present loss
}

// RunTwoBox loses the witness, then the rack that runs the first guest, then the
// one that it went to, then everything, of which at first only the other rack and the
// witness come back. A quick one ends after the first rack.
func RunTwoBox(ctx context.Context, o TwoBoxOptions) (TwoBox, error) {
	b := &twoBox{o: o, cloud: newCloud(o.Lab)}
	defer b.cloud.close()
	b.base = b.newDrill()
	err := b.run(ctx)
	for _, g := range b.guests {
		g.g.close()
	}
	b.conclude(err)
	return b.report, err
}

func (b *twoBox) newDrill() *drill {
	return &drill{o: Options{Site: b.o.Site}, cloud: b.cloud, begun: time.Now()}
}

func (b *twoBox) run(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	for i := range boxGuests {
		if err := b.addGuest(ctx, fmt.Sprintf("drill-box%d", i+1)); err != nil {
			return err
		}
	}
	for range b.o.Times {
		if err := b.round(ctx); err != nil {
			return err
		}
	}
	return b.verify(ctx)
}

// ready wants a whole lab of two racks and a witness.
func (b *twoBox) ready(ctx context.Context) error {
	var st v1.Status
	err := b.cloud.until(ctx, time.Minute, "the lab to be whole", func(ctx context.Context) (ok bool, said string, err error) {
		st, err = b.cloud.status(ctx)
		return err == nil && b.base.isWhole(st), st.Sentence, err
	})
	if err != nil {
		return err
	}
	if n := st.Counts; n.Witnesses != 1 || n.Racks != 3 {
		return holdfast.Errorf(holdfast.Invalid, "the drill needs two racks and a witness, the lab has %d and %d; make one with 'holdfast lab up --racks 2 --witness'", n.Racks-n.Witnesses, n.Witnesses)
	}
	b.report.Before = st.Sentence
	b.base.say("%s", st.Sentence)
	return nil
}

func (b *twoBox) addGuest(ctx context.Context, name string) error {
	d := b.newDrill()
	d.begun = b.base.begun
	g := &probeGuest{d: d, name: name}
	d.guest = g
	if err := g.image(ctx); err != nil {
		return err
	}
	vm, err := d.makeVM(ctx)
	if err != nil {
		return err
	}
	b.guests = append(b.guests, &boxGuest{d: d, g: g, vm: vm})
	b.report.VMs = append(b.report.VMs, name)
	return nil
}

// round loses every place once, or what a quick drill loses of them.
func (b *twoBox) round(ctx context.Context) error {
	if err := b.loseOne(ctx, lab.WitnessRack); err != nil {
		return err
	}
	racks := 2
	if b.o.Quick {
		racks = 1
	}
	for range racks { // the guests are in the other rack afterwards
		vm, err := b.cloud.vm(ctx, b.guests[0].vm.ID)
		if err != nil {
			return err
		}
		if err := b.loseOne(ctx, vm.Rack); err != nil {
			return err
		}
	}
	if b.o.Quick {
		return nil
	}
	return b.loseAll(ctx)
}

// healthy waits until nothing is wrong, and notes where the guests are.
func (b *twoBox) healthy(ctx context.Context) error {
	errs := make([]error, len(b.guests))
	var wg sync.WaitGroup
	for i, g := range b.guests {
		wg.Go(func() {
			if _, errs[i] = g.d.healthy(ctx, g.vm); errs[i] == nil {
				g.vm, errs[i] = g.d.running(ctx, g.vm)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// loseOne pulls the plug of one place, looks that everything goes on, and starts
// it again.
func (b *twoBox) loseOne(ctx context.Context, rack string) error {
	if err := b.healthy(ctx); err != nil {
		return err
	}
	hosts, err := b.o.Lab.Rack(rack)
	if err != nil {
		return err
	}
	leads, err := b.base.kvLeader(ctx)
	if err != nil {
		return err
	}
	what := "rack " + rack
	if rack == lab.WitnessRack {
		what = "the witness"
	}
	loss := BoxLoss{What: what, KVLeader: leads.Rack == rack}
	if err := b.kill(&loss, hosts, rack); err != nil {
		return err
	}
	lost := func(g *boxGuest) bool { return g.vm.Rack == rack }
	if err := b.survive(ctx, &loss, lost); err != nil {
		b.keep(loss)
		return err
	}
	err = b.detected(ctx, &loss, rack)
	b.keep(loss)
	if err != nil {
		return err
	}
	b.base.say("%s is started again", what)
	return b.startAgain(ctx, rack)
}

// loseAll pulls every plug. The rack that the first guest ran in stays away until
// the guests run without it.
func (b *twoBox) loseAll(ctx context.Context) error {
	if err := b.healthy(ctx); err != nil {
		return err
	}
	away := b.guests[0].vm.Rack
	loss := BoxLoss{What: "everything, and rack " + away + " stays away", KVLeader: true}
	if err := b.kill(&loss, b.o.Lab.Hosts, away); err != nil {
		return err
	}
	for _, rack := range b.racks() {
		if rack != away {
			if err := b.o.Lab.Start(ctx, b.o.Binary, rack); err != nil {
				return err
			}
		}
	}
	b.base.mark("the other rack and the witness answer", time.Now(), "")
	err := b.survive(ctx, &loss, func(*boxGuest) bool { return true })
	b.keep(loss)
	if err != nil {
		return err
	}
	b.base.say("rack %s is started again", away)
	return b.startAgain(ctx, away)
}

func (b *twoBox) racks() (out []string) {
	for _, h := range b.o.Lab.Hosts {
		if !slices.Contains(out, h.Rack) {
			out = append(out, h.Rack)
		}
	}
	return out
}

// kill pulls plugs; the hosts of a rack are not asked from then on.
func (b *twoBox) kill(loss *BoxLoss, hosts []lab.Host, away string) error {
	b.cloud.without(away)
	zero := time.Now()
	for _, d := range b.drills() {
		d.mu.Lock()
		d.zero, d.report.Timeline = zero, nil
		d.mu.Unlock()
	}
	loss.KilledAt = zero
	if err := lab.Kill(hosts); err != nil {
		return err
	}
	b.base.say("%s: the plug is pulled", loss.What)
	return nil
}

func (b *twoBox) drills() []*drill {
	out := []*drill{b.base}
	for _, g := range b.guests {
		out = append(out, g.d)
	}
	return out
}

// survive follows every guest: one that was lost until it serves again, one that
// was not until it has gone on for a while.
func (b *twoBox) survive(ctx context.Context, loss *BoxLoss, lost func(*boxGuest) bool) error {
	errs := make([]error, len(b.guests))
	var wg sync.WaitGroup
	for i, g := range b.guests {
		if lost(g) {
			loss.Moved = append(loss.Moved, g.vm.Name)
			wg.Go(func() { errs[i] = g.comesBack(ctx) })
		} else {
			wg.Go(func() { errs[i] = g.goesOn(ctx) })
		}
	}
	wg.Wait()
	for i, g := range b.guests {
		if errs[i] != nil {
			return errs[i]
		}
		if lost(g) {
			acks, found := g.g.counts()
			b.check(found >= acks, "nothing acknowledged lost", "%s, %s lost: last flushed block reported before: %d; found after: %d", g.vm.Name, loss.What, acks, found)
		}
	}
	return nil
}

// comesBack follows a guest whose machine is dead until it serves again.
func (g *boxGuest) comesBack(ctx context.Context) error {
	if err := g.g.cut(ctx); err != nil {
		return err
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	runs := make(chan error, 1)
	go func() { runs <- g.runs(watch) }()
	if err := g.g.back(ctx); err != nil {
		return err
	}
	return <-runs
}

// runs marks when the VM's next machine runs.
func (g *boxGuest) runs(ctx context.Context) error {
	return g.d.cloud.until(ctx, backTimeout, "VM "+g.vm.Name+" to run again", func(ctx context.Context) (bool, string, error) {
		vm, err := g.d.cloud.vm(ctx, g.vm.ID)
		if err != nil {
			return false, "", err
		}
		m := vm.Machine
		if m == nil || m.State != "running" || m.Generation == g.vm.Machine.Generation && m.PID == g.vm.Machine.PID && m.Host == g.vm.Machine.Host {
			return false, "VM " + vm.Name + " is " + vm.State + " " + vm.Reason, nil
		}
		g.d.mark("VM process running", m.Since, "on host "+m.Host)
		return true, "", nil
	})
}

// goesOn wants a guest that runs elsewhere to write as before, in the same
// machine.
func (g *boxGuest) goesOn(ctx context.Context) error {
	from := g.g.look()
	s, err := g.g.wait(ctx, "VM "+g.vm.Name+" to go on", backTimeout, func(s sight) bool {
		return s.starts == from.starts && s.flushed >= from.flushed+goneOn
	})
	if err != nil {
		return err
	}
	g.d.mark("the guest has gone on", time.Now(), fmt.Sprintf("flushed %d blocks since the loss", s.flushed-from.flushed))
	return nil
}

// detected waits until the cluster knows of a loss, and notes what it says.
func (b *twoBox) detected(ctx context.Context, loss *BoxLoss, rack string) error {
	return b.cloud.until(ctx, backTimeout, "the loss to be noticed", func(ctx context.Context) (bool, string, error) {
		b.base.followIncident(ctx)
		st, err := b.cloud.status(ctx)
		if err != nil {
			return false, "", err
		}
		away := slices.ContainsFunc(st.Conditions, func(c v1.Condition) bool { return c.ID == "rack-away/"+rack })
		loss.Said = st.Sentence
		return away && b.base.marked("loss detected"), st.Sentence, nil
	})
}

// keep adds a loss to the report, with what was marked of it.
func (b *twoBox) keep(loss BoxLoss) {
	for _, d := range b.drills() {
		d.mu.Lock()
		for _, m := range d.report.Timeline {
			if d != b.base {
				m.Text = strings.TrimSpace(d.guest.spec().Name + " " + m.Text)
			}
			loss.Timeline = append(loss.Timeline, m)
		}
		d.mu.Unlock()
	}
	slices.SortStableFunc(loss.Timeline, func(x, y Mark) int { return int((x.After - y.After) * 1e6) })
	b.report.Losses = append(b.report.Losses, loss)
}

// startAgain starts a place that was lost, and waits until nothing is wrong.
func (b *twoBox) startAgain(ctx context.Context, rack string) error {
	if err := b.o.Lab.Start(ctx, b.o.Binary, rack); err != nil {
		return err
	}
	b.cloud.all()
	return b.cloud.until(ctx, backTimeout, "the cluster to be whole again", func(ctx context.Context) (bool, string, error) {
		st, err := b.cloud.status(ctx)
		return err == nil && b.base.isWhole(st), st.Sentence, err
	})
}

// verify has every guest verify its whole disk once more.
func (b *twoBox) verify(ctx context.Context) error {
	if err := b.healthy(ctx); err != nil {
		return err
	}
	for _, g := range b.guests {
		g.d.say("guest %s verifies everything once more", g.vm.Name)
		checks, err := g.g.witness(ctx)
		for _, c := range checks {
			c.Text = g.vm.Name + ": " + c.Text
			b.report.Checks = append(b.report.Checks, c)
		}
		if err != nil {
			return err
		}
	}
	err := b.base.oneMachine(ctx)
	b.report.Checks = append(b.report.Checks, b.base.report.Checks...)
	return err
}

func (b *twoBox) check(ok bool, what, format string, args ...any) {
	b.report.Checks = append(b.report.Checks, Check{what, ok, fmt.Sprintf(format, args...)})
}

// conclude computes the figures and judges the drill.
func (b *twoBox) conclude(err error) {
	r := &b.report
	racks := slices.DeleteFunc(slices.Clone(r.Losses), func(l BoxLoss) bool { return !strings.HasPrefix(l.What, "rack ") })
	all := slices.DeleteFunc(slices.Clone(r.Losses), func(l BoxLoss) bool { return !strings.HasPrefix(l.What, "everything") })
	for _, f := range []struct {
		what, mark string
		of         []BoxLoss
	}{
		{"rack killed → loss detected", "loss detected", racks},
		{"rack killed → VM process running", "VM process running", racks},
		{"rack killed → service answering", "service answering", racks},
		{"everything off → service answering in one rack", "service answering", all},
	} {
		var rounds []Report
		for _, l := range f.of {
			for _, m := range l.Timeline {
				if m.What == f.mark {
					rounds = append(rounds, Report{Timeline: []Mark{m}})
				}
			}
		}
		if fig, ok := figure(f.what, "s", rounds, func(r Report) (float64, bool) { return r.after(f.mark) }); ok {
			r.Figures = append(r.Figures, fig)
		}
	}
	r.OK = err == nil && len(r.Checks) > 0 && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
}
