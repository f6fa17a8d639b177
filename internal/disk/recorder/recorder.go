// Package recorder is a disk.Device in front of another one that writes down what
// is done to it: every write with its place and bytes, every flush, when each began
// and when it ended. A Player makes of that what a crash at any moment may leave on
// the medium (player.go). It is for tests.
package recorder

import (
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// Kind is what was done.
type Kind uint8

// The kinds.
const (
	Write     Kind = iota
	WriteSync      // a write that is durable when it ends
	Sync
	Discard
	End  // of the operation Of
	Mark // a note of whoever records
)

// Event is one line of the record.
type Event struct {
	Kind   Kind
	Off, N int64
	Data   []byte // of a write
	Of     int    // of an End: the number of the event that it ends
	Failed bool   // of an End
	Note   any    // of a Mark
}

// Disk records what is done to a device. It is safe for concurrent use.
type Disk struct {
	dev disk.Device
	clk clock.Clock
	lag Lag

	mu  sync.Mutex
	log []Event
}

// Lag is how long operations take on the recorder's clock, beside what they take
// on the device: on a simulated clock they would otherwise take no time and never
// be under way together.
type Lag struct{ Write, Sync time.Duration }

var (
	_ disk.Device     = (*Disk)(nil)
	_ disk.SyncWriter = (*Disk)(nil)
)

// New records what is done to a device, which it closes in the end.
func New(dev disk.Device, c clock.Clock, lag Lag) *Disk { return &Disk{dev: dev, clk: c, lag: lag} }

// Log returns what was recorded so far.
func (d *Disk) Log() []Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log[:len(d.log):len(d.log)]
}

// Mark puts a note into the record.
func (d *Disk) Mark(note any) { d.add(Event{Kind: Mark, Note: note}) }

func (d *Disk) add(e Event) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, e)
	return len(d.log) - 1
}

// do records an operation's beginning and its end.
func (d *Disk) do(e Event, lag time.Duration, f func() error) error {
	n := d.add(e)
	if lag > 0 {
		clock.Sleep(d.clk, lag)
	}
	err := f()
	d.add(Event{Kind: End, Of: n, Failed: err != nil})
	return err
}

// Geometry implements disk.Device.
func (d *Disk) Geometry() disk.Geometry { return d.dev.Geometry() }

// Close implements disk.Device.
func (d *Disk) Close() error { return d.dev.Close() }

// ReadAt implements disk.Device.
func (d *Disk) ReadAt(p []byte, off int64) error { return d.dev.ReadAt(p, off) }

// WriteAt implements disk.Device.
func (d *Disk) WriteAt(p []byte, off int64) error {
	e := Event{Kind: Write, Off: off, N: int64(len(p)), Data: append([]byte(nil), p...)}
	return d.do(e, d.lag.Write, func() error { return d.dev.WriteAt(p, off) })
}

// WriteSync implements disk.SyncWriter.
func (d *Disk) WriteSync(p []byte, off int64) error {
	e := Event{Kind: WriteSync, Off: off, N: int64(len(p)), Data: append([]byte(nil), p...)}
	return d.do(e, d.lag.Sync, func() error {
		if w, ok := d.dev.(disk.SyncWriter); ok {
			return w.WriteSync(p, off)
		}
		if err := d.dev.WriteAt(p, off); err != nil {
			return err
		}
		return d.dev.Sync()
	})
}

// Sync implements disk.Device.
func (d *Disk) Sync() error { return d.do(Event{Kind: Sync}, d.lag.Sync, d.dev.Sync) }

// Discard implements disk.Device.
func (d *Disk) Discard(off, n int64) error {
	return d.do(Event{Kind: Discard, Off: off, N: n}, 0, func() error { return d.dev.Discard(off, n) })
}
