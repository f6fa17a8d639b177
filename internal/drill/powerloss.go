package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// maxReturn is the longest that passes between the starts of two hosts when
// power is back.
const maxReturn = 2 * time.Second

// PowerOptions are what the loss of all power is drilled with.
type PowerOptions struct {
	Site
	Guests int
	Seed   uint64 // of the order in which hosts come back, and when
}

// PowerReport is what became of one loss of all power.
type PowerReport struct {
	Seed     uint64    `json:"seed"`
	Order    []string  `json:"order"` // of the hosts, as they were started
	Guests   int       `json:"guests"`
	CutAt    time.Time `json:"cut_at"`
	Timeline []Mark    `json:"timeline"`
	LastUp   float64   `json:"last_host_up_seconds"`          // after the loss
	Verified float64   `json:"last_host_to_verified_seconds"` // from the last host's answer to the last guest's word
	Acked    int64     `json:"acknowledged"`                  // flushed blocks that guests had reported
	Lost     int64     `json:"lost"`                          // of these
	Volatile bool      `json:"volatile"`                      // what was not synced went with the power
	Checks   []Check   `json:"checks"`
	OK       bool      `json:"ok"`
}

// PowerSeries is the same several times, with the same guests.
type PowerSeries struct {
	Rounds  []PowerReport `json:"rounds"`
	Figures []Figure      `json:"figures"`
	OK      bool          `json:"ok"`
}

// PowerLoss takes the power of a whole lab and gives it back, so many times, the
// seed one higher each time. It ends at the first round that fails. The guests
// are removed in the end, unless something failed.
func PowerLoss(ctx context.Context, o PowerOptions, times int) (s PowerSeries, err error) {
	d := newDrill(Options{Site: o.Site})
	defer d.cloud.close()
	p := newProbes(d, "power", o.Guests)
	defer p.close()
	if err = d.whole(ctx); err != nil {
		return s, err
	}
	if err = p.work(ctx); err != nil {
		return s, err
	}
	for i := range times {
		if times > 1 {
			fmt.Fprintf(o.Progress, "\nDrill %d of %d\n", i+1, times)
		}
		r := &powerLoss{d: d, guests: p, report: PowerReport{Seed: o.Seed + uint64(i), Guests: o.Guests, Volatile: !slices.ContainsFunc(o.Lab.Hosts, func(h lab.Host) bool { return !h.Volatile }), Order: []string{}, Checks: []Check{}}}
		err = r.run(ctx)
		r.conclude(err)
		s.Rounds = append(s.Rounds, r.report)
		if err != nil || !r.report.OK {
			break
		}
	}
	s.conclude(times)
	if err == nil && s.OK {
		err = p.remove(ctx)
	}
	return s, err
}

// whole wants a lab in which nothing is wrong: a loss on top of another loss
// proves nothing.
func (d *drill) whole(ctx context.Context) error {
	return d.cloud.until(ctx, 2*time.Minute, "the lab to be whole", func(ctx context.Context) (bool, string, error) {
		st, err := d.cloud.status(ctx)
		return err == nil && d.isWhole(st), st.Sentence, err
	})
}

// powerLoss is one round.
type powerLoss struct {
	d      *drill
	guests *probes
	report PowerReport
	before map[string]int64 // generation of each VM's machine
}

