package scsi

import (
	"slices"
	"strconv"
	"strings"
)

// Service actions of PERSISTENT RESERVE OUT (SPC-4 §6.16).
const (
	prRegister       = 0
	prReserve        = 1
	prRelease        = 2
	prClear          = 3
	prPreempt        = 4
	prPreemptAbort   = 5
	prRegisterIgnore = 6
	prRegisterMove   = 7
)

func (t *table) addReservations() {
	for action, name := range []string{"READ KEYS", "READ RESERVATION", "REPORT CAPABILITIES", "READ FULL STATUS"} {
		t.add(&command{op: opReserveIn, action: action, name: "PERSISTENT RESERVE IN, " + name, access: accessReserve,
			begin: beginNothing, run: reserveIn}, "5e0"+strconv.Itoa(action)+"0000000000ffff00")
	}
	for action, name := range []string{"REGISTER", "RESERVE", "RELEASE", "CLEAR", "PREEMPT", "PREEMPT AND ABORT",
		"REGISTER AND IGNORE EXISTING KEY", "REGISTER AND MOVE"} {
		t.add(&command{op: opReserveOut, action: action, name: "PERSISTENT RESERVE OUT, " + name, access: accessReserve,
			begin: beginReserveOut, run: reserveOut}, "5f0"+strconv.Itoa(action)+"ff0000ffffffff00")
	}
	t.add(&command{op: opReserve6, action: -1, name: "RESERVE(6)", access: accessReserve, begin: beginNothing, run: reserve6}, "160000000000")
	t.add(&command{op: opRelease6, action: -1, name: "RELEASE(6)", access: accessReserve, begin: beginNothing, run: release6}, "170000000000")
}

// reserve6 and release6 are the reservations of SPC-2, which end with the
// session. With persistent ones they do not mix (SPC-4 §5.13.3).
func reserve6(t *Task) {
	u := t.unit
	u.mu.Lock()
	conflict := len(u.pr.list) > 0 || u.reserved != nil && u.reserved != t.state
	if !conflict {
		u.reserved = t.state
	}
	u.mu.Unlock()
	t.endReserve(conflict)
}

func release6(t *Task) {
	u := t.unit
	u.mu.Lock()
	conflict := len(u.pr.list) > 0
	if u.reserved == t.state {
		u.reserved = nil
	}
	u.mu.Unlock()
	t.endReserve(conflict)
}

func (t *Task) endReserve(conflict bool) {
	if conflict {
		t.end(ReservationConflict, nil)
		return
	}
	t.complete(nil)
}

// prList is the parameter list of PERSISTENT RESERVE OUT.
type prList struct {
	action     byte
	kind       byte // scope and type of the CDB
	key, other uint64
	aptpl      bool
	unregister bool  // REGISTER AND MOVE
	to         Nexus // REGISTER AND MOVE
}

func beginReserveOut(t *Task) *Sense {
	n := int64(be.Uint32(t.CDB[5:]))
	if t.CDB[1]&0x1f == prRegisterMove {
		if n < 24 || n > 4096 {
			return listLength()
		}
	} else if n != 24 {
		return listLength()
	}
	return t.wantOut(n)
}

// parseReserveOut reads the parameter list (SPC-4 §6.16.3 and .4).
func parseReserveOut(cdb *[CDBSize]byte, b []byte) (prList, *Sense) {
	p := prList{action: cdb[1] & 0x1f, kind: cdb[2], key: be.Uint64(b), other: be.Uint64(b[8:])}
	if p.action == prRegisterMove {
		p.unregister, p.aptpl = b[17]&2 != 0, b[17]&1 != 0
		id := b[24:]
		if n := be.Uint32(b[20:]); uint64(n) != uint64(len(id)) {
			return p, listLength()
		}
		to, ok := parseTransportID(id)
		if !ok {
			return p, badList(24)
		}
		p.to = to
		p.to.Port = be.Uint16(b[18:])
		return p, nil
	}
	if b[20]&0x0c != 0 { // SPEC_I_PT, ALL_TG_PT: REPORT CAPABILITIES says no
		return p, badList(20)
	}
	p.aptpl = b[20]&1 != 0
	return p, nil
}

