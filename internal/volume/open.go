package volume

import (
	"encoding/binary"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// Times of a take-over.
const (
	promiseWait = 10 * time.Second       // for members, if none of those that answered kept its memory
	promiseSoon = 1 * time.Second        // for the others, once one that kept its memory has answered
	promiseTry  = 250 * time.Millisecond // between tries at a member that cannot be reached
	openTries   = 8                      // commits lost to others before an opening gives up
)

// takeover is one opening in progress (STORE §6).
type takeover struct {
	s     *Service
	rec   cluster.Volume
	mod   kv.Rev
	epoch holdfast.Epoch

	after   *released // the volume is handed over; nil: it is not
	sealing *sealing
	blocks  uint64 // size of the smallest replica, which the record may exceed
	behind  int    // members that answer and are damaged, or cannot be brought to the cut by records
	gone    int    // members that are not on their disks any more; they are built anew there
	coming  int    // copies beside the members that can be made whole from them
}

func (t *takeover) visit(p int) { t.s.visits().Takeover.Hit(p) }

// seat is an in-sync member that takes part in an opening.
type seat struct {
	ref    cluster.Replica
	report replica.Report
}

// open takes the volume over and returns its writer; with after, only if nobody
// has since the last one gave it up. It blocks.
func (s *Service) open(id holdfast.VolumeID, after *released) (*Volume, error) {
	t := &takeover{s: s, after: after}
	var seen holdfast.Epoch
	for range openTries {
		if err := t.claim(id, seen); err != nil {
			if retryable(err) {
				clock.Sleep(s.Clock, promiseTry)
				continue
			}
			return nil, err
		}
		seats, promised, err := t.collect()
		if promised > t.epoch {
			t.visit(promiseHigher)
			seen = promised // a promise above kv's epoch: kv was restored, or another opening is ahead
			continue
		}
		if err != nil {
			return nil, err
		}
		v, err := t.finish(seats)
		if err == nil {
			err = v.keepForced()
		}
		if err != nil && retryable(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return v, nil
	}
	return nil, holdfast.Errorf(holdfast.Busy, "volume %s: another host kept opening it at the same time; try again", id.Short())
}

func retryable(err error) bool {
	k := holdfast.KindOf(err)
	return k == holdfast.Conflict || k == holdfast.Unknown
}

// claim commits the new epoch with this host as the writer.
func (t *takeover) claim(id holdfast.VolumeID, seen holdfast.Epoch) error {
	rec, mod, err := t.s.Records.ReadVolume(id)
	if err != nil {
		t.visit(claimUnread)
		return err
	}
	if rec.Deleted {
		t.visit(claimDeleted)
		return holdfast.Errorf(holdfast.NotFound, "volume %s is being deleted", rec.Name)
	}
	if t.after != nil && !t.after.still(&rec, t.s.Self, t.epoch) {
		t.visit(claimOvertaken)
		return holdfast.Errorf(holdfast.Fenced, "volume %s was opened by another host before it could be handed over", rec.Name)
	}
	if t.sealing, err = t.s.newSealing(rec); err != nil {
		t.visit(claimLocked)
		return err
	}
	if len(rec.InSync) == 0 {
		t.visit(claimEmpty)
		return holdfast.Errorf(holdfast.Unavailable, "volume %s has no in-sync replica left", rec.Name)
	}
	rec.Epoch = replica.Next(rec.Epoch, seen)
	if rec.Epoch > holdfast.MaxEpoch {
		return holdfast.Errorf(holdfast.Invalid, "volume %s has used up its epochs; copy it to a new volume", rec.Name)
	}
	rec.Writer = t.s.Self
	t.epoch = rec.Epoch
	t.mod, err = t.s.Records.ClaimVolume(rec, mod)
	t.visit(claimCommitted + commitEvent(err))
	if err != nil {
		return err
	}
	crashpoint.At(crashpoint.TakeoverClaimed)
	t.rec = rec
	return nil
}

// collect has the in-sync members promise the epoch. It waits for all of them
// as long as none that answered kept its memory, and returns the highest
// promise it met.
func (t *takeover) collect() (seats []seat, highest holdfast.Epoch, err error) {
	type result struct {
		i   int
		rep replica.Report
		err error
	}
	c := t.s.Clock
	results := clock.NewQueue[result](c)
	start := c.Now()
	refs := t.rec.InSync // a late answer finds its question, whatever became of the record
	ask := func(i int) {
		f, err := t.s.ask(refs[i], replica.KindPromise, replica.Ask{Epoch: t.epoch}, nil, nil)
		r := result{i: i, err: err}
		if err == nil {
			r.rep, r.err = replica.DecodeReport(f.Head)
		}
		results.Put(r)
	}
	for i := range t.rec.InSync {
		t.s.tasks.Go(func() { ask(i) })
	}
	reports := make([]*replica.Report, len(t.rec.InSync))
	gone := make([]bool, len(t.rec.InSync))
	var lastErr error
	for {
		kept, missing := 0, 0
		for _, r := range reports {
			switch {
			case r == nil:
				missing++
			case r.Eligible() && r.Kept:
				kept++
			}
		}
		elapsed := c.Now() - start
		if missing == 0 || kept > 0 && elapsed >= promiseSoon || elapsed >= promiseWait ||
			kept > 0 && !t.anyMissingAlive(reports) {
			break
		}
		items, _ := results.Take(promiseTry)
		for _, r := range items {
			if r.err == nil {
				reports[r.i], gone[r.i] = &r.rep, false
				highest = max(highest, r.rep.Promise)
				continue
			}
			lastErr, gone[r.i] = r.err, holdfast.IsKind(r.err, holdfast.NotFound)
			t.s.tasks.Go(func() { clock.Sleep(c, promiseTry); ask(r.i) })
		}
	}
	t.gone = 0
	for i, r := range reports {
		switch {
		case r != nil:
			seats = append(seats, seat{t.rec.InSync[i], *r})
		case gone[i] && t.s.Records.Uses(t.rec.InSync[i]):
			t.gone++
		}
	}
	t.visit(promiseEvent(reports, c.Now()-start))
	crashpoint.At(crashpoint.TakeoverPromised)
	if len(seats) == 0 {
		err = holdfast.Errorf(holdfast.Unavailable, "volume %s: none of its %d in-sync replicas can be reached: %w", t.rec.Name, len(t.rec.InSync), lastErr)
	}
	return seats, highest, err
}

func (t *takeover) anyMissingAlive(reports []*replica.Report) bool {
	for i, r := range reports {
		if r == nil && t.s.Records.Alive(t.rec.InSync[i].Host) {
			return true
		}
	}
	return false
}

// finish ejects who is silent or not eligible, levels the rest at the cut,
// starts the epoch on them and opens the volume.
func (t *takeover) finish(seats []seat) (*Volume, error) {
	if err := t.reinstate(seats); err != nil {
		return nil, err
	}
	reports := make([]replica.Report, len(seats))
	for i, st := range seats {
		reports[i] = st.report
	}
	asked := t.s.Clock.Now()
	cut, ok := replica.Takeover(reports)
	t.visit(cutEvent(reports, cut, ok))
	if !ok {
		return nil, holdfast.Errorf(holdfast.Damaged, "volume %s: every in-sync replica that can be reached is damaged or incomplete; bring back the others", t.rec.Name)
	}
	best := seats[cut.Best]
	t.blocks = best.report.Blocks
	for _, st := range seats { // one may have been built when the volume was larger than its records said
		t.blocks = min(t.blocks, st.report.Blocks)
	}
	var keep []seat
	t.behind = 0
	for i, st := range seats {
		if i == cut.Best || reports[i].Eligible() && t.levelled(st, best, cut.LSN) {
			keep = append(keep, st)
		} else {
			t.behind++
		}
	}
	if !cut.Kept {
		t.rec.Generation++
	}
	t.coming = t.others()
	if err := t.settle(keep, len(t.rec.InSync)-len(seats)-t.gone); err != nil {
		return nil, err
	}
	start := record.Start{Epoch: t.epoch, Prev: lastEpoch(best.report.History), Cut: cut.LSN, Generation: t.rec.Generation}
	keep, err := t.begin(keep, start)
	if err != nil {
		return nil, err
	}
	t.visit(t.waitEvent(cut.Wait - (t.s.Clock.Now() - asked)))
	if t.after != nil { // the only one who has leases does not read any more
		t.after.taken = true
	} else {
		clock.Sleep(t.s.Clock, cut.Wait-(t.s.Clock.Now()-asked))
	}
	crashpoint.At(crashpoint.TakeoverWaited)
	return t.s.newVolume(t, keep, append(append([]record.Start(nil), best.report.History...), start)), nil
}

// others counts the copies that are not in sync and whose hosts can be reached.
func (t *takeover) others() (n int) {
	for _, ref := range t.rec.Others {
		if t.s.Records.Alive(ref.Host) {
			n++
		}
	}
	return n
}

// settle commits the in-sync set that the opening goes on with. Of the members
// until now some are silent, and may come back with all that they hold: they are
// not given up where that leaves fewer copies than there must be, be it at once or
// as soon as those that are behind or to be built are whole, for which writes wait.
func (t *takeover) settle(keep []seat, silent int) error {
	rec := t.rec
	for _, ref := range t.rec.InSync {
		if !seated(keep, ref) {
			rec.Eject(ref, t.s.Clock.Wall(), 0)
		}
	}
	if silent > 0 && len(rec.InSync)+t.behind+t.gone+t.coming < rec.Min {
		t.visit(settleBelow)
		return holdfast.Errorf(holdfast.Unavailable, "volume %s: %d replicas can be reached, its minimum is %d", rec.Name, len(rec.InSync), rec.Min)
	}
	mod, err := t.s.Records.CommitVolume(rec, t.mod)
	t.visit(settleEvent(err, len(rec.InSync) < len(t.rec.InSync)))
	if err != nil {
		return err
	}
	crashpoint.At(crashpoint.TakeoverSettled)
	t.rec, t.mod = rec, mod
	return nil
}

func seated(keep []seat, ref cluster.Replica) bool {
	for _, k := range keep {
		if k.ref.ID == ref.ID {
			return true
		}
	}
	return false
}

// level brings a member to exactly the cut: what it holds beyond the history
// it shares with the best goes, what it lacks is filled from the best.
func (t *takeover) level(st, best seat, cut holdfast.LSN) error {
	at := replica.Common(st.report.History, st.report.Prefix, best.report.History, best.report.Prefix)
	if at < st.report.Prefix {
		if at < st.report.Stable {
			return holdfast.Errorf(holdfast.Damaged, "replica %s parted below its stable point", st.ref.ID.Short())
		}
		attempt := binary.LittleEndian.AppendUint64(nil, uint64(store.OpeningAttempt(t.epoch)))
		if _, err := t.s.ask(st.ref, replica.KindTruncate, replica.Ask{Epoch: t.epoch, Upto: at}, attempt, nil); err != nil {
			return err
		}
		crashpoint.At(crashpoint.TakeoverCutBack)
	}
	for at < cut {
		f, err := t.s.ask(best.ref, replica.KindTail, replica.Ask{Epoch: t.epoch, Upto: at}, nil, nil)
		if err != nil {
			return err
		}
		next, err := t.replay(st.ref, f, at)
		if err != nil {
			return err
		}
		if next <= at {
			return holdfast.Errorf(holdfast.Damaged, "replica %s gave no records after %v though it holds %v", best.ref.ID.Short(), at, cut)
		}
		crashpoint.At(crashpoint.TakeoverFilled)
		at = next
	}
	return nil
}

// replay hands a run of records to a member: their identity stays, the
// authority is this epoch's.
func (t *takeover) replay(to cluster.Replica, f transport.Frame, at holdfast.LSN) (holdfast.LSN, error) {
	bulk := whole(f.Bulk)
	recs, err := replica.DecodeRecords(f.Head, bulk, nil, new([]uint64))
	if err != nil {
		return at, err
	}
	ask := replica.Ask{Epoch: t.epoch}
	for len(recs) > 0 {
		if recs[0].Kind == record.EpochStart {
			if _, err := t.s.ask(to, replica.KindBegin, ask, replica.AppendStart(nil, recs[0].Start), nil); err != nil {
				return at, err
			}
			at, recs = recs[0].LSN, recs[1:]
			continue
		}
		n := 0
		var head []byte
		var data [][]byte
		for n < len(recs) && recs[n].Kind != record.EpochStart {
			head = recs[n].AppendHeader(head)
			if len(recs[n].Data) > 0 {
				data = append(data, recs[n].Data)
			}
			n++
		}
		out, err := t.s.ask(to, replica.KindAppend, ask, head, data)
		if err != nil {
			return at, err
		}
		ans, err := replica.DecodeAnswer(out.Head)
		if err != nil {
			return at, err
		}
		if at = recs[n-1].Last(); ans.Prefix < at {
			return at, holdfast.Errorf(holdfast.Gap, "replica %s stopped at %v instead of %v", to.ID.Short(), ans.Prefix, at)
		}
		recs = recs[n:]
	}
	return at, nil
}

// begin starts the epoch on every seat at once; who fails is ejected.
func (t *takeover) begin(seats []seat, start record.Start) ([]seat, error) {
	more := replica.AppendStart(nil, start)
	errs := make([]error, len(seats))
	g := clock.NewGroup(t.s.Clock)
	for i := range seats {
		g.Go(func() {
			_, errs[i] = t.s.ask(seats[i].ref, replica.KindBegin, replica.Ask{Epoch: t.epoch}, more, nil)
		})
	}
	g.Wait()
	var keep []seat
	var failed error
	for i, err := range errs {
		if err == nil {
			keep = append(keep, seats[i])
		} else {
			failed = err
		}
	}
	t.visit(beginEvent(len(keep), len(seats)))
	crashpoint.At(crashpoint.TakeoverBegun)
	if len(keep) == 0 {
		return nil, failed
	}
	if len(keep) < len(seats) {
		return keep, t.settle(keep, len(seats)-len(keep))
	}
	return keep, nil
}
