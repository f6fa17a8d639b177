package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/diary"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// A story of the simulator's language is played on the processes of a lab: its
// guests are probe VMs, its clients groups of NBD clients whose history is judged,
// and its faults are struck by the means of the lab. The times of the story are real
// times here: a line waits for its moment; where those before it took longer than
// the story has for them, all that follows happens so much later. At the end
// everything is put right and judged, as at the end of a torture.
//
// Which stories a lab can play is in playplan.go, what faults do in playdeeds.go,
// what is expected in playexpect.go.

// PlayOptions are what a story is played with.
type PlayOptions struct {
	Site
	Story *story.Story
	// Patience is how many times as long as the story says something expected may
	// take, at least 1: real guests boot, and computers have more to do.
	Patience float64
}

// PlayReport is what came of it.
type PlayReport struct {
	Story    string    `json:"story"` // its file
	Title    string    `json:"title"`
	Begun    time.Time `json:"begun"`
	Volatile bool      `json:"volatile"` // what was not synced went with the power
	Seconds  float64   `json:"seconds"`
	Timeline []Mark    `json:"timeline"`
	Checks   []Check   `json:"checks"`
	OK       bool      `json:"ok"`
}

func (r PlayReport) passed() bool { return r.OK }

// player is one run. Of a torture it has the witnesses and what judges them.
type player struct {
	*torture
	o     PlayOptions
	late  time.Duration // how much later than the story says its lines happen
	names []string      // of all VMs, made or not
	seen  map[string]sighting
	cuts  []*cutting
	gone  map[string]string // hosts that are not to be asked, and why
	undo  sync.WaitGroup
	fails []error  // of what was to be undone
	made  bool     // the image of the guests is there
	off   []string // VMs that somebody has stopped

	pulled map[string]bool // disks of hosts
}

// Play plays a story in a lab that was staged for it. The report says what happened
// as far as it got, also if there is an error.
func Play(ctx context.Context, o PlayOptions) (PlayReport, error) {
	t := &torture{o: TortureOptions{Site: o.Site, Seed: 1}, drill: newDrill(Options{Site: o.Site})}
	p := &player{torture: t, o: o, names: vmsOf(o.Story), seen: map[string]sighting{}, gone: map[string]string{}, pulled: map[string]bool{}}
	defer t.cloud.close()
	begun := time.Now()
	err := p.play(ctx)
	t.end()
	r := PlayReport{Story: o.Story.Name, Title: o.Story.Title, Begun: begun.UTC(), Seconds: time.Since(begun).Seconds(),
		Volatile: !slices.ContainsFunc(o.Lab.Hosts, func(h lab.Host) bool { return !h.Volatile })}
	p.conclude(err)
	r.Timeline, r.Checks = sortedMarks(t.report.Timeline), t.drill.report.Checks
	r.OK = err == nil && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
	return r, err
}

// conclude judges what everybody saw.
func (p *player) conclude(err error) {
	text := "every line came true"
	if err != nil {
		text = err.Error()
	}
	p.check(err == nil, "the story", "%s", text)
	var wrong []string
	flushed := 0
	if p.diary != nil {
		for _, vm := range p.vms {
			flushed += int(p.diary.Flushed(vm.Name))
		}
		wrong = append(wrong, p.diary.Wrong()...)
	}
	ops := int64(0)
	for _, g := range p.report.Observed {
		ops += g.Ops
	}
	wrong = append(wrong, p.report.Wrong...)
	p.check(len(wrong) == 0, "nothing lost, nothing read wrong", "%s",
		told(wrong, fmt.Sprintf("%d flushed writes of %d guests, %d operations of %d groups of clients", flushed, len(p.vms), ops, len(p.report.Observed))))
}