func (r *powerLoss) run(ctx context.Context) error {
	d := r.d
	if err := r.guests.whole(ctx, 2*time.Minute); err != nil {
		return err
	}
	if err := d.whole(ctx); err != nil {
		return err
	}
	vms, err := r.guests.machines(ctx)
	if err != nil {
		return err
	}
	r.before = map[string]int64{}
	for _, vm := range vms {
		if vm.Machine != nil {
			r.before[vm.ID] = vm.Machine.Since.UnixNano()
		}
	}
	rng := rand.New(rand.NewPCG(r.report.Seed, 0x706f776572))
	time.Sleep(time.Duration(rng.Int64N(int64(time.Second)))) // no moment is better than another
	d.mu.Lock()
	d.report = Report{}
	d.zero = time.Now()
	d.mu.Unlock()
	r.report.CutAt = d.zero
	if err := lab.Kill(d.o.Lab.Hosts); err != nil {
		return err
	}
	d.say("all hosts are without power")
	if err := r.guests.cut(ctx); err != nil {
		return err
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	var followed sync.WaitGroup
	followed.Go(func() { r.follow(watch) })
	verified := make(chan error, 1)
	go func() { verified <- r.guests.verified(watch) }()
	if err := r.back(ctx, rng); err != nil {
		cancel()
		followed.Wait()
		return errors.Join(err, ignoreCancelled(<-verified))
	}
	err = <-verified
	at := time.Since(d.zero).Seconds()
	cancel()
	followed.Wait()
	if err != nil {
		return err
	}
	r.report.Verified = at - r.report.LastUp
	return r.afterwards(ctx)
}

// ignoreCancelled is nil for an error that only says that nobody waits any more.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// back starts the hosts in an order and at moments that the seed tells; no host
// waits for the one before it.
func (r *powerLoss) back(ctx context.Context, rng *rand.Rand) error {
	d := r.d
	hosts := slices.Clone(d.o.Lab.Hosts)
	rng.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	for _, h := range hosts {
		r.report.Order = append(r.report.Order, h.Name)
	}
	d.say("power is back: hosts start in the order %s (seed %d)", strings.Join(r.report.Order, ", "), r.report.Seed)
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		if i > 0 {
			time.Sleep(time.Duration(rng.Int64N(int64(maxReturn))))
		}
		d.mark("host has power", time.Now(), h.Name)
		wg.Go(func() {
			if errs[i] = d.o.Lab.StartHosts(ctx, d.o.Binary, []lab.Host{h}); errs[i] == nil {
				d.mark("host answers", time.Now(), h.Name)
			}
		})
	}
	wg.Wait()
	r.report.LastUp = time.Since(d.zero).Seconds()
	return errors.Join(errs...)
}

// follow marks when VMs run again, as far as it is told.
func (r *powerLoss) follow(ctx context.Context) {
	_ = r.d.cloud.until(ctx, backTimeout, "the VMs to run", func(ctx context.Context) (bool, string, error) {
		time.Sleep(200 * time.Millisecond) // a question costs the hosts time that they have better use for
		vms, err := r.guests.machines(ctx)
		if err != nil {
			return false, "", err
		}
		running := 0
		for _, vm := range vms {
			if m := vm.Machine; m != nil && m.State == "running" && m.Since.UnixNano() != r.before[vm.ID] {
				r.d.mark("VM process running", m.Since, vm.Name+" on host "+m.Host)
				running++
			}
		}
		return running == len(r.guests.list), "", nil
	})
}

// afterwards waits until all is as before, and counts machines.
func (r *powerLoss) afterwards(ctx context.Context) error {
	d := r.d
	if err := r.guests.whole(ctx, backTimeout); err != nil {
		return err
	}
	if err := d.whole(ctx); err != nil {
		return err
	}
	d.mark("everything whole again", time.Now(), "")
	return d.oneMachine(ctx)
}

// conclude judges the round.
func (r *powerLoss) conclude(err error) {
	d := r.d
	r.report.Acked, r.report.Lost = r.guests.flushed()
	if !r.report.CutAt.IsZero() {
		d.check(r.report.Lost == 0, "nothing acknowledged lost", "%d flushed blocks were reported before the loss, %d of them are not there", r.report.Acked, r.report.Lost)
		text := "every guest found all blocks as they were written"
		if err != nil {
			text = err.Error()
		}
		d.check(err == nil, "every guest verified", "%s", text)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r.report.Timeline, r.report.Checks = sortedMarks(d.report.Timeline), d.report.Checks
	r.report.OK = err == nil && len(r.report.Checks) > 0 && !slices.ContainsFunc(r.report.Checks, func(c Check) bool { return !c.OK })
}

func sortedMarks(marks []Mark) []Mark {
	slices.SortStableFunc(marks, func(a, b Mark) int { return int((a.After - b.After) * 1e6) })
	return marks
}

func (s *PowerSeries) conclude(times int) {
	passed := 0
	var up, verified, lost []float64
	for _, r := range s.Rounds {
		if !r.OK {
			continue
		}
		passed++
		up, verified, lost = append(up, r.LastUp), append(verified, r.Verified), append(lost, float64(r.Lost))
	}
	s.OK = passed == times
	for _, f := range []struct {
		what, unit string
		all        []float64
	}{{"power cut → last host up", "s", up}, {"last host up → all guests verified", "s", verified}, {"flushed blocks lost", "", lost}} {
		if len(f.all) > 0 {
			s.Figures = append(s.Figures, Figure{f.what, f.unit, len(f.all), Median(f.all), slices.Max(f.all)})
		}
	}
}
