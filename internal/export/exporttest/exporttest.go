// Package exporttest is what every export.Target must do, whatever stands
// behind it: memory, a replicated volume, or a volume seen through a server.
// The situations wait only on events of the given clock, so they also run
// inside a simulated world.
package exporttest

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// New returns a fresh, writable target of size bytes that reads as zero. It
// is called on a task and may block; size is a multiple of 4096, at most
// 128 MiB. What it opens it closes by t.Cleanup.
type New func(t *testing.T, size int64) export.Target

// Run checks the targets that fresh makes. run executes f on a task of clk and
// returns when it has ended; with the system clock it may simply call f.
func Run(t *testing.T, fresh New, clk clock.Clock, run func(f func())) {
	for _, s := range []struct {
		name string
		f    func(*bench)
	}{
		{"a fresh volume reads as zero", freshIsZero},
		{"what is written is read", writeRead},
		{"a write inside a block keeps its neighbours", insideBlock},
		{"the longest request", longest},
		{"many writes at once", manyAtOnce},
		{"neighbours in one block written at once", sharedBlock},
		{"buffers are the caller's again after Done", buffersComeBack},
		{"writing with FUA and flushing", durable},
		{"trimmed and zeroed ranges read as zero", discards},
		{"zeroing more than the longest write", longZero},
		{"extents cover the range in order", extents},
		{"one writing session at a time", oneWriter},
		{"a reading session refuses writes", readOnlySession},
		{"a closed session refuses everything", closedSession},
		{"data outlives its session", reopen},
		{"a long history of unaligned requests", history},
	} {
		t.Run(s.name, func(t *testing.T) {
			run(func() { s.f(&bench{t: t, fresh: fresh, clk: clk}) })
		})
	}
}

// bench is one situation's equipment.
type bench struct {
	t     *testing.T
	fresh New
	clk   clock.Clock
}

const block = holdfast.BlockSize

// open makes a fresh target and a writing session on it.
func (b *bench) open(size int64) (export.Target, export.Disk) {
	b.t.Helper()
	target := b.fresh(b.t, size)
	return target, b.session(target, false)
}

func (b *bench) session(target export.Target, readOnly bool) export.Disk {
	b.t.Helper()
	d, err := target.Open(readOnly)
	if err != nil {
		b.t.Fatalf("open (read-only %v): %v", readOnly, err)
	}
	return d
}

// flight is a set of requests under way.
type flight struct {
	b    *bench
	reqs []*trip
}

type trip struct {
	req   export.Request
	err   error
	calls int
	ready clock.Event
}

func (b *bench) flight() *flight { return &flight{b: b} }

// submit starts a request.
func (f *flight) submit(d export.Disk, r export.Request) *trip {
	tr := &trip{req: r, ready: f.b.clk.NewEvent()}
	if r.Op == export.Read || r.Op == export.Write {
		tr.req.Length = int64(len(r.Data))
	}
	tr.req.Done = func(_ *export.Request, err error) {
		tr.calls++
		tr.err = err
		tr.ready.Set()
	}
	f.reqs = append(f.reqs, tr)
	d.Submit(&tr.req)
	return tr
}

// land waits for all of them and returns the first error.
func (f *flight) land() error {
	var first error
	for _, tr := range f.reqs {
		if !tr.ready.Wait(clock.Forever) || tr.calls != 1 {
			f.b.t.Errorf("Done was called %d times", tr.calls)
		}
		if tr.err != nil && first == nil {
			first = tr.err
		}
	}
	f.reqs = nil
	return first
}

// do is one request and its error.
func (b *bench) do(d export.Disk, r export.Request) error {
	f := b.flight()
	f.submit(d, r)
	return f.land()
}

func (b *bench) must(d export.Disk, r export.Request) {
	b.t.Helper()
	if err := b.do(d, r); err != nil {
		b.t.Fatalf("%s of %d bytes at %d: %v", opNames[r.Op], max(r.Length, int64(len(r.Data))), r.Off, err)
	}
}

var opNames = [...]string{"read", "write", "flush", "trim", "zero"}

// want reads n bytes at off and compares.
func (b *bench) want(d export.Disk, off int64, want []byte) {
	b.t.Helper()
	got := bytes.Repeat([]byte{0xa5}, len(want))
	b.must(d, export.Request{Op: export.Read, Off: off, Data: got})
	if i := differ(got, want); i >= 0 {
		b.t.Fatalf("byte %d of the volume is %#x, want %#x (read of %d bytes at %d)", off+int64(i), got[i], want[i], len(want), off)
	}
}

// differ returns the first place where a and b differ, or -1.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// wantKind checks how a request or an opening failed.
func (b *bench) wantKind(err error, kinds ...holdfast.Kind) {
	b.t.Helper()
	for _, k := range kinds {
		if holdfast.IsKind(err, k) {
			return
		}
	}
	b.t.Fatalf("error %v is of kind %v, want one of %v", err, holdfast.KindOf(err), kinds)
}

// pattern returns n bytes that depend on seed and place and are never zero.
func pattern(seed, n int) []byte {
	p := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x>>24) | 1
	}
	return p
}
