package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// A block that fails its hash is restored where it lies, by the host that has
// it, from whichever other replica of the volume has the same block: whoever met
// it (a read, a resync, a scrub), in whatever root, and without the writer. An
// identity names one content for ever, so it needs no authority (adr/0048).

const (
	mendRetry   = 30 * time.Second // for faults of which a copy could not be asked
	mendNowhere = 10 * time.Minute // for those that no copy had
)

// mending is the state of the task that restores. Service.mu guards it.
type mending struct {
	running bool
	again   bool          // something was met since it began
	due     time.Duration // when it is to run next; 0: nothing says so
	nowhere time.Duration
}

// metRot counts bytes of this host that failed their hash when they were read,
// and has them restored.
func (s *Service) metRot(m *member, err error) {
	s.Log.Error("bad bytes on this host's disk", "replica", m.id.Short(), "error", err)
	s.noteRot(m.st.Identity().Disk, 1, 0)
	s.mendSoon()
}

// foundRot is told of a block that a scrub found bad, and restores it. It blocks.
func (s *Service) foundRot(st *store.Store, f store.Fault) {
	s.noteRot(st.Identity().Disk, 1, 0)
	if s.isClosed() {
		return
	}
	if err := s.restore(st, f); err != nil {
		s.mendLater(mendRetry)
	}
}

func (s *Service) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// mendSoon has the faults of this host's disks restored on a task.
func (s *Service) mendSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.mending.running:
		s.mending.again = true
	default:
		s.mending.running = true
		s.tasks.Go(s.mendFaults)
	}
}

// mendLater does it after a while.
func (s *Service) mendLater(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mendLaterLocked(d)
}

// A run that is due before that serves, one that is due later does not.
func (s *Service) mendLaterLocked(d time.Duration) {
	at := s.Clock.Now() + d
	if s.closed || s.mending.due != 0 && s.mending.due <= at {
		return
	}
	s.mending.due = at
	s.Clock.AfterFunc(d, func() {
		s.mu.Lock()
		mine := s.mending.due == at
		if mine {
			s.mending.due = 0
		}
		s.mu.Unlock()
		if mine {
			s.mendSoon()
		}
	})
}

func (s *Service) mendFaults() {
	for {
		now := s.Clock.Now()
		s.mu.Lock()
		s.mending.again = false
		all := now >= s.mending.nowhere
		s.mu.Unlock()
		left, nowhere := s.mendAll(all)
		s.mu.Lock()
		if all {
			s.mending.nowhere = now + mendNowhere
		}
		again := s.mending.again && !s.closed
		s.mending.running = again
		s.mu.Unlock()
		if again {
			continue
		}
		if left > 0 {
			s.mendLater(mendRetry)
		} else if nowhere > 0 {
			s.mendLater(mendNowhere)
		}
		return
	}
}

// mendAll tries every fault once, those that no copy had only if all is set, and
// counts what is left.
func (s *Service) mendAll(all bool) (left, nowhere int) {
	for _, st := range s.Stores() {
		for _, f := range st.Faults() {
			switch {
			case !f.Open() || s.isClosed():
			case f.Nowhere && !all:
				nowhere++
			default:
				err := s.restore(st, f)
				if holdfast.IsKind(err, holdfast.NotFound) {
					nowhere++
				} else if err != nil {
					left++
				}
			}
		}
	}
	return left, nowhere
}

// restore gets a block from another replica and puts it in place. Kind NotFound
// if every copy was asked and none has it.
func (s *Service) restore(st *store.Store, f store.Fault) error {
	r := st.Replica(f.Replica)
	if r == nil {
		return nil
	}
	want := replica.Block{Addr: f.Addr, LSN: f.LSN, Origin: f.Origin, Hash: f.Hash, Lost: true}
	rec, _, err := s.Records.ReadVolume(r.State().Volume)
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "the volume's record cannot be read: %w", err)
	}
	data, all, err := s.seek(rec, f.Replica, want)
	switch {
	case holdfast.IsKind(err, holdfast.NotFound) && all:
		st.NoteNowhere(f)
		return err
	case err != nil:
		return holdfast.Errorf(holdfast.Unavailable, "%w", err)
	}
	done, err := st.Restore(f, store.Block{Addr: f.Addr, LSN: f.LSN, Origin: f.Origin, Hash: f.Hash, Data: data})
	if err != nil {
		s.Log.Warn("a block could not be restored", "replica", f.Replica.Short(), "block", f.Addr, "error", err)
		return err
	}
	if done {
		s.noteRot(st.Identity().Disk, 0, 1)
	}
	return nil
}

