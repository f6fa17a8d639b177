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
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/diary"
)

// SoakOptions are what a soak is made with.
type SoakOptions struct {
	Site
	Lasts  time.Duration
	Every  time.Duration // a rack is killed
	Down   time.Duration // it stays dead
	Guests int
	IOPS   int // of each guest's disk; 0: no limit
	Seed   uint64
}

// SoakReport is what a soak found.
type SoakReport struct {
	What      string       `json:"what"` // "soak"
	Version   string       `json:"version"`
	Begun     time.Time    `json:"begun"`
	Seed      uint64       `json:"seed"`
	Minutes   float64      `json:"minutes"`
	Hosts     int          `json:"hosts"`
	Guests    int          `json:"guests"`
	Lived     []string     `json:"lived"` // hosts whose process was never killed
	Kills     int          `json:"racks_killed"`
	FailOvers int          `json:"fail_overs"`
	Boots     int          `json:"guest_boots"`
	Flushed   int64        `json:"guest_flushed_writes"`
	Lost      int          `json:"flushed_writes_lost"`
	Trends    []Trend      `json:"trends"`
	Figures   []Figure     `json:"figures"`
	Timeline  []Mark       `json:"timeline,omitempty"`
	Samples   []SoakSample `json:"samples,omitempty"`
	Checks    []Check      `json:"checks"`
	OK        bool         `json:"ok"`

	whole []float64
}

func (r SoakReport) passed() bool { return r.OK }

// SoakSample is what one host took at one moment.
type SoakSample struct {
	At         float64 `json:"at_seconds"`
	Host       string  `json:"host"`
	Resident   int64   `json:"resident_bytes"`
	Heap       int64   `json:"heap_bytes"`
	Goroutines int     `json:"goroutines"`
	Files      int     `json:"open_files"`
	Disk       int64   `json:"disk_used_bytes"` // of what the host's disk can hold
	VMs        int     `json:"vms"`             // that run there
}

const sampleEvery = 5 * time.Second

// soak is one run.
type soak struct {
	*drill
	o      SoakOptions
	diary  *diary.Diary
	vms    []v1.VM
	report SoakReport
}

// Soak lets guests work for long while a rack is killed now and then, and looks
// whether what the hosts' processes take grows. The first rack is never killed: its
// processes live from the beginning to the end, and what they leak adds up.
func Soak(ctx context.Context, o SoakOptions) (SoakReport, error) {
	s := &soak{o: o, drill: newDrill(Options{Site: o.Site})}
	s.report = SoakReport{What: "soak", Seed: o.Seed, Hosts: len(o.Lab.Hosts), Guests: o.Guests}
	defer s.cloud.close()
	err := s.run(ctx)
	if s.diary != nil {
		s.diary.Close()
	}
	s.conclude(err)
	return s.report, err
}

