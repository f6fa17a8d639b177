package scsi

import "encoding/hex"

// access is how persistent reservations look at a command (SPC-4 §5.13,
// SBC-3 §4.17).
type access byte

const (
	accessAny     access = iota // always
	accessRead                  // reads: not under exclusive access of another
	accessWrite                 // changes: not under write exclusive either
	accessReserve               // decides by itself
)

// command is one entry of the table of commands.
type command struct {
	op     byte
	action int // service action, -1 if there is none
	name   string
	usage  []byte // CDB usage data: the bits that may be set (SPC-4 §6.35)
	access access
	medium bool // needs a medium that is open
	change bool // changes the medium
	flush  bool // promises that earlier changes are durable
	silent bool // reports no unit attention
	// begin checks the CDB and sets Dir, Want, Need and the span.
	begin func(*Task) *Sense
	// run executes the command and sees to it that the task ends.
	run func(*Task)
}

// table finds commands.
type table struct {
	byOp [256][]*command
	all  []*command
}

func (t *table) add(c *command, usage string) {
	b, err := hex.DecodeString(usage)
	if err != nil || len(b) < 6 || b[0] != c.op {
		panic("the usage data of " + c.name + " is malformed") // in the source
	}
	c.usage = b
	t.byOp[c.op] = append(t.byOp[c.op], c)
	t.all = append(t.all, c)
}

// find returns the command of a CDB, or what is wrong with it.
func (t *table) find(cdb *[CDBSize]byte) (*command, *Sense) {
	list := t.byOp[cdb[0]]
	if len(list) == 0 {
		return nil, sense(IllegalRequest, InvalidOpcode)
	}
	for _, c := range list {
		if c.action < 0 || c.action == int(cdb[1]&0x1f) {
			return c, nil
		}
	}
	s := badCDB(1)
	s.Bit = 4
	return nil, s
}

// reserved returns the sense for a bit that is set and must not be, or nil.
func (c *command) reserved(cdb *[CDBSize]byte) *Sense {
	for i := 1; i < len(c.usage); i++ {
		if wrong := cdb[i] &^ c.usage[i]; wrong != 0 {
			s := badCDB(i)
			for s.Bit = 7; wrong>>s.Bit&1 == 0; s.Bit-- {
			}
			return s
		}
	}
	return nil
}

// Begin checks a task and lets it into its unit's task set. It returns false
// with a result set if the task is refused; then Done is not called. After
// true, the transport lends Buf of Need bytes and calls Run.
func (p *Path) Begin(t *Task) bool {
	t.reset()
	t.Path = p
	u := p.Unit(t.LUN)
	if u == nil {
		return p.beginNowhere(t)
	}
	t.unit, t.state = u, p.states[u]
	c, bad := u.table.find(&t.CDB)
	t.cmd = c
	u.mu.Lock()
	defer u.mu.Unlock()
	if c == nil || !c.silent { // SAM-5 §5.14.1: an attention comes before all other reasons
		if code, ok := t.state.pending.take(); ok {
			return t.fail(sense(UnitAttention, code), u.descriptorSense())
		}
	}
	if bad == nil {
		bad = c.reserved(&t.CDB)
	}
	if bad != nil {
		return t.fail(bad, u.descriptorSense())
	}
	if s := u.forbidden(t); s != 0 {
		t.Status, t.Need = s, 0
		return false
	}
	if bad = u.ready(t); bad == nil {
		bad = c.begin(t)
	}
	if bad != nil {
		return t.fail(bad, u.descriptorSense())
	}
	u.enter(t)
	return true
}

// Run executes a begun task.
func (p *Path) Run(t *Task) { t.unit.run(t) }

// TaskUnit returns the unit that a begun task belongs to.
func (t *Task) TaskUnit() *Unit { return t.unit }

// ready checks what does not depend on the command's arguments; u.mu is held.
func (u *Unit) ready(t *Task) *Sense {
	c := t.cmd
	if c.medium {
		if u.ejected {
			return sense(NotReady, NoMediumEjected)
		}
		switch u.groupOf(t.state.nexus.Port).State {
		case AccessStandby:
			return sense(NotReady, InStandby)
		case AccessUnavailable:
			return sense(NotReady, PathUnavailable)
		case AccessTransition:
			return sense(NotReady, InTransition)
		}
		if u.disk != nil {
			u.resizedLocked(u.disk.Size())
		}
	}
	if c.change {
		switch {
		case u.opt.ReadOnly:
			return sense(DataProtect, WriteProtected)
		case u.mode.swp:
			return sense(DataProtect, SoftwareProtected)
		}
	}
	if (c.change || c.flush) && t.state.lost {
		return sense(MediumError, WriteError)
	}
	return nil
}

// forbidden returns the status by which reservations of others keep a task
// from running, or 0; u.mu is held.
func (u *Unit) forbidden(t *Task) Status {
	a := t.cmd.access
	switch {
	case u.reserved == nil && u.pr.kind == 0, t.cmd.silent, t.cmd.op == opRelease6:
		return 0
	case u.reserved != nil && u.reserved != t.state:
		return ReservationConflict
	case a == accessAny, a == accessReserve, u.pr.permits(t.state.nexus, a):
		return 0
	}
	return ReservationConflict
}

// beginNowhere serves what has an answer even where there is no logical unit:
// INQUIRY, REPORT LUNS and REQUEST SENSE (SPC-4 §6.6.1).
func (p *Path) beginNowhere(t *Task) bool {
	u := p.Device.units[p.Device.luns[0]]
	switch t.CDB[0] {
	case opInquiry, opReportLUNs, opRequestSense:
	default:
		return t.fail(sense(IllegalRequest, UnitNotSupported), false)
	}
	c, _ := u.table.find(&t.CDB)
	t.unit, t.state, t.cmd = u, p.states[u], c
	if s := c.reserved(&t.CDB); s != nil {
		return t.fail(s, false)
	}
	switch c.op {
	case opReportLUNs: // the same everywhere
	case opInquiry:
		t.cmd = &command{op: c.op, name: c.name, run: inquireNothing}
	case opRequestSense:
		t.cmd = &command{op: c.op, name: c.name, run: senseOfNothing}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if t.cmd.begin != nil {
		if s := t.cmd.begin(t); s != nil {
			return t.fail(s, false)
		}
	}
	u.enter(t)
	return true
}
