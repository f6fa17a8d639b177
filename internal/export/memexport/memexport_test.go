package memexport_test

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/exporttest"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fresh(t *testing.T, size int64) export.Target {
	target, err := memexport.New(size, false)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestMemoryVolume(t *testing.T) {
	exporttest.Run(t, fresh, clock.System{}, func(f func()) { f() })
}

func TestVolumeThatCompletesLater(t *testing.T) {
	clk := clock.System{}
	later := func(t *testing.T, size int64) export.Target {
		var faults memexport.Faults
		faults.Later(clk.Go)
		return memexport.Faulty(fresh(t, size), &faults, clk)
	}
	exporttest.Run(t, later, clk, func(f func()) { f() })
}

func TestVolumeInASimulatedWorld(t *testing.T) {
	w := simclock.NewWorld(1)
	defer w.Close()
	clk := w.Clock()
	rnd := w.Rand("latency")
	slow := func(t *testing.T, size int64) export.Target {
		var faults memexport.Faults
		faults.Later(func(do func()) { clk.AfterFunc(time.Duration(rnd.IntN(1000))*time.Microsecond, do) })
		return memexport.Faulty(fresh(t, size), &faults, clk)
	}
	exporttest.Run(t, slow, clk, func(f func()) {
		done := false
		clk.Go(func() { f(); done = true })
		if !w.RunUntil(func() bool { return done }, w.Now()+time.Hour) {
			t.Fatal("the situation never ends")
		}
	})
}

func TestSizesThatAreRefused(t *testing.T) {
	for _, size := range []int64{0, -1, 1<<40 + 1} {
		if _, err := memexport.New(size, false); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("a volume of %d bytes: %v", size, err)
		}
	}
}

func TestGrownVolumeKeepsItsData(t *testing.T) {
	target, _ := memexport.New(5000, false)
	d, _ := target.Open(false)
	do := func(r export.Request) error {
		var err error
		r.Done = func(_ *export.Request, e error) { err = e }
		d.Submit(&r)
		return err
	}
	if err := do(export.Request{Op: export.Write, Off: 4999, Length: 1, Data: []byte{7}}); err != nil {
		t.Fatal(err)
	}
	if err := do(export.Request{Op: export.Write, Off: 5000, Length: 1, Data: []byte{8}}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("a write beyond the end: %v", err)
	}
	target.Grow(10 << 20)
	b := make([]byte, 2)
	if err := do(export.Request{Op: export.Write, Off: 5000, Length: 1, Data: []byte{8}}); err != nil {
		t.Fatal(err)
	}
	if err := do(export.Request{Op: export.Read, Off: 4999, Length: 2, Data: b}); err != nil || b[0] != 7 || b[1] != 8 {
		t.Fatalf("read %v: %v", b, err)
	}
}
