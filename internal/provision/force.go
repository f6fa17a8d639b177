package provision

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// A volume of which only stale replicas are left is opened from one of them if a
// person says so, and says what they give up (ADR 0065).

// Why a lost replica cannot be used.
const (
	ForceAway    = "away"    // its host is away
	ForceSilent  = "silent"  // its host is there, and does not serve it
	ForceDamaged = "damaged" // it is there, and may not be served
	ForceGone    = "gone"    // its host or disk is no part of the cluster any more
)

// LostReplica is an in-sync replica that a forced opening does without.
type LostReplica struct {
	cluster.Replica
	Why  string    // one of the above
	Text string    // in words
	Last time.Time // when its host was lost; zero: not known
}

// StaleReplica is one that a volume could be opened from.
type StaleReplica struct {
	cluster.Replica
	Report  replica.Report
	Roots   []replica.Root
	Ejected *cluster.Ejected // since when it is stale, if that is known
	Unfit   string           // why it cannot be used; "": it can
}

// ForcePlan is what a forced opening would mean.
type ForcePlan struct {
	Volume    cluster.Volume
	From      StaleReplica // that it would be opened from
	Stale     []StaleReplica
	Lost      []LostReplica
	Seen      holdfast.LSN // issued elsewhere, at least; 0: not known
	Snapshots []cluster.Snapshot
	Refused   error // why it cannot be done now, or not without Force.Lost
	NeedsLost bool  // it needs to be said that the lost replicas will not come back
	mod       cluster.Versioned[cluster.Volume]
}

// Force is what somebody says who opens a volume from a stale replica.
type Force struct {
	Lost bool            // the in-sync replicas will not come back, though it cannot be seen
	By   string          // who says so
	From holdfast.HostID // whose replica; zero: the one that holds most

	Holds string // LSN up to which it has all writes, by the plan that was seen; "": none was
}

// PlanForce says what opening a volume from a stale replica would mean. It asks
// the hosts that can be reached.
func (p *Provisioner) PlanForce(id holdfast.VolumeID, from holdfast.HostID) (ForcePlan, error) {
	st, err := p.fresh()
	if err != nil {
		return ForcePlan{}, err
	}
	v, ok := st.Volumes[id]
	if !ok || v.Val.Deleted {
		return ForcePlan{}, holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
	}
	plan := ForcePlan{Volume: v.Val, mod: v}
	if v.Val.Image && !v.Val.Sealed {
		return plan, holdfast.Errorf(holdfast.Invalid, "image %s was never complete; delete it and import it again", v.Val.Name)
	}
	for _, ref := range v.Val.InSync {
		l, refused := p.lostReplica(st, v.Val, ref)
		if refused != nil && plan.Refused == nil {
			plan.Refused = refused
		}
		plan.Lost = append(plan.Lost, l)
		plan.NeedsLost = plan.NeedsLost || l.Why != ForceGone
	}
	for _, ref := range v.Val.Others {
		plan.Stale = append(plan.Stale, p.staleReplica(st, v.Val, ref))
	}
	plan.choose(st, from)
	return plan, nil
}

// lostReplica looks what is the matter with an in-sync replica; an error says
// that it may not be done without.
func (p *Provisioner) lostReplica(st *cluster.State, rec cluster.Volume, ref cluster.Replica) (LostReplica, error) {
	h, member := st.Hosts[ref.Host]
	l := LostReplica{Replica: ref, Why: ForceGone, Text: "its host was removed from the cluster"}
	for _, inc := range st.Incidents {
		if slices.Contains(inc.Val.Hosts, ref.Host) && inc.Val.Opened.After(l.Last) && !st.AliveHost(ref.Host) {
			l.Last = inc.Val.Opened
		}
	}
	switch {
	case !member:
		return l, nil
	case st.Lost(ref):
		l.Text = "its disk was removed from the cluster"
		return l, nil
	}
	rep, _, err := p.inspect(st, ref)
	name := h.Val.Name
	switch {
	case err == nil && rep.Eligible():
		l.Why, l.Text = "", "it can be read"
		return l, holdfast.Errorf(holdfast.Conflict, "volume %s has a copy in sync on host %s, which answers: nothing is to be forced", rec.Name, name)
	case err == nil:
		l.Why, l.Text = ForceDamaged, "it is there, but damaged"
	case st.AliveHost(ref.Host) && holdfast.IsKind(err, holdfast.NotFound):
		l.Why, l.Text = ForceSilent, "its host is there, but not its disk"
	case st.AliveHost(ref.Host):
		l.Why, l.Text = ForceSilent, "its host is alive, but does not answer: "+err.Error()
		return l, holdfast.Errorf(holdfast.Unavailable, "volume %s has a copy in sync on host %s, which is alive and cannot be asked now: %w; try again", rec.Name, name, err)
	default:
		l.Why, l.Text = ForceAway, "its host is away"
	}
	return l, nil
}

