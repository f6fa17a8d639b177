package volume

import (
	"encoding/binary"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// holding is what a joiner has of the volume before anything is sent.
type holding struct {
	boot   holdfast.BootID
	since  holdfast.LSN // its own content is the volume's up to here; 0: it has none that counts
	roots  map[rootName]bool
	lsns   map[holdfast.SnapshotID]holdfast.LSN // of the volume's snapshots, as the source shows them
	origin *replica.From                        // what the volume was cloned from, if that is on its disk
}

// rootName names the content of a snapshot.
type rootName struct {
	id  holdfast.SnapshotID
	lsn holdfast.LSN
}

// lacks returns the roots that the joiner does not have, oldest first.
func (h *holding) lacks(roots []replica.Root) (out []replica.Root) {
	for _, r := range roots {
		if !h.roots[rootName{r.ID, r.LSN}] {
			out = append(out, r)
		}
	}
	return out
}

// know notes the LSNs of the volume's snapshots.
func (h *holding) know(roots []replica.Root) {
	h.lsns = make(map[holdfast.SnapshotID]holdfast.LSN, len(roots))
	for _, r := range roots {
		h.lsns[r.ID] = r.LSN
	}
}

// prepare has the joiner promise the epoch and finds what it has: its content up
// to the last LSN that its history shares with the volume's, and snapshots.
func (j *joiner) prepare() (*holding, error) {
	rep, err := j.promised()
	if err != nil {
		return nil, err
	}
	if err := j.step(replica.KindBuildAbort, nil, nil); err != nil { // what was begun and not finished
		return nil, err
	}
	if rep.Building {
		if rep, err = j.promised(); err != nil {
			return nil, err
		}
	}
	has := &holding{boot: rep.Boot, roots: make(map[rootName]bool)}
	if !rep.Damaged {
		if has.since, err = j.shared(&rep); err != nil {
			return nil, err
		}
	}
	roots, err := j.kept()
	if err != nil {
		return nil, err
	}
	for _, r := range roots {
		if r.Aside || r.LSN <= has.since {
			has.roots[rootName{r.ID, r.LSN}] = true
		}
	}
	has.origin, err = j.origin(has.since)
	return has, err
}

// promised asks for the joiner's promise, and makes the replica if it is not
// there: it was planned and not made yet, or its disk was wiped.
func (j *joiner) promised() (rep replica.Report, err error) {
	v := j.v
	f, err := v.s.ask(j.ref, replica.KindPromise, replica.Ask{Epoch: v.epoch}, nil, nil)
	if holdfast.IsKind(err, holdfast.NotFound) {
		if err = v.s.CreateReplica(j.ref, v.id, v.Record().Blocks, holdfast.ReplicaID{}, cluster.Snapshot{}); err == nil {
			f, err = v.s.ask(j.ref, replica.KindPromise, replica.Ask{Epoch: v.epoch}, nil, nil)
		}
	}
	if err != nil {
		return rep, err
	}
	rep, err = replica.DecodeReport(f.Head)
	if err == nil && rep.Promise > v.epoch {
		err = holdfast.Errorf(holdfast.Fenced, "replica %s has promised epoch %d", j.ref.ID.Short(), rep.Promise)
		// It never takes part at this epoch: an opening that was given up got as far
		// as this replica. Whoever opens next does so at a higher one.
		v.fence(err)
	}
	return rep, err
}

// shared brings the joiner to the last LSN that its history shares with the
// volume's and that is on disk everywhere, and returns it; 0 if that is below
// what it may not give up, so that nothing it has counts. It does not wait for
// other replicas: one that is lost may be what the joiner is needed for.
func (j *joiner) shared(rep *replica.Report) (holdfast.LSN, error) {
	v := j.v
	v.mu.Lock()
	issued, stable := v.m.Issued(), v.m.Stable()
	v.mu.Unlock()
	since := min(replica.Common(rep.History, rep.Prefix, v.history, issued), stable)
	if since < rep.Stable || since == 0 {
		return 0, nil
	}
	if since < rep.Prefix {
		if err := j.stepTo(replica.KindTruncate, since, binary.LittleEndian.AppendUint64(nil, uint64(j.attempt)), nil); err != nil {
			return 0, err
		}
	}
	return since, j.stepTo(replica.KindSync, since, nil, nil)
}

// kept asks which snapshots the joiner has.
func (j *joiner) kept() ([]replica.Root, error) {
	f, err := j.v.s.ask(j.ref, replica.KindRoots, replica.Ask{Epoch: j.v.epoch}, nil, nil)
	if err != nil {
		return nil, err
	}
	roots, _, err := replica.DecodeRoots(whole(f.Bulk))
	return roots, err
}

// rootRounds bounds how often the snapshots that were made while others were
// sent are sent before the head.
const rootRounds = 20

// sendRoots sends the snapshots that the joiner lacks, oldest first, until none
// is missing. Nothing waits for the joiner meanwhile, and each is durable there:
// a join that fails goes on behind the last one.
func (j *joiner) sendRoots(has *holding) error {
	for range rootRounds {
		src, err := j.v.pin(0)
		if err != nil {
			return err
		}
		shows := src.shows()
		missing := has.lacks(shows.Roots)
		has.know(shows.Roots)
		j.v.mu.Lock()
		j.v.copy.parts = j.v.copy.part + len(missing) + 1 // and the head
		j.v.mu.Unlock()
		for _, r := range missing {
			if err = j.sendRoot(src, &shows, has, r); err != nil {
				break
			}
		}
		src.release()
		if err != nil || len(missing) == 0 {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Busy, "snapshots are made faster than they can be sent")
}

func (j *joiner) sendRoot(src source, shows *replica.Pinned, has *holding, r replica.Root) error {
	c, err := j.begin(has, shows, r, func(from replica.From) error {
		d := replica.RootBuild{Root: r, From: from}
		return j.step(replica.KindRootBegin, d.AppendTo(nil), nil)
	})
	if err != nil {
		return err
	}
	c.root, c.upto = r.ID, r.LSN
	if err := j.copy(src, c); err != nil {
		return err
	}
	d := replica.RootBuild{Root: r}
	if err := j.step(replica.KindRootEnd, d.AppendTo(nil), nil); err != nil {
		return err
	}
	crashpoint.At(crashpoint.JoinRootSent)
	has.roots[rootName{r.ID, r.LSN}] = true
	return nil
}

// begin has the joiner begin a root as the nearest thing that it has, and
// returns what is to be sent then. An origin that the joiner refuses does not
// count again.
func (j *joiner) begin(has *holding, shows *replica.Pinned, r replica.Root, try func(replica.From) error) (changes, error) {
	for {
		from, c := has.nearest(shows, r, j.v.history[0].Cut)
		err := try(from)
		if from.Kind != replica.FromOrigin || !holdfast.IsKind(err, holdfast.Conflict) {
			return c, err
		}
		j.v.log.Info("a linked clone is copied whole", "replica", j.ref.ID.Short(), "host", j.ref.Host.Short(), "why", err)
		has.origin = nil
	}
}

// nearest finds what a root, whose Parent the joiner has, can begin as there,
// and what it then lacks: the root that it descends from, the joiner's own
// content, what the volume was cloned from, or nothing; of those the newest.
// That all that changed since an LSN is newer than it holds only if the content
// was not set back to something older meanwhile. A clone's is never older than
// first, where it began.
func (h *holding) nearest(shows *replica.Pinned, r replica.Root, first holdfast.LSN) (from replica.From, c changes) {
	if h.origin != nil {
		from, c.since = *h.origin, h.origin.At
	}
	straight := h.since >= shows.Reverted || h.since <= first
	if straight && h.since >= from.At && h.since > 0 && h.since < r.LSN {
		from, c.since = replica.From{Kind: replica.FromHead, At: h.since}, h.since
	}
	if at, ok := h.lsns[r.Parent]; ok && at > from.At {
		from = replica.From{Kind: replica.FromSnapshot, Snapshot: r.Parent, At: at}
		c = changes{against: r.Parent}
	}
	return from, c
}

// Waiting for an image that is on its way to the joiner's disk too: for as long
// as copying it at a slow pace would take. A copy of the whole clone would
// carry the image's content all the same.
const (
	originWait = 30 * time.Second
	originPace = 32 << 20 // bytes per second
)

// origin finds the replica on the joiner's disk of what this volume is a linked
// clone of; nil: there is none. It is kind Unavailable while that is expected.
func (j *joiner) origin(since holdfast.LSN) (*replica.From, error) {
	v := j.v
	o := v.Record().Origin
	if o == nil {
		return nil, nil
	}
	rec, _, err := v.s.Records.ReadVolume(o.Volume)
	if holdfast.IsKind(err, holdfast.NotFound) || err == nil && rec.Deleted {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, ref := range rec.InSync {
		if ref.Disk == j.ref.Disk {
			return &replica.From{Kind: replica.FromOrigin, At: v.history[0].Cut, Snapshot: o.Snapshot, Origin: ref.ID}, nil
		}
	}
	for _, ref := range rec.Others {
		if ref.Disk == j.ref.Disk && since == 0 && v.awaits(j.ref.ID, rec.Blocks) {
			return nil, holdfast.Errorf(holdfast.Unavailable, "%s, which it was cloned from, is being rebuilt on the same disk; the clone follows", rec.Name)
		}
	}
	return nil, nil
}

// awaits reports whether a clone's replica may wait longer for its origin's.
func (v *Volume) awaits(id holdfast.ReplicaID, blocks uint64) bool {
	now := v.s.Clock.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	since, ok := v.awaited[id]
	if !ok {
		since = now
		v.awaited[id] = now
	}
	return now-since < originWait+time.Duration(blocks*holdfast.BlockSize/originPace)*time.Second
}
