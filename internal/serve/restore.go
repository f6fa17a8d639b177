package serve

import (
	"context"
	"io"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// restoreWriters is how many chunks are written at a time.
const restoreWriters = 4

// RestoreVolume implements httpapi.Backups. Until all is written and on disk the
// volume is an image that is being imported: nobody can use it, and if this host
// dies it is deleted. So a restore is never half done, and is begun anew.
func (h *Host) RestoreVolume(ctx context.Context, n httpapi.NewRestore, r *backup.Reader) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	rec, err := m.node.Make.CreateVolume(provision.VolumeSpec{Name: n.Name, Blocks: n.Blocks, Copies: n.Copies, Pool: n.Pool,
		Durability: n.Durability, Reads: n.Reads, Image: true, Encrypt: n.Encrypt, Compression: n.Compression})
	if err != nil {
		return rec, err
	}
	defer h.imports.Delete(rec.ID)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	x, err := h.beginTask(m, n.Task, "restore", rec.ID, stop)
	if err == nil {
		err = h.fillRestored(ctx, m, rec, r, x, n.At)
		h.endTask(m, x)
		if err != nil && h.streams.wasCanceled(x.id) {
			err = errCanceled(x.id)
		}
	}
	if err == nil {
		rec, err = m.node.Make.Restored(rec.ID)
	}
	if err != nil {
		if derr := m.node.Make.DeleteVolume(rec.ID, false); derr != nil {
			h.log.Warn("a half-restored volume could not be deleted; it is deleted when this host starts again", "volume", rec.Name, "error", derr)
		}
		return rec, err
	}
	return rec, nil
}

// fillRestored lays a chain of backups over each other in a volume.
func (h *Host) fillRestored(ctx context.Context, m *member, rec cluster.Volume, r *backup.Reader, x *task, at func(done, total int64)) error {
	v, err := m.node.Volumes.Open(rec.ID)
	if err != nil {
		return err
	}
	defer v.Close()
	disk, err := v.Session(false)
	if err != nil {
		return err
	}
	defer disk.Close()
	re := &restoring{ctx: ctx, disk: disk, blocks: uint64(disk.Size()) / holdfast.BlockSize,
		progress: func(done, total int64) {
			h.imports.Store(rec.ID, image.Progress{Done: done, Total: total})
			x.done.Store(done)
			x.total.Store(total)
			if at != nil {
				at(done, total)
			}
		}}
	return re.chain(r)
}

// restoring is a volume on its way in.
type restoring struct {
	ctx      context.Context
	disk     export.Disk
	blocks   uint64 // of the volume
	done     int64  // bytes that were handed out to be written
	total    int64  // of the backups that were begun
	progress func(done, total int64)
}

// chain lays a chain of backups over each other, the first of which was begun to
// be read, until all is on disk.
func (re *restoring) chain(r *backup.Reader) error {
	for {
		if err := re.lay(r); err != nil {
			return err
		}
		before := r.Header()
		var err error
		if r, err = backup.NewReader(r.After(), nil); err == io.EOF {
			return re.end(&before)
		}
		if err != nil {
			return err
		}
		after := r.Header()
		switch {
		case after.Sealed:
			return holdfast.Errorf(holdfast.Invalid, "a backup of the chain is sealed")
		case after.Kind != backup.Volume || after.Base == nil || after.Volume.ID != before.Volume.ID || after.Base.ID != before.Snapshot.ID:
			return holdfast.Errorf(holdfast.Invalid, "the backups are no chain: what was sent after that of %s (snapshot %s) does not go over it", before.Created.UTC().Format("2006-01-02 15:04:05"), before.Snapshot.Name)
		}
		if err := re.shrink(before.Blocks(), after.Blocks()); err != nil {
			return err
		}
	}
}

// end makes it last, if the volume holds all of the last backup, h: what was
// behind the volume's end was passed over.
func (re *restoring) end(h *backup.Header) error {
	if h.Blocks() > re.blocks {
		return holdfast.Errorf(holdfast.Invalid, "the last backup is of a volume of %d bytes, and this one has %d: give that size with --size %[1]d", h.Volume.Size, re.disk.Size())
	}
	return do(re.disk, export.Request{Op: export.Flush})
}

// shrink has what a volume lost, when it was reverted to before it grew, read as
// zero: what comes later does not name it.
func (re *restoring) shrink(from, to uint64) error {
	if to >= from {
		return nil
	}
	return re.zero(to, from-to)
}

// lay writes one backup. Its chunks touch different blocks, so several are
// written at a time; all are when it returns.
func (re *restoring) lay(r *backup.Reader) (err error) {
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	ctx, stop := context.WithCancel(re.ctx)
	defer stop()
	fail := func(err error) { once.Do(func() { failed = err; stop() }) }
	parts := make(chan backup.Part)
	for range restoreWriters {
		wg.Go(func() {
			var buf []byte
			for p := range parts {
				var err error
				if buf, err = re.write(p, buf); err != nil {
					fail(err)
				}
			}
		})
	}
	re.total += r.Header().Expect
	for err == nil {
		var p backup.Part
		if p, err = r.Next(); err != nil {
			break
		}
		select {
		case parts <- p.Clone():
		case <-ctx.Done():
			err = ctx.Err()
		}
		re.done += int64(p.Size())
		re.progress(re.done, re.total)
	}
	close(parts)
	wg.Wait()
	switch {
	case failed != nil:
		return failed
	case err == io.EOF:
		return nil
	}
	return err
}

// write lays one chunk over what is there.
func (re *restoring) write(p backup.Part, buf []byte) ([]byte, error) {
	data, err := p.Unpack(buf)
	if err != nil {
		return buf, err
	}
	if cap(data) > cap(buf) {
		buf = data
	}
	for _, e := range p.Extents {
		if e.Zero {
			err = re.zero(e.Addr, e.Blocks)
		} else {
			n := int(e.Blocks) * holdfast.BlockSize
			here := data[:min(n, int(min(e.End(), re.blocks)-min(e.Addr, re.blocks))*holdfast.BlockSize)]
			data = data[n:]
			if len(here) > 0 {
				err = do(re.disk, export.Request{Op: export.Write, Off: int64(e.Addr) * holdfast.BlockSize, Length: int64(len(here)), Data: here})
			}
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// zero has blocks read as zero, as far as the volume goes.
func (re *restoring) zero(addr, blocks uint64) error {
	for end := min(addr+blocks, re.blocks); addr < end; {
		n := min(end-addr, maxZeroBlocks)
		err := do(re.disk, export.Request{Op: export.Zero, Off: int64(addr) * holdfast.BlockSize, Length: int64(n) * holdfast.BlockSize})
		if err != nil {
			return err
		}
		addr += n
	}
	return nil
}