// parseTransportID reads the name of an initiator port (SPC-4 §7.6.4.6).
func parseTransportID(b []byte) (Nexus, bool) {
	var n Nexus
	if len(b) < 24 || b[0] != 0x45 || int(be.Uint16(b[2:])) != len(b)-4 {
		return n, false
	}
	name, rest, ok := strings.Cut(strings.TrimRight(string(b[4:]), "\x00"), ",i,0x")
	isid, err := strconv.ParseUint(rest, 16, 48)
	if !ok || err != nil || len(name) == 0 || len(name) > 223 {
		return n, false
	}
	n.Initiator = name
	for i := range n.ISID {
		n.ISID[i] = byte(isid >> (40 - 8*i))
	}
	return n, true
}

// outcome is what a PERSISTENT RESERVE OUT leads to beside the new state.
type outcome struct {
	tell  map[Nexus]Code // unit attentions
	abort []Nexus        // whose tasks end
}

func (o *outcome) attend(n Nexus, c Code) {
	if o.tell == nil {
		o.tell = map[Nexus]Code{}
	}
	if _, ok := o.tell[n]; !ok {
		o.tell[n] = c
	}
}

// released tells the other registrants that the reservation is gone.
func (o *outcome) released(r *reservations, but Nexus) {
	for _, x := range r.list {
		if x.nexus != but {
			o.attend(x.nexus, ReservationsRelease)
		}
	}
}

// errConflict is a RESERVATION CONFLICT, which has no sense data.
var errConflict = &Sense{}

// apply carries out a service action for nexus n. Errors: errConflict or
// sense data; r is then worthless.
func (r *reservations) apply(n Nexus, p prList) (o outcome, s *Sense) {
	mine := r.find(n)
	switch p.action {
	case prRegister, prRegisterIgnore:
		return r.register(n, p)
	}
	if mine == nil || mine.key != p.key {
		return o, errConflict
	}
	switch p.action {
	case prReserve:
		return o, r.reserve(n, p.kind)
	case prRelease:
		return r.release(n, p.kind)
	case prClear:
		for _, x := range r.list {
			if x.nexus != n {
				o.attend(x.nexus, ReservationsPreempt)
			}
		}
		r.list, r.kind, r.holder = nil, 0, Nexus{}
		r.generation++
		return o, nil
	case prPreempt, prPreemptAbort:
		return r.preempt(n, p)
	}
	return r.move(n, p)
}

func (r *reservations) register(n Nexus, p prList) (o outcome, s *Sense) {
	mine := r.find(n)
	if p.action == prRegister && (mine == nil && p.key != 0 || mine != nil && mine.key != p.key) {
		return o, errConflict
	}
	switch {
	case p.other == 0 && mine == nil:
		return o, nil // nothing to forget
	case p.other == 0:
		only := r.kind == writeExclusiveRegistrants || r.kind == exclusiveRegistrants
		if _, released := r.remove(func(x registration) bool { return x.nexus == n }); released && only {
			o.released(r, n)
		}
	case mine != nil:
		mine.key = p.other
	case len(r.list) >= maxRegistrations:
		return o, sense(IllegalRequest, NoRegistrationRoom)
	default:
		r.list = append(r.list, registration{n, p.other})
	}
	r.generation++
	if p.other != 0 {
		r.aptpl = p.aptpl
	}
	return o, nil
}

func (r *reservations) reserve(n Nexus, kind byte) *Sense {
	if !validType(kind) { // a scope other than the unit's as well
		return badCDB(2)
	}
	if r.kind != 0 {
		if r.holds(n) && r.kind == kind {
			return nil
		}
		return errConflict
	}
	r.kind, r.holder = kind, n
	return nil
}

