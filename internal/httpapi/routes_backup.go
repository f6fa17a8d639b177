package httpapi

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// Backups is about backups, as streams of the format of their files
// (docs/format/backup.md). They are not sealed on their way.
type Backups interface {
	// BackupVolume lays a snapshot out, on the host that writes the volume. out
	// fails if ctx ends, and is to be closed. NotFound if a snapshot is not there.
	BackupVolume(ctx context.Context, id holdfast.VolumeID, b BackupAsk) (out io.ReadCloser, err error)
	// RestoreVolume makes a volume of a chain of backups, the first of which was
	// begun to be read. What fails leaves no volume. Invalid: it is no chain, or
	// goes on behind its end. Corrupt: it is damaged or not whole.
	RestoreVolume(ctx context.Context, n NewRestore, r *backup.Reader) (cluster.Volume, error)
	// BackupCluster lays the records of the control plane out, of one revision.
	BackupCluster(ctx context.Context) (out io.ReadCloser, err error)
}

// BackupAsk says what is to be backed up: what Snapshot holds and Base does not,
// from block Addr on. Base zero: all that Snapshot holds.
type BackupAsk struct {
	Task           string // its name as a task; "": one is found
	Snapshot, Base cluster.Snapshot
	Addr           uint64
}

// NewRestore is a volume to be made of a backup.
type NewRestore struct {
	Task        string // its name as a task; "": one is found
	Name        string
	Blocks      uint64
	Copies      int // 0: default
	Pool        holdfast.PoolID
	Durability  cluster.Durability
	Reads       cluster.Reads
	Encrypt     bool
	Compression string
	At          func(done, total int64) // told how far it is, in bytes of the backups; nil: nobody is
}

func (s *Server) backupRoutes() {
	type ask struct {
		VolumeRef
		Snapshot string `query:"snapshot" required:"true" maxLength:"63" doc:"What is backed up; name or identity"`
		Base     string `query:"base" maxLength:"63" doc:"Only what it does not hold as this snapshot does; none: all that it holds"`
		TaskName
		Offset int64 `query:"offset" minimum:"0" maximum:"70368744177664" multipleOf:"4096" doc:"Where to begin, in bytes: to go on after an interruption"`
	}
	stream(s, "/v1/volumes/{volume}/backup", "volume-backup", "A snapshot of a volume, or what differs from another one, as a backup that is not sealed",
		func(ctx context.Context, in *ask) (io.ReadCloser, error) {
			v, err := lookup(ctx, s, in.Volume, picture.volume)
			if err != nil {
				return nil, err
			}
			b := BackupAsk{Task: in.Task, Addr: uint64(in.Offset) / holdfast.BlockSize}
			if b.Snapshot, err = snapshot(v, in.Snapshot); err != nil {
				return nil, err
			}
			if in.Base != "" {
				if b.Base, err = snapshot(v, in.Base); err != nil {
					return nil, err
				}
			}
			return s.o.Backend.BackupVolume(ctx, v.ID, b)
		})
	stream(s, "/v1/cluster/backup", "cluster-backup", "The records of the control plane, with the cluster's secrets, as a backup that is not sealed",
		func(ctx context.Context, _ *none) (io.ReadCloser, error) { return s.o.Backend.BackupCluster(ctx) })
	op := s.operation(http.MethodPost, "/v1/restores", "volume-restore", "Make a volume of backups, streamed in the body: a chain, the oldest first, not sealed", 201)
	op.RequestBody = &huma.RequestBody{Required: true, Description: "The backups", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	act(s, op, s.restore)
}

// stream registers an endpoint that answers with a stream, which says itself
// where it ends.
func stream[I any](s *Server, path, id, summary string, open func(ctx context.Context, in *I) (io.ReadCloser, error)) {
	op := s.operation(http.MethodGet, path, id, summary, http.StatusOK)
	op.Responses["200"] = &huma.Response{Description: "The backup; it is whole if its end is there", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		out, err := open(ctx, in)
		if err != nil {
			return nil, fail(err)
		}
		return &huma.StreamResponse{Body: func(answer huma.Context) {
			defer out.Close()
			answer.SetHeader("Content-Type", "application/octet-stream")
			answer.SetStatus(http.StatusOK)
			// What breaks off has no end, so the client knows.
			if _, err := io.Copy(answer.BodyWriter(), out); err != nil && ctx.Err() == nil {
				s.o.Log.Warn("a backup broke off", "path", path, "error", err)
			}
		}}, nil
	})
}

