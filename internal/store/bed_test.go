package store

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// bed is a simulated host with one disk, and the store that is open on it.
type bed struct {
	t     testing.TB
	w     *simclock.World
	host  *simclock.Host
	lives int
	d     *memdisk.Disk
	s     *Store
	opts  Options
	lag   memdisk.Options
	real  func() (disk.Device, error) // opens the disk in place of d, if there is another
}

// device opens the disk.
func (b *bed) device() (disk.Device, error) {
	if b.real != nil {
		return b.real()
	}
	return b.d.Open(b.host, b.lag)
}

const (
	testDisk    = 64 << 20
	testSegment = 256 << 10
)

func testIdentity() Identity {
	var id Identity
	id.Cluster.UUID[0], id.Disk.UUID[0], id.Host.UUID[0] = 1, 2, 3
	return id
}

type randReader struct{ *rand.Rand }

func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

var _ io.Reader = randReader{}

// newBed formats a disk and opens it.
func newBed(t testing.TB, seed uint64) *bed {
	return newBedOf(t, seed, testDisk, Options{SegmentBytes: testSegment, CheckpointBytes: 4 << 20}, memdisk.Options{})
}

func newBedOf(t testing.TB, seed uint64, size int64, o Options, lag memdisk.Options) *bed {
	b := &bed{t: t, w: simclock.NewWorld(seed), opts: o, lag: lag}
	b.d = memdisk.New(size, b.w.Rand("disk"))
	b.found()
	return b
}

// found formats the disk and opens it.
func (b *bed) found() {
	b.t.Helper()
	b.boot()
	b.run(func() error {
		dev, err := b.device()
		if err != nil {
			return err
		}
		defer dev.Close()
		return Format(dev, testIdentity(), b.opts)
	})
	b.open()
	b.t.Cleanup(func() { b.w.Close(b.host) })
}

func (b *bed) boot() {
	b.lives++
	b.host = b.w.Host(fmt.Sprint("host", b.lives), simclock.Skew{})
	b.opts.Clock = b.host
	b.opts.Rand = randReader{b.w.Rand(fmt.Sprint("uuids", b.lives))}
}

// try runs f as a task of the host and returns its error.
func (b *bed) try(f func() error) error {
	b.t.Helper()
	done := false
	var err error
	b.host.Go(func() {
		err = f()
		done = true
	})
	if !b.w.RunUntil(func() bool { return done }, b.w.Now()+time.Hour) {
		b.t.Fatalf("the task hangs: %v", b.w)
	}
	return err
}

