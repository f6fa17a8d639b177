// Package memexport is an export.Target in memory: the fake behind the export
// servers' tests and their benchmarks. It is thin, coherent over any number
// of sessions, and completes every request before Submit returns; Faulty
// wraps any target with failures, delays and the end of its sessions.
package memexport

import (
	"sync"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

const (
	page      = holdfast.BlockSize
	groupSize = 256 * page // 1 MiB, the unit of locking
)

// Target is a volume in memory. It implements export.Target.
type Target struct {
	readOnly bool
	size     atomic.Int64

	mu      sync.Mutex
	writing int  // writing sessions that are open
	alone   bool // the one there is was not begun by OpenShared
	shared  bool
	kept    []kept

	shape  sync.RWMutex // held to read while groups are found, to write by Grow
	groups []atomic.Pointer[group]
}

// group is 1 MiB of the volume; a nil page is a hole.
type group struct {
	mu    sync.RWMutex
	pages [groupSize / page]*[page]byte
}

// New returns an empty volume of size bytes, 0 < size <= 1 TiB.
func New(size int64, readOnly bool) (*Target, error) {
	if size <= 0 || size > 1<<40 {
		return nil, holdfast.Errorf(holdfast.Invalid, "a memory volume of %d bytes; 1 byte to 1 TiB is possible", size)
	}
	t := &Target{readOnly: readOnly}
	t.Grow(size)
	return t, nil
}

// Grow makes the volume size bytes long, if it is shorter.
func (t *Target) Grow(size int64) {
	t.shape.Lock()
	defer t.shape.Unlock()
	if size <= t.size.Load() {
		return
	}
	groups := make([]atomic.Pointer[group], (size+groupSize-1)/groupSize)
	for i := range t.groups {
		groups[i].Store(t.groups[i].Load())
	}
	t.groups = groups
	t.size.Store(size)
}

// Size implements export.Target.
func (t *Target) Size() int64 { return t.size.Load() }

// ReadOnly implements export.Target.
func (t *Target) ReadOnly() bool { return t.readOnly }

// Open implements export.Target.
func (t *Target) Open(readOnly bool) (export.Disk, error) {
	if readOnly {
		return &disk{t: t, readOnly: true}, nil
	}
	d, _, err := t.write(false)
	return d, err
}

// Share says whether several sessions may write.
func (t *Target) Share(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shared = on
}

// Shared implements export.Sharer.
func (t *Target) Shared() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shared
}

// OpenShared implements export.Sharer.
func (t *Target) OpenShared() (export.Disk, bool, error) { return t.write(true) }

// Writing returns how many writing sessions are open.
func (t *Target) Writing() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writing
}

func (t *Target) write(share bool) (export.Disk, bool, error) {
	if t.readOnly {
		return nil, false, holdfast.Errorf(holdfast.Denied, "the volume is read-only")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	share = share && t.shared
	if t.writing > 0 && (t.alone || !share) {
		return nil, false, holdfast.Errorf(holdfast.Busy, "the volume is being written by another session")
	}
	t.writing++
	t.alone = !share
	return &disk{t: t}, share, nil
}

// disk is one session.
type disk struct {
	t        *Target
	readOnly bool
	closed   atomic.Bool
}

func (d *disk) Size() int64 { return d.t.Size() }

func (d *disk) Close() {
	if d.closed.Swap(true) || d.readOnly {
		return
	}
	d.t.mu.Lock()
	d.t.writing--
	d.t.mu.Unlock()
}

func (d *disk) Submit(r *export.Request) { r.Done(r, d.do(r)) }

func (d *disk) do(r *export.Request) error {
	switch {
	case d.closed.Load():
		return holdfast.Errorf(holdfast.Closed, "the session is closed")
	case r.Op == export.Flush:
		return nil
	case r.Off < 0 || r.Length < 0 || r.Off > d.Size()-r.Length:
		return holdfast.Errorf(holdfast.Invalid, "%d bytes at %d are beyond the volume's %d", r.Length, r.Off, d.Size())
	case d.readOnly && r.Op != export.Read:
		return holdfast.Errorf(holdfast.Denied, "the session is read-only")
	}
	switch r.Op {
	case export.Read:
		d.t.each(r.Off, r.Length, func(g *group, i int64, from, n, at int64) { g.read(i, from, r.Data[at:at+n]) })
	case export.Write:
		d.t.each(r.Off, r.Length, func(g *group, i int64, from, n, at int64) { g.write(i, from, r.Data[at:at+n]) })
	case export.Trim, export.Zero:
		d.t.each(r.Off, r.Length, func(g *group, i int64, from, n, _ int64) { g.zero(i, from, n) })
	default:
		return holdfast.Errorf(holdfast.Invalid, "unknown operation %d", r.Op)
	}
	return nil
}

// each calls f for every page that [off, off+n) touches: the group, the page's
// index in it, the first byte within the page, the bytes, and their place in
// the request.
func (t *Target) each(off, n int64, f func(g *group, i, from, n, at int64)) {
	for at := int64(0); at < n; {
		pos := off + at
		from := pos % page
		step := min(page-from, n-at)
		f(t.group(pos, true), pos%groupSize/page, from, step, at)
		at += step
	}
}

// group returns the group that holds pos. Where there is none yet it is made,
// or, without create, nil.
func (t *Target) group(pos int64, create bool) *group {
	t.shape.RLock()
	defer t.shape.RUnlock()
	slot := &t.groups[pos/groupSize]
	g := slot.Load()
	if g == nil && create {
		slot.CompareAndSwap(nil, &group{})
		g = slot.Load()
	}
	return g
}

func (g *group) read(i, from int64, b []byte) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if p := g.pages[i]; p != nil {
		copy(b, p[from:])
	} else {
		clear(b)
	}
}

func (g *group) write(i, from int64, b []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pages[i] == nil {
		g.pages[i] = new([page]byte)
	}
	copy(g.pages[i][from:], b)
}

func (g *group) zero(i, from, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch p := g.pages[i]; {
	case p == nil:
	case n == page:
		g.pages[i] = nil
	default:
		clear(p[from : from+n])
	}
}

// Extents implements export.Disk.
func (d *disk) Extents(off, n int64, most int) ([]export.Extent, error) {
	switch {
	case d.closed.Load():
		return nil, holdfast.Errorf(holdfast.Closed, "the session is closed")
	case off < 0 || n <= 0 || most <= 0 || off > d.Size()-n:
		return nil, holdfast.Errorf(holdfast.Invalid, "extents of %d bytes at %d of %d, at most %d", n, off, d.Size(), most)
	}
	var out []export.Extent
	for pos := off; pos < off+n; {
		step, hole := extent(d.t.group(pos, false), pos)
		step = min(step, off+n-pos)
		if k := len(out); k > 0 && out[k-1].Hole == hole {
			out[k-1].Length += step
		} else if k == most {
			break
		} else {
			out = append(out, export.Extent{Length: step, Hole: hole})
		}
		pos += step
	}
	return out, nil
}

// extent returns how far it is from pos to the end of its page, or of its
// group where that is empty, and whether that is a hole.
func extent(g *group, pos int64) (n int64, hole bool) {
	if g == nil {
		return groupSize - pos%groupSize, true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return page - pos%page, g.pages[pos%groupSize/page] == nil
}
