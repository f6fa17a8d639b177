// Package memdisk is the disk of the simulator and of tests: sparse memory
// behind a volatile write cache, which behaves as badly as real disks are
// allowed to, and on request worse.
//
// A Disk outlives its host. Open gives one life of the host a disk.Device; the
// life ends by Close, by Kill (the process died: its cache stays, as a page
// cache does) or by Crash (the power went: of what was not synced, any subset
// of sectors survives). The next Open sees what is left.
//
// Everything random comes from the stream given to New and everything that
// takes time goes through the life's clock, so under simclock the same seed
// gives the same history. Memory is used only for what was written: pages never
// change once made and are shared between the cache, the medium and clones.
package memdisk

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// Sector is the unit of tearing in bytes. It is the smallest that disks have,
// so that whoever takes 4 KiB writes to be atomic is found out.
const Sector = 512

const (
	pageSize = 4096
	perPage  = pageSize / Sector
	allOf    = 1<<perPage - 1
)

// page is the content of 4 KiB. It is never changed once it is visible.
type page [pageSize]byte

// piece is the part of an unsynced write that falls into one page: the sectors
// of mask have the content of data.
type piece struct {
	no   int64
	data *page
	mask uint8
}

// write is one unsynced write.
type write struct {
	pieces   []piece
	returned bool // the caller knows that it was written
}

// recentPages is how many of the pages written last are remembered.
const recentPages = 128

// Disk is one disk across all lives of its host. It is safe for concurrent use.
type Disk struct {
	size int64

	mu      sync.Mutex
	rng     *rand.Rand
	medium  map[int64]*page // what is durable; absent pages are zero
	cache   map[int64]*page // what reads see where it differs from the medium
	pending []*write        // not yet durable, oldest first
	bad     map[int64]uint8 // sectors that cannot be read until they are written
	recent  [recentPages]int64
	turn    int     // in recent
	life    *device // who has it open
	faults  faults
	stats   Stats
}

// Stats counts what was asked of a disk over all its lives.
type Stats struct {
	Reads, Writes, Syncs, Discards int
	BytesRead, BytesWritten        int64
	Spoilt                         int // writes that were acknowledged and lost or misdirected, and bits that were flipped
}

// New returns an empty disk of size bytes, rounded up to 4 KiB. rng is the
// disk's own stream: nobody else may draw from it.
func New(size int64, rng *rand.Rand) *Disk {
	return &Disk{
		size:   (size + pageSize - 1) / pageSize * pageSize,
		rng:    rng,
		medium: make(map[int64]*page),
		cache:  make(map[int64]*page),
		bad:    make(map[int64]uint8),
	}
}

// Open begins a life that uses the disk. Kind Busy: the life before has not
// been ended by Close, Kill or Crash.
func (d *Disk) Open(clk clock.Clock, o Options) (disk.Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life != nil {
		return nil, holdfast.Errorf(holdfast.Busy, "memory disk: it is open; end that life first")
	}
	d.life = &device{d: d, clk: clk, o: o}
	return d.life, nil
}

// Stats returns the counters.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Allocated is the number of bytes that the disk keeps memory for.
func (d *Disk) Allocated() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.medium)
	for no := range d.cache {
		if d.medium[no] == nil {
			n++
		}
	}
	return int64(n) * pageSize
}

// Clone returns an independent disk in the same state, unsynced writes
// included, without a life and without faults: to crash it and look what would
// be left, while the original goes on. It costs no copy of the content.
func (d *Disk) Clone(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := New(d.size, rng)
	maps.Copy(c.medium, d.medium)
	maps.Copy(c.cache, d.cache)
	maps.Copy(c.bad, d.bad)
	for _, w := range d.pending {
		c.pending = append(c.pending, &write{pieces: slices.Clone(w.pieces), returned: w.returned})
	}
	return c
}

// get is the content that reads see; nil is zeroes.
func (d *Disk) get(no int64) *page {
	if p, ok := d.cache[no]; ok {
		return p
	}
	return d.medium[no]
}

// merge returns base with the sectors of p.mask replaced.
func merge(base *page, p piece) *page {
	if p.mask == allOf {
		return p.data
	}
	m := new(page)
	if base != nil {
		*m = *base
	}
	for i := range perPage {
		if p.mask&(1<<i) != 0 {
			copy(m[i*Sector:(i+1)*Sector], p.data[i*Sector:])
		}
	}
	return m
}

// zeroes is the content of every page that was written with nothing else. Like
// all pages it is never changed.
var zeroes page

// split cuts the write of b at off into pieces and copies the bytes.
func split(b []byte, off int64) []piece {
	ps := make([]piece, 0, len(b)/pageSize+2)
	for len(b) > 0 {
		at := int(off % pageSize)
		n := min(pageSize-at, len(b))
		p := piece{no: off / pageSize}
		switch {
		case n < pageSize:
			p.data = new(page)
			copy(p.data[at:], b[:n])
		case *(*page)(b) == zeroes:
			p.data = &zeroes
		default:
			p.data = (*page)(append([]byte(nil), b[:pageSize]...)) // not cleared first
		}
		for s := at / Sector; s < (at+n)/Sector; s++ {
			p.mask |= 1 << s
		}
		ps = append(ps, p)
		b, off = b[n:], off+int64(n)
	}
	return ps
}

// Recent returns the offsets of the pages that were written last, in no order,
// some of them twice, and zeroes if there were fewer.
func (d *Disk) Recent() (offs []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, no := range d.recent {
		offs = append(offs, no*pageSize)
	}
	return offs
}

// accept puts a write into the cache, where reads see it.
func (d *Disk) accept(w *write) {
	for _, p := range w.pieces {
		d.recent[d.turn%recentPages] = p.no
		d.turn++
		d.cache[p.no] = merge(d.get(p.no), p)
		d.heal(p)
	}
	d.pending = append(d.pending, w)
}

// heal makes sectors that are written readable again.
func (d *Disk) heal(p piece) {
	if m, ok := d.bad[p.no]; ok {
		if m &^= p.mask; m == 0 {
			delete(d.bad, p.no)
		} else {
			d.bad[p.no] = m
		}
	}
}

// land makes some sectors of a piece durable.
func (d *Disk) land(p piece, mask uint8) {
	p.mask &= mask
	if p.mask == 0 {
		return
	}
	m := merge(d.medium[p.no], p)
	d.medium[p.no] = m
	if c := d.cache[p.no]; c == m || c != nil && *c == *m {
		delete(d.cache, p.no)
	}
}

// settle makes durable the writes of done and keeps the others pending.
func (d *Disk) settle(done map[*write]bool) {
	rest := d.pending[:0]
	for _, w := range d.pending {
		if !done[w] {
			rest = append(rest, w)
			continue
		}
		for _, p := range w.pieces {
			d.land(p, allOf)
		}
	}
	clear(d.pending[len(rest):])
	d.pending = rest
}
