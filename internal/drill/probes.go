package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

const (
	maxProbes  = 100
	probesEach = 20 // flushed blocks of each before something is broken
	// A console that is not there is looked for so much more slowly the more
	// guests there are: the search is not to slow down what it waits for.
	searchEach = 40 * time.Millisecond
)

// probes are several probe guests that bear witness together.
type probes struct {
	d    *drill
	list []*probeGuest
}

// newProbes are n guests in VMs called PREFIX-1 and so on.
func newProbes(d *drill, prefix string, n int) *probes {
	p := &probes{d: d}
	for i := range n {
		p.list = append(p.list, &probeGuest{d: d, name: fmt.Sprintf("%s-%d", prefix, i+1), search: time.Duration(n) * searchEach})
	}
	return p
}

func (p *probes) close() {
	for _, g := range p.list {
		g.close()
	}
}

// each calls f for all guests side by side and waits for all.
func (p *probes) each(f func(*probeGuest) error) error {
	errs := make([]error, len(p.list))
	var wg sync.WaitGroup
	for i, g := range p.list {
		wg.Go(func() { errs[i] = f(g) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// work makes the VMs anew and waits until every guest writes.
func (p *probes) work(ctx context.Context) error {
	if err := p.list[0].image(ctx); err != nil {
		return err
	}
	if err := p.remove(ctx); err != nil {
		return err
	}
	for _, g := range p.list {
		vm, err := p.d.cloud.createVM(ctx, g.spec())
		if err != nil {
			return err
		}
		g.vm = vm
	}
	err := p.each(func(g *probeGuest) (err error) {
		if g.vm, err = p.d.running(ctx, g.vm); err != nil {
			return err
		}
		g.attach(ctx)
		_, err = g.wait(ctx, "guest "+g.name+" to write", bootTimeout, func(s sight) bool { return s.flushed >= probesEach })
		return err
	})
	if err == nil {
		p.d.say("%d guests write and flush", len(p.list))
	}
	return err
}

// cut keeps what each guest had reported as flushed when it was killed.
func (p *probes) cut(ctx context.Context) error {
	return p.each(func(g *probeGuest) error {
		g.mu.Lock()
		g.boot = sight{}
		g.mu.Unlock()
		return g.cut(ctx)
	})
}

// verified waits until each guest has been started again and has verified its
// whole disk.
func (p *probes) verified(ctx context.Context) error {
	return p.each(func(g *probeGuest) error {
		s, err := g.wait(ctx, "guest "+g.name+" to verify its disk", backTimeout, func(s sight) bool {
			return s.attached.After(g.d.zero) && s.verified != nil
		})
		g.mu.Lock()
		g.boot = s
		g.mu.Unlock()
		if err == nil {
			g.d.mark("guest verified", time.Now(), g.name+": "+s.verified.Text)
		}
		return err
	})
}

// flushed compares what was reported as flushed before the loss with what was
// found after it by the guests that told: in all, and how many blocks are lost.
func (p *probes) flushed() (acked, lost int64) {
	for _, g := range p.list {
		before, after := g.counts()
		acked += before
		if g.booted() {
			lost += max(0, before-after)
		}
	}
	return acked, lost
}

// booted reports whether the guest has told what it found after the loss.
func (g *probeGuest) booted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.boot.verified != nil
}

// whole waits until every guest's disk has all its copies.
func (p *probes) whole(ctx context.Context, limit time.Duration) error {
	return p.d.cloud.until(ctx, limit, "every guest's disk to have its copies", func(ctx context.Context) (bool, string, error) {
		for _, g := range p.list {
			v, err := p.d.cloud.volume(ctx, g.vm.Volume)
			if err != nil || v.State != "ok" {
				return false, "volume " + v.Name + " is " + v.State, err
			}
		}
		return true, "", nil
	})
}

// machines returns the VMs as they are now.
func (p *probes) machines(ctx context.Context) ([]v1.VM, error) {
	all, err := p.d.cloud.vms(ctx)
	if err != nil {
		return nil, err
	}
	var out []v1.VM
	for _, g := range p.list {
		for _, vm := range all {
			if vm.ID == g.vm.ID {
				out = append(out, vm)
			}
		}
	}
	return out, nil
}

// remove deletes the VMs, also those of an earlier drill, with their disks.
func (p *probes) remove(ctx context.Context) error {
	return p.each(func(g *probeGuest) error {
		g.close()
		return p.d.cloud.remove(ctx, g.name)
	})
}
