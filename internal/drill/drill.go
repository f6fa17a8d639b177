// Package drill pulls the plug of a rack on purpose and reports what became of
// the VM that ran there: when it was back, and whether every byte it had
// acknowledged was. It acts on a lab's processes and otherwise knows the
// cluster only through its API, as any client does.
package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	pollEvery   = 50 * time.Millisecond
	bootTimeout = 5 * time.Minute // for a guest to work, without hardware virtualization
	backTimeout = 5 * time.Minute // for it to be back, and for redundancy to be
)

// Options are what a drill is run with.
type Options struct {
	Site
	Guest     string // "probe" or "debian"
	ImageFile string // debian: the raw disk, if the cluster has no such image yet
	Keep      bool   // leave the killed rack dead
	Leader    bool   // kill the rack whose host leads the control plane
}

// Report is what a drill found.
type Report struct {
	Guest    string    `json:"guest"`
	VM       string    `json:"vm"`
	Rack     string    `json:"rack"`      // that was killed
	From     string    `json:"from_host"` // where the VM ran
	To       string    `json:"to_host"`   // where it runs since
	Leader   bool      `json:"leader"`    // the rack held the host that makes the plans
	KVLeader bool      `json:"kv_leader"` // the rack held the host that leads the control plane's votes
	Before   string    `json:"before"`    // what the cluster said of itself before the loss
	KilledAt time.Time `json:"killed_at"`
	Timeline []Mark    `json:"timeline"`
	Resent   int64     `json:"resent_bytes"` // to restore redundancy
	ColdBoot float64   `json:"cold_boot_seconds"`
	Acked    int64     `json:"acknowledged"` // before the loss: flushed blocks or commits
	Found    int64     `json:"found"`        // afterwards, with what was written since
	Checks   []Check   `json:"checks"`
	OK       bool      `json:"ok"`
}

// Mark is one moment of the timeline, in seconds since the plug was pulled.
type Mark struct {
	What  string  `json:"what"`
	After float64 `json:"after_seconds"`
	Text  string  `json:"text,omitempty"`
}

// Check is one thing that must be true.
type Check struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// guest is a VM that can bear witness. Its methods are called in the order in
// which they stand, by one goroutine.
type guest interface {
	// image makes sure that the cluster has the image.
	image(ctx context.Context) error
	spec() v1.VMSpec
	// work waits until the guest works and lets it work until the drill is over.
	work(ctx context.Context, vm v1.VM) error
	// cut is called right after the plug was pulled.
	cut(ctx context.Context) error
	// back waits until the guest serves again and marks the moments.
	back(ctx context.Context) error
	// witness checks everything that was acknowledged, at the very end.
	witness(ctx context.Context) ([]Check, error)
	// counts returns what was acknowledged before, and what was found after.
	counts() (acked, found int64)
	close()
}

// drill is one run.
type drill struct {
	o     Options
	cloud *cloud
	guest guest
	begun time.Time

	mu     sync.Mutex
	report Report
	zero   time.Time // when the plug was pulled
}

func newDrill(o Options) *drill { return &drill{o: o, cloud: newCloud(o.Lab), begun: time.Now()} }

// Run runs a drill. The report says what happened as far as it got, also if
// there is an error.
func Run(ctx context.Context, o Options) (Report, error) {
	d := newDrill(o)
	defer d.cloud.close()
	var err error
	if d.guest, err = newGuest(d); err != nil {
		return Report{}, err
	}
	defer d.guest.close()
	d.report.Guest, d.report.VM = o.Guest, d.guest.spec().Name
	err = d.run(ctx)
	d.report.Acked, d.report.Found = d.guest.counts()
	d.report.OK = err == nil && len(d.report.Checks) > 0 && !slices.ContainsFunc(d.report.Checks, func(c Check) bool { return !c.OK })
	slices.SortStableFunc(d.report.Timeline, func(a, b Mark) int { return int((a.After - b.After) * 1e6) })
	return d.report, err
}

func newGuest(d *drill) (guest, error) {
	switch d.o.Guest {
	case "probe":
		return &probeGuest{d: d}, nil
	case "debian":
		return &debianGuest{d: d}, nil
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "--guest %q: it can be probe or debian", d.o.Guest)
}

func (d *drill) run(ctx context.Context) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	if err := d.guest.image(ctx); err != nil {
		return err
	}
	vm, err := d.makeVM(ctx)
	if err != nil {
		return err
	}
	if d.o.Leader {
		if err := d.aim(ctx, vm); err != nil {
			return err
		}
	}
	if err := d.loseRack(ctx, vm); err != nil {
		return err
	}
	if !d.o.Keep {
		if err := d.returnRack(ctx); err != nil {
			return err
		}
	}
	d.say("the guest verifies everything once more")
	checks, err := d.guest.witness(ctx)
	d.report.Checks = append(d.report.Checks, checks...)
	if err != nil {
		return err
	}
	return d.oneMachine(ctx)
}

