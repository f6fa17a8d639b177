// Package alone opens a volume of one copy on a file, in this process and
// without a protocol in front: what is measured at the volume's own interface
// uses it.
package alone

import (
	"crypto/rand"
	"log/slog"
	"os"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport/tcp"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Volume is an open volume. Close removes its file.
type Volume struct {
	Disk  export.Disk
	Store *store.Store
	end   []func()

	rec  *record
	host holdfast.HostID
	s    *volume.Service
}

// record is the volume's record, in memory.
type record struct {
	mu  sync.Mutex
	v   cluster.Volume
	rev kv.Rev
}

func (r *record) ReadVolume(holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.v, r.rev, nil
}

func (r *record) CommitVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if mod != r.rev {
		return 0, holdfast.Errorf(holdfast.Conflict, "the record was changed meanwhile")
	}
	r.v = v
	r.rev++
	return r.rev, nil
}

func (r *record) ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	return r.CommitVolume(v, mod)
}

func (r *record) Alive(holdfast.HostID) bool { return true }

// Uses implements volume.Records.
func (r *record) Uses(cluster.Replica) bool { return true }

// Open makes a file of size bytes at path, which must not exist, formats it
// with segments of segment bytes (0: as the store likes) and opens a volume of
// blocks blocks on it.
func Open(path string, size, segment int64, blocks uint64) (*Volume, error) {
	a := &Volume{}
	if err := a.open(path, size, segment, blocks); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Volume) open(path string, size, segment int64, blocks uint64) error {
	var ids [4]holdfast.UUID
	for i := range ids {
		var err error
		if ids[i], err = holdfast.NewUUID(rand.Reader); err != nil {
			return err
		}
	}
	host, disk := holdfast.HostID{UUID: ids[0]}, holdfast.DiskID{UUID: ids[1]}
	ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: ids[2]}, Host: host, Disk: disk}
	rec := &record{rev: 1, v: cluster.Volume{ID: holdfast.VolumeID{UUID: ids[3]}, Name: "alone", Blocks: blocks, Copies: 1, Min: 1, InSync: []cluster.Replica{ref}}}
	var err error
	if a.Store, err = a.openStore(path, size, segment, store.Identity{Disk: disk, Host: host}); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	net := tcp.New(tcp.Config{Self: host, Directory: func(holdfast.HostID) (string, bool) { return "", false }, Log: quiet})
	s := volume.New(volume.Config{Self: host, Boot: holdfast.BootID{UUID: ids[0]}, Clock: clock.System{}, Rand: rand.Reader, Net: net, Records: rec, Log: quiet})
	if err := net.Start(); err != nil {
		return err
	}
	a.end = append(a.end, func() { net.Close() }, s.Close)
	s.AddStore(a.Store)
	if err := s.CreateReplica(ref, rec.v.ID, blocks, holdfast.ReplicaID{}, cluster.Snapshot{}); err != nil {
		return err
	}
	d, err := s.Target(rec.v).Open(false)
	if err != nil {
		return err
	}
	a.Disk, a.rec, a.host, a.s = d, rec, host, s
	a.end = append(a.end, d.Close)
	return nil
}

// AddCopy makes another disk and has a copy of the volume built there. It returns
// at once; see Rebuild.
func (a *Volume) AddCopy(path string, size, segment int64) error {
	var ids [2]holdfast.UUID
	for i := range ids {
		var err error
		if ids[i], err = holdfast.NewUUID(rand.Reader); err != nil {
			return err
		}
	}
	ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: ids[0]}, Host: a.host, Disk: holdfast.DiskID{UUID: ids[1]}}
	end := a.end
	a.end = nil
	st, err := a.openStore(path, size, segment, store.Identity{Disk: ref.Disk, Host: a.host})
	a.end = append(a.end, end...) // the volume is closed before its disks
	if err != nil {
		return err
	}
	a.s.AddStore(st)
	rec, mod, err := a.rec.ReadVolume(holdfast.VolumeID{})
	if err != nil {
		return err
	}
	rec.Copies++
	rec.Others = []cluster.Replica{ref}
	if mod, err = a.rec.CommitVolume(rec, mod); err != nil {
		return err
	}
	a.s.NoteRecord(rec, mod)
	return nil
}

// Rebuild tells how the copy that is being built goes, and how many are in sync.
func (a *Volume) Rebuild() (m volume.Mending, inSync int) {
	rec, _, _ := a.rec.ReadVolume(holdfast.VolumeID{}) // which cannot fail
	if v := a.s.Opened(rec.ID); v != nil {
		m, _ = v.Mending()
	}
	return m, len(rec.InSync)
}

func (a *Volume) openStore(path string, size, segment int64, id store.Identity) (*store.Store, error) {
	if err := filedisk.Create(path, size); err != nil {
		return nil, err
	}
	a.end = append(a.end, func() { os.Remove(path) })
	dev, err := filedisk.Open(path, filedisk.Options{})
	if err != nil {
		return nil, err
	}
	a.end = append(a.end, func() { dev.Close() })
	o := store.Options{Clock: clock.System{}, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), SegmentBytes: segment}
	if err := store.Format(dev, id, o); err != nil {
		return nil, err
	}
	st, err := store.Open(dev, o)
	if err != nil {
		return nil, err
	}
	a.end = append(a.end, func() { st.Close() })
	return st, nil
}

// Close ends everything and removes the file.
func (a *Volume) Close() {
	for i := len(a.end) - 1; i >= 0; i-- {
		a.end[i]()
	}
	a.end = nil
}