func (s *soak) run(ctx context.Context) error {
	left, err := s.cloud.left(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return holdfast.Errorf(holdfast.Conflict, "there is something in the lab in %s that the soak did not make (%s); give it a lab of its own with --dir, as 'make soak' does", s.o.Lab.Dir, left[0])
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	self, err := ask(ctx, s.cloud, askTimeout, func(ctx context.Context, k *client.Client) (v1.Self, error) { return k.Self(ctx) })
	if err != nil {
		return err
	}
	s.report.Version = self.Version
	if err := s.fillWithGuests(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.zero = time.Now()
	s.report.Begun = s.zero.UTC()
	s.mu.Unlock()
	return s.soak(ctx)
}

// fillWithGuests makes the VMs, on all hosts, and waits until every guest writes.
func (s *soak) fillWithGuests(ctx context.Context) error {
	begin := time.Now()
	var names []string
	for i := range s.o.Guests {
		g := &probeGuest{d: s.drill, from: fmt.Sprintf("soak-probe-%d", i%len(s.o.Lab.Hosts)+1)}
		if err := g.image(ctx); err != nil {
			return err
		}
		vm, err := s.cloud.haveVM(ctx, v1.VMSpec{Name: fmt.Sprintf("soak-%d", i+1), Image: g.from, MemoryMiB: 32})
		if err == nil && s.o.IOPS > 0 {
			err = s.cloud.setVolume(ctx, vm.Volume, v1.VolumeSet{IOPS: &s.o.IOPS})
		}
		if err != nil {
			return err
		}
		names, s.vms = append(names, vm.Name), append(s.vms, vm)
	}
	s.diary = diary.Follow(s.o.Lab, names...)
	err := s.cloud.until(ctx, 2*bootTimeout, "every guest to write", func(context.Context) (bool, string, error) {
		for _, vm := range s.vms {
			if n := s.diary.Flushed(vm.Name); n < firstFlushes {
				return false, fmt.Sprintf("guest %s has flushed %d", vm.Name, n), s.good()
			}
		}
		return true, "", nil
	})
	if err != nil {
		return err
	}
	on := map[string]int{}
	vms, err := s.cloud.vms(ctx)
	for _, vm := range vms {
		on[vm.Host]++
	}
	s.say("%d guests write after %.1f s; by hosts: %v", len(s.vms), time.Since(begin).Seconds(), on)
	return err
}

func (s *soak) good() error {
	if w := s.diary.Wrong(); len(w) > 0 {
		return stop{holdfast.Errorf(holdfast.Corrupt, "VM %s", w[0])}
	}
	return nil
}

// soak kills racks and takes samples until it is over.
func (s *soak) soak(ctx context.Context) error {
	sampling, end := context.WithCancel(ctx)
	var samples sync.WaitGroup
	samples.Go(func() { s.sample(sampling) })
	defer samples.Wait()
	defer end()
	rng := rand.New(rand.NewPCG(s.o.Seed, 0x736f616b))
	first := s.o.Lab.Hosts[0].Rack
	var racks []string
	for _, h := range s.o.Lab.Hosts {
		switch {
		case h.Rack == first:
			s.report.Lived = append(s.report.Lived, h.Name)
		case !slices.Contains(racks, h.Rack):
			racks = append(racks, h.Rack)
		}
	}
	s.say("a rack is killed every %v for %v; rack %s is let alone", s.o.Every, s.o.Lasts, first)
	for next := s.zero.Add(s.o.Every); next.Before(s.zero.Add(s.o.Lasts)); next = next.Add(s.o.Every) {
		if !rest(ctx, time.Until(next)) {
			return ctx.Err()
		}
		if err := s.lose(ctx, racks[rng.IntN(len(racks))]); err != nil {
			return err
		}
	}
	rest(ctx, time.Until(s.zero.Add(s.o.Lasts)))
	s.report.Minutes = time.Since(s.zero).Minutes()
	if err := s.whole(ctx); err != nil {
		return err
	}
	return s.oneMachine(ctx)
}

// lose kills a rack, starts it again after a while and waits until all is whole.
func (s *soak) lose(ctx context.Context, rack string) error {
	hosts, err := s.o.Lab.Rack(rack)
	if err != nil {
		return err
	}
	s.mark("rack killed", time.Now(), rack+fmt.Sprintf(" (%d)", s.report.Kills+1))
	s.report.Kills++
	if err := lab.Kill(hosts); err != nil {
		return err
	}
	rest(ctx, s.o.Down)
	begin := time.Now()
	err = s.cloud.until(ctx, rightWithin, "rack "+rack+" to answer", func(ctx context.Context) (bool, string, error) {
		err := s.o.Lab.StartHosts(ctx, s.o.Binary, hosts)
		return err == nil, "", err
	})
	if err != nil {
		return err
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	s.report.whole = append(s.report.whole, time.Since(begin).Seconds())
	s.mark("whole again", time.Now(), fmt.Sprintf("%.1f s after rack %s was started (%d)", time.Since(begin).Seconds(), rack, s.report.Kills))
	return nil
}

// whole waits until every host is there, every volume has its copies, every VM runs
// and every guest has flushed more.
func (s *soak) whole(ctx context.Context) error {
	flushed := map[string]uint32{}
	for _, vm := range s.vms {
		flushed[vm.Name] = s.diary.Flushed(vm.Name)
	}
	return s.cloud.until(ctx, wholeWithin, "everything to be whole again", func(ctx context.Context) (bool, string, error) {
		if err := s.good(); err != nil {
			return false, "", err
		}
		rest(ctx, time.Second)
		if said, err := s.cloud.whole(ctx, len(s.o.Lab.Hosts)); said != "" || err != nil {
			return false, said, err
		}
		for _, vm := range s.vms {
			if n := s.diary.Flushed(vm.Name); n <= flushed[vm.Name]+1 {
				return false, fmt.Sprintf("guest %s has flushed %d", vm.Name, n), nil
			}
		}
		return true, "", nil
	})
}

// sample takes samples of all hosts.
func (s *soak) sample(ctx context.Context) {
	for rest(ctx, sampleEvery) {
		at := time.Since(s.zero).Seconds()
		disks, err := ask(ctx, s.cloud, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Disk, error) { return k.Disks(ctx) })
		if err != nil {
			continue
		}
		vms, err := s.cloud.vms(ctx)
		if err != nil {
			continue
		}
		for _, h := range s.o.Lab.Hosts {
			try, cancel := context.WithTimeout(ctx, askTimeout)
			f, err := scrape(try, h)
			cancel()
			if err != nil {
				continue // it is dead, or busy
			}
			one := SoakSample{At: at, Host: h.Name, Resident: int64(f["process_resident_memory_bytes"]), Heap: int64(f["go_memstats_heap_alloc_bytes"]),
				Goroutines: int(f["go_goroutines"]), Files: int(f["process_open_fds"])}
			for _, vm := range vms {
				if vm.Host == h.Name {
					one.VMs++
				}
			}
			for _, d := range disks {
				if d.Host == h.Name {
					one.Disk = d.Size - d.Free
				}
			}
			s.mu.Lock()
			s.report.Samples = append(s.report.Samples, one)
			s.mu.Unlock()
		}
	}
}

// conclude judges.
func (s *soak) conclude(err error) {
	r := &s.report
	if r.Begun.IsZero() {
		return
	}
	for _, vm := range s.vms {
		r.Flushed += int64(s.diary.Flushed(vm.Name))
		host := ""
		for _, b := range s.diary.Bouts(vm.Name) {
			if b.Verified != nil {
				r.Boots++
			}
			if host != "" && b.Host != host {
				r.FailOvers++
			}
			host = b.Host
		}
	}
	wrong := s.diary.Wrong()
	r.Lost = len(wrong)
	s.check(len(wrong) == 0, "nothing acknowledged and flushed lost, nothing read wrong", "%d flushed writes, %d verified boots, %d wrong %s", r.Flushed, r.Boots, len(wrong), strings.Join(wrong, "; "))
	text := fmt.Sprintf("%d racks killed, each time everything was whole again", r.Kills)
	if err != nil {
		text = err.Error()
	}
	s.check(err == nil, "to its end", "%s", text)
	r.Trends = trends(r.Samples, r.Lived, s.o.Lasts)
	for _, t := range r.Trends {
		s.check(t.Flat, "flat: "+t.What, "%s", t)
	}
	if len(r.whole) > 0 {
		r.Figures = append(r.Figures, Figure{"rack started → everything whole", "s", len(r.whole), Median(r.whole), slices.Max(r.whole)})
	}
	r.Timeline, r.Checks = sortedMarks(s.drill.report.Timeline), s.drill.report.Checks
	r.OK = err == nil && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
}
