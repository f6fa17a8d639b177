package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// leaderTenths is how many of ten drills of a series kill the rack of the
// control plane's leader, at least.
const leaderTenths = 3

// Series is the same drill several times in one lab.
type Series struct {
	Guest   string   `json:"guest"`
	Rounds  []Report `json:"rounds"`
	Leaders int      `json:"kv_leader_rounds"` // that killed the rack of the control plane's leader
	Figures []Figure `json:"figures"`
	Checks  []Check  `json:"checks"` // of the series as a whole
	OK      bool     `json:"ok"`
}

// Figure is one thing that was measured in several rounds.
type Figure struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit"` // "s", "MiB" or "" for a ratio
	Rounds int     `json:"rounds"`
	Median float64 `json:"median"`
	Worst  float64 `json:"worst"`
}

// Repeat runs a drill so many times and ends at the first that fails. At least
// three of ten kill the rack of the control plane's leader. Each round begins
// when nothing is wrong, and leaves neither VM nor volume behind.
func Repeat(ctx context.Context, o Options, times int) (Series, error) {
	s := Series{Guest: o.Guest}
	c := newCloud(o.Lab)
	defer c.close()
	if g, err := newGuest(&drill{o: o, cloud: c}); err == nil {
		err = c.remove(ctx, g.spec().Name) // of an earlier, single drill
		if err != nil {
			return s, err
		}
	}
	before, err := c.left(ctx)
	if err != nil {
		return s, err
	}
	for i := range times {
		o.Leader = s.Leaders < (leaderTenths*(i+1)+9)/10
		fmt.Fprintf(o.Progress, "\nDrill %d of %d\n", i+1, times)
		r, err := Run(ctx, o)
		s.add(r)
		if err == nil && r.OK {
			err = s.clean(ctx, c, r.VM, before)
		}
		if err != nil || !r.OK {
			s.conclude(times)
			return s, err
		}
	}
	s.conclude(times)
	return s, nil
}

func (s *Series) add(r Report) {
	s.Rounds = append(s.Rounds, r)
	if r.KVLeader {
		s.Leaders++
	}
}

// clean removes the VM of a round and looks that nothing of it stays.
func (s *Series) clean(ctx context.Context, c *cloud, vm string, before []string) error {
	if err := c.remove(ctx, vm); err != nil {
		return err
	}
	return c.until(ctx, time.Minute, "nothing of the drill to be left", func(ctx context.Context) (bool, string, error) {
		now, err := c.left(ctx)
		if err != nil {
			return false, "", err
		}
		litter := slices.DeleteFunc(now, func(n string) bool { return slices.Contains(before, n) })
		return len(litter) == 0, "there is still " + strings.Join(litter, ", "), nil
	})
}

// conclude computes the figures and judges the series.
func (s *Series) conclude(times int) {
	for _, f := range []struct {
		what, unit string
		of         func(Report) (float64, bool)
	}{
		{"killed → loss detected", "s", func(r Report) (float64, bool) { return r.after("loss detected") }},
		{"killed → VM process running", "s", func(r Report) (float64, bool) { return r.after("VM process running") }},
		{"VM process running → guest ready", "s", func(r Report) (float64, bool) { return r.between("VM process running", "guest ready") }},
		{"killed → service answering", "s", func(r Report) (float64, bool) { return r.after("service answering") }},
		{"  as a ratio to a first boot", "", func(r Report) (float64, bool) {
			a, ok := r.after("service answering")
			return a / r.ColdBoot, ok && r.ColdBoot > 0
		}},
		{"killed → redundancy back", "s", func(r Report) (float64, bool) { return r.after("redundancy back") }},
		{"sent again", "MiB", func(r Report) (float64, bool) { return float64(r.Resent) / (1 << 20), r.Resent > 0 }},
	} {
		if fig, ok := figure(f.what, f.unit, s.Rounds, f.of); ok {
			s.Figures = append(s.Figures, fig)
		}
	}
	passed := 0
	for _, r := range s.Rounds {
		if r.OK {
			passed++
		}
	}
	want := (leaderTenths*times + 9) / 10
	s.Checks = []Check{
		{"every drill passed", passed == times, fmt.Sprintf("%d of %d", passed, times)},
		{"the leader was lost often enough", s.Leaders >= want, fmt.Sprintf("%d drills killed the rack of the control plane's leader, %d were wanted", s.Leaders, want)},
	}
	s.OK = !slices.ContainsFunc(s.Checks, func(c Check) bool { return !c.OK })
}

func figure(what, unit string, rounds []Report, of func(Report) (float64, bool)) (Figure, bool) {
	var all []float64
	for _, r := range rounds {
		if v, ok := of(r); ok {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return Figure{}, false
	}
	return Figure{what, unit, len(all), Median(all), slices.Max(all)}, true
}

// Median returns the middle of some values, or of the two in the middle their
// mean; 0 of none.
func Median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	if n == 0 {
		return 0
	}
	return (all[(n-1)/2] + all[n/2]) / 2
}

// between returns the seconds from one moment to a later one.
func (r Report) between(from, to string) (float64, bool) {
	a, ok := r.after(from)
	b, ok2 := r.after(to)
	return b - a, ok && ok2
}
