package memdisk

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Options say how fast one life sees the disk. A zero time takes none at all;
// otherwise each call takes between half and one and a half of it.
type Options struct {
	ReadTime, WriteTime, SyncTime time.Duration
	// BytesPerSecond adds the time of the transfer; 0 is unlimited.
	BytesPerSecond int64
}

// SSD is an ordinary solid-state disk.
func SSD() Options {
	return Options{ReadTime: 90 * time.Microsecond, WriteTime: 30 * time.Microsecond, SyncTime: 400 * time.Microsecond, BytesPerSecond: 500 << 20}
}

// HDD is an ordinary spinning disk.
func HDD() Options {
	return Options{ReadTime: 8 * time.Millisecond, WriteTime: 2 * time.Millisecond, SyncTime: 12 * time.Millisecond, BytesPerSecond: 150 << 20}
}

// Op is a kind of call.
type Op uint8

// The kinds of call that can be made to fail.
const (
	Read Op = iota
	Write
	Sync
	ops
)

// Chances are the probabilities, per call, that something goes wrong.
type Chances struct {
	ReadError, WriteError, SyncError float64 // kind IO; see FailNext
	LostWrite                        float64 // acknowledged, never written
	Misdirected                      float64 // acknowledged, written elsewhere
}

// faults is what is wrong with a disk. All of it outlives the host.
type faults struct {
	chances  Chances
	failNext [ops]int
	full     bool
	slow     float64 // factor; 0 is 1
	hung     bool
	waiting  []clock.Event
}

func (f *faults) wakeHung() {
	w := f.waiting
	f.waiting = nil
	for _, e := range w {
		e.Set()
	}
}

// SetChances replaces the random faults.
func (d *Disk) SetChances(c Chances) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.chances = c
}

// FailNext makes the next n calls of a kind fail with kind IO. A failed write
// may have written any part; after a failed sync any part of the unsynced
// writes is durable and the rest never will be, though reads still see it, as
// the page cache of an operating system has it.
func (d *Disk) FailNext(op Op, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.failNext[op] = n
}

// SetFull makes writes to places that were never written fail with kind
// NoSpace, as for a sparse file on a full file system.
func (d *Disk) SetFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.full = full
}

// SetSlow makes every call take factor times as long; 1 is normal.
func (d *Disk) SetSlow(factor float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.slow = factor
}

// SetHung makes every call wait until it is set to false or the life ends.
func (d *Disk) SetHung(hung bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.hung = hung
	if !hung {
		d.faults.wakeHung()
	}
}

// Rot flips one bit of the byte at off, durably.
func (d *Disk) Rot(off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Spoilt++
	no, at, bit := off/pageSize, off%pageSize, byte(1)<<d.rng.IntN(8)
	flip := func(p *page) *page {
		q := new(page)
		if p != nil {
			*q = *p
		}
		q[at] ^= bit
		return q
	}
	if c, ok := d.cache[no]; ok {
		d.cache[no] = flip(c)
		for _, w := range d.pending {
			for i := range w.pieces {
				if w.pieces[i].no == no {
					w.pieces[i].data = flip(w.pieces[i].data)
				}
			}
		}
	}
	d.medium[no] = flip(d.medium[no])
}

// Bad makes the sectors of a range unreadable, kind IO, until they are written.
func (d *Disk) Bad(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := off / Sector; s*Sector < off+n; s++ {
		d.bad[s/perPage] |= 1 << (s % perPage)
	}
}

// Peek copies what reads would see into p, without time, faults or a life.
func (d *Disk) Peek(p []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.copyOut(p, off)
}

// Poke writes p at off durably, without time, faults or a life. Unsynced writes
// to the same pages become durable first.
func (d *Disk) Poke(p []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(p) > 0 {
		no, at := off/pageSize, off%pageSize
		q := new(page)
		if old := d.get(no); old != nil {
			*q = *old
		}
		n := copy(q[at:], p)
		d.forget(no)
		d.medium[no] = q
		p, off = p[n:], off+int64(n)
	}
}

// forget drops what the cache and the unsynced writes have of a page.
func (d *Disk) forget(no int64) {
	delete(d.cache, no)
	for _, w := range d.pending {
		for i := range w.pieces {
			if w.pieces[i].no == no {
				w.pieces[i].mask = 0
			}
		}
	}
}

func (d *Disk) copyOut(p []byte, off int64) {
	for len(p) > 0 {
		no, at := off/pageSize, off%pageSize
		n := min(pageSize-int(at), len(p))
		if src := d.get(no); src != nil {
			copy(p[:n], src[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// fails draws whether a call goes wrong.
func (d *Disk) fails(op Op) bool {
	if d.faults.failNext[op] > 0 {
		d.faults.failNext[op]--
		return true
	}
	c := [ops]float64{d.faults.chances.ReadError, d.faults.chances.WriteError, d.faults.chances.SyncError}[op]
	return d.chance(c)
}

// chance draws only if there is one, so that a disk without faults has the same
// stream whatever the caller does.
func (d *Disk) chance(p float64) bool { return p > 0 && d.rng.Float64() < p }

func ioError(op string, off int64) error {
	return holdfast.Errorf(holdfast.IO, "memory disk: %s at %d failed", op, off)
}
