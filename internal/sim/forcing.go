package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
	"github.com/holdfast-cloud/holdfast/internal/history"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// forcing has, in one seed of six, a client's volume come to where only a copy is
// left that was ejected long before, and a person open it from that (ADR 0065).
// Later the lost copies come back.
type forcing struct {
	s    *simulation
	rng  *rand.Rand
	done []*forcedOpening
}

// forcedOpening is one that took place, and what must be so since.
type forcedOpening struct {
	c      *blockClient
	record cluster.Forced
	held   *mark                            // what the replica must hold that it was opened from
	sure   holdfast.LSN                     // what that has on disk
	host   *host                            // of it
	life   int                              // of that host, when it was planned
	lost   map[holdfast.ReplicaID]*mark     // what those must hold that were done without
	gone   map[holdfast.SnapshotID]struct{} // snapshots that went with them
}

const (
	forceSeeds  = 6                // of how many one has this
	forceSoon   = 12 * time.Second // after the beginning, at most
	ejectLimit  = 15 * time.Second
	staleFor    = 3 * time.Second // that clients go on without the copy, at most
	forceLimit  = time.Minute
	backAfter   = 8 * time.Second // the lost ones come back, at most
	stopWithin  = time.Second     // the client waits for no operation longer than that
	lateCommit  = 10 * time.Second
	forceLooks  = 100 * time.Millisecond
	forceCopies = 2
)

func (s *simulation) newForcing() *forcing { return &forcing{s: s, rng: s.w.Rand("forcing")} }

// start has it go on beside the other faults; from a story it is played like them.
func (x *forcing) start(f *faults) {
	if x.rng.IntN(forceSeeds) == 0 && x.s.with("forcing") {
		x.s.c.Go(func() { x.strand(f) })
	}
}

// upTo draws a time, in milliseconds.
func (x *forcing) upTo(most time.Duration) time.Duration {
	return time.Duration(x.rng.Int64N(int64(most/time.Millisecond))) * time.Millisecond
}

// strand brings a volume there: the host of one copy loses its power until the
// copy is ejected and the client has gone on, then those of all others, and only
// the first comes back.
func (x *forcing) strand(f *faults) {
	clock.Sleep(x.s.c, 2*time.Second+x.upTo(forceSoon))
	c := x.s.clients[x.rng.IntN(len(x.s.clients))]
	rec := x.s.eye.State().Volumes[c.vol.ID].Val
	if f.over || len(rec.InSync) < forceCopies {
		return
	}
	stale := rec.InSync[x.rng.IntN(len(rec.InSync))]
	h := x.s.byID(stale.Host)
	if h.computer == nil || h.swapped != nil {
		return
	}
	f.strike("power off host %s", h.name)
	ejected := func() bool {
		rec = x.s.eye.State().Volumes[c.vol.ID].Val
		return len(rec.InSync) > 0 && slices.ContainsFunc(rec.Others, func(r cluster.Replica) bool { return r.ID == stale.ID })
	}
	for end := x.s.w.Now() + ejectLimit; !ejected(); clock.Sleep(x.s.c, forceLooks) {
		if f.over || x.s.w.Now() > end || !slices.ContainsFunc(append(rec.InSync, rec.Others...), func(r cluster.Replica) bool { return r.ID == stale.ID }) {
			f.strikeUnlessOver("power on host %s", h.name)
			return
		}
	}
	clock.Sleep(x.s.c, x.upTo(staleFor))
	var lost []*host
	for _, r := range x.s.eye.State().Volumes[c.vol.ID].Val.InSync {
		if o := x.s.byID(r.Host); o != h && o.computer != nil && !slices.Contains(lost, o) {
			lost = append(lost, o)
			f.strikeUnlessOver("power off host %s", o.name)
		}
	}
	f.strikeUnlessOver("power on host %s", h.name)
	clock.Sleep(x.s.c, time.Second+x.upTo(2*time.Second))
	if !f.over {
		x.s.act(x.s.line("force volume %s", c.vol.Name)).Wait(forceLimit)
		clock.Sleep(x.s.c, x.s.wholeMillisecond())
	}
	clock.Sleep(x.s.c, x.upTo(backAfter))
	for _, o := range lost {
		f.strikeUnlessOver("power on host %s", o.name)
		clock.Sleep(x.s.c, x.upTo(2*time.Second))
	}
}

