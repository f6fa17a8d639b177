package exporttest

import (
	"bytes"
	"math/rand/v2"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

const mib = 1 << 20

func freshIsZero(b *bench) {
	target, d := b.open(8 * mib)
	defer d.Close()
	if target.Size() != 8*mib || d.Size() != 8*mib || target.ReadOnly() {
		b.t.Fatalf("size %d of the target, %d of the session, read-only %v; want 8 MiB, writable",
			target.Size(), d.Size(), target.ReadOnly())
	}
	b.want(d, 0, make([]byte, 64<<10))
	b.want(d, 8*mib-block, make([]byte, block))
	b.want(d, 12345, make([]byte, 777))
}

func writeRead(b *bench) {
	_, d := b.open(4 * mib)
	defer d.Close()
	for i, at := range []struct{ off, n int64 }{
		{0, block}, {block, 3 * block}, {4*mib - block, block}, {mib, 128 << 10},
	} {
		p := pattern(i, int(at.n))
		b.must(d, export.Request{Op: export.Write, Off: at.off, Data: p})
		b.want(d, at.off, p)
	}
	second := pattern(99, block)
	b.must(d, export.Request{Op: export.Write, Off: block, Data: second})
	b.want(d, block, append(bytes.Clone(second), pattern(1, 3*block)[block:]...))
}

func insideBlock(b *bench) {
	_, d := b.open(mib)
	defer d.Close()
	whole := pattern(1, 4*block)
	b.must(d, export.Request{Op: export.Write, Data: bytes.Clone(whole)})
	for i, at := range []struct{ off, n int }{{1, 1}, {block - 1, 2}, {100, 4000}, {block + 7, 2*block + 9}, {4*block - 3, 3}} {
		p := pattern(50+i, at.n)
		copy(whole[at.off:], p)
		b.must(d, export.Request{Op: export.Write, Off: int64(at.off), Data: p})
		b.want(d, 0, whole)
	}
	b.want(d, block-5, whole[block-5:block+5])
}

func longest(b *bench) {
	_, d := b.open(2 * holdfast.MaxIO)
	defer d.Close()
	p := pattern(7, holdfast.MaxIO)
	b.must(d, export.Request{Op: export.Write, Off: block, Data: p})
	b.want(d, block, p)
	b.want(d, 0, make([]byte, block))
}

func manyAtOnce(b *bench) {
	_, d := b.open(8 * mib)
	defer d.Close()
	const n = 64
	f := b.flight()
	for i := range n {
		f.submit(d, export.Request{Op: export.Write, Off: int64(i*7) * block, Data: pattern(i, block+i*512%block)})
	}
	if err := f.land(); err != nil {
		b.t.Fatal(err)
	}
	reads := b.flight()
	var got [n][]byte
	for i := range n {
		got[i] = make([]byte, block+i*512%block)
		reads.submit(d, export.Request{Op: export.Read, Off: int64(i*7) * block, Data: got[i]})
	}
	if err := reads.land(); err != nil {
		b.t.Fatal(err)
	}
	for i := range n {
		if at := differ(got[i], pattern(i, len(got[i]))); at >= 0 {
			b.t.Fatalf("write %d of %d at once: byte %d differs", i, n, at)
		}
	}
}

// Requests to different bytes of one block do not overlap, so none may undo
// another, although each rewrites the block.
func sharedBlock(b *bench) {
	_, d := b.open(mib)
	defer d.Close()
	want := pattern(3, 2*block)
	f := b.flight()
	const piece = 512
	for i := 0; i < len(want); i += piece {
		f.submit(d, export.Request{Op: export.Write, Off: int64(i), Data: bytes.Clone(want[i : i+piece])})
	}
	if err := f.land(); err != nil {
		b.t.Fatal(err)
	}
	b.want(d, 0, want)
}

func buffersComeBack(b *bench) {
	_, d := b.open(mib)
	defer d.Close()
	buf := pattern(1, 2*block)
	b.must(d, export.Request{Op: export.Write, Data: buf})
	clear(buf)
	b.want(d, 0, pattern(1, 2*block))
	b.must(d, export.Request{Op: export.Read, Data: buf})
	clear(buf)
	b.want(d, 0, pattern(1, 2*block))
}

func durable(b *bench) {
	_, d := b.open(mib)
	defer d.Close()
	b.must(d, export.Request{Op: export.Flush})
	b.must(d, export.Request{Op: export.Write, Off: block, Data: pattern(1, block), FUA: true})
	b.must(d, export.Request{Op: export.Write, Off: 5 * block, Data: pattern(2, 700), FUA: true})
	b.must(d, export.Request{Op: export.Write, Off: 9 * block, Data: pattern(3, block)})
	b.must(d, export.Request{Op: export.Zero, Off: 9 * block, Length: 100, FUA: true})
	b.must(d, export.Request{Op: export.Trim, Off: 20 * block, Length: block, FUA: true})
	f := b.flight()
	for i := range 16 {
		f.submit(d, export.Request{Op: export.Write, Off: int64(40+i) * block, Data: pattern(40+i, block)})
		f.submit(d, export.Request{Op: export.Flush})
	}
	if err := f.land(); err != nil {
		b.t.Fatal(err)
	}
	b.want(d, block, pattern(1, block))
	b.want(d, 5*block, pattern(2, 700))
	b.want(d, 9*block, append(make([]byte, 100), pattern(3, block)[100:]...))
	for i := range 16 {
		b.want(d, int64(40+i)*block, pattern(40+i, block))
	}
}

func discards(b *bench) {
	_, d := b.open(mib)
	defer d.Close()
	for _, op := range []export.Op{export.Trim, export.Zero} {
		whole := pattern(int(op), 16*block)
		b.must(d, export.Request{Op: export.Write, Data: bytes.Clone(whole)})
		for _, at := range []struct{ off, n int64 }{
			{0, block}, {2 * block, 3 * block}, {7*block + 100, 50}, {8*block - 10, 20}, {10*block + 1, 3*block - 2}, {15 * block, block},
		} {
			clear(whole[at.off : at.off+at.n])
			b.must(d, export.Request{Op: op, Off: at.off, Length: at.n})
			b.want(d, 0, whole)
		}
		p := pattern(77, block)
		copy(whole[3*block:], p)
		b.must(d, export.Request{Op: export.Write, Off: 3 * block, Data: p})
		b.want(d, 0, whole)
	}
}

func longZero(b *bench) {
	const size = 3 * holdfast.MaxIO
	_, d := b.open(size)
	defer d.Close()
	for _, off := range []int64{0, mib + 100, holdfast.MaxIO, size - block} {
		b.must(d, export.Request{Op: export.Write, Off: off, Data: pattern(1, block)})
	}
	b.must(d, export.Request{Op: export.Zero, Off: 10, Length: size - 20})
	for _, off := range []int64{mib + 100, holdfast.MaxIO} {
		b.want(d, off, make([]byte, block))
	}
	b.want(d, 0, append(pattern(1, 10), make([]byte, block-10)...))
	b.want(d, size-block, append(make([]byte, block-10), pattern(1, block)[block-10:]...))
	b.must(d, export.Request{Op: export.Trim, Length: size})
	b.want(d, 0, make([]byte, block))
}

func extents(b *bench) {
	_, d := b.open(16 * mib)
	defer d.Close()
	whole := make([]byte, 16*mib)
	for i, off := range []int64{0, 3 * mib, 3*mib + 2*block, 9*mib + 512, 16*mib - block} {
		p := pattern(i, block)
		copy(whole[off:], p)
		b.must(d, export.Request{Op: export.Write, Off: off, Data: p})
	}
	b.must(d, export.Request{Op: export.Flush})
	for _, at := range []struct {
		off, n int64
		most   int
	}{{0, 16 * mib, 1000}, {0, 16 * mib, 1}, {0, 16 * mib, 3}, {100, 5 * mib, 1000}, {3*mib + 1, 1, 10}, {16*mib - 1, 1, 1}} {
		xs, err := d.Extents(at.off, at.n, at.most)
		if err != nil {
			b.t.Fatalf("extents of %d at %d: %v", at.n, at.off, err)
		}
		checkExtents(b, whole, at.off, at.n, at.most, xs)
	}
	if xs, _ := d.Extents(4*mib, 4*mib, 1000); len(xs) != 1 || !xs[0].Hole {
		b.t.Errorf("4 MiB never written are %v, want one hole", xs)
	}
}

// checkExtents holds xs against the volume's content.
func checkExtents(b *bench, whole []byte, off, n int64, most int, xs []export.Extent) {
	b.t.Helper()
	if len(xs) == 0 || len(xs) > most {
		b.t.Fatalf("%d extents for %d bytes at %d, want 1 to %d", len(xs), n, off, most)
	}
	pos := off
	for _, x := range xs {
		if x.Length <= 0 || pos+x.Length > off+n {
			b.t.Fatalf("extent of %d bytes at %d leaves [%d, %d)", x.Length, pos, off, off+n)
		}
		if part := whole[pos : pos+x.Length]; x.Hole && len(bytes.Trim(part, "\x00")) > 0 {
			b.t.Fatalf("[%d, %d) is called a hole and holds data", pos, pos+x.Length)
		}
		pos += x.Length
	}
	if len(xs) < most && pos != off+n {
		b.t.Fatalf("extents end at %d, want %d, and %d more were allowed", pos, off+n, most-len(xs))
	}
}

func oneWriter(b *bench) {
	target, d := b.open(mib)
	if _, err := target.Open(false); !holdfast.IsKind(err, holdfast.Busy) {
		b.t.Fatalf("a second writing session: %v, want it refused as busy", err)
	}
	b.must(d, export.Request{Op: export.Write, Data: pattern(1, block)})
	d.Close()
	again := b.session(target, false)
	b.want(again, 0, pattern(1, block))
	again.Close()
}

func readOnlySession(b *bench) {
	target, d := b.open(mib)
	b.must(d, export.Request{Op: export.Write, Data: pattern(1, block)})
	b.must(d, export.Request{Op: export.Flush})
	d.Close()
	r := b.session(target, true)
	defer r.Close()
	b.want(r, 0, pattern(1, block))
	for _, op := range []export.Op{export.Write, export.Trim, export.Zero} {
		b.wantKind(b.do(r, export.Request{Op: op, Length: block, Data: pattern(2, block)}), holdfast.Denied)
	}
	b.want(r, 0, pattern(1, block))
}

func closedSession(b *bench) {
	_, d := b.open(mib)
	d.Close()
	for _, op := range []export.Op{export.Read, export.Write, export.Flush, export.Trim, export.Zero} {
		err := b.do(d, export.Request{Op: op, Length: block, Data: make([]byte, block)})
		b.wantKind(err, holdfast.Closed)
	}
}

func reopen(b *bench) {
	target, d := b.open(mib)
	f := b.flight()
	for i := range 32 {
		f.submit(d, export.Request{Op: export.Write, Off: int64(i) * block, Data: pattern(i, block)})
	}
	d.Close() // waits for them
	if err := f.land(); err != nil {
		b.t.Fatal(err)
	}
	again := b.session(target, false)
	defer again.Close()
	for i := range 32 {
		b.want(again, int64(i)*block, pattern(i, block))
	}
}

// history runs a few thousand random requests against a model of plain bytes.
func history(b *bench) {
	const size = 2 * mib
	_, d := b.open(size)
	defer d.Close()
	model := make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		off := rnd.Int64N(size)
		n := 1 + rnd.Int64N(min(size-off, 3*block))
		switch op := export.Op(rnd.IntN(5)); op {
		case export.Read:
			b.want(d, off, model[off:off+n])
		case export.Write:
			p := pattern(i, int(n))
			copy(model[off:], p)
			b.must(d, export.Request{Op: op, Off: off, Data: p, FUA: i%50 == 0})
		case export.Flush:
			b.must(d, export.Request{Op: op})
		case export.Trim, export.Zero:
			clear(model[off : off+n])
			b.must(d, export.Request{Op: op, Off: off, Length: n})
		}
	}
	b.want(d, 0, model)
}
