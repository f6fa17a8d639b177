package store

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// real is a store on a file, in real time.
type real struct {
	t    testing.TB
	path string
	dev  *filedisk.Disk
	s    *Store
	o    Options
}

func newReal(t testing.TB, size int64, o Options) *real {
	o.Clock = clock.System{}
	r := &real{t: t, path: filepath.Join(t.TempDir(), "disk"), o: o}
	f, err := os.Create(r.path)
	if err == nil {
		err = f.Truncate(size)
		f.Close()
	}
	if err == nil {
		r.dev, err = filedisk.Open(r.path, filedisk.Options{})
	}
	if err == nil {
		err = Format(r.dev, testIdentity(), r.o)
	}
	r.must(err)
	r.dev.Close()
	r.open()
	t.Cleanup(func() { r.close() })
	return r
}

func (r *real) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *real) open() {
	r.t.Helper()
	var err error
	r.dev, err = filedisk.Open(r.path, filedisk.Options{})
	r.must(err)
	r.s, err = Open(r.dev, r.o)
	r.must(err)
}

func (r *real) close() {
	r.t.Helper()
	if r.s != nil {
		r.must(r.s.Close())
		r.dev.Close()
		r.s = nil
	}
}

// times are how long each of many took.
type times []time.Duration

func (x *times) took(since time.Time) { *x = append(*x, time.Since(since)) }

func (x times) log(t testing.TB, what string) {
	s := slices.Sorted(slices.Values(x))
	if n := len(s); n > 0 {
		t.Logf("%-44s %6d  median %8v  p99 %8v  max %8v", what, n, s[n/2].Round(time.Microsecond), s[n*99/100].Round(time.Microsecond), s[n-1].Round(time.Microsecond))
	}
}

// writer appends to a replica, every record durable and stable.
type writer struct {
	r   *Replica
	vol holdfast.VolumeID
	mu  sync.Mutex
}

func (w *writer) put(t testing.TB, rec record.Record) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	prefix, _ := w.r.Position()
	rec.LSN = prefix + 1
	if rec.Kind == record.Write {
		rec = writeRec(w.vol, rec.LSN, rec.Addr, rec.Blocks)
	}
	err := w.r.Append([]record.Record{rec})
	if err == nil {
		err = syncTo(w.r, rec.Last())
	}
	if err != nil {
		t.Fatal(err)
	}
	w.r.SetStable(rec.Last())
}

// write writes one block; what it holds follows from tag.
func (w *writer) write(t testing.TB, addr, tag uint64) {
	t.Helper()
	w.put(t, record.Record{Kind: record.Write, Addr: addr, Blocks: tag})
}

func manySnap(i int) (id holdfast.SnapshotID) {
	le.PutUint64(id.UUID[:], uint64(i+1))
	return id
}

// many is how many snapshots to make: HOLDFAST_SNAPSHOTS, as make snapshots
// sets it, else few.
func many() int {
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_SNAPSHOTS")); err == nil {
		return n
	}
	return 150
}

// TestManySnapshots makes, clones, reverts to, sends and deletes the snapshots
// of one volume and checks what they hold. With -v it tells how long each took.
func TestManySnapshots(t *testing.T) {
	n := many()
	const blocks = 1 << 20
	d := newReal(t, 4<<30, Options{})
	r, err := d.s.Create(replicaID(1), volumeID(1), blocks)
	d.must(err)
	d.must(r.Begin(record.Start{Epoch: 1}))
	w := &writer{r: r, vol: volumeID(1)}
	rng := rand.New(rand.NewPCG(1, 2))
	addrs := make([]uint64, n) // what was written before each snapshot
	var before, create times
	for i := range n {
		addrs[i] = rng.Uint64N(blocks)
		at := time.Now()
		w.write(t, addrs[i], uint64(i+1))
		before.took(at)
		at = time.Now()
		w.put(t, record.Record{Kind: record.Snapshot, Snapshot: manySnap(i)})
		create.took(at)
	}
	before.log(t, "write and flush between snapshots")
	create.log(t, "create a snapshot, durable")
	check := func(r *Replica, i int) {
		t.Helper()
		p := make([]byte, blockSize)
		d.must(r.ReadSnapshot(manySnap(i), p, addrs[i], nil))
		if string(p) != string(content(uint64(i+1))) {
			t.Fatalf("snapshot %d does not hold what was written before it", i)
		}
	}
	for range 200 {
		check(r, rng.IntN(n))
	}
	d.clones(r, n)
	d.reverts(w, n)
	d.restarts(n)
	r = d.s.Replica(replicaID(1))
	w.r = r
	d.sends(r, n, check)
	d.deletes(w, n, addrs)
	for i := 1; i < n; i += 2 {
		check(r, i)
	}
	for _, x := range d.s.Replicas() {
		d.must(d.s.Remove(x.id))
	}
	for range 600 {
		d.must(d.s.Checkpoint())
		if d.s.Usage().Live == 0 {
			return
		}
		clock.Sleep(clock.System{}, 10*time.Millisecond)
	}
	t.Errorf("%d bytes are live though no replica is left", d.s.Usage().Live)
}