// force is a person who finds that of a volume only a stale copy is left: they ask
// what it would mean to open it, and say that the others will not come back. Its
// client has been stopped before.
func (x *forcing) force(c *blockClient) error {
	if c.held || c.forced != nil {
		return holdfast.Errorf(holdfast.Busy, "somebody else is at work on it")
	}
	defer func() { c.held = false }()
	c.patience = stopWithin
	if !c.rest(restLimit) {
		return holdfast.Errorf(holdfast.Busy, "its client does not rest")
	}
	i := slices.IndexFunc(x.s.hosts, (*host).serving)
	if i < 0 {
		return holdfast.Errorf(holdfast.Unavailable, "no host serves")
	}
	was, err := cluster.PeekVolume(x.s.peek, c.vol.ID)
	if err != nil {
		return err
	}
	began := int64(x.s.w.Now())
	var plan provision.ForcePlan
	err = x.s.op.wholly(x.s.hosts[i], func(p *provision.Provisioner) (err error) {
		say := provision.Force{Lost: true, By: "operator"}
		if plan, err = p.PlanForce(c.vol.ID, holdfast.HostID{}); err == nil {
			say.From, say.Holds = plan.From.Host, plan.From.Report.Prefix.String()
			err = plan.Allow(say)
		}
		if err == nil {
			_, err = p.ForceOpen(c.vol.ID, say)
		}
		return err
	})
	for end := x.s.w.Now() + lateCommit; ; clock.Sleep(x.s.c, forceLooks) {
		is, perr := cluster.PeekVolume(x.s.peek, c.vol.ID)
		switch {
		case perr == nil && is.Forced != nil && (was.Forced == nil || is.Forced.Epoch > was.Forced.Epoch):
			c.did.Except(func(o history.Op) bool { // of who has read it as it was forced open, before this was seen here
				return o.Kind == history.Read && o.Client != c.n && o.Gen > was.Generation && o.Call >= began
			})
			x.opened(c, plan, was, is)
			return nil
		case !holdfast.IsKind(err, holdfast.Unknown) || x.s.w.Now() > end:
			return err
		}
	}
}

// opened notes that a volume was forced open, and holds the plan that the person
// was shown against what is known of the replicas.
func (x *forcing) opened(c *blockClient, plan provision.ForcePlan, was, is cluster.Volume) {
	f := *is.Forced
	o := &forcedOpening{c: c, record: f, held: c.marks.mark(f.Replica), sure: plan.From.Report.Durable, lost: make(map[holdfast.ReplicaID]*mark), gone: make(map[holdfast.SnapshotID]struct{})}
	if o.host = x.s.byID(is.InSync[0].Host); o.host != nil {
		o.life = o.host.lives
	}
	x.s.tell("%s is forced open from the copy on %s: what was flushed above LSN %v may be missing, %d copies are lost", c.vol.Name, x.s.nameOf(is.InSync[0].Host), f.Upto, len(plan.Lost))
	switch {
	case plan.From.ID != f.Replica || plan.From.Report.Prefix != f.Upto:
		x.s.fail("%s: the plan was to open %s at %v, and what was opened is %s at %v", c.vol.Name, plan.From.ID.Short(), plan.From.Report.Prefix, f.Replica.Short(), f.Upto)
	case f.Upto < o.held.stable:
		x.s.fail("%s: the plan says that what is above %v may be missing, and %v was flushed while that copy was in sync (invariant 7)", c.vol.Name, f.Upto, o.held.stable)
	}
	for _, l := range f.Lost {
		if slices.ContainsFunc(was.InSync, func(r cluster.Replica) bool { return r.ID == l.ID }) {
			o.lost[l.ID] = c.marks.mark(l.ID)
		}
	}
	if was.Generation != c.gen { // memory was lost before, and its client has not heard of it yet
		o.held.did = nil
		for _, m := range o.lost {
			m.did = nil
		}
	}
	st, err := x.s.eye.Refresh()
	for ; err != nil; st, err = x.s.eye.Refresh() {
		clock.Sleep(x.s.c, time.Second)
	}
	x.lostSnapshots(o, plan, st.Volumes[c.vol.ID].Val)
	if told := health.Summary(st, nil).Conditions; !slices.ContainsFunc(told, func(h health.Condition) bool { return h.ID == "volume-forced/"+c.vol.Name }) {
		x.s.fail("nothing tells that %s was forced open", c.vol.Name)
	}
	c.judge() // what comes now is not of the same history
	c.model.forced(o.held.may)
	c.marks.begin()
	c.since = ordered{}
	c.forced = o
	x.done = append(x.done, o)
}

