package replica

import "github.com/holdfast-cloud/holdfast/internal/visits"

// What can happen to a member of a writer, for visits.
const (
	sawSent = iota
	sawAsked
	sawFrameBack
	sawAnswer
	sawShort
	sawResend
	sawForgot
	sawSilence
	sawCounted
	sawDropped
	writerEvents
)

// The states of a member are what it is and what it owes: of those that count,
// stateJoining or stateInSync plus lag.
const (
	stateJoining = 0
	stateInSync  = 4
	stateGone    = 8
)

// WriterMachine is what may happen to the members of a Writer.
func WriterMachine() visits.Machine {
	return visits.Cross("writer and member",
		[]string{"joining, owes nothing", "joining, owes an answer", "joining, lacks records", "joining, lacks records and owes nothing",
			"in sync, owes nothing", "in sync, owes an answer", "in sync, lacks records", "in sync, lacks records and owes nothing", "gone"},
		[]string{"records are sent", "it is asked", "a frame comes back", "it has everything", "it has a part", "it lacks what nothing carries any more",
			"another boot id answers", "it is silent for too long", "it counts as in sync", "it is dropped or ejected"},
		func(s, e int) string {
			switch {
			case s < stateGone && s%4 < 2 && (e == sawShort || e == sawResend):
				return "all that was sent is acknowledged, and no answer takes that back"
			case s < stateGone && s%4 == 3 && (s < stateInSync || e != sawAnswer):
				return "only this host's own replica is behind without a question, and within one step it is not any more"
			case s == stateGone && (e == sawSent || e == sawAsked || e == sawAnswer):
				return "who is gone is asked nothing, and an answer of theirs is not looked at"
			case owes(s) == 0 && e == sawSilence:
				return "who owes nothing is not waited for"
			case owes(s) == 0 && e == sawFrameBack:
				return "a frame that is out is an answer that is owed"
			case s >= stateInSync && s < stateGone && e == sawCounted:
				return "it counts already"
			case s == stateGone && e == sawCounted:
				return "a joiner that was dropped is not added"
			case s == stateGone && (e == sawShort || e == sawResend || e == sawForgot):
				return "an answer of who is gone is not looked at"
			case s == stateGone && e == sawSilence:
				return "who is gone is not waited for"
			}
			return ""
		})
}

// owes is 0 in the states in which nothing is owed, and -1 of who is gone.
func owes(state int) int {
	switch {
	case state == stateGone:
		return -1
	case state%4 == 0 || state%4 == 3:
		return 0
	}
	return 1
}

// state is that of a member now; 0 if nobody counts.
func (w *Writer[T]) state(i int) int {
	if w.Visits == nil {
		return 0
	}
	m := &w.members[i]
	s := stateJoining
	switch {
	case m.Gone:
		return stateGone
	case m.InSync:
		s = stateInSync
	}
	switch behind := m.Acked < m.Sent; {
	case behind && m.Asked == 0:
		s += 3
	case behind:
		s += 2
	case m.Asked != 0:
		s++
	}
	return s
}

// visit counts an event in a state.
func (w *Writer[T]) visit(state, event int) {
	if w.Visits != nil {
		w.Visits.Hit(state*writerEvents + event)
	}
}

// answered is the event that a verdict stands for.
func (m *Member) answered(v Verdict) int {
	switch {
	case v == Forgot:
		return sawForgot
	case v == Resend:
		return sawResend
	case !m.Gone && m.Acked < m.Sent:
		return sawShort
	}
	return sawAnswer
}
