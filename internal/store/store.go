package store

import (
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/fair"
)

// Store is the log-structured store of one disk.
//
// One mutex guards everything below it; it is never held across a wait. Three
// tasks belong to a store and end in Close: commit writes and syncs the log,
// merge moves what is stable into base maps, keep makes checkpoints, prepares
// segments and cleans.
type Store struct {
	dev    disk.Device
	prompt disk.Prompt // dev, if it is one; else nil
	clk    clock.Clock
	log    *slog.Logger
	o      Options
	sb     superblock
	id     Identity
	life   uint64

	keptSeq uint64 // number of what was kept last; 0: not known. Owned by the caller of Keep

	shape   shape
	nowhere *segment // stands for where lost blocks are

	fetchings *sync.Pool // of *fetching

	commit clock.Event
	merge  clock.Event
	keep   clock.Event
	tasks  *clock.Group

	mu           sync.Mutex
	calls        []call
	err          error // the disk is fenced
	onFence      func()
	syncing      bool // a sync is under way
	syncers      []clock.Event
	closing      bool // Close was called
	stopped      bool // the tasks end
	running      bool // the tasks were started
	pages        *blockmap.Pages
	space        *space
	wal          wal
	replicas     map[holdfast.ReplicaID]*Replica
	byNum        map[uint32]*Replica
	sorted       []*Replica
	nextNum      uint32
	origins      []holdfast.VolumeID
	originOf     map[holdfast.VolumeID]uint16
	originLimit  int // maxOrigins
	nodes        []*node
	nextNode     uint64
	rootsKept    time.Duration // when a received root was last made durable
	litter       bool          // there are hidden nodes that may go
	jobs         []*dropJob
	pins         []*Pin
	metaSegs     [2]*segment // open, for leaves of the maps and for what is above them
	cleaner      cleaner
	catalog      [2][]uint32 // places of the current catalog
	catalogList  [2]placeList
	catalogBytes uint64
	ckptSeq      uint64
	ckptSeg      uint32 // log segment of the current checkpoint
	ckptAsked    []func(error)
	ckptRuns     bool     // a checkpoint is being made
	ckptFailed   bool     // the last one failed
	hoarders     int      // operations that need many map pages at once: nothing is evicted
	lags         bool     // the merge is so far behind that writers pause
	missed       patience // of the merge task
	stalled      bool
	gate         fair.Gate // to the log, for writers
	letting      bool      // letIn is at work
	merging      bool      // the merge task is going to be woken
	onDrain      func()
	scrub        scrub
	faults       []Fault
	bornWall     time.Time // when it was opened
	usage        Usage
}

func newStore(dev disk.Device, o Options, sb superblock) *Store {
	segBlocks := uint32(sb.segmentBytes / blockSize)
	if o.CheckpointBytes == 0 {
		o.CheckpointBytes = min(256<<20, sb.size/8)
	}
	s := &Store{dev: dev, clk: o.Clock, log: o.Log, o: o, sb: sb, id: sb.id, shape: shapeFor(segBlocks), nowhere: &segment{}, fetchings: new(sync.Pool),
		commit: o.Clock.NewEvent(), merge: o.Clock.NewEvent(), keep: o.Clock.NewEvent(), tasks: clock.NewGroup(o.Clock),
		pages: blockmap.NewPages(nil), space: newSpace(segBlocks, sb.places),
		replicas: make(map[holdfast.ReplicaID]*Replica), byNum: make(map[uint32]*Replica), originOf: make(map[holdfast.VolumeID]uint16), nextNum: 1, originLimit: maxOrigins}
	s.wal.next = noPlace
	s.gate = fair.New(o.SharedLogBytes, o.LogBytes)
	s.scrub.wake, s.bornWall = o.Clock.NewEvent(), o.Clock.Wall()
	s.missed.s = s
	s.prompt, _ = dev.(disk.Prompt)
	return s
}

// Identity says whose disk it is.
func (s *Store) Identity() Identity { return s.id }

// Err is non-nil once the disk is fenced after a failed write or sync: nothing
// more becomes durable, and it must be opened anew, after Close.
func (s *Store) Err() error {
	s.lock()
	defer s.unlock()
	return s.err
}

// Usage tells how full the disk is.
func (s *Store) Usage() Usage {
	s.lock()
	defer s.unlock()
	u := s.usage
	u.Total = int64(s.sb.places) * s.sb.segmentBytes
	u.Usable = s.usable() * unitSize
	u.Free = int64(s.space.freePlaces()) * s.sb.segmentBytes
	u.Live = s.space.live * unitSize
	return u
}

// Full reports whether only the reserve is left, or the cleaner has to make room
// first: writers should stall.
func (s *Store) Full() bool {
	s.lock()
	defer s.unlock()
	if s.full() {
		s.stalled = true
		return true
	}
	return false
}

// OnDrain sets the function that is called, and must not block, whenever Full
// may have ended.
func (s *Store) OnDrain(f func()) {
	s.lock()
	defer s.unlock()
	s.onDrain = f
}

// kick makes the keeper look for work.
func (s *Store) kick() { s.keep.Set() }

func (s *Store) wakeAll() {
	s.commit.Set()
	s.merge.Set()
	s.keep.Set()
	s.scrub.wake.Set()
}

// allBatches is every batch that is not yet durable.
func (s *Store) allBatches() []*batch {
	w := &s.wal
	all := append(append([]*batch(nil), w.flight...), w.queue...)
	if w.open != nil {
		all = append(all, w.open)
	}
	return all
}

// Close makes a checkpoint and stops the background tasks. Calls in progress
// end with kind Closed. It does not close the device.
func (s *Store) Close() error {
	s.lock()
	if s.closing {
		s.unlock()
		return nil
	}
	s.closing = true
	s.unlock()
	err := s.Checkpoint()
	s.lock()
	s.stopped = true
	s.wakeAll()
	s.unlock()
	s.tasks.Wait()
	s.lock()
	closed := holdfast.Errorf(holdfast.Closed, "disk %s is closed", s.id.Disk)
	if s.err == nil {
		s.err = closed
	}
	for _, b := range s.allBatches() {
		for _, f := range append(b.written, b.synced...) {
			s.call(f, closed)
		}
		b.written, b.synced = nil, nil
	}
	for _, f := range s.ckptAsked {
		s.call(f, closed)
	}
	s.ckptAsked = nil
	s.unlock()
	return err
}
