package drill

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

const (
	probeSize  = 16 << 20
	probeFirst = 100 // flushed blocks before the plug is pulled
)

// probeGuest is our own tiny guest: it reports every flushed counter on its
// console and verifies its whole disk at every boot.
type probeGuest struct {
	d      *drill
	name   string        // of its VM; "": drill-probe
	from   string        // its image; "": probe
	copies int           // of image and disk; 0: the default
	search time.Duration // between tries at a console that is not there; 0: pollEvery
	vm     v1.VM
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	seen   sight  // on the present connection to the console
	former sight  // on the one before
	acks   uint32 // the last counter reported before the loss
	boot   sight  // what the guest said after it
}

// sight is what one connection to the console showed.
type sight struct {
	attached time.Time
	ended    bool
	starts   int
	ready    time.Time
	verified *probe.Line
	flushed  uint32
	since    time.Time // first flushed line
	bad      []string
}

func (g *probeGuest) spec() v1.VMSpec {
	return v1.VMSpec{Name: cmp.Or(g.name, "drill-probe"), Image: cmp.Or(g.from, "probe"), Copies: g.copies, MemoryMiB: 32, Priority: "high"}
}

func (g *probeGuest) image(ctx context.Context) error {
	return g.d.cloud.haveCopies(ctx, client.NewImage{Name: g.spec().Image, Size: probeSize, Copies: g.copies}, func() (io.ReadCloser, error) {
		head, err := probe.Image(probeSize)
		if err != nil {
			return nil, err
		}
		g.d.say("importing the probe image")
		rest := io.LimitReader(zeros{}, probeSize-int64(len(head)))
		return io.NopCloser(io.MultiReader(bytes.NewReader(head), rest)), nil
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (g *probeGuest) close() {
	if g.stop != nil {
		g.stop()
		<-g.done
	}
}

// attach follows the VM's console from now on, afresh whenever it breaks off.
func (g *probeGuest) attach(ctx context.Context) {
	g.close()
	ctx, g.stop = context.WithCancel(ctx)
	done := make(chan struct{})
	g.done = done
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if con, err := g.d.cloud.console(ctx, g.vm.ID); err == nil {
				cut := context.AfterFunc(ctx, func() { con.Close() })
				g.read(con)
				cut()
				con.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(cmp.Or(g.search, pollEvery)):
			}
		}
	}()
}

// read takes lines until the console ends. The first line may be the tail of
// one, and is then no line of the guest.
func (g *probeGuest) read(con io.Reader) {
	g.mu.Lock()
	g.former, g.seen = g.seen, sight{attached: time.Now()}
	g.mu.Unlock()
	sc := bufio.NewScanner(con)
	sc.Buffer(make([]byte, 0, 4096), 64<<10)
	for sc.Scan() {
		if l, err := probe.ParseLine(sc.Text()); err == nil {
			g.update(func(s *sight) { s.take(l) })
		}
	}
	g.update(func(s *sight) { s.ended = true })
}

func (g *probeGuest) update(f func(*sight)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.seen)
}

// look returns what was seen; the console may be attached anew in between.
func (g *probeGuest) look() sight {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen
}

func (s *sight) take(l probe.Line) {
	switch l.What {
	case probe.Start:
		s.starts++
		s.verified = nil
	case probe.Verified:
		s.verified = &l
	case probe.Ready:
		if s.ready.IsZero() {
			s.ready = time.Now()
		}
	case probe.Flushed:
		if s.flushed == 0 {
			s.since = time.Now()
		}
		s.flushed = max(s.flushed, l.Counter)
	case probe.Corrupt, probe.Halted, probe.Failed:
		s.bad = append(s.bad, l.Text)
	}
}