// lostSnapshots lets go of what was lost with the copies: what the plan named, and
// nothing else.
func (x *forcing) lostSnapshots(o *forcedOpening, plan provision.ForcePlan, is cluster.Volume) {
	names := make(map[string]bool)
	for _, s := range plan.Snapshots {
		o.gone[s.ID], names[s.Name] = struct{}{}, true
	}
	op := x.s.op
	op.snaps = slices.DeleteFunc(op.snaps, func(k *keptSnapshot) bool {
		if k.c != o.c || slices.ContainsFunc(is.Snapshots, func(s cluster.Snapshot) bool { return s.ID == k.snap.ID }) {
			return false
		}
		if _, said := o.gone[k.snap.ID]; !said {
			x.s.fail("%s lost snapshot %s by being forced open, and the plan did not say so", o.c.vol.Name, k.snap.Name)
		}
		return true
	})
	g := x.s.groups
	g.failed = slices.DeleteFunc(g.failed, func(f failedGroup) bool { return names[f.name] })
}

// seenForced is what the client finds when it has read its volume for the first
// time since it was forced open: it goes on from there, and all promises hold
// again, once that is on disk.
func (c *blockClient) seenForced(holds []uint64) bool {
	o := c.forced
	upto, sure := o.record.Upto, o.record.Upto
	if o.host == nil || o.host.lives != o.life {
		sure = o.sure // it has lost what was only in its memory
	}
	if why := o.held.allows(holds, upto, sure); why != "" {
		c.s.fail("%s was forced open at LSN %v: %s (ADR 0065)", c.vol.Name, upto, why)
	}
	if !c.flush() {
		return false
	}
	c.s.tell("client %d goes on with %s as it was forced open", c.n, c.vol.Name)
	c.forced = nil
	c.beginHistory(holds)
	return true
}

// waiting says which lost copy has come back and is not set aside yet.
func (x *forcing) waiting(st *cluster.State) string {
	for _, o := range x.done {
		f := st.Volumes[o.c.vol.ID].Val.Forced
		for _, l := range f.Lost {
			if o.lost[l.ID] != nil && l.At == nil {
				return fmt.Sprintf("what %s lost on %s is not set aside", o.c.vol.Name, x.s.nameOf(l.Host))
			}
		}
	}
	return ""
}

// settle has the person say that they have dealt with it.
func (x *forcing) settle() error {
	return x.s.op.on(x.s.hosts[0], func(p *provision.Provisioner) error {
		st, err := p.Cluster.Refresh()
		for _, o := range x.done {
			if f := st.Volumes[o.c.vol.ID].Val.Forced; err == nil && f.Acknowledged == nil {
				_, err = p.AcknowledgeForce(o.c.vol.ID)
			}
		}
		return err
	})
}

// check reads what was set aside: each lost copy holds all that it must, and says
// where that is more than the volume was opened with.
func (x *forcing) check(st *cluster.State) {
	for _, o := range x.done {
		v := st.Volumes[o.c.vol.ID].Val
		for _, l := range v.Forced.Lost {
			m := o.lost[l.ID]
			aside := st.Volumes[l.Volume].Val
			switch {
			case m == nil || l.Damaged:
			case aside.Name != l.Name || aside.Name == "" || len(aside.InSync) == 0:
				x.s.fail("%s: the copy that was on %s is set aside as %q, which is not there", v.Name, x.s.nameOf(l.Host), l.Name)
			default:
				x.checkAside(o, l, m, aside)
			}
		}
	}
}

func (x *forcing) checkAside(o *forcedOpening, l cluster.LostCopy, m *mark, aside cluster.Volume) {
	got, err := x.s.content(aside, aside.InSync[0])
	if err != nil {
		x.s.fail("%s: it cannot be read: %v", aside.Name, err)
		return
	}
	holds := make([]uint64, volumeBlocks)
	for b := range holds {
		tag, whole := tagOf(got[b*holdfast.BlockSize:(b+1)*holdfast.BlockSize], o.c.n, b)
		if !whole {
			x.s.fail("%s: block %d holds bytes that nobody wrote there (invariant 2)", aside.Name, b)
			return
		}
		holds[b] = tag
	}
	if why := m.allows(holds, 0, 0); why != "" {
		x.s.fail("%s, which was in sync when %s was forced open: %s (invariant 1)", aside.Name, o.c.vol.Name, why)
		return
	}
	if m.did == nil || len(l.Runs) == cluster.MaxRuns {
		return
	}
	for _, w := range m.did.writes {
		if w.lower >= l.Upto && w.lower != 0 && w.tag != 0 && holds[w.block] == w.tag &&
			!slices.ContainsFunc(l.Runs, func(r cluster.Run) bool { return uint64(w.block)-r.Addr < r.Blocks }) {
			x.s.fail("%s: block %d was written above LSN %v, and what is said to be more there is %v", aside.Name, w.block, l.Upto, l.Runs)
			return
		}
	}
}