// seek asks the other replicas of a volume for a block: those in sync first, but
// also others, whose content may be old and yet have this block. Kind NotFound if
// all that are in sync answered and nobody has it; all says that the others
// answered, too. It blocks.
func (s *Service) seek(rec cluster.Volume, except holdfast.ReplicaID, want replica.Block) (data []byte, all bool, err error) {
	var unknown error
	all = true
	for i, ref := range append(append([]cluster.Replica(nil), rec.InSync...), rec.Others...) {
		if ref.ID == except {
			continue
		}
		if i >= len(rec.InSync) && !s.Records.Alive(ref.Host) {
			all = false
			continue
		}
		if data, err = s.seekAt(ref, want); err == nil {
			return data, all, nil
		}
		if !holdfast.IsKind(err, holdfast.NotFound) {
			all = false
			if i < len(rec.InSync) {
				unknown = err
			}
		}
	}
	if unknown != nil {
		return nil, all, holdfast.Errorf(holdfast.Unavailable, "a copy that may have the block cannot be asked: %w", unknown)
	}
	return nil, all, holdfast.Errorf(holdfast.NotFound, "no other copy of volume %s has block %d as of %v", rec.Name, want.Addr, want.LSN)
}

func (s *Service) seekAt(ref cluster.Replica, want replica.Block) ([]byte, error) {
	f, err := s.ask(ref, replica.KindFind, replica.Ask{}, want.AppendTo(nil), nil)
	if err != nil {
		return nil, err
	}
	bulk := whole(f.Bulk)
	ids, err := replica.DecodeBlocks(f.Head, len(bulk))
	if err != nil {
		return nil, err
	}
	got := want
	got.Lost = false
	if len(ids) != 1 || ids[0] != got {
		return nil, holdfast.Errorf(holdfast.NotFound, "replica %s does not have block %d as of %v", ref.ID.Short(), want.Addr, want.LSN)
	}
	if checksum.Block(got.Origin, got.Addr, got.LSN, bulk) != got.Hash {
		return nil, holdfast.Errorf(holdfast.Unavailable, "block %d arrived from replica %s with a wrong hash", want.Addr, ref.ID.Short())
	}
	return bulk, nil
}

// serveFind returns the blocks of those identities that are here and whole.
// Whoever asks is a member of the cluster; no epoch matters: what an identity
// names never changes.
func (s *Service) serveFind(m *member, _ replica.Ask, rest, _ []byte) (out transport.Frame, err error) {
	ids, err := replica.DecodeBlocks(rest, 0)
	if err != nil {
		return out, err
	}
	var bulk []byte
	for _, b := range ids {
		buf := make([]byte, b.Bytes())
		err := m.r.Find(store.Block{Addr: b.Addr, LSN: b.LSN, Origin: b.Origin, Hash: b.Hash, Hole: b.Hole}, buf)
		if rotten(err) {
			s.metRot(m, err)
			continue
		}
		if holdfast.IsKind(err, holdfast.NotFound) {
			continue
		}
		if err != nil {
			return transport.Frame{}, err
		}
		b.Lost = false
		out.Head = b.AppendTo(out.Head)
		bulk = append(bulk, buf...)
	}
	if len(bulk) > 0 {
		out.Bulk = [][]byte{bulk}
	}
	return out, nil
}

// maxLost is how many blocks a rebuild may leave behind as lost. Where a disk
// gives less than that, it is failing, and waiting for another copy, or for a
// person, is better than to go on without so much.
const maxLost = 1024

// complete looks elsewhere for the blocks of a page that could not be read where
// it came from: at the other replicas, and at the joiner, which may have kept
// them. What nobody has travels as lost, so that one bad block does not keep the
// rest from being copied.
func (j *joiner) complete(pg *page) error {
	for i := range pg.blocks {
		b := &pg.blocks[i]
		if !b.Lost {
			continue
		}
		data, _, err := j.v.s.seek(j.v.Record(), holdfast.ReplicaID{}, *b)
		switch {
		case err == nil:
			b.Lost, pg.data[i] = false, data
		case !holdfast.IsKind(err, holdfast.NotFound):
			return err
		case j.lost >= maxLost:
			return holdfast.Errorf(holdfast.Damaged, "more than %d blocks of volume %s can be read from no copy; its last disk is failing, and the copy is not finished", maxLost, j.v.Record().Name)
		default:
			j.lost++
			j.v.log.Error("a block is lost in every copy", "block", b.Addr, "lsn", b.LSN.String(), "of_this_copy", j.lost)
		}
	}
	return nil
}
