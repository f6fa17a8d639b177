// Package awake keeps the computer's processors from sleeping while somebody
// waits for one short answer after the other. A processor with nothing to do
// sleeps, and to wake it takes longer than most requests do: a call through the
// hypervisor in a virtual machine, up to a tenth of a millisecond from a deep
// state of a real one. An initiator that sends its next request when it has the
// answer to the last one pays for that several times per request
// (docs/adr/0073-awake-while-somebody-waits.md).
package awake

import (
	"encoding/binary"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Linux's interface for it: whoever has the device open may say how many
// microseconds a processor may take at most to wake up, in a signed 32-bit number
// of the computer's byte order. It counts until the device is closed, be it by
// the death of the process (Documentation/power/pm_qos_interface.rst).
const (
	device    = "/dev/cpu_dma_latency"
	driver    = "/sys/devices/system/cpu/cpuidle/current_driver"
	unlimited = 2000 * 1000 * 1000 // PM_QOS_CPU_LATENCY_DEFAULT_VALUE
)

// Latencies that are asked for, in microseconds. A virtual processor that halts is
// gone until the hypervisor brings it back, whatever its driver says: it shall
// not. A real one may rest as long as it keeps to the states that it leaves in no
// time.
const (
	guestLatency = 0
	metalLatency = 10
)

// It is worth it when so many messages came within so long, over all connections:
// about one in a millisecond. Whoever waits longer than that for an answer of a
// slow disk, or computes in between, gains little.
const (
	enough = 16
	brisk  = 16 * time.Millisecond
)

// lookEvery is how often it is looked at whether anybody still waits. With fewer
// than fewest messages in between nobody does.
const (
	lookEvery = 5 * time.Millisecond
	fewest    = 4
)

// Keeper keeps processors awake on request, and lets them sleep soon after the
// last one. The nil Keeper does nothing. It is safe for concurrent use.
type Keeper struct {
	set   func(microseconds int32)
	value int32
	came  atomic.Int64 // messages
	held  atomic.Bool

	mu     sync.Mutex
	since  time.Time // when the last row of enough messages was complete
	closed bool
	tasks  sync.WaitGroup
	done   chan struct{}
	free   func()
}

// Open returns this computer's Keeper, nil where processors cannot be kept awake:
// without the right to, or in a virtual machine whose kernel can only halt.
func Open() *Keeper {
	value, ok := latencyFor(driver)
	if !ok {
		return nil
	}
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	k := newKeeper(value, func(v int32) {
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(v))
		_, _ = f.Write(b[:]) // it goes without
	})
	k.free = func() { f.Close() }
	return k
}

func newKeeper(value int32, set func(int32)) *Keeper {
	set(unlimited) // opening the device limits nothing, but let it be said
	return &Keeper{set: set, value: value, done: make(chan struct{}), free: func() {}}
}

// latencyFor is what to ask for where the kernel's idle driver is the one named in
// a file; false if it has none that could do anything else than halt.
func latencyFor(file string) (microseconds int32, ok bool) {
	b, err := os.ReadFile(file)
	switch name := strings.TrimSpace(string(b)); {
	case err != nil || name == "" || name == "none":
		return 0, false
	case name == "haltpoll":
		return guestLatency, true
	}
	return metalLatency, true
}

// Came notes that a message came for which somebody's reader has waited.
func (k *Keeper) Came() {
	if k == nil || k.came.Add(1)%enough != 0 || k.held.Load() {
		return
	}
	k.row(time.Now())
}

// row notes that another enough messages have come.
func (k *Keeper) row(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fast := now.Sub(k.since) <= brisk
	k.since = now
	if fast && !k.closed && k.held.CompareAndSwap(false, true) {
		k.tasks.Go(k.hold)
	}
}

// hold keeps the processors awake as long as messages come.
func (k *Keeper) hold() {
	k.set(k.value)
	defer k.held.Store(false)
	defer k.set(unlimited)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for before := k.came.Load(); ; {
		select {
		case <-k.done:
			return
		case <-look.C:
		}
		now := k.came.Load()
		if now-before < fewest {
			return
		}
		before = now
	}
}

// Close lets the processors sleep, for good.
func (k *Keeper) Close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	was := k.closed
	k.closed = true
	k.mu.Unlock()
	if was {
		return
	}
	close(k.done)
	k.tasks.Wait()
	k.free()
}
