package iscsi

import (
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// login is a connection's login phase (RFC 7143 §6.3 and §11.12): a few
// requests and answers, each a list of text keys, through one or two stages.
type login struct {
	c *connection
	n negotiation

	isid          [6]byte
	tsih          uint16
	stage         byte // current stage
	begun         bool // the first request was understood
	initiator     string
	targetName    string
	target        *offer // nil for discovery
	auth          auth
	authenticated bool
	text          []byte // of requests with the C bit
}

// refusal ends a login with a status (pdu.LoginAuthFailed and so on).
type refusal struct {
	status uint16
	why    string
}

func (r *refusal) Error() string { return r.why }

func refuse(status uint16, why string) error { return &refusal{status, why} }

// errElsewhere says that another host serves the target. The whole login
// request must be at hand for it to go there.
var errElsewhere error = &refusal{pdu.LoginUnavailable, "another host serves the target, and the login came in too many pieces to be carried there"}

// enter runs the login phase and returns the connection's session, with the
// connection in it.
func (c *connection) enter() (*session, error) {
	l := &login{c: c, n: negotiation{params: defaultParams(), lim: c.srv.lim, seen: map[string]bool{}}}
	var h pdu.Header
	for range maxLoginPDUs {
		ahs, err := c.r.Next(&h)
		if err != nil {
			return nil, err
		}
		if h.Op() != pdu.LoginRequest {
			return nil, errGarbage("a PDU with opcode %#x before login", byte(h.Op()))
		}
		data := make([]byte, h.DataLength())
		if err := c.r.Data(data); err != nil {
			return nil, err
		}
		first := !l.begun
		s, err := l.request(&h, data)
		if err == errElsewhere && first {
			err = c.carry(l, &h, ahs, data)
		}
		if r, ok := err.(*refusal); ok {
			l.report(r) // first: what an initiator was told, status tells too
			l.answer(&h, r.status, nil, false)
			return nil, holdfast.Errorf(holdfast.Denied, "login of %q to %q refused: %s", clip(l.initiator), clip(l.targetName), r.why)
		}
		if err != nil || s != nil {
			return s, err
		}
	}
	return nil, errGarbage("a login of more than %d requests", maxLoginPDUs)
}

// report tells of a refusal that somebody should know of: an initiator that is
// not let in for who it is.
func (l *login) report(r *refusal) {
	if told := l.c.srv.cfg.Refused; told != nil && (r.status == pdu.LoginAuthFailed || r.status == pdu.LoginForbidden) {
		told(Refusal{Target: clip(l.targetName), Initiator: clip(l.initiator), From: l.c.from, Why: r.why})
	}
}

// request handles one login request. The session is returned with the last.
func (l *login) request(h *pdu.Header, data []byte) (*session, error) {
	now, next, transit := h.Flags()>>2&3, h.Flags()&3, h.Flags()&pdu.Transit != 0
	more := h.Flags()&pdu.Continue != 0
	if !l.begun {
		l.isid, l.tsih, l.stage = [6]byte(h[pdu.AtISID:]), h.Half(pdu.AtTSIH), now
		l.c.cid = h.Half(pdu.AtCID)
		l.c.cmdSN, l.c.statSN = h.Word(pdu.AtCmdSN), h.Word(pdu.AtExpStatSN)
	}
	switch {
	case h[3] > 0: // VersionMin
		return nil, refuse(pdu.LoginBadVersion, "it speaks only newer versions of iSCSI")
	case [6]byte(h[pdu.AtISID:]) != l.isid || h.Half(pdu.AtTSIH) != l.tsih || h.Half(pdu.AtCID) != l.c.cid:
		return nil, refuse(pdu.LoginInvalid, "the login changed its session on the way")
	case now != l.stage || now > pdu.StageOperational || transit && (next <= now || next == 2) || transit && more:
		return nil, refuse(pdu.LoginInvalid, "the login's stages are out of order")
	case len(l.text)+len(data) > maxText:
		return nil, refuse(pdu.LoginNoResources, "the login's text is too long")
	}
	l.text = append(l.text, data...)
	if more {
		return nil, l.answer(h, pdu.LoginSuccess, nil, false)
	}
	pairs, err := pdu.ParseText(l.text)
	l.text = l.text[:0]
	if err != nil {
		return nil, refuse(pdu.LoginInitiatorError, err.Error())
	}
	l.n.answers = nil
	if pairs, err = l.identify(pairs); err != nil {
		return nil, err
	}
	return l.negotiate(h, pairs, next, transit)
}

// identify takes the names out of the first request and finds the target.
func (l *login) identify(pairs []pdu.Pair) ([]pdu.Pair, error) {
	rest := pairs[:0:0]
	for _, p := range pairs {
		switch p.Key {
		case "InitiatorName", "TargetName", "SessionType":
			if l.begun {
				return nil, refuse(pdu.LoginInvalid, p.Key+" after the first request")
			}
		}
		switch p.Key {
		case "InitiatorName":
			l.initiator = lower(p.Value)
		case "TargetName":
			l.targetName = lower(p.Value)
		case "SessionType":
			if p.Value != "Normal" && p.Value != "Discovery" {
				return nil, refuse(pdu.LoginBadType, "there is no session type "+clip(p.Value))
			}
			l.n.discovery = p.Value == "Discovery"
		case "InitiatorAlias":
		default:
			rest = append(rest, p)
		}
	}
	if l.begun {
		return rest, nil
	}
	l.begun = true
	l.n.leading = l.tsih == 0
	switch {
	case l.initiator == "" || !l.n.discovery && l.targetName == "":
		return nil, refuse(pdu.LoginMissing, "InitiatorName or TargetName is missing")
	case !pdu.ValidName(l.initiator):
		return nil, refuse(pdu.LoginInitiatorError, "the initiator's name is no iSCSI name")
	}
	return rest, l.findTarget()
}

func (l *login) findTarget() error {
	if l.n.discovery {
		l.auth.entries = l.c.srv.entriesFor(l.initiator)
		return nil
	}
	o, access := l.c.srv.find(l.targetName)
	if settle := l.c.srv.cfg.Settle; settle != nil && (o == nil || o.Device == nil || len(access.of(l.initiator)) == 0) {
		settle(l.targetName)
		o, access = l.c.srv.find(l.targetName)
	}
	if o == nil {
		return refuse(pdu.LoginNotFound, "no such target is offered here")
	}
	l.auth.entries = access.of(l.initiator)
	if len(l.auth.entries) == 0 {
		return refuse(pdu.LoginForbidden, "the initiator is not on the target's list")
	}
	if o.Device == nil {
		return errElsewhere
	}
	l.target = o
	if l.n.leading {
		l.n.say("TargetPortalGroupTag", strconv.Itoa(int(l.c.portal.group)))
		if o.Alias != "" {
			l.n.say("TargetAlias", o.Alias)
		}
	}
	return nil
}

// negotiate answers the keys of one request and moves on to the next stage.
func (l *login) negotiate(h *pdu.Header, pairs []pdu.Pair, next byte, transit bool) (*session, error) {
	if l.stage == pdu.StageSecurity {
		done, rest, err := l.auth.step(&l.n, pairs)
		if err != nil {
			return nil, err
		}
		l.authenticated = done
		pairs = rest
	}
	if l.stage == pdu.StageOperational && !l.authenticated {
		if !l.auth.needless(l.n.discovery) {
			return nil, refuse(pdu.LoginAuthFailed, "it did not authenticate")
		}
		l.authenticated = true
	}
	for _, p := range pairs {
		if !l.n.operational(p.Key, p.Value) {
			return nil, refuse(pdu.LoginInitiatorError, "the key "+clip(p.Key)+" came twice")
		}
	}
	if !transit || !l.authenticated {
		return nil, l.answer(h, pdu.LoginSuccess, l.n.answers, false)
	}
	if l.stage == pdu.StageOperational || next == pdu.StageFull {
		l.n.declare()
	}
	if next != pdu.StageFull {
		err := l.answer(h, pdu.LoginSuccess, l.n.answers, true)
		l.stage = next
		return nil, err
	}
	return l.full(h)
}

// full enters full feature phase: it makes or joins the session and sends the
// last answer.
func (l *login) full(h *pdu.Header) (*session, error) {
	s, err := l.c.srv.join(l)
	if err != nil {
		return nil, err
	}
	l.tsih = s.tsih
	l.c.par = l.n.settle()
	if err := l.answer(h, pdu.LoginSuccess, l.n.answers, true); err != nil {
		s.end(err)
		s.leave(l.c)
		return nil, err
	}
	return s, nil
}

// answer sends a login response.
func (l *login) answer(req *pdu.Header, status uint16, text []byte, transit bool) error {
	c := l.c
	var h pdu.Header
	h.SetOp(pdu.LoginResponse)
	h[1] = req.Flags() & 0x0c // current stage
	if transit {
		h[1] |= pdu.Transit | req.Flags()&3
	}
	copy(h[pdu.AtISID:pdu.AtTSIH], req[pdu.AtISID:pdu.AtTSIH])
	h.SetHalf(pdu.AtTSIH, l.tsih)
	h.SetWord(pdu.AtITT, req.ITT())
	h.SetWord(pdu.AtStatSN, c.statSN)
	c.statSN++
	expected := c.cmdSN
	window := uint32(1)
	if c.s != nil {
		c.s.mu.Lock()
		expected, window = c.s.expCmdSN, uint32(c.s.room())
		c.s.mu.Unlock()
	}
	h.SetWord(pdu.AtExpCmdSN, expected)
	h.SetWord(pdu.AtMaxCmdSN, expected+window-1)
	h.SetHalf(pdu.AtLoginStatus, status)
	b := batch{}
	b.add(&h, text)
	return b.Send(c.nc)
}

// lower is the form in which iSCSI names are compared: capitals are not
// allowed in them, and some initiators send them anyway (RFC 7143 §4.2.7.2).
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
