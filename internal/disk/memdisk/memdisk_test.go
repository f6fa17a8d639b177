package memdisk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/disktest"
)

func stream(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func TestConformsInSimulatedTime(t *testing.T) {
	w := simclock.NewWorld(1)
	h := w.Host("a", simclock.Skew{})
	defer w.Close(h)
	disktest.Run(t, disktest.Subject{
		Clock: h,
		In: func(f func()) {
			done := false
			h.Go(func() { f(); done = true })
			if !w.RunUntil(func() bool { return done }, w.Now()+time.Hour) {
				t.Errorf("it does not end: %v", w)
			}
		},
		New: func(*testing.T) func() (disk.Device, error) {
			d := New(64<<20, w.Rand("disk"))
			return func() (disk.Device, error) { return d.Open(h, SSD()) }
		},
	})
}

func TestConformsInRealTime(t *testing.T) {
	disktest.Run(t, disktest.Subject{
		Clock: clock.System{},
		In:    func(f func()) { f() },
		New: func(*testing.T) func() (disk.Device, error) {
			d := New(64<<20, stream(1))
			return func() (disk.Device, error) { return d.Open(clock.System{}, Options{}) }
		},
	})
}

// open begins a life without delays.
func open(t *testing.T, d *Disk) disk.Device {
	t.Helper()
	dev, err := d.Open(clock.System{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func put(t *testing.T, dev disk.Device, fill byte, off, n int64) {
	t.Helper()
	if err := dev.WriteAt(bytes.Repeat([]byte{fill}, int(n)), off); err != nil {
		t.Fatal(err)
	}
}

// look returns the first byte of each sector.
func look(d *Disk, off, n int64) string {
	p := make([]byte, n)
	d.Peek(p, off)
	var s []byte
	for i := int64(0); i < n; i += Sector {
		s = append(s, p[i])
	}
	return string(s)
}

func TestPowerCutKeepsWhatWasSyncedAndTearsTheRest(t *testing.T) {
	kept, lost, torn := 0, 0, 0
	for seed := range uint64(200) {
		d := New(1<<20, stream(seed))
		dev := open(t, d)
		put(t, dev, 's', 0, 8192)
		if err := dev.Sync(); err != nil {
			t.Fatal(err)
		}
		put(t, dev, 'n', 4096, 8192)
		d.Crash()
		if err := dev.WriteAt(make([]byte, 4096), 0); !holdfast.IsKind(err, holdfast.Closed) {
			t.Fatalf("a write of the former life: %v", err)
		}
		if got := look(d, 0, 4096); got != "ssssssss" {
			t.Fatalf("seed %d: a synced block became %q", seed, got)
		}
		got := look(d, 4096, 8192)
		for i, c := range got {
			old := byte('s')
			if i >= perPage {
				old = 0
			}
			if byte(c) != 'n' && byte(c) != old {
				t.Fatalf("seed %d: sector %d is %q, neither old nor new", seed, i, c)
			}
		}
		switch n := bytes.Count([]byte(got), []byte("n")); n {
		case 16:
			kept++
		case 0:
			lost++
		default:
			torn++
		}
	}
	if kept < 10 || lost < 10 || torn < 50 {
		t.Errorf("of 200 crashes %d kept all, %d lost all, %d tore", kept, lost, torn)
	}
}

func TestAWriteThatSyncsCoversItselfOnly(t *testing.T) {
	lost := 0
	for seed := range uint64(200) {
		d := New(1<<20, stream(seed))
		dev := open(t, d)
		put(t, dev, 'a', 0, 8192)
		if err := dev.(disk.SyncWriter).WriteSync(bytes.Repeat([]byte{'b'}, 4096), 2048); err != nil {
			t.Fatal(err)
		}
		put(t, dev, 'c', 65536, 4096)
		if got := look(d, 0, 8192); got != "aaaabbbbbbbbaaaa" {
			t.Fatalf("before the crash: %s", got)
		}
		d.Crash()
		if got := look(d, 2048, 4096); got != "bbbbbbbb" {
			t.Fatalf("seed %d: of what was synced, %q is left", seed, got)
		}
		if look(d, 65536, 4096) != "cccccccc" {
			lost++
		}
	}
	if lost == 0 {
		t.Error("no other write was ever lost")
	}
}

func TestWritesDuringASyncAreNotCovered(t *testing.T) {
	lost, lostUnderWay := 0, 0
	for seed := range uint64(50) {
		w := simclock.NewWorld(seed)
		h := w.Host("a", simclock.Skew{})
		d := New(1<<20, w.Rand("disk"))
		dev, err := d.Open(h, Options{WriteTime: time.Millisecond, SyncTime: 10 * time.Millisecond, BytesPerSecond: 10 << 20})
		if err != nil {
			t.Fatal(err)
		}
		h.Go(func() {
			put(t, dev, 'a', 0, 4096)
			if err := dev.Sync(); err != nil {
				t.Error(err)
			}
			d.Crash()
		})
		h.Go(func() {
			clock.Sleep(h, 3*time.Millisecond) // the sync is under way
			put(t, dev, 'b', 4096, 4096)
		})
		h.Go(func() { put(t, dev, 'c', 8192, 40960) }) // takes 4 ms: the sync begins within it
		w.Run(time.Second)
		w.Close(h)
		if got := look(d, 0, 4096); got != "aaaaaaaa" {
			t.Fatalf("seed %d: the synced block is %q", seed, got)
		}
		if look(d, 4096, 4096) != "bbbbbbbb" {
			lost++
		}
		if strings.ContainsRune(look(d, 8192, 40960), 0) {
			lostUnderWay++
		}
	}
	if lost == 0 || lostUnderWay == 0 {
		t.Errorf("of writes that began during the sync %d were lost, of those that were under way %d; want some", lost, lostUnderWay)
	}
}

func TestKillKeepsTheCacheButNotItsDurability(t *testing.T) {
	losses := 0
	for seed := range uint64(50) {
		d := New(1<<20, stream(seed))
		put(t, open(t, d), 'k', 0, 4096)
		d.Kill()
		if got := look(d, 0, 4096); got != "kkkkkkkk" {
			t.Fatalf("seed %d: after SIGKILL the block is %q", seed, got)
		}
		open(t, d)
		d.Crash()
		if look(d, 0, 4096) != "kkkkkkkk" {
			losses++
		}
	}
	if losses == 0 {
		t.Error("what a killed process had written without sync survived every power cut")
	}
}

func TestKillTearsTheWriteUnderWay(t *testing.T) {
	torn := 0
	for seed := range uint64(50) {
		w := simclock.NewWorld(seed)
		h := w.Host("a", simclock.Skew{})
		d := New(1<<20, w.Rand("disk"))
		dev, err := d.Open(h, Options{WriteTime: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		h.Go(func() { put(t, dev, 'u', 0, 8192) })
		w.Run(100 * time.Millisecond)
		h.Kill()
		d.Kill()
		w.Close(h)
		if n := bytes.Count([]byte(look(d, 0, 8192)), []byte("u")); n > 0 && n < 16 {
			torn++
		}
	}
	if torn == 0 {
		t.Error("no write under way was torn")
	}
}

func TestAFailedSyncIsNeverMadeGood(t *testing.T) {
	losses := 0
	for seed := range uint64(50) {
		d := New(1<<20, stream(seed))
		dev := open(t, d)
		put(t, dev, 'x', 0, 65536)
		d.FailNext(Sync, 1)
		if err := dev.Sync(); !holdfast.IsKind(err, holdfast.IO) {
			t.Fatalf("failed sync: %v", err)
		}
		if bytes.ContainsRune([]byte(look(d, 0, 65536)), 0) {
			t.Fatal("reads lost the write before the crash")
		}
		if err := dev.Sync(); err != nil {
			t.Fatal(err)
		}
		d.Crash()
		if bytes.ContainsRune([]byte(look(d, 0, 65536)), 0) {
			losses++
		}
	}
	if losses < 25 {
		t.Errorf("only %d of 50 failed syncs lost anything", losses)
	}
}

// What a failed sync has not made durable is read until it is evicted, and what was
// written since stays.
func TestEvictedPagesAreAsOnTheMedium(t *testing.T) {
	losses := 0
	for seed := range uint64(50) {
		d := New(1<<20, stream(seed))
		dev := open(t, d)
		put(t, dev, 'x', 0, 65536)
		d.FailNext(Sync, 1)
		if err := dev.Sync(); !holdfast.IsKind(err, holdfast.IO) {
			t.Fatalf("failed sync: %v", err)
		}
		put(t, dev, 'y', 65536, 4096)
		d.Evict()
		if bytes.ContainsRune([]byte(look(d, 0, 65536)), 0) {
			losses++
		}
		if got := look(d, 65536, 4096); bytes.ContainsRune([]byte(got), 0) {
			t.Fatal("what nobody has synced yet is gone")
		}
	}
	if losses < 25 {
		t.Errorf("only %d of 50 evictions lost anything", losses)
	}
}

func TestFaultsOnDemand(t *testing.T) {
	d := New(1<<20, stream(1))
	dev := open(t, d)
	put(t, dev, 'a', 0, 8192)
	p := make([]byte, 4096)

	d.FailNext(Read, 1)
	if err := dev.ReadAt(p, 0); !holdfast.IsKind(err, holdfast.IO) || p[0] == 'a' {
		t.Errorf("failed read: %v, and gave %q", err, p[0])
	}
	if err := dev.ReadAt(p, 0); err != nil || p[0] != 'a' {
		t.Errorf("the read after it: %v, %q", err, p[0])
	}
	d.FailNext(Write, 1)
	if err := dev.WriteAt(p, 0); !holdfast.IsKind(err, holdfast.IO) {
		t.Errorf("failed write: %v", err)
	}

	d.Bad(4096, Sector)
	if err := dev.ReadAt(p, 4096); !holdfast.IsKind(err, holdfast.IO) {
		t.Errorf("read of a bad sector: %v", err)
	}
	if err := dev.ReadAt(p[:Sector], 4096+Sector); err != nil {
		t.Errorf("read beside a bad sector: %v", err)
	}
	put(t, dev, 'b', 4096, 4096)
	if err := dev.ReadAt(p, 4096); err != nil || p[0] != 'b' {
		t.Errorf("read of a bad sector that was written: %v, %q", err, p[0])
	}

	d.SetFull(true)
	put(t, dev, 'c', 4096, 4096) // in place
	if err := dev.WriteAt(p, 65536); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("write to a full disk: %v", err)
	}
	d.SetFull(false)
	put(t, dev, 'd', 65536, 4096)
}

func TestRotIsOneBitAndDurable(t *testing.T) {
	for _, synced := range []bool{false, true} {
		d := New(1<<20, stream(2))
		dev := open(t, d)
		put(t, dev, 0, 4096, 4096)
		if synced {
			if err := dev.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		d.Rot(5000)
		if err := dev.Sync(); err != nil {
			t.Fatal(err)
		}
		d.Crash()
		p := make([]byte, 4096)
		d.Peek(p, 4096)
		if b := p[5000-4096]; b == 0 || b&(b-1) != 0 {
			t.Errorf("synced before: %v; the byte is %08b, want one bit", synced, b)
		}
		p[5000-4096] = 0
		if !bytes.Equal(p, make([]byte, 4096)) {
			t.Error("rot changed another byte")
		}
	}
}

func TestLostAndMisdirectedWrites(t *testing.T) {
	d := New(1<<20, stream(3))
	dev := open(t, d)
	d.SetChances(Chances{LostWrite: 1})
	put(t, dev, 'l', 0, 4096)
	if d.Allocated() != 0 {
		t.Error("a lost write reached the disk")
	}
	d.SetChances(Chances{Misdirected: 1})
	put(t, dev, 'm', 0, 4096)
	all := make([]byte, 1<<20)
	d.Peek(all, 0)
	if n := bytes.Count(all, []byte("m")); n != 4096 || all[0] == 'm' {
		t.Errorf("a misdirected write left %d bytes, the first %q", n, all[0])
	}
}

func TestHungCallsEndWithTheFaultOrTheLife(t *testing.T) {
	w := simclock.NewWorld(1)
	h := w.Host("a", simclock.Skew{})
	defer w.Close(h)
	d := New(1<<20, w.Rand("disk"))
	var errs []error
	start := func() {
		dev, err := d.Open(h, SSD())
		if err != nil {
			t.Fatal(err)
		}
		d.SetHung(true)
		h.Go(func() { errs = append(errs, dev.WriteAt(make([]byte, 4096), 0)) })
		h.Go(func() { errs = append(errs, dev.Sync()) })
		w.Run(w.Now() + time.Hour)
		if len(errs) > 0 {
			t.Fatalf("a hung disk answered: %v", errs)
		}
	}
	start()
	d.SetHung(false)
	w.Run(w.Now() + time.Second)
	if len(errs) != 2 || errs[0] != nil || errs[1] != nil {
		t.Fatalf("after the hang: %v", errs)
	}
	d.Crash()
	errs = nil
	start()
	d.Crash()
	w.Run(w.Now() + time.Second)
	if len(errs) != 2 || !holdfast.IsKind(errs[0], holdfast.Closed) || !holdfast.IsKind(errs[1], holdfast.Closed) {
		t.Fatalf("calls that hung through the power cut: %v", errs)
	}
}

func TestSlowDiskTakesLonger(t *testing.T) {
	took := func(factor float64) time.Duration {
		w := simclock.NewWorld(1)
		h := w.Host("a", simclock.Skew{})
		defer w.Close(h)
		d := New(1<<20, w.Rand("disk"))
		dev, err := d.Open(h, SSD())
		if err != nil {
			t.Fatal(err)
		}
		d.SetSlow(factor)
		var end time.Duration
		h.Go(func() { put(t, dev, 1, 0, 4096); end = h.Now() })
		w.Run(time.Hour)
		return end
	}
	if n, s := took(1), took(100); n <= 0 || s < 99*n || s > 101*n {
		t.Errorf("a write takes %v, on a disk 100 times as slow %v", n, s)
	}
}

func TestCloneGoesItsOwnWay(t *testing.T) {
	d := New(64<<20, stream(4))
	dev := open(t, d)
	put(t, dev, 'a', 0, 4096)
	if err := dev.Sync(); err != nil {
		t.Fatal(err)
	}
	put(t, dev, 'b', 4096, 4096)
	c := d.Clone(stream(5))
	c.Crash()
	c.Poke([]byte("zzzz"), 0)
	c.Rot(4096)
	if look(d, 0, 8192) != "aaaaaaaabbbbbbbb" {
		t.Errorf("the original changed: %q", look(d, 0, 8192))
	}
	if err := dev.Sync(); err != nil {
		t.Fatal(err)
	}
	d.Crash()
	if look(d, 0, 8192) != "aaaaaaaabbbbbbbb" {
		t.Errorf("the original lost synced data: %q", look(d, 0, 8192))
	}
	if n := d.Allocated(); n != 8192 {
		t.Errorf("64 MiB with two blocks written cost %d bytes", n)
	}
}

// TestTheSameSeedGivesTheSameHistory runs a busy, faulty life twice.
func TestTheSameSeedGivesTheSameHistory(t *testing.T) {
	history := func(seed uint64) string {
		w := simclock.NewWorld(seed)
		d := New(4<<20, w.Rand("disk"))
		d.SetChances(Chances{ReadError: 0.05, WriteError: 0.05, SyncError: 0.1, LostWrite: 0.02, Misdirected: 0.02})
		var log bytes.Buffer
		for life := range 5 {
			h := w.Host(fmt.Sprint("life", life), simclock.Skew{})
			dev, err := d.Open(h, SSD())
			if err != nil {
				t.Fatal(err)
			}
			for task := range 4 {
				rng := w.Rand(fmt.Sprint(life, task))
				h.Go(func() {
					p := make([]byte, 16384)
					for {
						off := rng.Int64N(250) * 4096
						p[0]++
						fmt.Fprintln(&log, h.Now(), task, dev.WriteAt(p, off), dev.ReadAt(p, off), dev.Discard(off, 4096))
						if rng.IntN(5) == 0 {
							fmt.Fprintln(&log, h.Now(), task, dev.Sync())
						}
					}
				})
			}
			w.Run(w.Now() + 10*time.Millisecond)
			h.Kill()
			if life%2 == 0 {
				d.Crash()
			} else {
				d.Kill()
			}
			all := make([]byte, 4<<20)
			d.Peek(all, 0)
			fmt.Fprintf(&log, "%x\n", holdfastSum(all))
		}
		w.Close()
		return log.String()
	}
	if a, b := history(1), history(1); a != b || len(a) < 1000 {
		t.Errorf("one seed gave two histories, or none: %d and %d bytes", len(a), len(b))
	}
	if history(1) == history(2) {
		t.Error("two seeds gave one history")
	}
}

func holdfastSum(b []byte) (h uint64) {
	for _, c := range b {
		h = h*1099511628211 + uint64(c)
	}
	return h
}
