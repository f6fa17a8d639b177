package scsi

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Options say what a unit is. The zero value of a field means its default.
type Options struct {
	ID   holdfast.VolumeID // what the unit is known by, through every port
	Name string            // the volume's name, for people
	// BlockSize is the logical block's length in bytes, 512 (default) or 4096.
	BlockSize int
	ReadOnly  bool
	Removable bool // the medium may be ejected and loaded
	// MaxTransfer bounds one command's data in bytes. Default and
	// most: holdfast.MaxIO.
	MaxTransfer int64
	// Atomic is the longest write in bytes that a crash leaves wholly done or
	// not at all, if it is aligned to 4 KiB; 0: no promise, WRITE ATOMIC is
	// not offered.
	Atomic int64
	// Groups tells the target port groups and their states now; nil: one
	// group with id 1 and port 1, optimized.
	Groups func() []Group
	// Reservations keeps persistent reservations over a loss of power; nil:
	// they are kept as long as the Unit.
	Reservations Store
	Log          *slog.Logger // nil discards
}

// Limits of a unit.
const (
	maxNexuses      = 512
	defaultTransfer = holdfast.MaxIO
)

// Unit is a logical unit. Its methods may be called from any goroutine.
type Unit struct {
	opt    Options
	target export.Target
	log    *slog.Logger
	shift  uint // log2 of the block size
	table  *table
	dsense atomic.Bool
	size   atomic.Int64 // of the medium in bytes, as last told
	opened sync.WaitGroup
	// How many writes that are not durable by themselves have ended, and how
	// many of them a flush has covered.
	acked, flushed atomic.Uint64
	writeThrough   atomic.Bool // the caching page has WCE off
	watching       atomic.Bool // a threshold of space is set

	mu       sync.Mutex // never held across a call to the disk, a Done or a wait
	tasks    []*Task
	blocked  []*Task
	parked   []*Task
	seq      uint64
	ordered  int // tasks with that attribute in the set
	alone    int // running tasks that have their span for themselves
	nexuses  map[Nexus]*nexusState
	users    int // attached ones
	mode     mode
	reserved *nexusState // RESERVE(6)
	pr       reservations
	turn     chan struct{} // one PERSISTENT RESERVE OUT at a time

	disk    export.Disk
	opening bool
	closing bool
	settled sync.Cond // closing has ended
	ejected bool
	used    bool   // a disk was open before
	memory  uint64 // its cache generation, if it tells
	tells   bool
	closed  bool
	copies  copies
	space   spaceWatch
}

// New returns a unit over t. Errors: Invalid for options that make no sense;
// those of the reservation store.
func New(t export.Target, opt Options) (*Unit, error) {
	if opt.BlockSize == 0 {
		opt.BlockSize = 512
	}
	if opt.MaxTransfer == 0 {
		opt.MaxTransfer = defaultTransfer
	}
	if opt.BlockSize != 512 && opt.BlockSize != 4096 || opt.MaxTransfer < 1<<16 || opt.MaxTransfer > holdfast.MaxIO {
		return nil, holdfast.Errorf(holdfast.Invalid, "a logical unit with blocks of %d bytes and transfers of %d; 512 or 4096, and 64 KiB to 32 MiB are possible", opt.BlockSize, opt.MaxTransfer)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Reservations == nil {
		opt.Reservations = &MemoryStore{}
	}
	opt.ReadOnly = opt.ReadOnly || t.ReadOnly()
	u := &Unit{opt: opt, target: t, log: opt.Log, shift: 9, nexuses: map[Nexus]*nexusState{}}
	if opt.BlockSize == 4096 {
		u.shift = 12
	}
	u.settled.L, u.turn = &u.mu, make(chan struct{}, 1)
	u.setMode(u.defaultMode())
	u.table = commands(&u.opt)
	u.size.Store(t.Size())
	if err := u.loadReservations(); err != nil {
		return nil, err
	}
	return u, nil
}

// blocks is the capacity in logical blocks.
func (u *Unit) blocks() uint64 { return uint64(u.size.Load()) >> u.shift }

func (u *Unit) descriptorSense() bool { return u.dsense.Load() }

// groups returns the target port groups.
func (u *Unit) groups() []Group {
	if u.opt.Groups != nil {
		if g := u.opt.Groups(); len(g) > 0 {
			return g
		}
	}
	return []Group{{ID: 1, Ports: []Port{{ID: 1}}}}
}

// groupOf returns the group of a relative target port.
func (u *Unit) groupOf(port uint16) Group {
	groups := u.groups()
	for _, g := range groups {
		for _, p := range g.Ports {
			if p.ID == port {
				return g
			}
		}
	}
	return groups[0]
}

// attach makes a nexus known, or known again. The initiator learns by a unit
// attention that the unit has started anew for it.
func (u *Unit) attach(n Nexus) (*nexusState, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, holdfast.Errorf(holdfast.Closed, "volume %s is no longer offered", u.opt.Name)
	}
	st := u.nexuses[n]
	switch {
	case st == nil && len(u.nexuses) >= maxNexuses && !u.forgetOne():
		return nil, holdfast.Errorf(holdfast.Unavailable, "volume %s has %d initiators already", u.opt.Name, maxNexuses)
	case st == nil:
		st = &nexusState{nexus: n}
		st.pending.add(PowerOn)
		u.nexuses[n] = st
	default:
		st.pending.add(NexusLoss)
	}
	st.attached = true
	u.users++
	u.openLocked()
	return st, nil
}

// detach is the loss of a nexus or, with logout, its orderly end. The caller
// has seen the end of its tasks. The last one has the disk closed.
func (u *Unit) detach(st *nexusState, logout bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	st.attached, st.prevents = false, false
	if u.reserved == st {
		u.reserved = nil
	}
	if logout {
		delete(u.nexuses, st.nexus)
	}
	u.users--
	if u.users == 0 {
		u.closeLocked()
	}
}

// forgetOne makes room for a nexus by forgetting one that is gone and that
// nothing was lost for; u.mu is held.
func (u *Unit) forgetOne() bool {
	for n, st := range u.nexuses {
		if !st.attached && !st.lost {
			delete(u.nexuses, n)
			return true
		}
	}
	return false
}

// Close ends the unit when its last nexus has been detached: no nexus attaches
// any more. It waits until the disk is closed.
func (u *Unit) Close() {
	u.mu.Lock()
	u.closed = true
	u.closeLocked()
	u.mu.Unlock()
	u.opened.Wait()
}

// GroupsChanged tells the initiators that the states of the target port groups
// are not what they were.
func (u *Unit) GroupsChanged() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.attention(AccessStateChanged, nil)
}

// changed notes that a command has changed the medium.
func (u *Unit) changed(t *Task) {
	if !t.sure {
		u.acked.Add(1)
	}
	u.watchSpace()
}

// attention tells all nexuses but one of a condition; u.mu is held.
func (u *Unit) attention(c Code, but *nexusState) {
	for _, st := range u.nexuses {
		if st != but {
			st.pending.add(c)
		}
	}
}
