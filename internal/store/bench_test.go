package store

import (
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

const benchBlocks = 64 << 10 // 256 MiB

// benchReplica is a replica on a file, in real time.
func benchReplica(b *testing.B) *Replica {
	path := filepath.Join(b.TempDir(), "disk")
	if err := filedisk.Create(path, 2<<30); err != nil {
		b.Fatal(err)
	}
	dev, err := filedisk.Open(path, filedisk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	o := Options{Clock: clock.System{}}
	if err := Format(dev, testIdentity(), o); err != nil {
		b.Fatal(err)
	}
	s, err := Open(dev, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		dev.Close()
	})
	r, err := s.Create(replicaID(1), volumeID(1), benchBlocks)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Begin(record.Start{Epoch: 1}); err != nil {
		b.Fatal(err)
	}
	return r
}

// benchWriter writes single blocks at scattered addresses.
type benchWriter struct {
	r    *Replica
	rec  [1]record.Record
	hash [1]uint64
	next holdfast.LSN
	addr uint64
}

func newBenchWriter(r *Replica) *benchWriter {
	w := &benchWriter{r: r, next: r.State().Prefix + 1}
	w.rec[0] = record.Record{Kind: record.Write, Count: 1, Data: content(1), Hashes: w.hash[:]}
	return w
}

func (w *benchWriter) write(b testing.TB) {
	w.addr = (w.addr*5 + 12345) % benchBlocks
	w.rec[0].LSN, w.rec[0].Addr = w.next, w.addr
	le.PutUint64(w.rec[0].Data, uint64(w.next))
	w.hash[0] = checksum.Block(w.r.vol, w.addr, w.next, w.rec[0].Data)
	if err := w.r.Append(w.rec[:]); err != nil {
		b.Fatal(err)
	}
	w.next++
}

// pace keeps the writer within what the store asks for, and moves stable on.
func (w *benchWriter) pace(b testing.TB) {
	if w.next%4096 == 0 {
		if err := benchSync(w.r, w.next-1); err != nil {
			b.Fatal(err)
		}
		w.r.SetStable(w.next - 1)
	}
}

func benchSync(r *Replica, l holdfast.LSN) error {
	done := make(chan error, 1)
	r.Sync(l, func(err error) { done <- err })
	return <-done
}

func BenchmarkAppend(b *testing.B) {
	w := newBenchWriter(benchReplica(b))
	b.SetBytes(blockSize)
	b.ReportAllocs()
	for b.Loop() {
		w.write(b)
		w.pace(b)
	}
}

func BenchmarkAppendSync(b *testing.B) {
	w := newBenchWriter(benchReplica(b))
	b.ReportAllocs()
	for b.Loop() {
		w.write(b)
		if err := benchSync(w.r, w.next-1); err != nil {
			b.Fatal(err)
		}
		w.r.SetStable(w.next - 1)
	}
}

func BenchmarkRead(b *testing.B) {
	r := benchReplica(b)
	w := newBenchWriter(r)
	for range benchBlocks {
		w.write(b)
		w.pace(b)
	}
	if err := r.s.Checkpoint(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(blockSize)
	b.ReportAllocs()
	var seed atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, blockSize)
		addr := seed.Add(7919)
		for pb.Next() {
			addr = (addr*5 + 12345) % benchBlocks
			if err := r.ReadAt(p, addr); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
