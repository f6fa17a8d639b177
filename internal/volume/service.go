// Package volume runs the volumes of one host: it serves this host's replicas
// to the writers of the cluster (member.go), opens volumes for writing by
// take-over (open.go), and as their writer orders, replicates and acknowledges
// what the exports submit (volume.go and on). The decisions are the machines
// of package replica; this package moves the bytes.
//
// Rules: STORE §5 to §10.
//
// Locks, outermost first: Service.mu, Volume.mu, member.mu. None is held
// across a wait.
package volume

import (
	"encoding/binary"
	"io"
	"log/slog"
	"slices"
	"sort"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/seal"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Records is where volume records are kept: the cluster's kv.
type Records interface {
	// ReadVolume reads the record as it is now; kind NotFound if there is none.
	ReadVolume(id holdfast.VolumeID) (cluster.Volume, kv.Rev, error)
	// CommitVolume replaces the record if it was last changed at mod. Kind
	// Conflict: it was changed; kind Unknown: it may or may not have happened.
	CommitVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error)
	// ClaimVolume is CommitVolume of a record that makes this host the writer.
	// It is refused, kind Unavailable, if the volume is the disk of a VM that
	// runs on another host by what is true at the commit: only the host that a
	// VM is assigned to may write its disk (invariant 4).
	ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error)
	// Alive reports whether a host holds its lease, as far as is known here.
	Alive(h holdfast.HostID) bool
	// Uses reports whether a replica's host is alive and says that it uses the disk
	// which the replica is on.
	Uses(r cluster.Replica) bool
}

// Config is what a Service is made of.
type Config struct {
	Self    holdfast.HostID
	Boot    holdfast.BootID // of this process's memory
	Clock   clock.Clock
	Rand    io.Reader
	Net     transport.Network
	Records Records
	// Known returns a volume's record as this host last heard of it, without
	// asking; nil: it has heard of none.
	Known func(holdfast.VolumeID) (cluster.Volume, bool)
	Log   *slog.Logger
	// MayOpen decides whether a session may make this host a volume's writer;
	// nil allows it.
	MayOpen func(holdfast.VolumeID) error
	// MaySession decides whether a writing session may begin on a volume that is
	// open here at a cache generation: a machine that was started at an earlier
	// one may not go on (invariant 12); nil allows it.
	MaySession func(id holdfast.VolumeID, generation uint32) error
	// Keys returns the data keys of an encrypted volume and of what it was cloned
	// from, or why it is locked, kind Unavailable: then it is not opened.
	Keys func(rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error)
	// Sealed, unless nil, is told of every sealing here, for a checker.
	Sealed func(key keyring.Key, nonce [seal.NonceSize]byte, plaintext []byte)
	// Visits, unless nil, count what happens to the protocol's machines, for a
	// checker that runs one task at a time.
	Visits *Visits
	// Priority is that of the VM whose disk a volume is, from 0 up; nil: none has.
	Priority func(holdfast.VolumeID) int
	// RebuildRate is how many bytes a second rebuilds may read from a disk and
	// write to it, together; 0: no limit but what the foreground leaves.
	RebuildRate int64
	// Runs reports whether a machine here has a volume as a disk. Such a volume is
	// written here or, if this host may not, by no session of this host: whoever
	// writes it elsewhere does so for another machine of the VM, or for nobody
	// (invariant 4).
	Runs func(holdfast.VolumeID) bool
	// Belongs reports whether a volume is to be written on this host wherever
	// its replicas are: a VM that uses it is assigned here; nil: none is.
	Belongs func(holdfast.VolumeID) bool
	// Drained reports whether a host is drained: it should not become a writer
	// where another one can; nil: none is.
	Drained func(holdfast.HostID) bool
}

// Service is the volumes and replicas of one host.
type Service struct {
	Config
	tasks *clock.Group

	mu      sync.Mutex
	closed  bool
	stores  map[holdfast.DiskID]*store.Store
	members map[holdfast.ReplicaID]*member
	opened  map[holdfast.VolumeID]*slot
	remote  map[holdfast.SessionID]*served
	carried map[holdfast.VolumeID]int         // writing sessions that follow their volume, at this side
	carries map[holdfast.SessionID]*forwarded // all of them
	gone    map[holdfast.SessionID]gone       // sessions that went with their volume
	handing map[holdfast.VolumeID]*handing    // volumes that are handed over, from here or to here
	rot     map[holdfast.DiskID]Rot
	pins    map[uint64]*heldPin // roots kept for writers elsewhere
	lastPin uint64              // a life's begin anywhere: what is asked of a pin of an earlier one must not meet another
	renewed uint64              // disks that were opened anew
	mending mending

	rebuilds rebuilds
	lanes    map[holdfast.DiskID]*lane // to disks of other hosts
}

