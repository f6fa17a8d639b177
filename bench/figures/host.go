package main

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// settle is how long a lab that is whole is left alone before it counts as
// idle: what a start leaves to be done is done by then. It is a part of what is
// measured, like m.idle, not a wait for something.
const settle = 10 * time.Second

// restarts is how often a host is restarted.
const restarts = 5

// host measures what hosts cost that have nothing to do, and how long one is
// away for a restart.
func (m *measurement) host(ctx context.Context) error {
	if err := m.whole(ctx); err != nil {
		return err
	}
	m.say("idle for %v", m.idle+settle)
	if err := pass(ctx, settle); err != nil {
		return err
	}
	if err := m.memory("memory of a host without guests"); err != nil {
		return err
	}
	before, err := m.usage()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pass(ctx, m.idle); err != nil {
		return err
	}
	after, err := m.usage()
	if err != nil {
		return err
	}
	var share []float64
	for i := range after {
		share = append(share, 100*(after[i].CPU-before[i].CPU).Seconds()/time.Since(begin).Seconds())
	}
	m.report.add(fmt.Sprintf("idle host over %v, of one core", m.idle), "%", "≤ 2", share)
	return m.restart(ctx)
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (m *measurement) usage() ([]lab.Usage, error) {
	var all []lab.Usage
	for _, h := range m.lab.Hosts {
		u, err := h.Usage()
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// memory reports the resident memory of each host's processes.
func (m *measurement) memory(what string) error {
	all, err := m.usage()
	var mib []float64
	for _, u := range all {
		mib = append(mib, float64(u.Resident)/(1<<20))
	}
	m.report.add(what, "MiB", "≤ 150", mib)
	return err
}

// restart measures the way from the start of a host's process to its answer,
// and to a cluster in which nothing is wrong: after an orderly stop, and after
// a loss of power.
func (m *measurement) restart(ctx context.Context) error {
	h := m.lab.Hosts[len(m.lab.Hosts)-1:]
	for _, way := range []struct {
		name string
		stop func() error
	}{
		{"an orderly stop", func() error { return lab.Stop(ctx, h) }},
		{"a loss of power", func() error { return lab.Kill(h) }},
	} {
		var answer, whole []float64
		for range restarts {
			if err := m.whole(ctx); err != nil {
				return err
			}
			if err := way.stop(); err != nil {
				return err
			}
			begin := time.Now()
			if err := m.lab.Start(ctx, m.binary, h[0].Rack); err != nil {
				return err
			}
			answer = append(answer, time.Since(begin).Seconds())
			if err := m.whole(ctx); err != nil {
				return err
			}
			whole = append(whole, time.Since(begin).Seconds())
		}
		m.report.add("host answers after "+way.name+" and its start", "s", "≤ 2", answer)
		m.report.add("  and nothing is wrong any more", "s", "", whole)
	}
	return nil
}
