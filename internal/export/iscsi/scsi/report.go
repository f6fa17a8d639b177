package scsi

func beginReportLUNs(t *Task) *Sense {
	if t.CDB[2] > 2 {
		return badCDB(2)
	}
	if be.Uint32(t.CDB[6:]) < 16 {
		return badCDB(6)
	}
	return nil
}

// reportLUNs lists the units; there are no well-known ones.
func reportLUNs(t *Task) {
	var luns []uint16
	if t.CDB[2] != 1 {
		luns = t.Path.Device.luns
	}
	b := make([]byte, 8, 8+8*len(luns))
	be.PutUint32(b, uint32(8*len(luns)))
	for _, n := range luns {
		l := formLUN(n)
		b = append(b, l[:]...)
	}
	t.answer(b, uint64(be.Uint32(t.CDB[6:])))
}

func beginPortGroups(t *Task) *Sense {
	if f := t.CDB[1] >> 5; f > 1 {
		return badCDB(1)
	}
	return nil
}

// reportPortGroups tells how well each target port group reaches the unit
// (SPC-4 §6.37).
func reportPortGroups(t *Task) {
	b := make([]byte, 4)
	if t.CDB[1]>>5 == 1 { // extended header: an implicit transition takes up to 30 s
		b = append(b, 0x10, 30, 0, 0)
	}
	for _, g := range t.unit.groups() {
		state := g.State & 0x0f
		if g.Preferred {
			state |= 0x80
		}
		b = append(b, state, 0x80|0x08|0x02|0x01, byte(g.ID>>8), byte(g.ID), 0, 0x02, 0, byte(len(g.Ports)))
		if g.State == AccessStandby {
			b[len(b)-7] |= 0x04
		}
		for _, p := range g.Ports {
			b = append(b, 0, 0, byte(p.ID>>8), byte(p.ID))
		}
	}
	be.PutUint32(b, uint32(len(b)-4))
	t.answer(b, uint64(be.Uint32(t.CDB[6:])))
}

// commandTimeout is what REPORT SUPPORTED OPERATION CODES recommends, in
// seconds: a fail-over fits into it.
const commandTimeout = 60

func timeouts(b []byte) []byte {
	b = append(b, 0, 0x0a, 0, 0)
	b = be.AppendUint32(b, 0) // nominal: less than a second
	return be.AppendUint32(b, commandTimeout)
}

// beginOpcodes checks REPORT SUPPORTED OPERATION CODES (SPC-4 §6.35).
func beginOpcodes(t *Task) *Sense {
	how, op := t.CDB[2]&0x07, t.CDB[3]
	list := t.unit.table.byOp[op]
	actions := len(list) > 0 && list[0].action >= 0
	switch {
	case how > 3:
		return badCDB(2)
	case how == 1 && actions, how == 2 && len(list) > 0 && !actions:
		return badCDB(4)
	}
	return nil
}

func reportOpcodes(t *Task) {
	how, withTimes := t.CDB[2]&0x07, t.CDB[2]&0x80 != 0
	allocation := uint64(be.Uint32(t.CDB[6:]))
	if how == 0 {
		t.answer(t.unit.table.list(withTimes), allocation)
		return
	}
	t.answer(t.unit.table.describe(t.CDB[3], int(be.Uint16(t.CDB[4:])), how, withTimes), allocation)
}

func (t *table) list(withTimes bool) []byte {
	b := make([]byte, 4)
	for _, c := range t.all {
		flags, action := byte(0), 0
		if c.action >= 0 {
			flags, action = 1, c.action
		}
		if withTimes {
			flags |= 2
		}
		b = append(b, c.op, 0, byte(action>>8), byte(action), 0, flags, 0, byte(len(c.usage)))
		if withTimes {
			b = timeouts(b)
		}
	}
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

// describe tells of one command: its CDB usage data if it is supported.
func (t *table) describe(op byte, action int, how byte, withTimes bool) []byte {
	for _, c := range t.byOp[op] {
		if how == 1 && c.action >= 0 || c.action >= 0 && c.action != action || how == 3 && c.action < 0 && action != 0 {
			continue
		}
		b := []byte{0, 3, 0, byte(len(c.usage))}
		if withTimes {
			b[1] |= 0x80
		}
		b = append(b, c.usage...)
		if withTimes {
			b = timeouts(b)
		}
		return b
	}
	return []byte{0, 1, 0, 0}
}

// reportTaskFunctions tells of ABORT TASK, ABORT TASK SET, CLEAR TASK SET and
// LOGICAL UNIT RESET (SPC-4 §6.36).
func reportTaskFunctions(t *Task) {
	b := []byte{0x80 | 0x40 | 0x10 | 0x08, 0, 0, 0}
	if t.CDB[2]&0x80 != 0 {
		b[3] = 0x0c
		b = append(b, 0, 0, 0, 0)
		b = be.AppendUint32(b, commandTimeout*10)
		b = be.AppendUint32(b, commandTimeout*10)
	}
	t.answer(b, uint64(be.Uint32(t.CDB[6:])))
}