// TaskName is part of the requests of what can be canceled.
type TaskName struct {
	Task string `query:"task" pattern:"^[0-9a-z]{1,32}$" doc:"Its name as a task, by which it can be canceled; none: one is found"`
}

// restoreVolume is the request of a restore: the body is a chain of backups.
type restoreVolume struct {
	Name     string `query:"name" required:"true" maxLength:"63" doc:"Name of the new volume"`
	Size     int64  `query:"size" minimum:"0" maximum:"70368744177664" multipleOf:"4096" doc:"Bytes; none: as the first backup says. Of a volume that grew between backups: as the last one says"`
	Copies   int    `query:"copies" minimum:"0" maximum:"8"`
	Pool     string `query:"pool" maxLength:"63" doc:"Pool whose disks hold it; none: default"`
	Encrypt  string `query:"encrypt" enum:"true,false" doc:"Seal its blocks; none: if the volume was encrypted"`
	Compress string `query:"compress" enum:"off,fast,auto" doc:"none: as the volume was"`
	TaskName
	body io.Reader
	cut  func() // ends the waiting for more of it
}

// Resolve keeps the body to be streamed; huma would read it into memory.
func (i *restoreVolume) Resolve(ctx huma.Context) []error {
	r, w := humachi.Unwrap(ctx)
	i.body, i.cut = r.Body, cutter(w)
	return nil
}

func (s *Server) restore(ctx context.Context, in *restoreVolume) (v1.Volume, error) {
	if err := holdfast.CheckName("volume", in.Name); err != nil {
		return v1.Volume{}, err
	}
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Volume{}, err
	}
	if err := checkCopies("volume "+in.Name, in.Copies, 0); err != nil {
		return v1.Volume{}, err
	}
	pool, err := p.pool(in.Pool)
	if err != nil {
		return v1.Volume{}, err
	}
	r, err := backup.NewReader(uploadedBackup{in.body}, nil)
	if err == io.EOF {
		err = holdfast.Errorf(holdfast.Invalid, "volume %s: there is no backup to restore it from", in.Name)
	}
	if err != nil {
		return v1.Volume{}, err
	}
	h := r.Header()
	switch {
	case h.Kind != backup.Volume:
		return v1.Volume{}, holdfast.Errorf(holdfast.Invalid, "volume %s: this is the backup of a cluster, not of a volume", in.Name)
	case !h.Full():
		return v1.Volume{}, holdfast.Errorf(holdfast.Invalid, "volume %s: the backup is the difference to snapshot %s of volume %s; send what it goes over first", in.Name, h.Base.Name, h.Volume.Name)
	case h.Sealed:
		return v1.Volume{}, holdfast.Errorf(holdfast.Invalid, "volume %s: the backup is sealed; hosts have no identities, so it is unsealed by who sends it", in.Name)
	}
	n := NewRestore{Task: in.Task, Name: in.Name, Blocks: h.Blocks(), Copies: in.Copies, Pool: pool.ID, Durability: cluster.Durability(h.Volume.Durability), Reads: cluster.Reads(h.Volume.Reads),
		Encrypt: h.Volume.Encrypted, Compression: h.Volume.Compress}
	if in.Size > 0 {
		n.Blocks = uint64(in.Size) / holdfast.BlockSize
	}
	if in.Encrypt != "" {
		n.Encrypt = in.Encrypt == "true"
	}
	if in.Compress != "" {
		n.Compression = in.Compress
	}
	var v cluster.Volume
	err = s.tracked(ctx, task.Task{Kind: "restore", Subject: in.Name, Detail: "of volume " + h.Volume.Name}, func(ctx context.Context, w *task.Work) error {
		defer context.AfterFunc(ctx, in.cut)()
		if w != nil {
			n.At = func(done, total int64) { w.At(part(done, total), done, total) }
		}
		v, err = s.o.Backend.RestoreVolume(ctx, n, r)
		return err
	})
	if err != nil {
		return v1.Volume{}, err
	}
	return s.volumeAnswer(ctx, v)
}

// uploadedBackup gives a body's early end its name.
type uploadedBackup struct{ r io.Reader }

func (u uploadedBackup) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if err != nil && err != io.EOF {
		err = holdfast.Errorf(holdfast.Invalid, "the backup was cut short while it was sent: %w; restore it again", err)
	}
	return n, err
}
