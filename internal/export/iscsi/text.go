package iscsi

import (
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// textRequest handles a text request (§11.10): SendTargets, and nothing else
// that is known. A long answer goes out piece by piece, each asked for.
func (c *connection) textRequest(h *pdu.Header, data []byte) error {
	s := c.s
	asked, whole, err := c.gatherText(h, data)
	if err != nil || !whole {
		return err
	}
	pairs, err := pdu.ParseText(asked)
	if err != nil {
		c.reject(h, pdu.ReasonProtocol)
		return nil
	}
	var text []byte
	for _, p := range pairs {
		switch p.Key {
		case "SendTargets":
			text = c.sendTargets(text, p.Value)
		case "MaxRecvDataSegmentLength":
			if v, good := pdu.Number(p.Value, 512, 1<<24-1); good {
				s.mu.Lock()
				c.par.sendData = int(v)
				s.mu.Unlock()
			}
		default:
			text = pdu.AppendPair(text, p.Key, notUnderstood)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.text = text
	c.tellText(h)
	return nil
}

// gatherText takes the text of one PDU. It returns the whole request with its
// last one; any other, and one that asks for more of an answer, it answers.
func (c *connection) gatherText(h *pdu.Header, data []byte) (asked []byte, whole bool, err error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if ttt := h.Word(pdu.AtTTT); ttt != pdu.NoTag && ttt == c.textTag && len(data) == 0 && len(c.text) > 0 {
		c.tellText(h)
		return nil, false, nil
	}
	if len(c.asked)+len(data) > maxText {
		return nil, false, errGarbage("a text request of more than %d bytes", maxText)
	}
	c.asked, c.text = append(c.asked, data...), nil
	if h.Flags()&pdu.Continue != 0 {
		c.textTag = s.newTag()
		c.textResponse(h, nil, false, c.textTag)
		return nil, false, nil
	}
	asked, c.asked = c.asked, nil
	return asked, true, nil
}

// newTag returns a target transfer tag; s.mu is held.
func (s *session) newTag() uint32 {
	if s.nextTTT++; s.nextTTT == pdu.NoTag {
		s.nextTTT = 0
	}
	return s.nextTTT
}

// tellText sends as much of the answer as the initiator takes at once; s.mu is
// held.
func (c *connection) tellText(h *pdu.Header) {
	piece := c.text[:min(len(c.text), c.par.sendData)]
	c.text = c.text[len(piece):]
	if len(c.text) == 0 {
		c.textResponse(h, piece, true, pdu.NoTag)
		return
	}
	c.textTag = c.s.newTag()
	c.textResponse(h, piece, false, c.textTag)
}

func (c *connection) textResponse(req *pdu.Header, data []byte, last bool, ttt uint32) {
	var h pdu.Header
	h.SetOp(pdu.TextResponse)
	switch {
	case last:
		h[1] = pdu.Final
	case len(data) > 0:
		h[1] = pdu.Continue
	}
	h.SetWord(pdu.AtITT, req.ITT())
	h.SetWord(pdu.AtTTT, ttt)
	c.status(&h, data)
	c.wake(nil)
}

// sendTargets appends the targets that an initiator may know of, and their
// addresses (RFC 7143 appendix C). In a normal session it is told of its own.
func (c *connection) sendTargets(b []byte, which string) []byte {
	s := c.s
	var names []string
	if which != "" && which != "All" && !pdu.ValidName(which) || which == "" && s.offer == nil {
		return pdu.AppendPair(b, "SendTargets", reject)
	}
	switch {
	case s.offer != nil && (which == "" || which == "All" || which == s.offer.Name):
		names = []string{s.offer.Name}
	case s.offer != nil:
	case which == "All":
		names = c.srv.visible(s.initiator, s.entries)
	case slices.Contains(c.srv.visible(s.initiator, s.entries), which):
		names = []string{which}
	}
	for _, n := range names {
		b = pdu.AppendPair(b, "TargetName", n)
		for _, a := range c.srv.addresses(n, c) {
			b = pdu.AppendPair(b, "TargetAddress", a.Addr+","+strconv.Itoa(int(a.Group)))
		}
	}
	return b
}

// addresses returns the portals that lead to a target; one without an address
// to tell is told as the one by which this initiator came.
func (s *Server) addresses(target string, c *connection) (list []Address) {
	s.mu.Lock()
	portals := slices.Clone(s.portals)
	s.mu.Unlock()
	for _, p := range portals {
		a := Address{Addr: p.told, Group: p.group}
		if a.Addr == "" {
			a.Addr = p.ln.Addr().String()
			if host, port, err := net.SplitHostPort(a.Addr); err == nil && net.ParseIP(host).IsUnspecified() {
				if own, _, err := net.SplitHostPort(c.nc.LocalAddr().String()); err == nil {
					a.Addr = net.JoinHostPort(own, port)
				}
			}
		}
		list = append(list, a)
	}
	if s.cfg.Elsewhere != nil {
		list = append(list, s.cfg.Elsewhere(target)...)
	}
	return list
}

// entriesFor collects the access entries for an initiator over all targets.
func (s *Server) entriesFor(initiator string) (list []Initiator) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.targets)) {
		list = append(list, s.targets[name].Access.of(initiator)...)
	}
	return list
}

// visible returns the targets that an initiator may log in to with what it has
// proved.
func (s *Server) visible(initiator string, proved []Initiator) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.targets)) {
		for _, e := range s.targets[name].Access.of(initiator) {
			if e.Secret == "" || slices.ContainsFunc(proved, func(p Initiator) bool { return p.User == e.User && p.Secret == e.Secret }) {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// proved returns the entries whose secret the initiator knows.
func (a *auth) proved() (list []Initiator) {
	if a.who != nil {
		list = append(list, *a.who)
	}
	return list
}

// entry is the one that let the initiator in.
func (a *auth) entry() Initiator {
	if a.who != nil {
		return *a.who
	}
	for _, e := range a.entries {
		if e.Secret == "" {
			return e
		}
	}
	return Initiator{}
}
