package holdfast

import "fmt"

// Epoch is the fencing generation of a volume's writer. It rises at every
// opening; replicas refuse what carries less than they promised.
type Epoch uint32

// MaxEpoch is the highest epoch that fits an LSN (24 bits).
const MaxEpoch Epoch = 1<<24 - 1

// LSN orders the records of one volume: epoch (24 bits) and a counter
// (40 bits, from 0 in each epoch). Plain comparison is the order, so a later
// epoch beats any suffix of a dead one. A record of n blocks takes n
// consecutive LSNs. Zero is before every record.
type LSN uint64

const counterBits = 40

// MaxCounter is the last counter of an epoch; a writer that reaches it must
// open a new epoch.
const MaxCounter = 1<<counterBits - 1

// MakeLSN joins an epoch and a counter.
func MakeLSN(e Epoch, counter uint64) LSN {
	return LSN(uint64(e)<<counterBits | counter&MaxCounter)
}

// Epoch returns the epoch in which l was issued.
func (l LSN) Epoch() Epoch { return Epoch(l >> counterBits) }

// Counter returns l's place within its epoch.
func (l LSN) Counter() uint64 { return uint64(l) & MaxCounter }

// String prints "epoch.counter".
func (l LSN) String() string { return fmt.Sprintf("%d.%d", l.Epoch(), l.Counter()) }
