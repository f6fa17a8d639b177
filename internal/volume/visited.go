package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/visits"
)

// Visits count what has happened to the protocol's machines here, for a checker.
type Visits struct {
	Writer   *visits.Counts // of replica.WriterMachine
	Takeover *visits.Counts // of TakeoverMachine
}

// visits are those that somebody asked for, or empty.
func (s *Service) visits() Visits {
	if s.Visits == nil {
		return Visits{}
	}
	return *s.Visits
}

// The pairs of the take-over machine: its step and what came of it.
const (
	claimUnread = iota
	claimDeleted
	claimOvertaken
	claimLocked
	claimEmpty
	claimCommitted
	claimConflict
	claimUnknown
	claimRefused
	promiseAll
	promiseAllForgot
	promiseSilent
	promiseDead
	promiseWaited
	promiseNobody
	promiseHigher
	cutKept
	cutKeptPart
	cutForgot
	cutForgotPart
	cutNone
	levelEven
	levelBack
	levelFilled
	levelBoth
	levelFailed
	settleAll
	settleEjected
	settleBelow
	settleConflict
	settleUnknown
	settleFailed
	beginAll
	beginSome
	beginNone
	waitNone
	waitLease
	waitHanded
)

// TakeoverMachine is what may come of each step of an opening (open.go).
func TakeoverMachine() visits.Machine {
	return visits.Machine{Name: "take-over", Pairs: []visits.Pair{
		claimUnread:      {State: "claim", Event: "the record cannot be read"},
		claimDeleted:     {State: "claim", Event: "the volume is being deleted"},
		claimOvertaken:   {State: "claim", Event: "somebody has opened it before it could be handed over"},
		claimLocked:      {State: "claim", Event: "its key is not here"},
		claimEmpty:       {State: "claim", Event: "it has no in-sync replica", Never: "a record keeps its last in-sync replica: every ejection leaves one"},
		claimCommitted:   {State: "claim", Event: "the epoch is committed"},
		claimConflict:    {State: "claim", Event: "the record has changed"},
		claimUnknown:     {State: "claim", Event: "nobody knows whether it is committed"},
		claimRefused:     {State: "claim", Event: "it is refused, or the control plane is away"},
		promiseAll:       {State: "promise", Event: "all answer, and one kept its memory"},
		promiseAllForgot: {State: "promise", Event: "all answer, and none kept its memory"},
		promiseSilent:    {State: "promise", Event: "one kept its memory, another does not answer and is alive"},
		promiseDead:      {State: "promise", Event: "one kept its memory, another is known to be away"},
		promiseWaited:    {State: "promise", Event: "none that answers kept its memory, others were waited for"},
		promiseNobody:    {State: "promise", Event: "nobody answers"},
		promiseHigher:    {State: "promise", Event: "one has promised a higher epoch"},
		cutKept:          {State: "cut", Event: "a memory was kept, all may be served"},
		cutKeptPart:      {State: "cut", Event: "a memory was kept, one may not be served"},
		cutForgot:        {State: "cut", Event: "no memory was kept, all may be served"},
		cutForgotPart:    {State: "cut", Event: "no memory was kept, one may not be served"},
		cutNone:          {State: "cut", Event: "none may be served"},
		levelEven:        {State: "level", Event: "it holds exactly the cut"},
		levelBack:        {State: "level", Event: "it is cut back", Never: "the cut is the highest prefix of all: who parted from it lacks what is up to it"},
		levelFilled:      {State: "level", Event: "it is filled"},
		levelBoth:        {State: "level", Event: "it is cut back and filled"},
		levelFailed:      {State: "level", Event: "it fails, or parted below its stable point"},
		settleAll:        {State: "settle", Event: "all stay"},
		settleEjected:    {State: "settle", Event: "one is ejected"},
		settleBelow:      {State: "settle", Event: "too few are left"},
		settleConflict:   {State: "settle", Event: "the record has changed"},
		settleUnknown:    {State: "settle", Event: "nobody knows whether it is committed"},
		settleFailed:     {State: "settle", Event: "the control plane is away"},
		beginAll:         {State: "begin", Event: "all begin the epoch"},
		beginSome:        {State: "begin", Event: "one does not"},
		beginNone:        {State: "begin", Event: "none does"},
		waitNone:         {State: "wait", Event: "no lease is left"},
		waitLease:        {State: "wait", Event: "a lease is outwaited"},
		waitHanded:       {State: "wait", Event: "the volume was handed over"},
	}}
}

// commitEvent is what came of a commit, after its success.
func commitEvent(err error) int {
	switch holdfast.KindOf(err) {
	case holdfast.Conflict:
		return claimConflict - claimCommitted
	case holdfast.Unknown:
		return claimUnknown - claimCommitted
	}
	if err != nil {
		return claimRefused - claimCommitted
	}
	return 0
}

func promiseEvent(reports []*replica.Report, took time.Duration) int {
	kept, missing := 0, 0
	for _, r := range reports {
		switch {
		case r == nil:
			missing++
		case r.Eligible() && r.Kept:
			kept++
		}
	}
	switch {
	case missing == len(reports):
		return promiseNobody
	case missing == 0 && kept > 0:
		return promiseAll
	case missing == 0:
		return promiseAllForgot
	case kept == 0:
		return promiseWaited
	case took >= promiseSoon:
		return promiseSilent
	}
	return promiseDead
}

func cutEvent(reports []replica.Report, cut replica.Cut, ok bool) int {
	part := 0
	for i := range reports {
		if !reports[i].Eligible() {
			part = 1
		}
	}
	switch {
	case !ok:
		return cutNone
	case cut.Kept:
		return cutKept + part
	}
	return cutForgot + part
}

// levelled reports whether a member was brought to the cut.
func (t *takeover) levelled(st, best seat, cut holdfast.LSN) bool {
	err := t.level(st, best, cut)
	at := replica.Common(st.report.History, st.report.Prefix, best.report.History, best.report.Prefix)
	back, filled := at < st.report.Prefix, at < cut
	switch {
	case err != nil:
		t.visit(levelFailed)
	case back && filled:
		t.visit(levelBoth)
	case back:
		t.visit(levelBack)
	case filled:
		t.visit(levelFilled)
	default:
		t.visit(levelEven)
	}
	return err == nil
}

func settleEvent(err error, ejected bool) int {
	switch {
	case holdfast.IsKind(err, holdfast.Conflict):
		return settleConflict
	case holdfast.IsKind(err, holdfast.Unknown):
		return settleUnknown
	case err != nil:
		return settleFailed
	case ejected:
		return settleEjected
	}
	return settleAll
}

func beginEvent(began, of int) int {
	switch began {
	case of:
		return beginAll
	case 0:
		return beginNone
	}
	return beginSome
}

// waitEvent is how an opening treats what is left of earlier writers' leases.
func (t *takeover) waitEvent(left time.Duration) int {
	switch {
	case t.after != nil:
		return waitHanded
	case left > 0:
		return waitLease
	}
	return waitNone
}
