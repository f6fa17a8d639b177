package store

import (
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// large is a replica of which every block is written: its map pages are real
// ones, made as docs/format/blockmap.md says, its payload is a hole in a file,
// zeros. One block of each leaf has the hash of that; the others are only there.
type large struct {
	*real
	r      *Replica
	blocks uint64
	first  uint32 // segment of block 0
	chunks []chunk
}

// hashed is the block of a leaf that can be read.
func hashed(leaf uint64) uint64 { return leaf*blockmap.Fan + leaf*7%blockmap.Fan }

func largeLSN(addr uint64) holdfast.LSN { return holdfast.MakeLSN(1, addr+1) }

// page puts a page of items behind its header and returns its name.
func (l *large) page(level int, base uint64, top holdfast.LSN, n int, item func(i int, b []byte) []byte) blockmap.PageID {
	s := l.s
	b := make([]byte, 128, 128+n*24)
	for i := range n {
		b[64+i/8] |= 1 << (i % 8)
		b = item(i, b)
	}
	s.lock()
	id, at, err := s.allocPage(level, len(b), &l.chunks)
	s.unlock()
	l.must(err)
	le.PutUint32(b, 0x504d4648)
	le.PutUint32(b[4:], blockmap.FormatVersion)
	b[12] = byte(level)
	if level == 0 {
		b[13] = 1
		le.PutUint16(b[14:], l.r.origin)
	}
	le.PutUint64(b[16:], uint64(id))
	le.PutUint64(b[24:], base)
	le.PutUint64(b[32:], uint64(top))
	le.PutUint32(b[40:], uint32(n))
	le.PutUint32(b[44:], uint32(len(b)))
	le.PutUint32(b[8:], checksum.CRC(b[12:]))
	copy(at, b)
	if k := len(l.chunks); k > 1 || len(l.chunks[0].buf)+blockmap.MaxPageSize+blockSize > cap(l.chunks[0].buf) {
		l.writePages()
	}
	return id
}

func (l *large) writePages() {
	for _, c := range l.chunks {
		if len(c.buf) > 0 {
			l.must(l.s.dev.WriteAt(c.buf, c.off))
		}
	}
	l.chunks = nil
}

// tree makes the page of a level at base, and all below it.
func (l *large) tree(level int, base uint64) (blockmap.PageID, holdfast.LSN) {
	span := uint64(1) << (9 * (level + 1))
	top := largeLSN(min(base+span, l.blocks) - 1)
	perSeg := uint64(l.s.space.segBlocks)
	if level == 0 {
		zero := zeroBlock()
		return l.page(0, base, top, int(min(span, l.blocks-base)), func(i int, b []byte) []byte {
			addr := base + uint64(i)
			hash := addr*0x9e3779b97f4a7c15&^15 | blockUnit
			if addr == hashed(base/blockmap.Fan) {
				hash = checksum.Block(l.r.vol, addr, largeLSN(addr), zero)
			}
			b = le.AppendUint64(le.AppendUint64(b, uint64(largeLSN(addr))), hash)
			return le.AppendUint16(le.AppendUint32(b, l.first+uint32(addr/perSeg)), uint16(addr%perSeg)*blockUnit)
		}), top
	}
	var items []byte
	n := 0
	for at := base; at < min(base+span, l.blocks); at += span / blockmap.Fan {
		id, max := l.tree(level-1, at)
		items = le.AppendUint64(le.AppendUint64(items, uint64(max)), uint64(id))
		n++
	}
	return l.page(level, base, top, n, func(i int, b []byte) []byte { return append(b, items[16*i:16*i+16]...) }), top
}

func newLarge(t testing.TB, blocks uint64, memory int64) *large {
	size := int64(blocks)*blockSize*5/4 + 4<<30
	l := &large{real: newReal(t, size, Options{MapMemory: memory}), blocks: blocks}
	r, err := l.s.Create(replicaID(1), volumeID(1), blocks)
	l.must(err)
	l.must(r.Begin(record.Start{Epoch: 1}))
	l.must(l.s.Checkpoint())
	l.r = r
	s := l.s
	s.lock()
	l.first = s.space.next
	for at := uint64(0); at < blocks; at += uint64(s.space.segBlocks) {
		g := s.space.adopt(s.space.next, s.space.virgin) // a place that was never written: zeros
		s.space.virgin++
		s.space.setLive(g.num, 0, uint16(min(blocks-at, uint64(s.space.segBlocks)))*blockUnit, true)
	}
	s.unlock()
	level := 0
	for blocks > uint64(1)<<(9*(level+1)) {
		level++
	}
	id, top := l.tree(level, 0)
	l.writePages()
	s.lock()
	root, err := s.pages.OpenRoot(le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, blocks), uint64(top)), uint64(id)))
	l.must(err)
	h := newHead(r, blockmap.FromRoot(root))
	root.Release()
	h.history = r.head.history
	h.pos, h.prefix, h.durable, h.stable = top, top, top, top
	r.head.base.Release()
	r.head = h
	s.unlock()
	return l
}