// say tells what is being done.
func (d *drill) say(format string, args ...any) {
	fmt.Fprintf(d.o.Progress, "%6.1f s  %s\n", time.Since(d.begun).Seconds(), fmt.Sprintf(format, args...))
}

// mark notes a moment of the timeline, once.
func (d *drill) mark(what string, at time.Time, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.report.Timeline {
		if m.What == what && m.Text == text {
			return
		}
	}
	after := at.Sub(d.zero).Seconds()
	d.report.Timeline = append(d.report.Timeline, Mark{what, after, text})
	d.say("+%.1f s %s %s", after, what, text)
}

// check notes something that must be true.
func (d *drill) check(ok bool, what, format string, args ...any) {
	d.report.Checks = append(d.report.Checks, Check{what, ok, fmt.Sprintf(format, args...)})
}

// ready wants a whole lab: a loss on top of another loss proves nothing.
func (d *drill) ready(ctx context.Context) error {
	var st v1.Status
	err := d.cloud.until(ctx, time.Minute, "the lab to be whole", func(ctx context.Context) (bool, string, error) {
		var err error
		st, err = d.cloud.status(ctx)
		return err == nil && d.isWhole(st), st.Sentence, err
	})
	if err != nil {
		return err
	}
	if st.Counts.Racks < 3 {
		return holdfast.Errorf(holdfast.Invalid, "the drill needs 3 racks, the lab has %d: with fewer the control plane has no majority left; make one with 'holdfast lab up --racks 3'", st.Counts.Racks)
	}
	d.say("%s", st.Sentence)
	return nil
}

// makeVM makes the VM anew and waits until its guest works.
func (d *drill) makeVM(ctx context.Context) (v1.VM, error) {
	s := d.guest.spec()
	if err := d.cloud.remove(ctx, s.Name); err != nil {
		return v1.VM{}, err
	}
	begin := time.Now()
	vm, err := d.cloud.createVM(ctx, s)
	if err != nil {
		return vm, err
	}
	if vm, err = d.running(ctx, vm); err != nil {
		return vm, err
	}
	d.say("VM %s runs on host %s in rack %s, %.1f s after it was asked for", vm.Name, vm.Host, vm.Rack, time.Since(begin).Seconds())
	if err := d.guest.work(ctx, vm); err != nil {
		return vm, err
	}
	d.report.ColdBoot = time.Since(begin).Seconds()
	return vm, nil
}

// steady is how long all must have been well. It is longer than a replica
// that does not answer is waited for before it is ejected.
const steady = 4 * time.Second

// healthy waits until for a while nothing has been wrong in the cluster and
// the VM's disk has had all its copies: a loss that meets another one would
// not be a drill of one.
func (d *drill) healthy(ctx context.Context, vm v1.VM) (v1.Status, error) {
	var st v1.Status
	var since time.Time
	err := d.cloud.until(ctx, time.Minute, "the VM's disk to have its copies, and nothing to be wrong", func(ctx context.Context) (bool, string, error) {
		v, err := d.cloud.volume(ctx, vm.Volume)
		said := "volume " + v.Name + " is " + v.State
		well := err == nil && v.State == "ok"
		if well {
			st, err = d.cloud.status(ctx)
			said, well = st.Sentence, err == nil && d.isWhole(st)
		}
		if !well {
			since = time.Time{}
			return false, said, err
		}
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) >= steady, said, nil
	})
	return st, err
}

func (d *drill) isWhole(st v1.Status) bool {
	return st.Level == "ok" && st.Counts.HostsAlive == len(d.o.Lab.Hosts)
}

func (d *drill) running(ctx context.Context, vm v1.VM) (v1.VM, error) {
	err := d.cloud.until(ctx, time.Minute, "the VM to run", func(ctx context.Context) (bool, string, error) {
		var err error
		vm, err = d.cloud.vm(ctx, vm.ID)
		if err == nil && vm.State == "failed" {
			return false, "", stop{holdfast.Errorf(holdfast.Unavailable, "VM %s did not start: %s", vm.Name, vm.Reason)}
		}
		return err == nil && vm.State == "running" && vm.Machine != nil, "VM " + vm.Name + " is " + vm.State + " " + vm.Reason, err
	})
	return vm, err
}

