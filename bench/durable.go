package main

import (
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

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

// durable is a volume of one copy in this process, used at its own interface:
// what group commit gives without a protocol in front.
type durable struct {
	disk export.Disk
	end  []func()
}

const (
	durableWriters = 64
	durableBlocks  = 64 << 10 // 256 MiB
)

// volumeRecord is the volume's record, in memory.
type volumeRecord struct {
	mu sync.Mutex
	v  cluster.Volume
}

func (r *volumeRecord) ReadVolume(holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.v, 1, nil
}

func (r *volumeRecord) CommitVolume(v cluster.Volume, _ kv.Rev) (kv.Rev, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.v = v
	return 1, nil
}

func (r *volumeRecord) ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	return r.CommitVolume(v, mod)
}

func (r *volumeRecord) Alive(holdfast.HostID) bool { return true }

func startDurable(dir string) (*candidate, error) {
	d := &durable{}
	c := &candidate{name: "Holdfast, in this process", base: rawDisk, durable: d,
		goals: map[string]goal{"durable write, 64": {0, 8}}}
	return c, d.open(filepath.Join(dir, "durable"))
}

func (d *durable) open(path string) error {
	var ids [4]holdfast.UUID
	for i := range ids {
		var err error
		if ids[i], err = holdfast.NewUUID(rand.Reader); err != nil {
			return err
		}
	}
	host, disk := holdfast.HostID{UUID: ids[0]}, holdfast.DiskID{UUID: ids[1]}
	ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: ids[2]}, Host: host, Disk: disk}
	rec := &volumeRecord{v: cluster.Volume{ID: holdfast.VolumeID{UUID: ids[3]}, Name: "durable", Blocks: durableBlocks, Copies: 1, Min: 1, InSync: []cluster.Replica{ref}}}
	st, err := d.store(path, store.Identity{Disk: disk, Host: host})
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	net := tcp.New(tcp.Config{Self: host, Directory: func(holdfast.HostID) (string, bool) { return "", false }, Log: quiet})
	s := volume.New(volume.Config{Self: host, Boot: holdfast.BootID{UUID: ids[0]}, Clock: clock.System{}, Rand: rand.Reader, Net: net, Records: rec, Log: quiet})
	if err := net.Start(); err != nil {
		return err
	}
	d.end = append(d.end, func() { net.Close() }, s.Close)
	s.AddStore(st)
	if err := s.CreateReplica(ref, rec.v.ID, durableBlocks, holdfast.ReplicaID{}, holdfast.SnapshotID{}); err != nil {
		return err
	}
	if d.disk, err = s.Target(rec.v).Open(false); err != nil {
		return err
	}
	d.end = append(d.end, d.disk.Close)
	return nil
}

func (d *durable) store(path string, id store.Identity) (*store.Store, error) {
	if err := filedisk.Create(path, 4<<30); err != nil {
		return nil, err
	}
	dev, err := filedisk.Open(path, filedisk.Options{})
	if err != nil {
		return nil, err
	}
	d.end = append(d.end, func() { dev.Close(); os.Remove(path) })
	o := store.Options{Clock: clock.System{}, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	if err := store.Format(dev, id, o); err != nil {
		return nil, err
	}
	st, err := store.Open(dev, o)
	if err == nil {
		d.end = append(d.end, func() { st.Close() })
	}
	return st, err
}

func (d *durable) close() {
	for i := len(d.end) - 1; i >= 0; i-- {
		d.end[i]()
	}
	d.end = nil
}

// run lets the writers write single blocks, each durable before its writer's
// next, and returns how many were written per second.
func (d *durable) run(seconds float64) (float64, error) {
	start := time.Now()
	until := start.Add(time.Duration(seconds * float64(time.Second)))
	var written atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for w := range durableWriters {
		all.Go(func() {
			done := make(chan error, 1)
			r := &export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: make([]byte, holdfast.BlockSize), FUA: true,
				Done: func(_ *export.Request, err error) { done <- err }}
			for at := uint64(w); time.Now().Before(until) && failed.Load() == nil; {
				at = at*5 + 12345 + uint64(w)
				r.Off, r.More = int64(at%durableBlocks)*holdfast.BlockSize, false
				d.disk.Submit(r)
				if err := <-done; err != nil {
					failed.Store(&err)
					return
				}
				written.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(written.Load()) / time.Since(start).Seconds(), nil
}