// inspect asks a replica what it holds, again if its host is alive and could not
// be asked: one that has just started is not reached at once.
func (p *Provisioner) inspect(st *cluster.State, ref cluster.Replica) (rep replica.Report, roots []replica.Root, err error) {
	for try := range inspectTries {
		if try > 0 {
			clock.Sleep(p.Clock, inspectAgain)
		}
		rep, roots, err = p.Volumes.Inspect(ref)
		if !holdfast.IsKind(err, holdfast.Unavailable) || !st.AliveHost(ref.Host) {
			break
		}
	}
	return rep, roots, err
}

const (
	inspectTries = 4
	inspectAgain = 500 * time.Millisecond
)

func (p *Provisioner) staleReplica(st *cluster.State, rec cluster.Volume, ref cluster.Replica) StaleReplica {
	s := StaleReplica{Replica: ref}
	for i := range rec.Ejected {
		if rec.Ejected[i].Replica == ref.ID {
			s.Ejected = &rec.Ejected[i]
		}
	}
	if _, member := st.Hosts[ref.Host]; !member || st.Lost(ref) {
		s.Unfit = "its host or disk was removed from the cluster"
		return s
	}
	var err error
	s.Report, s.Roots, err = p.inspect(st, ref)
	switch {
	case err != nil && !st.AliveHost(ref.Host):
		s.Unfit = "its host is away"
	case err != nil:
		s.Unfit = "it cannot be asked: " + err.Error()
	case s.Report.Damaged:
		s.Unfit = "it is damaged"
	case len(s.Report.History) == 0:
		s.Unfit = "it never was complete"
	}
	return s
}

// choose picks the replica that holds most, or that of a host, and works out what
// it lacks.
func (plan *ForcePlan) choose(st *cluster.State, from holdfast.HostID) {
	rec := plan.Volume
	fit := slices.DeleteFunc(slices.Clone(plan.Stale), func(s StaleReplica) bool { return s.Unfit != "" || !from.IsZero() && s.Host != from })
	if len(fit) == 0 {
		if plan.Refused == nil {
			plan.Refused = plan.noneFit(st, from)
		}
		return
	}
	plan.From = slices.MaxFunc(fit, func(a, b StaleReplica) int {
		switch {
		case a.Report.Prefix < b.Report.Prefix:
			return -1
		case a.Report.Prefix > b.Report.Prefix:
			return 1
		}
		return 0
	})
	for _, e := range rec.Ejected {
		plan.Seen = max(plan.Seen, e.Upto)
	}
	for i := range plan.Stale {
		plan.Seen = max(plan.Seen, plan.Stale[i].Report.Prefix, plan.Stale[i].Report.Stable)
	}
	for _, s := range rec.Snapshots {
		plan.Seen = max(plan.Seen, s.LSN)
		if !slices.ContainsFunc(plan.From.Roots, func(r replica.Root) bool { return r.ID == s.ID }) {
			plan.Snapshots = append(plan.Snapshots, s)
		}
	}
}

func (plan *ForcePlan) noneFit(st *cluster.State, from holdfast.HostID) error {
	rec := plan.Volume
	if len(plan.Stale) == 0 {
		return holdfast.Errorf(holdfast.NotFound, "volume %s has no other copy than those that are lost; delete it, and make it again from a backup", rec.Name)
	}
	var why []string
	for _, s := range plan.Stale {
		if s.Unfit != "" {
			why = append(why, "host "+st.Hosts[s.Host].Val.Name+": "+s.Unfit)
		}
	}
	if !from.IsZero() && len(why) < len(plan.Stale) {
		return holdfast.Errorf(holdfast.NotFound, "volume %s has no stale copy that could be used on host %s", rec.Name, st.Hosts[from].Val.Name)
	}
	return holdfast.Errorf(holdfast.Unavailable, "volume %s has no stale copy that could be used: %s", rec.Name, strings.Join(why, "; "))
}

// Allow returns why a forced opening may not be carried out as it was asked for.
func (plan *ForcePlan) Allow(f Force) error {
	switch {
	case plan.Refused != nil:
		return plan.Refused
	case f.Holds != "" && f.Holds != plan.From.Report.Prefix.String():
		return holdfast.Errorf(holdfast.Conflict, "nothing was opened: the plan was to open volume %s from a copy that holds everything up to LSN %s, and now it ends at %v; look at the plan again", plan.Volume.Name, f.Holds, plan.From.Report.Prefix)
	case plan.NeedsLost && !f.Lost:
		return holdfast.Errorf(holdfast.Conflict, "the copies in sync of volume %s may come back; bring their hosts back, or say that they will not: --lost", plan.Volume.Name)
	}
	return nil
}

