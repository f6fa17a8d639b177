package volume

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/disk/ramdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport/tcp"
)

// BenchmarkWrite measures 4 KiB random writes of a volume with one and with
// two replicas, both on this computer, over real disks and TLS connections.
func BenchmarkWrite(b *testing.B) {
	for _, copies := range []int{1, 2} {
		for _, depth := range []int{1, 32} {
			b.Run(fmt.Sprintf("copies=%d/depth=%d", copies, depth), func(b *testing.B) {
				v := openReal(b, copies)
				b.SetBytes(holdfast.BlockSize)
				b.ReportAllocs()
				drive(b, v, depth, export.Write)
			})
		}
	}
}

// BenchmarkStream measures a stream of 1 MiB writes, eight at once and a flush
// after every 256, of data of which half is random: as it is, and compressed and
// encrypted.
func BenchmarkStream(b *testing.B) {
	const size, depth = 1 << 20, 8
	data := make([]byte, size)
	for at := 0; at < size; at += holdfast.BlockSize {
		rand.Read(data[at : at+holdfast.BlockSize/2])
	}
	for _, c := range []struct {
		name, compression string
		encrypted         bool
	}{{"off", "", false}, {"compressed", "auto", false}, {"encrypted", "", true}, {"both", "auto", true}} {
		b.Run(c.name, func(b *testing.B) {
			v := openSealed(b, 1, c.compression, c.encrypted)
			b.SetBytes(size)
			b.ReportAllocs()
			for i := 0; i < b.N; i += depth {
				done := make(chan error, depth)
				for k := range depth {
					v.submit(&export.Request{Op: export.Write, Off: int64((i+k)%256) * size, Length: size, Data: data, Done: func(_ *export.Request, err error) { done <- err }})
				}
				for range depth {
					check(b, <-done)
				}
				if (i+depth)%256 == 0 {
					check(b, v.Flush())
				}
			}
			check(b, v.Flush())
		})
	}
}