// slot is a volume that is being opened or open here.
type slot struct {
	vol     *Volume // nil while opening
	err     error
	waiters []clock.Event
}

// New returns a service without disks and installs its handlers on c.Net,
// which is started afterwards.
func New(c Config) *Service {
	s := &Service{
		Config:   c,
		tasks:    clock.NewGroup(c.Clock),
		stores:   make(map[holdfast.DiskID]*store.Store),
		members:  make(map[holdfast.ReplicaID]*member),
		opened:   make(map[holdfast.VolumeID]*slot),
		remote:   make(map[holdfast.SessionID]*served),
		carried:  make(map[holdfast.VolumeID]int),
		carries:  make(map[holdfast.SessionID]*forwarded),
		gone:     make(map[holdfast.SessionID]gone),
		handing:  make(map[holdfast.VolumeID]*handing),
		rot:      make(map[holdfast.DiskID]Rot),
		pins:     make(map[uint64]*heldPin),
		lanes:    make(map[holdfast.DiskID]*lane),
		rebuilds: rebuilds{disks: make(map[holdfast.DiskID]*governor), links: make(map[holdfast.HostID]*governor)},
	}
	s.lastPin = binary.LittleEndian.Uint64(s.Boot.UUID[:])
	s.handleMembers()
	s.handleSessions()
	s.Net.Handle(KindGroup, s.serveGroup)
	return s
}

// AddStore begins to serve the replicas of a disk.
func (s *Service) AddStore(st *store.Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range st.Replicas() {
		s.addMember(st, r)
	}
	s.useStore(st)
}

// useStore makes a store the one of its disk; s.mu is held.
func (s *Service) useStore(st *store.Store) {
	s.stores[st.Identity().Disk] = st
	st.OnDrain(s.drained)
	st.OnBad(func(f store.Fault) { s.foundRot(st, f) })
	if slices.ContainsFunc(st.Faults(), func(f store.Fault) bool { return f.Open() }) { // that were known before this life of the process
		s.mendLaterLocked(mendRetry)
	}
}

// RemoveStore ends the use of a disk, of which no volume needs anything any more.
// Its owner closes the store afterwards.
func (s *Service) RemoveStore(id holdfast.DiskID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.stores, id)
	delete(s.rot, id)
	for k, m := range s.members {
		if m.st.Identity().Disk == id {
			delete(s.members, k)
		}
	}
}

// Stores returns the disks in order of identity.
func (s *Service) Stores() []*store.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*store.Store, 0, len(s.stores))
	for _, st := range s.stores {
		out = append(out, st)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i].Identity().Disk, out[j].Identity().Disk
		return string(a.UUID[:]) < string(b.UUID[:])
	})
	return out
}

// drained wakes the volumes that paused admission for a disk.
func (s *Service) drained() {
	for _, v := range s.Volumes() {
		v := v
		s.Clock.Go(v.admitWaiting)
	}
}

// Volumes returns the volumes that are open here, in order of identity.
func (s *Service) Volumes() []*Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Volume
	for _, sl := range s.opened {
		if sl.vol != nil {
			out = append(out, sl.vol)
		}
	}
	sort.Slice(out, func(i, j int) bool { return string(out[i].id.UUID[:]) < string(out[j].id.UUID[:]) })
	return out
}

// Close ends all sessions and volumes, and waits for the service's tasks. The
// stores are closed by their owner afterwards.
func (s *Service) Close() {
	g := clock.NewGroup(s.Clock)
	for _, v := range s.Volumes() {
		g.Go(v.Close)
	}
	g.Wait()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.tasks.Wait()
}

// ask sends one request about a replica to the host that has it and waits.
func (s *Service) ask(ref cluster.Replica, kind transport.Kind, a replica.Ask, more []byte, bulk [][]byte) (transport.Frame, error) {
	a.Replica = ref.ID
	limit := askTimeout
	switch kind {
	case replica.KindRootEnd, replica.KindBuildEnd, replica.KindDigest, replica.KindReinstate:
		limit = longAsk
	}
	head := append(a.AppendTo(make([]byte, 0, 64+len(more))), more...)
	return transport.Call(s.Clock, s.Net, ref.Host, transport.Frame{Kind: kind, Head: head, Bulk: bulk}, limit)
}
