package iscsi_test

import (
	"sync"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
)

// seen is a volume seen through an initiator as an export.Target again, so
// that the seam's suite can run over iSCSI. What iSCSI has no word for is done
// on this side: bytes that are no whole blocks are read and written back, and
// that there is one writing session is kept here, since an iSCSI target has
// many.
type seen struct {
	login   func() *initiator.Session
	size    int64
	block   int64
	conns   int
	writing atomic.Bool
}

func (v *seen) Size() int64    { return v.size }
func (v *seen) ReadOnly() bool { return false }

func (v *seen) Open(readOnly bool) (export.Disk, error) {
	if !readOnly && v.writing.Swap(true) {
		return nil, holdfast.Errorf(holdfast.Busy, "the volume is being written")
	}
	return &seenDisk{v: v, s: v.login(), readOnly: readOnly}, nil
}

type seenDisk struct {
	v        *seen
	s        *initiator.Session
	readOnly bool
	closed   atomic.Bool
	next     atomic.Int64
	edges    sync.RWMutex // held to write while a block is read and written back
	busy     sync.WaitGroup
}

func (d *seenDisk) Size() int64 { return d.v.size }

func (d *seenDisk) Submit(r *export.Request) {
	if d.closed.Load() {
		r.Done(r, holdfast.Errorf(holdfast.Closed, "the session is closed"))
		return
	}
	if d.readOnly && r.Op != export.Read && r.Op != export.Flush {
		r.Done(r, holdfast.Errorf(holdfast.Denied, "the session is read-only"))
		return
	}
	d.busy.Add(1)
	go func() {
		defer d.busy.Done()
		r.Done(r, d.do(r))
	}()
}

func (d *seenDisk) Close() {
	if d.closed.Swap(true) {
		return
	}
	d.busy.Wait()
	d.s.Logout(0, 0)
	if !d.readOnly {
		d.v.writing.Store(false)
	}
}

func (d *seenDisk) do(r *export.Request) error {
	bs := d.v.block
	first, end := r.Off/bs, (r.Off+r.Length+bs-1)/bs
	switch {
	case r.Op == export.Flush:
		return d.run(syncCmd())
	case r.Length == 0:
		return nil
	case r.Op == export.Read:
		d.edges.RLock()
		defer d.edges.RUnlock()
		return d.read(first, end, r.Off-first*bs, r.Data)
	}
	if r.Off%bs == 0 && r.Length%bs == 0 {
		d.edges.RLock()
		defer d.edges.RUnlock()
		return d.change(r.Op, first, end, r.Data, r.FUA)
	}
	d.edges.Lock()
	defer d.edges.Unlock()
	if r.Op != export.Write && r.Length > 1<<20 { // zero the whole blocks by themselves
		if err := d.change(r.Op, first+1, end-1, nil, r.FUA); err != nil {
			return err
		}
		head, tail := (first+1)*bs-r.Off, r.Off+r.Length-(end-1)*bs
		if err := d.merge(first, first+1, r.Off-first*bs, make([]byte, head), r.FUA); err != nil {
			return err
		}
		return d.merge(end-1, end, 0, make([]byte, tail), r.FUA)
	}
	data := r.Data
	if r.Op != export.Write {
		data = make([]byte, r.Length)
	}
	return d.merge(first, end, r.Off-first*bs, data, r.FUA)
}

func (d *seenDisk) read(first, end, skip int64, into []byte) error {
	b := make([]byte, (end-first)*d.v.block)
	if err := d.run(initiator.Command{CDB: rw16(read16, uint64(first), int(end-first), false), In: b}); err != nil {
		return err
	}
	copy(into, b[skip:])
	return nil
}

func (d *seenDisk) merge(first, end, skip int64, data []byte, fua bool) error {
	b := make([]byte, (end-first)*d.v.block)
	if err := d.read(first, end, 0, b); err != nil {
		return err
	}
	copy(b[skip:], data)
	return d.change(export.Write, first, end, b, fua)
}

// change is WRITE, UNMAP, or WRITE SAME of zeroes.
func (d *seenDisk) change(op export.Op, first, end int64, data []byte, fua bool) error {
	if op == export.Write {
		return d.run(initiator.Command{CDB: rw16(write16, uint64(first), int(end-first), fua), Out: data})
	}
	const most = 1 << 17
	for ; first < end; first += most {
		n := min(most, end-first)
		var c initiator.Command
		if op == export.Trim {
			list := make([]byte, 24)
			be.PutUint16(list, 22)
			be.PutUint16(list[2:], 16)
			be.PutUint64(list[8:], uint64(first))
			be.PutUint32(list[16:], uint32(n))
			c = initiator.Command{CDB: []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, Out: list}
		} else {
			c = initiator.Command{CDB: rw16(0x93, uint64(first), int(n), false)}
			c.CDB[1] = 1 // NDOB
		}
		if err := d.run(c); err != nil {
			return err
		}
	}
	if fua {
		return d.run(syncCmd())
	}
	return nil
}

// run runs a command on the next connection, again after a unit attention.
func (d *seenDisk) run(c initiator.Command) error {
	for {
		r, err := d.s.DoOn(int(d.next.Add(1))%d.v.conns, c)
		if err != nil {
			return err
		}
		key, code := r.SenseKey()
		switch {
		case r.Status == 0:
			return nil
		case key == 6:
		case key == 7:
			return holdfast.Errorf(holdfast.Denied, "data protect, code %04x", code)
		default:
			return holdfast.Errorf(holdfast.IO, "status %#x, sense key %x, code %04x", r.Status, key, code)
		}
	}
}

// Extents asks GET LBA STATUS.
func (d *seenDisk) Extents(off, n int64, most int) ([]export.Extent, error) {
	bs := d.v.block
	cdb := make([]byte, 16)
	cdb[0], cdb[1] = 0x9e, 0x12
	be.PutUint64(cdb[2:], uint64(off/bs))
	b := make([]byte, 8+16*1024)
	be.PutUint32(cdb[10:], uint32(len(b)))
	if err := d.run(initiator.Command{CDB: cdb, In: b}); err != nil {
		return nil, err
	}
	var out []export.Extent
	list := b[8 : 4+be.Uint32(b)]
	for pos := off; len(list) > 0 && pos < off+n && len(out) < most; list = list[16:] {
		end := min(off+n, int64(be.Uint64(list)+uint64(be.Uint32(list[8:])))*bs)
		if end > pos {
			out = append(out, export.Extent{Length: end - pos, Hole: list[12] == 1})
			pos = end
		}
	}
	return out, nil
}