// play is the whole run.
func (p *player) play(ctx context.Context) error {
	err := p.cloud.until(ctx, p.patient(time.Minute), "the lab to be whole", func(ctx context.Context) (bool, string, error) {
		said, err := p.cloud.whole(ctx, len(p.o.Lab.Hosts))
		return said == "" && err == nil, said, err
	})
	if err == nil {
		err = p.set(ctx)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.zero = time.Now()
	p.mu.Unlock()
	undoing, stop := context.WithCancel(ctx)
	defer stop()
	err = p.lines(ctx, undoing)
	stop()
	p.undo.Wait() // what is still broken is put right now
	p.note("end", "everything is put right")
	if rerr := p.right(context.WithoutCancel(ctx)); err == nil {
		err = errors.Join(append(p.fails, rerr)...)
	}
	if err != nil {
		return err
	}
	return p.judge(ctx)
}

// set makes what is there from the beginning: links, clients' volumes, VMs.
func (p *player) set(ctx context.Context) error {
	p.diary = diary.Follow(p.o.Lab, p.names...)
	for _, l := range p.o.Story.Of("link") {
		if err := p.lay(ctx, l); err != nil {
			return err
		}
	}
	copies := map[string]int{}
	for _, l := range p.o.Story.Of("copies") {
		copies[l.Text("volume")] = l.Count("copies")
	}
	for i, name := range volumesOf(p.o.Story) {
		w := &watched{number: i, name: name}
		if err := p.observe(ctx, w, v1.VolumeSpec{Name: name, Size: watchSize, Copies: copies[name]}); err != nil {
			return err
		}
		p.watch = append(p.watch, w)
	}
	for _, l := range p.o.Story.Of("vms") {
		for i := range l.Count("vms") {
			if err := p.startVM(ctx, fmt.Sprintf("vm%d", i)); err != nil {
				return err
			}
		}
	}
	return p.everybodyGoesOn(ctx)
}

// lines has the story's lines happen.
func (p *player) lines(ctx, undoing context.Context) error {
	was := time.Duration(0)
	for _, l := range p.o.Story.Lines {
		if l.At > was {
			if err := p.await(ctx, l.At); err != nil {
				return err
			}
		}
		was = l.At
		p.note(cmp.Or(map[story.Class]string{story.Order: "ordered", story.Expect: "expected"}[l.Class], "struck"), "%s", strings.TrimPrefix(l.Command.String(), "expect "))
		var err error
		switch l.Class {
		case story.Order:
			err = p.order(ctx, l)
		case story.Expect:
			err = p.expect(ctx, l)
		default:
			err = p.strike(ctx, undoing, l)
		}
		if err == nil {
			err = p.good()
		}
		if err != nil {
			return holdfast.Errorf(holdfast.KindOf(err), "%s:%d: %s: %w", p.o.Story.Name, l.N, l.Command, err)
		}
	}
	return p.await(ctx, p.o.Story.End)
}

// await waits for a moment of the story, which is over if it is late.
func (p *player) await(ctx context.Context, at time.Duration) error {
	left := at + p.late - time.Since(p.zero)
	if left < 0 {
		p.late -= left
		return ctx.Err()
	}
	rest(ctx, left)
	return ctx.Err()
}

// patient is how long something may take that the story gives d.
func (p *player) patient(d time.Duration) time.Duration {
	return time.Duration(float64(d) * max(1, p.o.Patience))
}

// lay puts a line of the topology between two places.
func (p *player) lay(ctx context.Context, l story.Line) error {
	shape := link.Shape{Rate: 8 * l.Size("rate"), Delay: l.Time("latency"), Jitter: l.Time("jitter"), Loss: l.Share("loss")}
	from, err := p.at(ctx, l.Command, "a")
	if err != nil {
		return err
	}
	to, err := p.at(ctx, l.Command, "b")
	if err != nil {
		return err
	}
	for _, a := range from {
		for _, b := range to {
			if a.Name != b.Name {
				if err := p.o.Lab.Shape(a.Name+"-"+b.Name, shape); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// judge has everybody verify everything, and compares all copies.
func (p *player) judge(ctx context.Context) error {
	if err := p.drain(ctx, p.o.Lab.Hosts, false); err != nil {
		return err
	}
	for _, name := range slices.Clone(p.off) {
		if err := p.startVM(ctx, name); err != nil {
			return err
		}
	}
	if err := p.whole(ctx); err != nil {
		return err
	}
	if err := p.stopWatching(ctx); err != nil {
		return err
	}
	if err := p.verifyGuests(ctx); err != nil {
		return err
	}
	if err := p.whole(ctx); err != nil {
		return err
	}
	if err := p.compare(ctx); err != nil {
		return err
	}
	return p.oneMachine(ctx)
}

// at finds the hosts of a place; where a VM is meant, where it is now.
func (p *player) at(ctx context.Context, c story.Command, slot string) (hosts []lab.Host, err error) {
	what, name := c.Place(slot)
	var vm v1.VM
	if strings.HasSuffix(what, " of") {
		err = p.cloud.until(ctx, p.patient(orderWithin), "somebody to tell where VM "+name+" is", func(ctx context.Context) (bool, string, error) {
			vm, err = p.cloud.vm(ctx, name)
			return err == nil && vm.Host != "", "", refused(err)
		})
		if err != nil {
			return nil, err
		}
	}
	for _, h := range p.o.Lab.Hosts {
		if what == "everything" || what == "host" && h.Name == name || what == "rack" && h.Rack == name ||
			what == "host of" && h.Name == vm.Host || what == "rack of" && h.Rack == vm.Rack {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}