// loseRack pulls the plug of the rack that runs the VM, and follows what
// happens until it serves again and its disk has its copies.
func (d *drill) loseRack(ctx context.Context, vm v1.VM) error {
	vm, err := d.cloud.vm(ctx, vm.ID) // where it is now
	if err != nil {
		return err
	}
	hosts, err := d.o.Lab.Rack(vm.Rack)
	if err != nil {
		return err
	}
	st, err := d.healthy(ctx, vm)
	if err != nil {
		return err
	}
	leads, err := d.kvLeader(ctx)
	if err != nil {
		return err
	}
	d.report.Rack, d.report.From, d.report.Before, d.report.KVLeader = vm.Rack, vm.Host, st.Sentence, leads.Rack == vm.Rack
	d.report.Leader = slices.ContainsFunc(hosts, func(h lab.Host) bool { return h.Name == st.Cluster.Leader })
	time.Sleep(rand.N(time.Second)) // no moment is better than another
	d.cloud.without(vm.Rack)
	d.mu.Lock()
	d.zero = time.Now()
	d.report.KilledAt = d.zero
	d.mu.Unlock()
	if err := lab.Kill(hosts); err != nil {
		return err
	}
	d.say("rack %s is dead", vm.Rack)
	if err := d.guest.cut(ctx); err != nil {
		return err
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan error, 1)
	go func() { followed <- d.follow(watch, vm) }()
	if err := d.guest.back(ctx); err != nil {
		return err
	}
	if err := <-followed; err != nil {
		return err
	}
	if a, err := d.cloud.activity(ctx, vm.Volume); err == nil {
		d.report.Resent = a.ResentBytes
	}
	return nil
}

// follow marks what the records of the cluster tell, from the loss to full
// redundancy.
func (d *drill) follow(ctx context.Context, before v1.VM) error {
	return d.cloud.until(ctx, backTimeout, "redundancy to be back", func(ctx context.Context) (bool, string, error) {
		d.followIncident(ctx)
		vm, err := d.cloud.vm(ctx, before.ID)
		if err != nil {
			return false, "", err
		}
		if m := vm.Machine; m != nil && m.State == "running" && m.Generation > before.Machine.Generation {
			d.mark("VM process running", m.Since, "on host "+m.Host)
			d.mu.Lock()
			d.report.To = m.Host
			d.mu.Unlock()
		}
		v, err := d.cloud.volume(ctx, before.Volume)
		if err != nil || !mended(v, before.Rack) {
			return false, "volume " + v.Name + " is " + v.State, err
		}
		d.mark("redundancy back", time.Now(), fmt.Sprintf("%d copies in sync, none in rack %s", v.Copies, before.Rack))
		return d.marked("VM process running"), "the VM does not run", nil
	})
}

func (d *drill) marked(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.report.Timeline, func(m Mark) bool { return m.What == what })
}

// mended reports whether a volume has all its copies outside of a rack.
func mended(v v1.Volume, rack string) bool {
	n := 0
	for _, r := range v.Replicas {
		if r.InSync && r.Alive && r.Rack != rack {
			n++
		}
	}
	return v.Copies > 0 && n >= v.Copies
}

// words are the incident's steps in the words of the report.
func words() map[string]string {
	return map[string]string{"lost": "loss detected", "cut": "epochs cut", "plan": "plan made", "assigned": "VM assigned"}
}

func (d *drill) followIncident(ctx context.Context) {
	all, err := d.cloud.incidents(ctx)
	if err != nil || len(all) == 0 || all[0].Opened.Before(d.zero.Add(-time.Second)) {
		return // none yet; it is asked for again
	}
	for _, s := range all[0].Steps {
		if what, ok := words()[s.What]; ok {
			d.mark(what, s.At, s.Text)
		}
	}
}

// returnRack starts the killed rack and waits until all is as before.
func (d *drill) returnRack(ctx context.Context) error {
	d.say("rack %s is started again", d.report.Rack)
	if err := d.o.Lab.Start(ctx, d.o.Binary, d.report.Rack); err != nil {
		return err
	}
	d.mark("killed rack answers again", time.Now(), "")
	d.cloud.all()
	err := d.cloud.until(ctx, backTimeout, "the cluster to be whole again", func(ctx context.Context) (bool, string, error) {
		st, err := d.cloud.status(ctx)
		return err == nil && d.isWhole(st), st.Sentence, err
	})
	if err != nil {
		return err
	}
	d.mark("everything whole again", time.Now(), "")
	return nil
}

// oneMachine checks that no VM has two machines: there are as many QEMU
// processes in the lab as VMs that run.
func (d *drill) oneMachine(ctx context.Context) error {
	vms, err := d.cloud.vms(ctx)
	if err != nil {
		return err
	}
	names, err := lab.Programs(d.o.Lab.Hosts)
	if err != nil {
		return err
	}
	want, have := 0, 0
	for _, v := range vms {
		if v.Machine != nil && (v.State == "running" || v.State == "paused") {
			want++
		}
	}
	for _, n := range names {
		if strings.HasPrefix(n, "qemu-system") {
			have++
		}
	}
	d.check(have == want, "one machine per VM", "%d QEMU processes, %d running VMs", have, want)
	return nil
}