func (d *real) clones(r *Replica, n int) {
	var x times
	for i := range min(100, n) {
		id, vol := replicaID(byte(100+i)), volumeID(byte(100+i))
		at := time.Now()
		_, err := d.s.Clone(id, vol, r, manySnap(i*n/100%n))
		d.must(err)
		x.took(at)
	}
	x.log(d.t, "clone a snapshot, durable")
	for i := range min(100, n) {
		d.must(d.s.Remove(replicaID(byte(100 + i))))
	}
}

func (d *real) reverts(w *writer, n int) {
	var x times
	for i := range min(100, n) {
		at := time.Now()
		w.put(d.t, record.Record{Kind: record.Revert, Snapshot: manySnap(n - 1 - i)})
		x.took(at)
	}
	w.put(d.t, record.Record{Kind: record.Revert, Snapshot: manySnap(n - 1)})
	x.log(d.t, "revert to a snapshot, durable")
}

func (d *real) restarts(n int) {
	at := time.Now()
	d.close()
	closed := time.Since(at)
	at = time.Now()
	d.open()
	d.t.Logf("with %d snapshots: close %v, open %v, map in memory %.1f MiB, catalog %.1f KiB", n, closed.Round(time.Millisecond),
		time.Since(at).Round(time.Millisecond), float64(d.s.MapResident())/(1<<20), float64(d.s.catalogBytes)/1024)
}

func (d *real) sends(r *Replica, n int, check func(*Replica, int)) {
	to, err := d.s.Create(replicaID(2), volumeID(1), r.State().Blocks)
	d.must(err)
	at := time.Now()
	p := r.Pin()
	pinned := time.Since(at)
	d.must(resync(p, to, r.State().History, r.State().Blocks, rand.New(rand.NewPCG(3, 4))))
	p.Release()
	took := time.Since(at)
	d.t.Logf("a rebuild with %d snapshots: %v, %v each; the pin %v", n, took.Round(time.Millisecond), (took / time.Duration(n)).Round(time.Microsecond), pinned.Round(time.Microsecond))
	for range 200 {
		check(to, rand.IntN(n))
	}
	d.must(d.s.Remove(replicaID(2)))
}

// deletes lets every second snapshot go while somebody writes.
func (d *real) deletes(w *writer, n int, addrs []uint64) {
	const blocks = 1 << 20
	var idle, during, drops times
	foreground := func(x *times, until func() bool) {
		rng := rand.New(rand.NewPCG(5, 6))
		for !until() {
			at := time.Now()
			w.write(d.t, rng.Uint64N(blocks), 7)
			x.took(at)
		}
	}
	for d.jobs() > 0 {
		clock.Sleep(clock.System{}, 10*time.Millisecond)
	}
	count := 0
	foreground(&idle, func() bool { count++; return count > 2000 })
	var all sync.WaitGroup
	began := time.Now()
	all.Go(func() {
		for i := 0; i < n; i += 2 {
			at := time.Now()
			w.put(d.t, record.Record{Kind: record.DropSnap, Snapshot: manySnap(i)})
			drops.took(at)
		}
	})
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	foreground(&during, func() bool {
		select {
		case <-over:
			return d.jobs() == 0
		default:
			return false
		}
	})
	idle.log(d.t, "write and flush, nothing beside")
	during.log(d.t, "write and flush while half is deleted")
	drops.log(d.t, "delete a snapshot, durable")
	d.t.Logf("half of %d snapshots and their space were gone after %v", n, time.Since(began).Round(time.Millisecond))
}

func (d *real) jobs() int {
	d.s.lock()
	defer d.s.unlock()
	n := len(d.s.jobs)
	for _, x := range d.s.nodes {
		if x.hidden {
			n++
		}
	}
	return n
}