// ForceOpen makes a stale replica the only one in sync, in one commit that depends
// on what was planned, and returns the record. Whoever opens the volume then goes
// on from what that replica holds.
func (p *Provisioner) ForceOpen(id holdfast.VolumeID, f Force) (rec cluster.Volume, err error) {
	plan, err := p.PlanForce(id, f.From)
	if err == nil {
		err = plan.Allow(f)
	}
	if err != nil {
		return rec, err
	}
	forced, err := p.forced(&plan, f)
	if err != nil {
		return rec, err
	}
	err = p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, ok := st.Volumes[id]
		switch {
		case ok && v.Val.Forced != nil && v.Val.Forced.At.Equal(forced.At) && v.Val.Forced.Replica == forced.Replica:
			rec = v.Val
			return errStands
		case !ok || v.Mod != plan.mod.Mod:
			return holdfast.Errorf(holdfast.Busy, "volume %s was changed meanwhile; look at the plan again", plan.Volume.Name)
		}
		for _, l := range plan.Lost {
			if _, alive := st.Alive[l.Host]; l.Why == ForceAway {
				if alive {
					return holdfast.Errorf(holdfast.Conflict, "host %s, which has a copy of volume %s in sync, has come back; look at the plan again", st.Hosts[l.Host].Val.Name, plan.Volume.Name)
				}
				tx.RequireAlive(l.Host, 0)
			}
		}
		rec = plan.record(forced)
		tx.PutVolume(rec, v.Mod)
		return nil
	})
	if err == nil {
		p.Log.Warn("volume forced open from a stale copy", "volume", rec.Name, "replica", forced.Replica.Short(), "upto", forced.Upto.String(), "by", forced.By)
	}
	return rec, err
}

// forced is what the record is to say of it.
func (p *Provisioner) forced(plan *ForcePlan, f Force) (*cluster.Forced, error) {
	rec := plan.Volume
	out := &cluster.Forced{At: p.Clock.Wall().UTC(), By: f.By, Replica: plan.From.ID, Upto: plan.From.Report.Prefix, Seen: plan.Seen,
		Epoch: replica.Next(rec.Epoch, plan.From.Report.Promise)}
	if e := plan.From.Ejected; e != nil {
		at := e.At
		out.Stale = &at
	}
	for _, s := range plan.Snapshots {
		if !s.Hidden && len(out.Snapshots) < cluster.MaxLostSnapshots {
			out.Snapshots = append(out.Snapshots, s.Name)
		}
	}
	if rec.Forced != nil { // what was lost then may still come back
		out.Lost = slices.Clone(rec.Forced.Lost)
	}
	for _, l := range plan.Lost {
		vol, err := p.uuid()
		if err != nil {
			return nil, err
		}
		copyID, err := p.uuid()
		if err != nil {
			return nil, err
		}
		out.Lost = append(out.Lost, cluster.LostCopy{Replica: l.Replica, Upto: out.Upto, Volume: holdfast.VolumeID{UUID: vol}, Copy: holdfast.ReplicaID{UUID: copyID}})
	}
	return out, nil
}

// record is the volume's record after it. The minimum of copies cannot be kept
// with one; it is for the owner to raise it again.
func (plan *ForcePlan) record(f *cluster.Forced) cluster.Volume {
	rec := plan.Volume
	rec.Forced, rec.Epoch, rec.Writer, rec.Min = f, f.Epoch, holdfast.HostID{}, 1
	rec.Generation++ // what anybody wrote and did not see flushed on this replica is gone
	rec.InSync = []cluster.Replica{plan.From.Replica}
	rec.Others = slices.DeleteFunc(slices.Clone(rec.Others), func(r cluster.Replica) bool { return r.ID == f.Replica })
	rec.Release, rec.Compared = nil, nil
	rec.Snapshots = slices.DeleteFunc(slices.Clone(rec.Snapshots), func(s cluster.Snapshot) bool {
		return slices.ContainsFunc(plan.Snapshots, func(gone cluster.Snapshot) bool { return gone.ID == s.ID })
	})
	rec.Tidy()
	return rec
}

// AcknowledgeForce takes the mark off a volume that was forced open. Lost replicas
// are set aside all the same, should they come back.
func (p *Provisioner) AcknowledgeForce(id holdfast.VolumeID) (cluster.Volume, error) {
	return p.change(id, func(_ *cluster.State, rec *cluster.Volume) error {
		if rec.Forced == nil || rec.Forced.Acknowledged != nil {
			return holdfast.Errorf(holdfast.NotFound, "volume %s is not marked as forced open", rec.Name)
		}
		f, at := *rec.Forced, p.Clock.Wall().UTC()
		f.Acknowledged = &at
		rec.Forced = &f
		return nil
	})
}
