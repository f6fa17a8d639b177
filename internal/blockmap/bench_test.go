package blockmap

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

const benchBlocks = 1 << 20 // a volume of 4 GiB, fully written

func benchTree(b *testing.B) (*Pages, *Tree, []uint64) {
	p := NewPages(nil)
	tree := newTree(b, p, benchBlocks)
	for i := range uint64(benchBlocks) {
		put(b, tree, i, holdfast.LSN(i+1))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	addrs := make([]uint64, 1<<16)
	for i := range addrs {
		addrs[i] = rng.Uint64N(benchBlocks)
	}
	b.ReportAllocs()
	return p, tree, addrs
}

func BenchmarkGet(b *testing.B) {
	_, tree, addrs := benchTree(b)
	for i := 0; b.Loop(); i++ {
		if e, err := tree.Get(addrs[i&0xffff]); err != nil || e.LSN == 0 {
			b.Fatal(err)
		}
	}
}

func BenchmarkSet(b *testing.B) {
	_, tree, addrs := benchTree(b)
	for i := 0; b.Loop(); i++ {
		if _, err := tree.Set(addrs[i&0xffff], data(holdfast.LSN(i)+benchBlocks)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	_, tree, _ := benchTree(b)
	for b.Loop() {
		tree.Walk(0, 0, func(_, _ uint64, _ Entry) bool { return true })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBlocks, "ns/entry")
}

// BenchmarkCheckpoint is a snapshot, 1000 random writes and a flush.
func BenchmarkCheckpoint(b *testing.B) {
	p, tree, addrs := benchTree(b)
	var next PageID
	buf := make([]byte, MaxPageSize)
	lsn := holdfast.LSN(benchBlocks)
	var bytes int
	for i := 0; b.Loop(); i++ {
		for j := range 1000 {
			lsn++
			put(b, tree, addrs[(i*1000+j)&0xffff], lsn)
		}
		r := tree.Snapshot()
		p.Freed()
		r.Flush(1<<30, func(_, size int) (PageID, []byte, error) { next++; bytes += size; return next, buf, nil })
		r.Release()
	}
	b.ReportMetric(float64(bytes)/float64(b.N)/1e6, "MB/op")
}