func (b *bed) run(f func() error) {
	b.t.Helper()
	if err := b.try(f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) open() {
	b.t.Helper()
	if err := b.tryOpen(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) tryOpen() error {
	b.t.Helper()
	return b.try(func() error {
		dev, err := b.device()
		if err != nil {
			return err
		}
		b.s, err = Open(dev, b.opts)
		if err != nil {
			dev.Close()
		}
		return err
	})
}

// crash cuts the power and starts the host anew.
func (b *bed) crash() {
	b.t.Helper()
	b.host.Kill()
	b.d.Crash()
	b.boot()
	b.open()
}

// restart closes the store in good order and opens it again.
func (b *bed) restart() {
	b.t.Helper()
	b.run(b.s.Close)
	b.host.Kill()
	b.d.Kill()
	b.boot()
	b.open()
}

// settle lets background work finish.
func (b *bed) settle() { b.w.Run(b.w.Now() + 10*time.Second) }

func replicaID(n byte) (id holdfast.ReplicaID) { id.UUID[15] = n; return }
func volumeID(n byte) (id holdfast.VolumeID)   { id.UUID[14] = n; return }
func snapID(n byte) (id holdfast.SnapshotID)   { id.UUID[13] = n; return }

// content is a block that differs for every tag.
func content(tag uint64) []byte {
	p := make([]byte, blockSize)
	r := rand.New(rand.NewPCG(tag, 99))
	for i := 0; i < len(p); i += 8 {
		le.PutUint64(p[i:], r.Uint64())
	}
	return p
}

// packed volumes, those of even number, keep what is not zero in a stored form of
// 1 to 9 units, as if it were compressed or encrypted.
func packed(vol holdfast.VolumeID) bool { return vol.UUID[14]%2 == 0 }

// stored is what is stored of a tag's content: a packed volume's begins with the
// tag and goes on as long as the tag says.
func stored(vol holdfast.VolumeID, tag uint64) []byte {
	p := content(tag)
	if !packed(vol) {
		return p
	}
	p = append(le.AppendUint64(nil, tag), append(p, p...)...)
	return p[:unitSize*(1+int(tag*7)%holdfast.MaxStoredUnits)]
}

// testOpener opens the stored forms of packed volumes.
type testOpener struct{}

func (testOpener) Plain(vol holdfast.VolumeID) bool { return !packed(vol) && sealerOf(vol) == nil }

func (testOpener) Open(dst, form []byte, vol holdfast.VolumeID, addr uint64, lsn holdfast.LSN) error {
	if x := sealerOf(vol); x != nil {
		return x.Open(dst, form, addr, lsn)
	}
	tag := le.Uint64(form)
	if !packed(vol) || !bytes.Equal(form, stored(vol, tag)) {
		return holdfast.Errorf(holdfast.Denied, "block %d is not the stored form of anything", addr)
	}
	copy(dst, content(tag))
	return nil
}

func zeroBlock() []byte { return make([]byte, blockSize) }

// writeRec makes a Write record of one block per tag.
func writeRec(vol holdfast.VolumeID, lsn holdfast.LSN, addr uint64, tags ...uint64) record.Record {
	r := record.Record{Kind: record.Write, LSN: lsn, Addr: addr, Count: uint32(len(tags))}
	for i, tag := range tags {
		p := stored(vol, tag)
		if x := sealerOf(vol); x != nil {
			p = x.Seal(nil, content(tag), addr+uint64(i), lsn+holdfast.LSN(i))
		}
		r.Data = append(r.Data, p...)
		r.Hashes = append(r.Hashes, checksum.Block(vol, addr+uint64(i), lsn+holdfast.LSN(i), p))
	}
	return r
}

// vol is a replica with a writer of its own.
type vol struct {
	b   *bed
	id  holdfast.ReplicaID
	vid holdfast.VolumeID
}

func (b *bed) create(n byte, blocks uint64) *vol {
	b.t.Helper()
	v := &vol{b, replicaID(n), volumeID(n)}
	b.run(func() error {
		_, err := b.s.Create(v.id, v.vid, blocks)
		return err
	})
	v.begin(1)
	return v
}

func (v *vol) r() *Replica {
	r := v.b.s.Replica(v.id)
	if r == nil {
		v.b.t.Fatalf("replica %s is gone", v.id)
	}
	return r
}

func (v *vol) state() State { return v.r().State() }

// begin opens the next epoch at the end of what is held.
func (v *vol) begin(e holdfast.Epoch) {
	v.b.t.Helper()
	st := v.state()
	var prev holdfast.Epoch
	if n := len(st.History); n > 0 {
		prev = st.History[n-1].Epoch
	}
	v.b.run(func() error { return v.r().Begin(record.Start{Epoch: e, Prev: prev, Cut: st.Prefix}) })
}

func (v *vol) append(recs ...record.Record) {
	v.b.t.Helper()
	v.b.run(func() error { return v.r().Append(recs) })
}

func (v *vol) write(addr uint64, tags ...uint64) {
	v.b.t.Helper()
	v.append(writeRec(v.vid, v.state().Prefix+1, addr, tags...))
}

func (v *vol) zero(addr uint64, n uint32) {
	v.b.t.Helper()
	v.append(record.Record{Kind: record.Zero, LSN: v.state().Prefix + 1, Addr: addr, Count: n})
}

func (v *vol) control(r record.Record) {
	v.b.t.Helper()
	r.LSN = v.state().Prefix + 1
	v.append(r)
}

// sync waits until everything is on disk.
func (v *vol) sync() {
	v.b.t.Helper()
	v.b.run(func() error { return syncTo(v.r(), v.r().State().Prefix) })
}

func syncTo(r *Replica, l holdfast.LSN) error {
	return r.s.wait(func(done func(error)) error {
		r.s.mu.Unlock()
		r.Sync(l, done)
		r.s.mu.Lock()
		return nil
	})
}

// stable syncs and says that it is stable, and lets it be merged.
func (v *vol) stable() {
	v.b.t.Helper()
	v.sync()
	v.r().SetStable(v.state().Prefix)
	v.b.settle()
}

func (v *vol) read(addr uint64, n int) ([]byte, error) {
	p := bytes.Repeat([]byte{0xee}, n*blockSize)
	err := v.b.try(func() error { return v.r().ReadOpened(p, addr, testOpener{}) })
	return p, err
}

// want checks blocks from addr on; tag 0 is zeros.
func (v *vol) want(addr uint64, tags ...uint64) {
	v.b.t.Helper()
	p, err := v.read(addr, len(tags))
	if err != nil {
		v.b.t.Fatal(err)
	}
	v.compare("head", p, addr, tags)
}

func (v *vol) compare(what string, p []byte, addr uint64, tags []uint64) {
	v.b.t.Helper()
	for i, tag := range tags {
		want := zeroBlock()
		if tag != 0 {
			want = content(tag)
		}
		if !bytes.Equal(p[i*blockSize:(i+1)*blockSize], want) {
			v.b.t.Fatalf("%s of %s: block %d is not what was written as %d", what, v.id.Short(), addr+uint64(i), tag)
		}
	}
}

func (v *vol) wantSnap(id holdfast.SnapshotID, addr uint64, tags ...uint64) {
	v.b.t.Helper()
	p := make([]byte, len(tags)*blockSize)
	v.b.run(func() error { return v.r().ReadSnapshot(id, p, addr, testOpener{}) })
	v.compare("snapshot", p, addr, tags)
}
