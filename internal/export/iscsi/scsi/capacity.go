package scsi

import "github.com/holdfast-cloud/holdfast/internal/export"

func beginCapacity10(t *Task) *Sense {
	if t.CDB[8]&1 == 0 && be.Uint32(t.CDB[2:]) != 0 { // an address without PMI
		return badCDB(2)
	}
	return nil
}

func readCapacity10(t *Task) {
	b := make([]byte, 8)
	last := t.unit.blocks() - 1
	be.PutUint32(b, uint32(min(last, 0xffffffff)))
	be.PutUint32(b[4:], uint32(t.unit.opt.BlockSize))
	t.answer(b, 8)
}

func beginCapacity16(t *Task) *Sense {
	if t.CDB[14]&1 == 0 && be.Uint64(t.CDB[2:]) != 0 {
		return badCDB(2)
	}
	return nil
}

// readCapacity16 also tells that blocks lie in physical ones of 4 KiB, that
// the volume is thin, and that what is unmapped reads as zero (SBC-3 §5.16).
func readCapacity16(t *Task) {
	b := make([]byte, 32)
	be.PutUint64(b, t.unit.blocks()-1)
	be.PutUint32(b[8:], uint32(t.unit.opt.BlockSize))
	b[13] = byte(12 - t.unit.shift)
	b[14] = 0x80 | 0x40
	t.answer(b, uint64(be.Uint32(t.CDB[10:])))
}

// readDefects10 answers that there are no defects, in the list format that was
// asked for: blocks of a volume are remapped far below.
func readDefects10(t *Task) {
	t.answer([]byte{0, t.CDB[2] & 0x1f, 0, 0}, uint64(be.Uint16(t.CDB[7:])))
}

func readDefects12(t *Task) {
	t.answer([]byte{0, t.CDB[1] & 0x1f, 0, 0, 0, 0, 0, 0}, uint64(be.Uint32(t.CDB[6:])))
}

// requestSense tells a pending unit attention, which is thereby told
// (SPC-4 §6.39).
func requestSense(t *Task) {
	u := t.unit
	s := sense(NoSense, NoCode)
	u.mu.Lock()
	if code, ok := t.state.pending.take(); ok {
		s = sense(UnitAttention, code)
	} else if u.ejected {
		s = sense(NotReady, NoMediumEjected)
	}
	u.mu.Unlock()
	t.answer(s.Encode(t.CDB[1]&1 != 0), uint64(t.CDB[4]))
}

func senseOfNothing(t *Task) {
	t.answer(sense(IllegalRequest, UnitNotSupported).Encode(t.CDB[1]&1 != 0), uint64(t.CDB[4]))
}

// Fields of START STOP UNIT.
const (
	startBit = 0x01
	loadBit  = 0x02
)

func beginStartStop(t *Task) *Sense {
	u := t.unit
	if t.CDB[4]>>4 != 0 || t.CDB[4]&loadBit == 0 {
		return nil // a power condition: there are none to change to
	}
	if !u.opt.Removable {
		return badCDB(4)
	}
	for _, st := range u.nexuses {
		if st.prevents {
			return sense(IllegalRequest, RemovalPrevented)
		}
	}
	return nil
}

// startStop ejects or loads a removable medium. A fixed one neither starts nor
// stops: its writes are flushed when it is to stop, and it stays ready.
func startStop(t *Task) {
	u := t.unit
	if t.CDB[4]>>4 != 0 || t.CDB[4]&startBit != 0 && t.CDB[4]&loadBit == 0 {
		t.complete(nil)
		return
	}
	t.aside(func(t *Task) error {
		if t.CDB[4]&startBit != 0 {
			u.load(t.state)
			return nil
		}
		u.mu.Lock()
		d := u.disk
		u.mu.Unlock()
		if d != nil && !u.opt.ReadOnly && t.CDB[4]&0x04 == 0 { // NO_FLUSH
			t.disk = d
			if err := t.wait(export.Flush, 0, 0, nil, false); err != nil {
				return err
			}
		}
		if t.CDB[4]&loadBit != 0 {
			u.eject()
		}
		return nil
	})
}

func (u *Unit) eject() {
	u.mu.Lock()
	u.ejected = true
	u.closeLocked()
	u.mu.Unlock()
}

// load puts the medium back; who asked for it knows.
func (u *Unit) load(by *nexusState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ejected {
		u.ejected = false
		u.attention(MediumMayHaveChanged, by)
		u.openLocked()
	}
}

func beginPrevent(t *Task) *Sense {
	if t.CDB[4]&2 != 0 {
		return badCDB(4)
	}
	return nil
}

func preventAllow(t *Task) {
	t.unit.mu.Lock()
	t.state.prevents = t.CDB[4]&1 != 0
	t.unit.mu.Unlock()
	t.complete(nil)
}
