package apitest

import (
	"bytes"
	"context"
	"io"
	"reflect"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
)

// BackupVolume implements httpapi.Backend: what a volume holds is Content, at
// every snapshot; nothing differs from one to another.
func (b *Backend) BackupVolume(_ context.Context, id holdfast.VolumeID, ask httpapi.BackupAsk) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rec := b.St.Volumes[id].Val
	h := backup.Header{Kind: backup.Volume, ID: b.id().String(), Created: ask.Snapshot.Created, Cluster: backup.ClusterRef{Name: "test"},
		Volume: &backup.VolumeRef{ID: id.String(), Name: rec.Name, Size: int64(rec.Blocks) * holdfast.BlockSize,
			Durability: string(rec.Durability), Reads: string(rec.Reads), Encrypted: rec.Encrypted()},
		Snapshot: &backup.PointRef{ID: ask.Snapshot.ID.String(), Name: ask.Snapshot.Name, LSN: ask.Snapshot.LSN.String()}}
	data := b.Content[id]
	if !ask.Base.ID.IsZero() {
		h.Base, data = &backup.PointRef{ID: ask.Base.ID.String(), Name: ask.Base.Name, LSN: ask.Base.LSN.String()}, nil
	}
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, h, nil)
	for at := int64(ask.Addr) * holdfast.BlockSize; err == nil && at < int64(len(data)); at += backup.ChunkData {
		chunk := bytes.Clone(data[at:min(at+backup.ChunkData, int64(len(data)))])
		chunk = append(chunk, make([]byte, -len(chunk)&(holdfast.BlockSize-1))...)
		var p backup.Part
		p, err = backup.Pack([]backup.Extent{{Addr: uint64(at) / holdfast.BlockSize, Blocks: uint64(len(chunk)) / holdfast.BlockSize}}, chunk, nil)
		if err == nil {
			err = w.Put(p)
		}
	}
	if err == nil {
		err = w.Close()
	}
	return io.NopCloser(&out), err
}

// RestoreVolume implements httpapi.Backend.
func (b *Backend) RestoreVolume(_ context.Context, n httpapi.NewRestore, r *backup.Reader) (rec cluster.Volume, err error) {
	data := make([]byte, n.Blocks*holdfast.BlockSize)
	for err == nil {
		var p backup.Part
		for err == nil {
			if p, err = r.Next(); err != nil {
				break
			}
			var from []byte
			from, err = p.Unpack(nil)
			for _, e := range p.Extents {
				to := data[e.Addr*holdfast.BlockSize : e.End()*holdfast.BlockSize]
				if e.Zero {
					clear(to)
				} else {
					from = from[copy(to, from):]
				}
			}
		}
		if err == io.EOF {
			r, err = backup.NewReader(r.After(), nil)
		}
	}
	if err != io.EOF {
		return rec, err
	}
	err = b.change(func() (err error) {
		rec, err = b.newVolume(httpapi.NewVolume{Name: n.Name, Blocks: n.Blocks, Copies: n.Copies, Durability: n.Durability, Reads: n.Reads, Pool: n.Pool, Compression: n.Compression})
		b.Content[rec.ID] = data
		return err
	})
	return rec, err
}

// BackupCluster implements httpapi.Backend.
func (b *Backend) BackupCluster(context.Context) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{Kind: backup.Cluster, ID: b.id().String(), Created: epoch0(), Revision: 7}, nil)
	for _, p := range backup.PackRecords([]backup.Record{{Key: "cluster", Value: []byte(`{"name":"test"}`)}}) {
		if err == nil {
			err = w.Put(p)
		}
	}
	if err == nil {
		err = w.Close()
	}
	return io.NopCloser(&out), err
}

// CreateSchedule implements httpapi.Backend.
func (b *Backend) CreateSchedule(_ context.Context, s cluster.BackupSchedule) error {
	return b.change(func() error {
		if _, ok := b.St.Schedules[s.Name]; ok {
			return holdfast.Errorf(holdfast.Exists, "there is a backup schedule %s; choose another name, or delete that first", s.Name)
		}
		s.Created = epoch0()
		put(b, b.St.Schedules, s.Name, s)
		return nil
	})
}

// SetSchedule implements httpapi.Backend.
func (b *Backend) SetSchedule(_ context.Context, was, s cluster.BackupSchedule) error {
	return b.change(func() error {
		is, ok := b.St.Schedules[s.Name]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "there is no backup schedule %s", s.Name)
		}
		same := is.Val
		if same.Choose(was); !reflect.DeepEqual(same, is.Val) {
			return holdfast.Errorf(holdfast.Conflict, "somebody else changed backup schedule %s meanwhile", s.Name)
		}
		is.Val.Choose(s)
		put(b, b.St.Schedules, s.Name, is.Val)
		return nil
	})
}

// DeleteSchedule implements httpapi.Backend.
func (b *Backend) DeleteSchedule(_ context.Context, name string) error {
	return b.change(func() error {
		delete(b.St.Schedules, name)
		return nil
	})
}

// AskSchedule implements httpapi.Backend: it is run at once, and goes well.
func (b *Backend) AskSchedule(_ context.Context, name string) error {
	return b.change(func() error {
		s := b.St.Schedules[name].Val
		s.Began, s.Ended, s.Good = epoch0(), epoch0(), epoch0()
		put(b, b.St.Schedules, name, s)
		return nil
	})
}
