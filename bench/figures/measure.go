package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/drill"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	racks    = 3
	patience = 2 * time.Minute
	pollFor  = 10 * time.Millisecond
)

// measurement is one run. Its lab is the one that was brought up last.
type measurement struct {
	settings
	dir    string
	lab    *lab.Lab
	first  *client.Client // the host that is asked
	report report
}

func newMeasurement(s settings) (*measurement, error) {
	binary, err := filepath.Abs(s.binary)
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "-binary: %w; build it with 'make build'", err)
	}
	s.binary = binary
	dir, err := os.MkdirTemp("/tmp", "hffig") // short enough for sockets
	if err != nil {
		return nil, err
	}
	return &measurement{settings: s, dir: dir, report: newReport()}, nil
}

// getenv keeps the user's current lab out of this.
func (m *measurement) getenv(key string) string {
	if key == "XDG_STATE_HOME" || key == "HOME" {
		return m.dir
	}
	return ""
}

func (m *measurement) end() {
	m.down()
	os.RemoveAll(m.dir)
}

func (m *measurement) down() {
	if m.lab == nil {
		return
	}
	m.first.Close()
	if err := m.lab.Down(true, m.getenv); err != nil {
		fmt.Fprintln(os.Stderr, "figures: the lab did not end:", err)
	}
	m.lab = nil
}

func (m *measurement) all(ctx context.Context) error {
	if err := m.labUp(ctx); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		f    func(context.Context) error
	}{{"lab", m.host}, {"clone", m.clone}, {"resync", m.resync}, {"rack-loss", m.rackLoss}, {"debian", m.debianLoss}, {"saturate", m.load}} {
		if !m.has(p.name) {
			continue
		}
		m.say("%s", p.name)
		if err := p.f(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if m.has("rack-loss") || m.has("clone") {
		return m.memory("memory of a host, afterwards")
	}
	return nil
}

func (m *measurement) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// labUp brings labs up from nothing and keeps the last one.
func (m *measurement) labUp(ctx context.Context) error {
	n := 1
	if m.has("lab") {
		n = m.ups
	}
	var all []float64
	for range n {
		m.down()
		begin := time.Now()
		l, err := lab.Up(ctx, lab.Options{Dir: filepath.Join(m.dir, "l"), Racks: racks, PerRack: 1, DiskSize: max(16, 4*m.imageGiB) << 30,
			Binary: m.binary, Progress: os.Stderr, Getenv: m.getenv})
		if err != nil {
			return err
		}
		all = append(all, time.Since(begin).Seconds())
		m.lab, m.first = l, client.Socket(l.Hosts[0].Socket())
	}
	if m.has("lab") {
		m.report.add(fmt.Sprintf("lab of %d racks up from nothing", racks), "s", "≤ 10", all)
	}
	return nil
}

// until asks until f is content.
func (m *measurement) until(ctx context.Context, what string, f func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := f(ctx)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return holdfast.Errorf(holdfast.Unavailable, "waited %v for %s, in vain: %v", patience, what, err)
		case <-time.After(pollFor):
		}
	}
}

// whole waits until nothing is wrong.
func (m *measurement) whole(ctx context.Context) error {
	return m.until(ctx, "the lab to be whole", func(ctx context.Context) (bool, error) {
		st, err := m.first.Status(ctx)
		return err == nil && st.Level == "ok" && st.Counts.HostsAlive == racks, err
	})
}

func (m *measurement) options(guest string) drill.Options {
	return drill.Options{Site: drill.Site{Lab: m.lab, Binary: m.binary, Progress: os.Stderr}, Guest: guest, ImageFile: m.debian}
}

func (m *measurement) rackLoss(ctx context.Context) error {
	s, err := drill.Repeat(ctx, m.options("probe"), m.times)
	m.report.RackLoss = &s
	m.report.series("probe", s, map[string]string{
		"killed → VM process running": "median ≤ 10, worst ≤ 15", "VM process running → guest ready": "≤ 3"})
	return failed(err, s.OK, "a rack-loss drill")
}

func (m *measurement) debianLoss(ctx context.Context) error {
	s, err := drill.Repeat(ctx, m.options("debian"), m.debians)
	m.report.Debian = &s
	m.report.series("debian", s, map[string]string{"killed → service answering": "median ≤ 60"})
	return failed(err, s.OK, "a rack-loss drill with Debian")
}

func (m *measurement) load(ctx context.Context) error {
	if m.saturate == 0 {
		m.say("not asked for: give -saturate 30m")
		return nil
	}
	s, err := drill.Saturate(ctx, m.options("probe"), m.saturate)
	m.report.Saturation = &s
	if err == nil {
		m.report.add(fmt.Sprintf("fail-overs in %.0f minutes with every core busy", s.Seconds/60), "", "0", []float64{float64(len(s.Incidents) + len(s.Moved))})
	}
	return failed(err, s.OK, "the drill with every core busy")
}

func failed(err error, ok bool, what string) error {
	if err == nil && !ok {
		err = holdfast.Errorf(holdfast.Damaged, "%s failed; what it found is in the report (-o json)", what)
	}
	return err
}

// vmRunning makes a VM, waits until its process runs, and returns how long
// that took.
func (m *measurement) vmRunning(ctx context.Context, spec v1.VMSpec) (time.Duration, error) {
	begin := time.Now()
	vm, err := m.first.CreateVM(ctx, spec)
	if err != nil {
		return 0, err
	}
	err = m.until(ctx, "VM "+spec.Name+" to run", func(ctx context.Context) (bool, error) {
		vm, err = m.first.VM(ctx, vm.ID)
		return err == nil && vm.State == "running" && vm.Machine != nil, err
	})
	if err != nil {
		return 0, err
	}
	return vm.Machine.Since.Sub(begin), nil // by the host's clock, which is this one's
}
