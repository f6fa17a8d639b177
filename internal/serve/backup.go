package serve

import (
	"context"
	"crypto/rand"
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Bounds of what a backup has in its hands.
const (
	backupAhead   = 6    // chunks that are read, compressed or written at a time
	chunkExtents  = 2048 // that are gathered in a chunk
	chunkBlocks   = backup.ChunkData / holdfast.BlockSize
	maxZeroBlocks = 1 << 16 // of one request to zero, when a backup is restored
)

// BackupVolume implements httpapi.Backups.
func (h *Host) BackupVolume(ctx context.Context, id holdfast.VolumeID, b httpapi.BackupAsk) (out io.ReadCloser, err error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	err = h.onWriter(m, id, func() error {
		out, err = h.backupHere(ctx, m, id, b)
		return err
	}, func(peer *client.Client) error {
		ask := client.BackupAsk{Task: b.Task, Snapshot: b.Snapshot.ID.String(), Offset: int64(b.Addr) * holdfast.BlockSize}
		if !b.Base.ID.IsZero() {
			ask.Base = b.Base.ID.String()
		}
		out, err = peer.BackupVolume(ctx, id.String(), ask)
		return err
	})
	return out, err
}

// backupHere begins to lay a snapshot out of a volume that is written here.
func (h *Host) backupHere(ctx context.Context, m *member, id holdfast.VolumeID, ask httpapi.BackupAsk) (io.ReadCloser, error) {
	v, err := m.node.Volumes.Open(id)
	if err != nil {
		return nil, err
	}
	disk, err := v.Session(true) // so that it stays open here
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	r, w := io.Pipe()
	x, err := h.beginTask(m, ask.Task, "backup", id, stop)
	if err != nil {
		stop()
		disk.Close()
		return nil, err
	}
	o := &backingUp{ctx: ctx, task: x, over: func() { h.endTask(m, x) }, v: v, ask: ask, disk: disk, stop: stop, PipeReader: r, ended: make(chan struct{})}
	o.spare.New = func() any {
		return &chunkBuffers{data: make([]byte, backup.ChunkData), packed: make([]byte, backup.PackedLen(backup.ChunkData))}
	}
	header, err := o.header(m.node.Cluster.State())
	if err != nil {
		stop()
		disk.Close()
		o.over()
		return nil, err
	}
	x.total.Store(header.Expect)
	go func() {
		defer close(o.ended)
		w.CloseWithError(o.run(w, header))
	}()
	return o, nil
}

// backingUp is a snapshot on its way out.
type backingUp struct {
	*io.PipeReader
	ctx   context.Context
	stop  func()
	task  *task
	over  func()
	v     *volume.Volume
	ask   httpapi.BackupAsk
	disk  export.Disk
	ended chan struct{} // closed when nothing is read of the volume any more
	spare sync.Pool     // of *chunkBuffers
}

type chunkBuffers struct{ data, packed []byte }

// Close ends it.
func (o *backingUp) Close() error {
	o.stop()
	o.PipeReader.Close()
	<-o.ended
	o.disk.Close()
	o.over()
	return nil
}

// base is what the snapshot is compared with.
func (o *backingUp) base() replica.RootRef {
	if o.ask.Base.ID.IsZero() {
		return replica.RootRef{Nothing: true}
	}
	return replica.RootRef{Snapshot: o.ask.Base.ID}
}

// extents calls f with what differs, in order. Block maps are compared, nothing
// is read.
func (o *backingUp) extents(f func(replica.Extent) error) (size uint64, err error) {
	for at := o.ask.Addr; ; {
		if err := o.ctx.Err(); err != nil {
			return 0, err
		}
		d, err := o.v.Diff(o.base(), replica.RootRef{Snapshot: o.ask.Snapshot.ID}, at, replica.MaxExtents)
		if err != nil {
			return 0, err
		}
		for _, e := range d.Extents {
			if e.Hole && o.ask.Base.ID.IsZero() {
				continue // zero is what is not named
			}
			if err := f(e); err != nil {
				return 0, err
			}
		}
		if d.Next >= d.Size {
			return d.Size, nil
		}
		at = d.Next
	}
}

// header describes the backup, after a first look at what there is to do.
func (o *backingUp) header(st *cluster.State) (h backup.Header, err error) {
	size, err := o.extents(func(e replica.Extent) error {
		if !e.Hole {
			h.Expect += int64(e.Blocks) * holdfast.BlockSize
		}
		return nil
	})
	if err != nil {
		return h, err
	}
	id, err := holdfast.NewUUID(rand.Reader)
	if err != nil {
		return h, err
	}
	rec := o.v.Record()
	h.Kind, h.ID, h.Created = backup.Volume, id.String(), o.ask.Snapshot.Created
	h.Cluster = backup.ClusterRef{ID: st.Cluster.ID.String(), Name: st.Cluster.Name}
	h.Volume = &backup.VolumeRef{ID: rec.ID.String(), Name: rec.Name, Size: int64(size) * holdfast.BlockSize, Copies: rec.Copies,
		Pool: st.PoolName(rec.Pool), Durability: string(rec.Durability), Reads: string(rec.Reads), Compress: rec.Compression, Encrypted: rec.Encrypted()}
	h.Snapshot = pointOf(o.ask.Snapshot)
	if !o.ask.Base.ID.IsZero() {
		h.Base = pointOf(o.ask.Base)
	}
	return h, nil
}

func pointOf(s cluster.Snapshot) *backup.PointRef {
	return &backup.PointRef{ID: s.ID.String(), Name: s.Name, LSN: s.LSN.String()}
}

// packed is a chunk that is ready to be written.
type packed struct {
	part backup.Part
	buf  *chunkBuffers
	err  error
}

// run writes the backup. Several chunks are read and compressed at a time, and
// written in their order.
func (o *backingUp) run(w io.Writer, h backup.Header) error {
	out, err := backup.NewWriter(w, h, nil)
	if err != nil {
		return err
	}
	order := make(chan chan packed, backupAhead)
	planned := make(chan error, 1)
	go func() {
		defer close(order)
		planned <- o.plan(order)
	}()
	for ch := range order {
		p := <-ch
		if err == nil {
			err = p.err
		}
		if err == nil {
			err = out.Put(p.part)
			o.task.done.Add(int64(p.part.Size()))
		}
		if err != nil {
			o.stop() // and wait for what is under way
		}
		o.spare.Put(p.buf)
	}
	if perr := <-planned; err == nil {
		err = perr
	}
	if err != nil {
		return err
	}
	return out.Close()
}

// plan gathers what differs into chunks, and has them read.
func (o *backingUp) plan(order chan<- chan packed) error {
	var list []replica.Extent
	blocks := uint64(0)
	emit := func() {
		if len(list) == 0 {
			return
		}
		ch := make(chan packed, 1)
		order <- ch
		go func(list []replica.Extent) { ch <- o.read(list) }(list)
		list, blocks = nil, 0
	}
	_, err := o.extents(func(e replica.Extent) error {
		for e.Blocks > 0 {
			part := e
			if !e.Hole {
				part.Blocks = min(e.Blocks, chunkBlocks-blocks)
				blocks += part.Blocks
			}
			list = append(list, part)
			e.Addr, e.Blocks = e.Addr+part.Blocks, e.Blocks-part.Blocks
			if blocks == chunkBlocks || len(list) == chunkExtents {
				emit()
			}
		}
		return o.ctx.Err()
	})
	if err == nil {
		emit()
	}
	return err
}

// read makes a chunk.
func (o *backingUp) read(list []replica.Extent) (p packed) {
	p.buf = o.spare.Get().(*chunkBuffers)
	extents := make([]backup.Extent, 0, len(list))
	n := 0
	for _, e := range list {
		extents = append(extents, backup.Extent{Addr: e.Addr, Blocks: e.Blocks, Zero: e.Hole})
		if e.Hole {
			continue
		}
		if p.err = o.ctx.Err(); p.err != nil {
			return p
		}
		to := p.buf.data[n : n+int(e.Blocks)*holdfast.BlockSize]
		if p.err = o.v.ReadSnapshot(o.ask.Snapshot.ID, to, e.Addr); p.err != nil {
			return p
		}
		n += len(to)
	}
	p.part, p.err = backup.Pack(extents, p.buf.data[:n], p.buf.packed)
	return p
}

// BackupCluster implements httpapi.Backups.
func (h *Host) BackupCluster(ctx context.Context) (io.ReadCloser, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	items, rev, err := m.node.Cluster.Dump()
	if err != nil {
		return nil, err
	}
	id, err := holdfast.NewUUID(rand.Reader)
	if err != nil {
		return nil, err
	}
	st := m.node.Cluster.State()
	head := backup.Header{Kind: backup.Cluster, ID: id.String(), Created: time.Now(), Revision: int64(rev),
		Cluster: backup.ClusterRef{ID: st.Cluster.ID.String(), Name: st.Cluster.Name}}
	var list []backup.Record
	for _, i := range items {
		list = append(list, backup.Record{Key: i.Key, Value: i.Value})
		head.Expect += int64(len(i.Key) + len(i.Value))
	}
	r, w := io.Pipe()
	go func() {
		out, err := backup.NewWriter(w, head, nil)
		for _, p := range backup.PackRecords(list) {
			if err == nil {
				err = out.Put(p)
			}
		}
		if err == nil {
			err = out.Close()
		}
		w.CloseWithError(err)
	}()
	return r, nil
}
