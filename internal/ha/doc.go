// Package ha decides what is done when hosts are lost: which volumes are cut
// from their lost writer, which VMs start where and when, and when redundancy
// is rebuilt. It is a pure machine: pictures of the cluster with their time go
// in, changes to commit come out; it keeps no clock, lock or logger.
//
// Data never depends on it being right. A cut or an opening raises a volume's
// epoch and replicas refuse the older one, so the worst a wrong decision can do
// is to start a VM needlessly (docs/INVARIANTS.md, 3 and 4). What it owes is to
// act soon, once, in the right order, and to leave alone what is well: a VM
// whose host is alive is moved only if it cannot be started there or if the
// host is drained.
package ha

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Change is one atomic commit. Every record in it replaces the one that was
// last changed at Mod; Mod zero means that there was none. A replica without an
// identity gets one from whoever commits the change.
//
// The changes of one step are committed in order. A later one may name an
// incident that an earlier one has just written: it then follows that revision.
type Change struct {
	What      string // "incident", "cut", "assign", "leave", "move", "stay", "abandoned", "rebuild", "release", "keep", "drop", "prune"
	Text      string // for the log: what and why
	Volumes   []cluster.Versioned[cluster.Volume]
	VMs       []cluster.Versioned[cluster.VM]
	Incidents []cluster.Versioned[cluster.Incident]
	Gone      []cluster.Versioned[cluster.Incident] // deleted
	Lives     []Life                                // what the change relies on
}

// Life is a condition of a change: what a host says of itself is still as it
// was read, or with Mod zero the host is away.
type Life struct {
	Host holdfast.HostID
	Mod  kv.Rev
}

// Config sets the machine's patience. A zero field takes its default.
type Config struct {
	// Settle is how long a host whose lease has ended is only suspect: 300 ms.
	Settle time.Duration
	// ColdWait is how long hosts that were away when the machine began are
	// expected, as after a loss of all power: 10 s.
	ColdWait time.Duration
	// JoinWindow is how far apart hosts may vanish and still be one incident: 10 s.
	JoinWindow time.Duration
	// BrakeWindow is the time in which the brake counts losses: 30 s.
	BrakeWindow time.Duration
	// BrakeHold is how long the brake holds restarts if nobody returns: 2 min.
	// Then they go ahead, because nobody may be there to let go of it.
	BrakeHold time.Duration
	// StartTokens is how many VMs may be starting on one host: 4.
	StartTokens int
	// StartTimeout is how long an assigned VM may show no progress: 45 s.
	StartTimeout time.Duration
	// FailedAfter is how long an assigned VM may keep failing to start, while
	// its host tries again, before another host gets it: 15 s, doubled at
	// each such move.
	FailedAfter time.Duration
	// RebuildAfter is how long a missing copy is waited for before another is
	// built: 15 s. What returns is brought up to date instead, which is cheaper.
	RebuildAfter time.Duration
	// Moves is how many VMs of one drained host may be on their way off it: 2.
	Moves int
	// Builds is how many volumes may be building a copy: 8, or 2 for each living
	// host if those are more. Their hosts see to it that they take turns.
	Builds int

	// Visits, unless nil, count what happens, for a checker.
	Visits *Visits
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Settle, 300*time.Millisecond)
	set(&c.ColdWait, 10*time.Second)
	set(&c.JoinWindow, 10*time.Second)
	set(&c.BrakeWindow, 30*time.Second)
	set(&c.BrakeHold, 2*time.Minute)
	set(&c.StartTimeout, 45*time.Second)
	set(&c.FailedAfter, 15*time.Second)
	set(&c.RebuildAfter, 15*time.Second)
	if c.StartTokens == 0 {
		c.StartTokens = 4
	}
	if c.Moves == 0 {
		c.Moves = 2
	}
	if c.Builds == 0 {
		c.Builds = 8
	}
	return c
}

// The steps of an incident's timeline.
const (
	Lost     = "lost"     // hosts vanished
	Returned = "returned" // hosts came back
	Held     = "held"     // the brake holds restarts
	Released = "released" // the brake let go
	Cut      = "cut"      // volumes were taken from their lost writers
	Planned  = "plan"     // what is to start where
	Assigned = "assigned" // a VM was given to a host
	Running  = "running"  // it runs there
	Rebuild  = "rebuild"  // a copy is being built
	Mended   = "mended"   // everything runs and every volume has its copies
)
