package model

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// The links that may be cut: of each host to the control plane, and between the two.
const (
	linkA = iota
	linkB
	linkAB
	links
)

// state is everything at one instant. The pictures are shared and never changed.
type state struct {
	now  time.Duration // of the true time
	left int           // disturbances that may still come

	records *cluster.State // what the control plane has
	leases  [2]lease
	away    bool // the control plane answers nobody
	lead    leader
	down    [links]bool
	slow    uint16 // who lags behind
	hosts   [2]host

	only uint8 // what has happened so far: for rules that hold as long as nothing else has
}

// What has happened so far, in state.only.
const (
	cutSome   = 1 << iota // a link was cut
	diedSome              // a process or a computer died
	lateSome              // an answer was late or unknown
	kvWasAway             // the control plane was away
)

// lease is a host's lease in the control plane; id 0: there is none.
type lease struct {
	id    kv.LeaseID
	until time.Duration // by the control plane's clock; it ends then or later
}

// leader is who leads the control plane: what it thinks, and what it is about to
// commit, which may be late.
type leader struct {
	m       *ha.Machine
	pending []ha.Change
	wake    time.Duration // by the control plane's clock; never: when something changes
}

// host is one of the two computers.
type host struct {
	power bool // the computer runs
	up    bool // its process runs

	word   cluster.Word
	born   time.Duration // of the process
	stood  time.Duration // Confirmed, as of now
	beat   time.Duration // next renewal, of the true time
	answer flight        // of a renewal that is late
	leased kv.LeaseID    // the lease that it renews
	pic    *cluster.State

	m     machine
	guard time.Duration // when the guard looks again

	w    writer
	o    opening
	tick time.Duration // of the true time

	auth replica.Authority // of the replica here
	kept bool              // its memory is that of the last epoch's writes
}

// flight is a message that is late: it has been sent, or has arrived and its
// answer is on the way.
type flight struct {
	on, arrived bool
	asked       time.Duration
	epoch       holdfast.Epoch
}

// act is what a machine does.
type act uint8

const (
	none act = iota
	starting
	running
	stopping // it is told to hold, and its processors may still run
	paused
)

// machine is a VM's process on a host. It outlives the host's process.
type machine struct {
	act   act
	gen   int64
	until time.Duration // of starting and stopping
	held  bool          // paused because the host is cut off
	// loose: the host's process died while it ran and has not heard of the records
	// since. Nobody is there to hold it; that is not promised (ADR 0071).
	loose bool
}

func (m *machine) awake() bool { return m.act == running || m.act == stopping }

// writer is an open volume.
type writer struct {
	on     bool
	epoch  holdfast.Epoch
	inSync [2]bool       // as it is known to be committed
	asked  time.Duration // the oldest question to the other replica that is not answered; 0: none
	until  time.Duration // the lease of the other replica
	late   flight
}

// opening is a take-over under way.
type opening struct {
	stage  uint8 // 0: none
	epoch  holdfast.Epoch
	mod    kv.Rev
	began  time.Duration
	got    [2]bool
	report [2]replica.Report
	until  time.Duration // of the wait for leases
	keep   [2]bool
}

const (
	collecting = 1
	outwaiting = 2
)

// never is a timer that does not run.
const never = time.Duration(1<<62 - 1)

func (s *state) clone() *state {
	c := *s
	return &c
}