func (r *reservations) release(n Nexus, kind byte) (o outcome, s *Sense) {
	if !r.holds(n) {
		return o, nil
	}
	if kind != r.kind {
		return o, sense(IllegalRequest, InvalidRelease)
	}
	if r.kind >= writeExclusiveRegistrants {
		o.released(r, n)
	}
	r.kind, r.holder = 0, Nexus{}
	return o, nil
}

// preempt is PREEMPT with or without ABORT (SPC-4 §5.13.11.2.4 and .5).
func (r *reservations) preempt(n Nexus, p prList) (o outcome, s *Sense) {
	victim := func(x registration) bool { return x.key == p.other && x.nexus != n }
	seize := false // the reservation changes hands
	switch {
	case p.other == 0 && !r.everybody():
		return o, badList(8)
	case p.other == 0:
		victim = func(x registration) bool { return x.nexus != n }
		seize = true
	case r.kind != 0 && !r.everybody():
		h := r.find(r.holder)
		seize = h != nil && h.key == p.other
	}
	if seize && !validType(p.kind) {
		return o, badCDB(2)
	}
	if p.other != 0 && !slices.ContainsFunc(r.list, func(x registration) bool { return x.key == p.other }) {
		return o, errConflict
	}
	old := r.kind
	gone, _ := r.remove(victim)
	for _, g := range gone {
		o.attend(g, RegistrationsPreempt)
	}
	if p.action == prPreemptAbort {
		o.abort = gone
	}
	if seize {
		if old != p.kind {
			o.released(r, n)
		}
		r.kind, r.holder = p.kind, n
	}
	r.generation++
	return o, nil
}

// move is REGISTER AND MOVE (SPC-4 §5.13.8).
func (r *reservations) move(n Nexus, p prList) (o outcome, s *Sense) {
	switch {
	case r.kind == 0 || r.everybody() || r.holder != n:
		return o, errConflict
	case p.other == 0:
		return o, badList(8)
	case p.to == n:
		return o, badList(24)
	}
	if to := r.find(p.to); to != nil {
		to.key = p.other
	} else if len(r.list) >= maxRegistrations {
		return o, sense(IllegalRequest, NoRegistrationRoom)
	} else {
		r.list = append(r.list, registration{p.to, p.other})
	}
	r.holder = p.to
	if p.unregister {
		r.remove(func(x registration) bool { return x.nexus == n })
	}
	r.generation++
	r.aptpl = p.aptpl
	return o, nil
}

// reserveOut applies the command to a copy of the state, stores it if it must
// survive, and puts it in force. One after the other: turn is the permission.
func reserveOut(t *Task) {
	go func() {
		u := t.unit
		u.turn <- struct{}{}
		victims, s := u.reserveOut(t)
		<-u.turn
		switch {
		case s == errConflict:
			t.end(ReservationConflict, nil)
		case s != nil:
			t.end(CheckCondition, s)
		case len(victims) > 0:
			a := &abortion{done: func() { t.complete(nil) }}
			u.abort(a, t.state, true, func(x *Task) bool { return x != t && slices.Contains(victims, x.state.nexus) })
		default:
			t.complete(nil)
		}
	}()
}

func (u *Unit) reserveOut(t *Task) (victims []Nexus, s *Sense) {
	p, s := parseReserveOut(&t.CDB, t.Buf[:t.Want])
	if s != nil {
		return nil, s
	}
	u.mu.Lock()
	if u.reserved != nil {
		u.mu.Unlock()
		return nil, errConflict
	}
	before, next := u.pr, u.pr.clone()
	u.mu.Unlock()
	o, s := next.apply(t.state.nexus, p)
	if s != nil {
		return nil, s
	}
	if before.aptpl || next.aptpl {
		var b []byte
		if next.aptpl {
			b = next.encode()
		}
		if err := u.opt.Reservations.Save(b); err != nil {
			u.log.Warn("keep persistent reservations", "volume", u.opt.Name, "err", err)
			return nil, senseOf(err, false)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pr = next
	for n, c := range o.tell {
		if st := u.nexuses[n]; st != nil && st != t.state {
			st.pending.add(c)
		}
	}
	return o.abort, nil
}
