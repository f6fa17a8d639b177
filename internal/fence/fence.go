// Package fence is the seam to the means by which a host makes sure of itself:
// a dead man's switch over its own machines. Implementations: fence/cgroup,
// fence/simfence; conformance: fence/fencetest.
//
// Nothing here protects data: the epochs do (docs/INVARIANTS.md, 3 and 4). It
// bounds how long two copies of a VM could be awake.
package fence

import "time"

// Watchdog acts on this host's machines unless it is petted in time, also if
// the agent hangs or is stopped.
type Watchdog interface {
	// Pet keeps the machines for d from now.
	Pet(d time.Duration) error
	// Disarm ends the watch, for an orderly stop that leaves machines running.
	Disarm() error
}
