package diary

import (
	"bufio"
	"context"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/lab"
)

// lookEvery is how often new machines are looked for.
const lookEvery = 200 * time.Millisecond

// Diary follows some VMs. Its methods may be called from any goroutine.
type Diary struct {
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu    sync.Mutex
	pages map[string]*page
	heard map[lab.Machine]bool // machines that are being listened to
}

// Follow begins to listen for some VMs of the probe guest at all hosts of a lab,
// until Close.
func Follow(l *lab.Lab, vms ...string) *Diary {
	ctx, stop := context.WithCancel(context.Background())
	d := &Diary{stop: stop, pages: map[string]*page{}, heard: map[lab.Machine]bool{}}
	for _, vm := range vms {
		d.pages[vm] = &page{vm: vm}
	}
	d.tasks.Go(func() { d.look(ctx, l) })
	return d
}

// Close ends it; what was heard can still be asked for.
func (d *Diary) Close() {
	d.stop()
	d.tasks.Wait()
}

// look finds machines and listens to each.
func (d *Diary) look(ctx context.Context, l *lab.Lab) {
	for ctx.Err() == nil {
		for _, h := range l.Hosts {
			machines, err := lab.Machines([]lab.Host{h})
			for _, m := range machines {
				if err == nil && d.begin(m) {
					d.tasks.Go(func() { d.listen(ctx, h, m) })
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

// begin reports whether a machine is one to listen to and nobody does.
func (d *Diary) begin(m lab.Machine) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages[m.VM] == nil || d.heard[m] {
		return false
	}
	d.heard[m] = true
	return true
}

// listen reads a machine's console until that ends. A host has one machine of a
// VM at a time, so if this one is there when the console is attached, the console
// is its own.
func (d *Diary) listen(ctx context.Context, h lab.Host, m lab.Machine) {
	c := client.Socket(h.Socket())
	defer c.Close()
	if con, err := c.Console(ctx, m.VM, true); err == nil {
		hang := context.AfterFunc(ctx, func() { con.Close() })
		if m.Runs() {
			d.read(bufio.NewScanner(con), m)
		}
		hang()
		con.Close()
	}
	d.mu.Lock()
	delete(d.heard, m) // it is found again if it is still there
	d.mu.Unlock()
}

func (d *Diary) read(sc *bufio.Scanner, m lab.Machine) {
	d.mu.Lock()
	r := d.pages[m.VM].attach(m.Host, m.PID)
	d.mu.Unlock()
	sc.Buffer(make([]byte, 0, 4096), 64<<10)
	for sc.Scan() {
		if l, err := probe.ParseLine(sc.Text()); err == nil {
			d.mu.Lock()
			r.take(l, time.Now())
			d.mu.Unlock()
		}
	}
	d.mu.Lock()
	r.ended(time.Now())
	d.mu.Unlock()
}

// Bouts returns what is known of a VM's boots, in the order in which they were
// first heard.
func (d *Diary) Bouts(vm string) []Bout {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Bout
	for _, b := range d.pages[vm].bouts {
		out = append(out, *b)
	}
	return out
}

// On returns the last boot of a VM on a host.
func (d *Diary) On(vm, host string) (last Bout, ok bool) {
	for _, b := range d.Bouts(vm) {
		if b.Host == host {
			last, ok = b, true
		}
	}
	return last, ok
}

// Flushed is the highest counter that any machine of a VM reported as flushed.
func (d *Diary) Flushed(vm string) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages[vm].flushed
}

// Wrong is what must never be, of all VMs: writes that were lost, two machines
// that wrote, and what the guests themselves found.
func (d *Diary) Wrong() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, p := range d.pages {
		out = append(out, p.wrong...)
	}
	return out
}