// BenchmarkWriteFlush measures pairs of a write and a flush.
func BenchmarkWriteFlush(b *testing.B) {
	for _, copies := range []int{1, 2} {
		b.Run(fmt.Sprintf("copies=%d", copies), func(b *testing.B) {
			v := openReal(b, copies)
			data := make([]byte, holdfast.BlockSize)
			for i := range b.N {
				if err := v.do(export.Request{Op: export.Write, Off: int64(i*7919%(1<<16)) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: data}); err != nil {
					b.Fatal(err)
				}
				if err := v.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead measures 4 KiB random reads: of a file, from the system's cache,
// and of a disk in memory, whose reads are told to the governor.
func BenchmarkRead(b *testing.B) {
	b.Run("file", func(b *testing.B) { reads(b, openReal(b, 1)) })
	b.Run("memory", func(b *testing.B) {
		reads(b, openOn(b, 1, "", false, func(b *testing.B, _ string) disk.Device {
			mem, err := ramdisk.New(1 << 30)
			check(b, err)
			b.Cleanup(func() { check(b, mem.Free()) })
			dev, err := mem.Open()
			check(b, err)
			return dev
		}))
	})
}

func reads(b *testing.B, v *Volume) {
	buf := make([]byte, 1<<20)
	for off := int64(0); off < 256<<20; off += 1 << 20 {
		rand.Read(buf[:4096])
		if err := v.do(export.Request{Op: export.Write, Off: off, Length: 1 << 20, Data: buf}); err != nil {
			b.Fatal(err)
		}
	}
	v.Flush()
	b.SetBytes(holdfast.BlockSize)
	b.ReportAllocs()
	b.ResetTimer()
	drive(b, v, 1, export.Read)
}

// drive keeps depth requests under way, submitting the next from the
// completion of the last, as an export does.
func drive(b *testing.B, v *Volume, depth int, op export.Op) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := clock.System{}.NewEvent()
	var busy atomic.Int64
	busy.Store(int64(depth))
	b.ResetTimer()
	for k := range depth {
		r := &export.Request{Op: op, Length: holdfast.BlockSize, Data: make([]byte, holdfast.BlockSize)}
		at := int64(k) * 104729
		next := make(chan struct{}, 1)
		r.Done = func(_ *export.Request, err error) {
			if err != nil {
				b.Error(err)
			}
			next <- struct{}{}
		}
		go func() {
			for left.Add(-1) >= 0 {
				at += 7919
				r.Off = at % (1 << 16) * holdfast.BlockSize
				v.submit(r)
				<-next
			}
			if busy.Add(-1) == 0 {
				done.Set()
			}
		}()
	}
	done.Wait(clock.Forever)
}

// realRecords is one volume's record in memory.
type realRecords struct{ v cluster.Volume }

func (r *realRecords) ReadVolume(holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	return r.v, 1, nil
}
func (r *realRecords) CommitVolume(v cluster.Volume, _ kv.Rev) (kv.Rev, error) {
	r.v = v
	return 1, nil
}
func (r *realRecords) ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	return r.CommitVolume(v, mod)
}
func (r *realRecords) Alive(holdfast.HostID) bool { return true }

func (r *realRecords) Uses(cluster.Replica) bool { return true }

// openReal opens a volume with its replicas on as many hosts in this process.
func openReal(b *testing.B, copies int) *Volume { return openSealed(b, copies, "", false) }

// openSealed is openReal of a volume that is compressed or encrypted.
func openSealed(b *testing.B, copies int, compression string, encrypted bool) *Volume {
	return openOn(b, copies, compression, encrypted, fileDevice)
}

func openOn(b *testing.B, copies int, compression string, encrypted bool, device func(*testing.B, string) disk.Device) *Volume {
	ca, err := auth.NewCA(holdfast.ClusterID{UUID: id(b)})
	check(b, err)
	dir := b.TempDir()
	recs := &realRecords{v: cluster.Volume{ID: holdfast.VolumeID{UUID: id(b)}, Name: "bench", Blocks: 1 << 16, Copies: copies, Min: 1, Compression: compression}}
	addrs := make(map[holdfast.HostID]string)
	var services []*Service
	for i := range copies {
		host := holdfast.HostID{UUID: id(b)}
		ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: id(b)}, Host: host, Disk: holdfast.DiskID{UUID: id(b)}}
		recs.v.InSync = append(recs.v.InSync, ref)
		st := realStore(b, device(b, filepath.Join(dir, fmt.Sprint("disk", i))), ref)
		creds := realCredentials(b, ca, host)
		n := tcp.New(tcp.Config{Self: host, Listen: "127.0.0.1:0", Server: auth.ServerTLS(creds, nil), Client: auth.ClientTLS(creds, nil),
			Directory: func(h holdfast.HostID) (string, bool) { a, ok := addrs[h]; return a, ok }, Log: slog.New(slog.DiscardHandler)})
		s := New(Config{Self: host, Boot: holdfast.BootID{UUID: id(b)}, Clock: clock.System{}, Rand: rand.Reader, Net: n, Records: recs, Log: slog.New(slog.DiscardHandler)})
		if encrypted {
			s.Keys = func(rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) {
				return map[holdfast.VolumeID]keyring.Key{rec.ID: {1, 2, 3}}, nil
			}
		}
		s.AddStore(st)
		check(b, n.Start())
		addrs[host] = n.Addr().String()
		services = append(services, s)
		b.Cleanup(func() { s.Close(); n.Close(); st.Close() })
	}
	for _, ref := range recs.v.InSync {
		check(b, services[0].CreateReplica(ref, recs.v.ID, recs.v.Blocks, holdfast.ReplicaID{}, cluster.Snapshot{}))
	}
	v, err := services[0].Open(recs.v.ID)
	check(b, err)
	return v
}

func fileDevice(b *testing.B, path string) disk.Device {
	check(b, filedisk.Create(path, 4<<30))
	dev, err := filedisk.Open(path, filedisk.Options{})
	check(b, err)
	return dev
}

func realStore(b *testing.B, dev disk.Device, ref cluster.Replica) *store.Store {
	o := store.Options{Clock: clock.System{}, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}
	check(b, store.Format(dev, store.Identity{Disk: ref.Disk, Host: ref.Host}, o))
	st, err := store.Open(dev, o)
	check(b, err)
	b.Cleanup(func() { dev.Close() })
	return st
}

func realCredentials(b *testing.B, ca *auth.CA, host holdfast.HostID) auth.Credentials {
	key, err := auth.NewKey()
	check(b, err)
	csr, err := auth.CSR(key)
	check(b, err)
	cert, err := ca.SignHost(csr, host, []string{"127.0.0.1"})
	check(b, err)
	return auth.Credentials{CA: ca.Cert, Cert: cert, Key: key}
}

func id(b *testing.B) holdfast.UUID {
	u, err := holdfast.NewUUID(rand.Reader)
	check(b, err)
	return u
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