// wait looks until ok, or until the guest reports damage.
func (g *probeGuest) wait(ctx context.Context, what string, limit time.Duration, ok func(sight) bool) (sight, error) {
	var s sight
	err := g.d.cloud.until(ctx, limit, what, func(context.Context) (bool, string, error) {
		s = g.look()
		if len(s.bad) > 0 {
			return false, "", stop{holdfast.Errorf(holdfast.Corrupt, "the guest reports: %s", s.bad[0])}
		}
		return ok(s), fmt.Sprintf("the guest started %d times, its last flushed block is %d", s.starts, s.flushed), nil
	})
	return s, err
}

func (g *probeGuest) work(ctx context.Context, vm v1.VM) error {
	g.vm = vm
	g.attach(ctx)
	s, err := g.wait(ctx, "the guest to write", bootTimeout, func(s sight) bool { return s.flushed >= probeFirst })
	if err == nil {
		g.d.say("the guest has flushed %d blocks", s.flushed)
	}
	return err
}

// cut keeps the last counter that reached us. The console ends by itself once
// the machine is gone; what was on its way has arrived by then.
func (g *probeGuest) cut(ctx context.Context) error {
	s, err := g.wait(ctx, "the console of the dead machine to end", 10*time.Second, func(s sight) bool {
		return s.ended || s.attached.After(g.d.zero)
	})
	if err != nil {
		return err
	}
	g.mu.Lock()
	if s.attached.After(g.d.zero) {
		s = g.former
	}
	g.acks = s.flushed
	g.mu.Unlock()
	g.d.say("the last flushed block that was reported is %d", s.flushed)
	return nil
}

func (g *probeGuest) back(ctx context.Context) error {
	s, err := g.wait(ctx, "the guest to verify its disk and write again", backTimeout, func(s sight) bool {
		return s.attached.After(g.d.zero) && s.verified != nil && s.flushed > s.verified.Counter
	})
	g.mu.Lock()
	g.boot = s
	g.mu.Unlock()
	if err != nil {
		return err
	}
	g.d.mark("guest ready", s.ready, s.verified.Text)
	g.d.mark("service answering", s.since, fmt.Sprintf("flushed %d", s.verified.Counter+1))
	return nil
}

// How often the reset button is pressed, and how long each press may take.
const (
	resetPresses  = 4
	resetPatience = 45 * time.Second
)

func (g *probeGuest) witness(ctx context.Context) ([]Check, error) {
	before := g.look()
	var s sight
	var err error
	// A press of the button that shows no effect is said and made again: what
	// is judged here is the disk.
	for press := range resetPresses {
		if press > 0 {
			g.d.say("the reset button showed no effect within %v; it is pressed again", resetPatience)
		}
		if err := g.d.cloud.resetVM(ctx, g.vm.ID); err != nil {
			return nil, err
		}
		s, err = g.wait(ctx, "the guest to verify its disk after a reset", resetPatience, func(s sight) bool {
			fresh := s.attached != before.attached || s.starts > before.starts
			return fresh && s.starts > 0 && s.verified != nil
		})
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		return []Check{{"nothing corrupt", false, err.Error()}}, nil
	}
	return g.judge(before, s), nil
}

// judge compares what a guest found after a reset with what it had reported
// before it, and with the last loss, if one concerned it: else it has run on.
func (g *probeGuest) judge(before, s sight) []Check {
	since := Check{"nothing lost since", s.verified.Counter >= before.flushed, fmt.Sprintf("last flushed block reported before the reset: %d; found after it: %d", before.flushed, s.verified.Counter)}
	if g.boot.verified == nil {
		return []Check{{"nothing corrupt", true, "at the end: " + s.verified.Text}, since}
	}
	found := g.boot.verified.Counter
	return []Check{
		{"nothing acknowledged lost", found >= g.acks, fmt.Sprintf("last flushed block reported before the loss: %d; found after it: %d", g.acks, found)},
		{"nothing corrupt", true, fmt.Sprintf("after the loss: %s; at the end: %s", g.boot.verified.Text, s.verified.Text)},
		since,
	}
}

func (g *probeGuest) counts() (acked, found int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.boot.verified != nil {
		found = int64(g.boot.verified.Counter)
	}
	return int64(g.acks), found
}