// fold makes the digests of all of it, as every host with a copy does when copies
// are compared.
func (l *large) fold(r *Replica) {
	at, heap := time.Now(), int64(0)
	p := r.PinHead()
	defer p.Release()
	blocks, calls, next, slowest := uint64(0), 0, uint64(0), time.Duration(0)
	for more := true; more; calls++ {
		begun := time.Now()
		var out []Digest
		var err error
		out, next, more, err = p.Digests(holdfast.SnapshotID{}, holdfast.SnapshotID{}, p.LSN(), next)
		l.must(err)
		for _, d := range out {
			blocks += d.Blocks
		}
		slowest, heap = max(slowest, time.Since(begun)), max(heap, l.s.MapResident())
	}
	if blocks != l.blocks {
		l.t.Errorf("%d of %d blocks were folded", blocks, l.blocks)
	}
	l.t.Logf("%d blocks folded in %v, in %d calls, the slowest %v; map pages at most %.0f MiB", blocks, time.Since(at).Round(time.Millisecond), calls, slowest.Round(time.Millisecond), float64(heap)/(1<<20))
}

// memory is what the process takes, in MiB: its heap, and what is resident.
func memory() (heap, rss float64) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, _ := os.ReadFile("/proc/self/status")
	if _, rest, ok := strings.Cut(string(b), "VmRSS:"); ok {
		kb, _ := strconv.Atoi(strings.Fields(rest)[0])
		rss = float64(kb) / 1024
	}
	return float64(m.HeapAlloc) / (1 << 20), rss
}

// TestALargeVolumeInLittleMemory opens a store with a large volume, of which
// every block is written, reads and writes it at random and looks at what that
// takes. HOLDFAST_MAP_GIB is its size, 2 by default; make tebibyte sets it.
func TestALargeVolumeInLittleMemory(t *testing.T) {
	gib, rounds, room := uint64(2), 300, int64(1<<20)
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_MAP_GIB")); err == nil && n > 0 {
		gib, rounds, room = uint64(n), 20_000, 256<<20
	}
	at := time.Now()
	l := newLarge(t, gib<<18, room)
	l.close()
	t.Logf("a volume of %d GiB, every block written, was made in %v", gib, time.Since(at).Round(time.Millisecond))
	at = time.Now()
	l.open()
	open := time.Since(at)
	heap, rss := memory()
	t.Logf("opened in %v; heap %.0f MiB, resident %.0f MiB, catalog %.1f MiB", open.Round(time.Millisecond), heap, rss, float64(l.s.catalogBytes)/(1<<20))
	r := l.s.Replica(replicaID(1))
	l.fold(r)
	rng := rand.New(rand.NewPCG(1, 1))
	leaves := l.blocks / blockmap.Fan
	most := int64(0)
	p := make([]byte, blockSize)
	at = time.Now()
	for range rounds {
		l.must(r.ReadAt(p, hashed(rng.Uint64N(leaves))))
		most = max(most, l.s.MapResident())
	}
	took := time.Since(at)
	heap, rss = memory()
	t.Logf("%d random reads, %.0f a second; map pages at most %.0f MiB of %d, heap %.0f MiB, resident %.0f MiB", rounds, float64(rounds)/took.Seconds(), float64(most)/(1<<20), room>>20, heap, rss)
	w := &writer{r: r, vol: volumeID(1)}
	wrote := make(map[uint64]uint64)
	at = time.Now()
	for i := range rounds {
		addr := rng.Uint64N(l.blocks)
		w.write(t, addr, uint64(i+1))
		wrote[addr] = uint64(i + 1)
		most = max(most, l.s.MapResident())
	}
	took = time.Since(at)
	heap, rss = memory()
	t.Logf("%d random writes, each flushed, %.0f a second; map pages at most %.0f MiB, heap %.0f MiB, resident %.0f MiB", rounds, float64(rounds)/took.Seconds(), float64(most)/(1<<20), heap, rss)
	for addr, tag := range wrote {
		l.must(r.ReadAt(p, addr))
		if string(p) != string(content(tag)) {
			t.Fatalf("block %d is not what was written as %d", addr, tag)
		}
	}
	if most > 2*room {
		t.Errorf("map pages took %d bytes with room for %d", most, room)
	}
}
