package memdisk

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// device is one life's view of a Disk.
type device struct {
	d    *Disk
	clk  clock.Clock
	o    Options
	over bool // under d.mu
}

// Geometry implements disk.Device.
func (v *device) Geometry() disk.Geometry { return disk.Geometry{Size: v.d.size, Sector: Sector} }

// Close implements disk.Device. What was not synced stays in the cache.
func (v *device) Close() error {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	if v.over {
		return v.closed()
	}
	v.d.end()
	v.d.shrinkUnderWay()
	return nil
}

// ReadAt implements disk.Device. The content is that of the end of the call.
func (v *device) ReadAt(p []byte, off int64) error {
	if err := v.check("read", off, int64(len(p))); err != nil {
		return err
	}
	d, err := v.begin()
	if err != nil {
		return err
	}
	d.stats.Reads++
	d.stats.BytesRead += int64(len(p))
	bad := d.fails(Read) || d.unreadable(off, int64(len(p)))
	if err := v.pass(v.o.ReadTime, len(p)); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if bad {
		for i := range p {
			p[i] = 0xdb // whoever uses it will notice
		}
		return ioError("read", off)
	}
	d.copyOut(p, off)
	return nil
}

// ReadMedium implements disk.Medium: what a failed sync has dropped is missing,
// though ReadAt still shows it.
func (v *device) ReadMedium(p []byte, off int64) error {
	if err := v.ReadAt(p, off); err != nil {
		return err
	}
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	for len(p) > 0 {
		no, at := off/pageSize, off%pageSize
		n := min(pageSize-int(at), len(p))
		if _, cached := v.d.cache[no]; cached {
			q := v.d.medium[no]
			for _, w := range v.d.pending {
				for _, x := range w.pieces {
					if x.no == no {
						q = merge(q, x)
					}
				}
			}
			clear(p[:n])
			if q != nil {
				copy(p[:n], q[at:])
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// WriteAt implements disk.Device. Reads see the content from the beginning of
// the call; a crash within it keeps any part.
func (v *device) WriteAt(p []byte, off int64) error {
	if err := v.check("write", off, int64(len(p))); err != nil {
		return err
	}
	d, err := v.begin()
	if err != nil {
		return err
	}
	d.stats.Writes++
	d.stats.BytesWritten += int64(len(p))
	w, err := d.admit(p, off)
	if passed := v.pass(v.o.WriteTime, len(p)); passed != nil {
		return passed
	}
	defer d.mu.Unlock()
	if w != nil {
		w.returned = true
	}
	return err
}

// admit decides what becomes of a write and begins it; nil is a lost one.
func (d *Disk) admit(p []byte, off int64) (*write, error) {
	if d.faults.full && d.needsSpace(off, int64(len(p))) {
		return nil, holdfast.Errorf(holdfast.NoSpace, "memory disk: no space for %d bytes at %d", len(p), off)
	}
	w := &write{}
	switch {
	case d.fails(Write):
		w.pieces = tear(d.rng, split(p, off))
		d.accept(w)
		return w, ioError("write", off)
	case d.chance(d.faults.chances.LostWrite):
		d.stats.Spoilt++
		return nil, nil
	case d.chance(d.faults.chances.Misdirected):
		d.stats.Spoilt++
		off = d.rng.Int64N((d.size-int64(len(p)))/Sector+1) * Sector
	}
	w.pieces = split(p, off)
	d.accept(w)
	return w, nil
}

// Sync implements disk.Device: at its end, the writes that had returned at its
// beginning become durable, and no other.
func (v *device) Sync() error {
	d, err := v.begin()
	if err != nil {
		return err
	}
	d.stats.Syncs++
	done := make(map[*write]bool)
	for _, w := range d.pending {
		if w.returned {
			done[w] = true
		}
	}
	bad := d.fails(Sync)
	if err := v.pass(v.o.SyncTime, 0); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if bad {
		for _, w := range d.pending {
			if done[w] {
				w.pieces = tear(d.rng, w.pieces)
			}
		}
	}
	d.settle(done)
	if bad {
		return ioError("sync", 0)
	}
	return nil
}

// WriteSync implements disk.SyncWriter: at its end this write, and no other, is
// durable; what was written before to the same sectors is gone with it.
func (v *device) WriteSync(p []byte, off int64) error {
	if err := v.check("write", off, int64(len(p))); err != nil {
		return err
	}
	d, err := v.begin()
	if err != nil {
		return err
	}
	d.stats.Writes++
	d.stats.Syncs++
	d.stats.BytesWritten += int64(len(p))
	w, err := d.admit(p, off)
	bad := err == nil && d.fails(Sync)
	if passed := v.pass(v.o.WriteTime+v.o.SyncTime, len(p)); passed != nil {
		return passed
	}
	defer d.mu.Unlock()
	if w == nil || err != nil {
		return err
	}
	w.returned = true
	if bad {
		w.pieces = tear(d.rng, w.pieces)
	}
	d.bury(w)
	d.settle(map[*write]bool{w: true})
	if bad {
		return ioError("sync", off)
	}
	return nil
}

// bury takes what w covers out of the unsynced writes before it.
func (d *Disk) bury(w *write) {
	over := make(map[int64]uint8, len(w.pieces))
	for _, p := range w.pieces {
		over[p.no] |= p.mask
	}
	for _, older := range d.pending {
		if older == w {
			return
		}
		for i := range older.pieces {
			older.pieces[i].mask &^= over[older.pieces[i].no]
		}
	}
}

// Discard implements disk.Device. Whole pages become zero or, sometimes, stay
// as they are: the content is undefined and nobody may rely on either.
func (v *device) Discard(off, n int64) error {
	if err := v.check("discard", off, n); err != nil {
		return err
	}
	d, err := v.begin()
	if err != nil {
		return err
	}
	d.stats.Discards++
	for _, no := range d.written((off+pageSize-1)/pageSize, (off+n)/pageSize) {
		if d.rng.IntN(8) != 0 {
			delete(d.medium, no)
			delete(d.cache, no)
		} else {
			d.medium[no] = d.get(no)
		}
		d.forget(no)
	}
	if err := v.pass(v.o.WriteTime, 0); err != nil {
		return err
	}
	d.mu.Unlock()
	return nil
}

// written returns the pages of [lo, hi) that have content, ascending.
func (d *Disk) written(lo, hi int64) []int64 {
	var nos []int64
	if hi-lo <= int64(len(d.medium)+len(d.cache)) {
		for no := lo; no < hi; no++ {
			if d.get(no) != nil {
				nos = append(nos, no)
			}
		}
		return nos
	}
	for no := range d.medium {
		if no >= lo && no < hi {
			nos = append(nos, no)
		}
	}
	for no := range d.cache {
		if no >= lo && no < hi {
			nos = append(nos, no)
		}
	}
	slices.Sort(nos)
	return slices.Compact(nos)
}

// begin locks the disk for a call, unless this life of it has ended.
func (v *device) begin() (*Disk, error) {
	v.d.mu.Lock()
	if v.over {
		defer v.d.mu.Unlock()
		return nil, v.closed()
	}
	return v.d, nil
}

// pass lets the time of a call go by. It is called with d.mu held, waits
// without it and returns with it held, unless the life has ended meanwhile.
func (v *device) pass(t time.Duration, bytes int) error {
	d := v.d
	if t > 0 {
		t = t/2 + time.Duration(d.rng.Int64N(int64(t)+1))
	}
	if v.o.BytesPerSecond > 0 {
		t += time.Duration(int64(bytes) * int64(time.Second) / v.o.BytesPerSecond)
	}
	if d.faults.slow > 0 {
		t = time.Duration(float64(t) * d.faults.slow)
	}
	if t > 0 {
		d.mu.Unlock()
		clock.Sleep(v.clk, t)
		d.mu.Lock()
	}
	for d.faults.hung && !v.over {
		e := v.clk.NewEvent()
		d.faults.waiting = append(d.faults.waiting, e)
		d.mu.Unlock()
		e.Wait(clock.Forever)
		d.mu.Lock()
	}
	if v.over {
		d.mu.Unlock()
		return v.closed()
	}
	return nil
}

func (v *device) closed() error {
	return holdfast.Errorf(holdfast.Closed, "memory disk: this life of it has ended")
}

func (v *device) check(op string, off, n int64) error {
	switch {
	case off < 0 || n < 0 || off > v.d.size || n > v.d.size-off:
		return holdfast.Errorf(holdfast.Invalid, "memory disk: %s of %d bytes at %d is out of range, the disk has %d", op, n, off, v.d.size)
	case off%Sector != 0 || n%Sector != 0:
		return holdfast.Errorf(holdfast.Invalid, "memory disk: %s of %d bytes at %d is not aligned to sectors of %d", op, n, off, Sector)
	}
	return nil
}

func (d *Disk) needsSpace(off, n int64) bool {
	for no := off / pageSize; no*pageSize < off+n; no++ {
		if d.get(no) == nil {
			return true
		}
	}
	return false
}

func (d *Disk) unreadable(off, n int64) bool {
	if len(d.bad) == 0 {
		return false
	}
	for s := off / Sector; s*Sector < off+n; s++ {
		if d.bad[s/perPage]&(1<<(s%perPage)) != 0 {
			return true
		}
	}
	return false
}
