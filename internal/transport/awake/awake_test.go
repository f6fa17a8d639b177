package awake

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wishes is what a keeper has asked for.
type wishes struct {
	mu  sync.Mutex
	all []int32
}

func (w *wishes) set(v int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, v)
}

func (w *wishes) last() int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[len(w.all)-1]
}

// becomes waits until the last wish is v, for as long as it takes.
func (w *wishes) becomes(t *testing.T, v int32, meanwhile func()) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); w.last() != v; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the last wish stays %d, want %d", w.last(), v)
		}
		meanwhile()
	}
}

func TestProcessorsAreKeptAwakeWhileMessagesCome(t *testing.T) {
	var w wishes
	k := newKeeper(guestLatency, w.set)
	burst := func() {
		for range 2 * enough {
			k.Came()
		}
	}
	if w.last() != unlimited {
		t.Fatal("they are kept awake from the beginning")
	}
	for range 3 {
		w.becomes(t, guestLatency, burst)
		w.becomes(t, unlimited, func() {})
	}
	w.becomes(t, guestLatency, burst)
	k.Close()
	if w.last() != unlimited {
		t.Error("they are still kept awake when it is closed")
	}
	burst()
	k.Close()
	if w.last() != unlimited {
		t.Error("a closed keeper keeps them awake")
	}
}

func TestOnlyMessagesThatFollowEachOtherFastCount(t *testing.T) {
	var w wishes
	k := newKeeper(guestLatency, w.set)
	defer k.Close()
	now := time.Now()
	for range 100 {
		now = now.Add(brisk + 1)
		k.row(now)
	}
	if k.held.Load() || w.last() != unlimited {
		t.Error("messages that come now and then keep the processors awake")
	}
	k.row(now.Add(brisk))
	w.becomes(t, guestLatency, func() { k.came.Add(1) })
}

func TestNoKeeper(t *testing.T) {
	var k *Keeper
	k.Close()
	k.Came()
}

func TestWhatIsAskedOfWhichComputer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "driver")
	if _, ok := latencyFor(file); ok {
		t.Error("a kernel without idle drivers can do something else than halt")
	}
	for _, c := range []struct {
		name string
		want int32
		ok   bool
	}{{"none\n", 0, false}, {"\n", 0, false}, {"haltpoll\n", guestLatency, true}, {"intel_idle\n", metalLatency, true}, {"acpi_idle\n", metalLatency, true}} {
		if err := os.WriteFile(file, []byte(c.name), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := latencyFor(file); got != c.want || ok != c.ok {
			t.Errorf("%q: %d, %v", c.name, got, ok)
		}
	}
}

// TestThisComputer asks the kernel itself, where it lets this process.
func TestThisComputer(t *testing.T) {
	k := Open()
	if k == nil {
		t.Skip("processors cannot be kept awake here")
	}
	for range 3 * enough {
		k.Came()
	}
	k.Close()
}
