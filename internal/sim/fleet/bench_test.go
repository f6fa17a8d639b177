package fleet

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

// large is a fleet of 2,000 VMs on 200 hosts.
func large(b *testing.B) *Fleet {
	b.Helper()
	f, err := Start(Options{Hosts: 200, Racks: 20, VMs: 2000, Listen: "127.0.0.1:0", Seed: 1, Still: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.Close)
	return f
}

// pictures are that of a fleet that is well, and that of one that has just lost a rack.
func pictures(b *testing.B) map[string]*cluster.State {
	f := large(b)
	well := f.Records.State()
	lost := *well
	lost.Alive = maps.Clone(well.Alive)
	for id, h := range well.Hosts {
		if h.Val.Domain.Rack == "b" {
			delete(lost.Alive, id)
		}
	}
	return map[string]*cluster.State{"well": well, "lost": &lost}
}

// BenchmarkSummary is the judgement that every look at a cluster begins with.
func BenchmarkSummary(b *testing.B) {
	for name, st := range pictures(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				health.Summary(st, nil)
			}
		})
	}
}

// BenchmarkStep is what the leader does at every change of the picture.
func BenchmarkStep(b *testing.B) {
	for name, st := range pictures(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			m := ha.New(ha.Config{})
			for now := time.Duration(0); b.Loop(); now += time.Minute {
				m.Step(now, time.Now(), st)
			}
		})
	}
}

// BenchmarkWatched is a second of a cluster of which somebody is told, in which ten
// commits are made.
func BenchmarkWatched(b *testing.B) {
	f := large(b)
	c := client.Socket(f.Socket())
	defer c.Close()
	ctx, cancel := context.WithCancel(b.Context())
	var watching sync.WaitGroup
	watching.Go(func() { _ = c.Watch(ctx, "", func(v1.Event) error { return nil }) })
	defer watching.Wait()
	defer cancel()
	n := 0
	for b.Loop() {
		for range 10 {
			n++
			name := fmt.Sprintf("bench-%d", n)
			if _, err := f.Make.ChangeVM(f.plan.vms[0].ID, cluster.VMChange{Name: &name}); err != nil {
				b.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// BenchmarkList is the list of all VMs, of a picture that is new.
func BenchmarkList(b *testing.B) {
	f := large(b)
	c := client.Socket(f.Socket())
	defer c.Close()
	n := 0
	for b.Loop() {
		n++
		name := fmt.Sprintf("bench-%d", n)
		if _, err := f.Make.ChangeVM(f.plan.vms[0].ID, cluster.VMChange{Name: &name}); err != nil {
			b.Fatal(err)
		}
		if _, err := c.VMs(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
