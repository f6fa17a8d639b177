package fleet

import (
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

// large is the picture of 2,000 VMs on 200 hosts.
func large(b *testing.B) *cluster.State {
	b.Helper()
	f, err := Start(Options{Hosts: 200, Racks: 20, VMs: 2000, Listen: "127.0.0.1:0", Seed: 1, Still: true})
	if err != nil {
		b.Fatal(err)
	}
	st := f.Records.State()
	f.Close()
	return st
}

// BenchmarkSummary is the judgement that every look at a cluster begins with.
func BenchmarkSummary(b *testing.B) {
	st := large(b)
	b.ReportAllocs()
	for b.Loop() {
		health.Summary(st, nil)
	}
}
