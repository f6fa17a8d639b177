package scsi

// mode is what MODE SELECT can change; it is shared by all nexuses.
type mode struct {
	dsense    bool // sense data in descriptor format
	swp       bool // write protected by software
	wce       bool // the write cache is on
	threshold threshold
}

func (u *Unit) defaultMode() mode { return mode{wce: true} }

// setMode makes m the current mode; u.mu is held, or u is not shared yet.
func (u *Unit) setMode(m mode) {
	u.mode = m
	u.dsense.Store(m.dsense)
	u.writeThrough.Store(!m.wce)
	u.watching.Store(m.threshold.on)
}

// Page control of MODE SENSE.
const (
	pcCurrent    = 0
	pcChangeable = 1
	pcDefault    = 2
	pcSaved      = 3
)

// modePages lists the pages in the order in which they are told.
func modePages() []struct{ page, sub byte } {
	return []struct{ page, sub byte }{{0x01, 0}, {0x02, 0}, {0x08, 0}, {0x0a, 0}, {0x1c, 0}, {0x1c, 2}}
}

// pageOf returns a mode page with its header as m has it (SPC-4 §7.5, SBC-3
// §6.5), or nil. The same with every changeable bit set is the mask of them.
func (m mode) pageOf(page, sub byte) []byte {
	set := func(b *byte, on bool, bit byte) {
		if on {
			*b |= bit
		}
	}
	switch {
	case page == 0x01 && sub == 0: // read-write error recovery
		b := make([]byte, 12)
		b[0], b[1] = 0x01, 10
		return b
	case page == 0x02 && sub == 0: // disconnect-reconnect
		b := make([]byte, 16)
		b[0], b[1] = 0x02, 14
		return b
	case page == 0x08 && sub == 0: // caching
		b := make([]byte, 20)
		b[0], b[1] = 0x08, 18
		set(&b[2], m.wce, 0x04)
		return b
	case page == 0x0a && sub == 0: // control
		b := make([]byte, 12)
		b[0], b[1] = 0x0a, 10
		b[3] = 0x10 // unrestricted reordering
		b[5] = 0x40 // TAS: who loses a task by others is told
		b[8], b[9] = 0xff, 0xff
		set(&b[2], m.dsense, 0x04)
		set(&b[4], m.swp, 0x08)
		return b
	case page == 0x1c && sub == 0: // informational exceptions
		b := make([]byte, 12)
		b[0], b[1] = 0x1c, 10
		b[2] = 0x08 // DEXCPT: there are none
		return b
	case page == 0x1c && sub == 2:
		return m.threshold.page()
	}
	return nil
}

// changeable returns the mask of the bits of a page that may be changed.
func changeable(page, sub byte) []byte {
	all := mode{dsense: true, swp: true, wce: true, threshold: threshold{on: true, count: 0xffffffff, once: true}}
	a, b := mode{}.pageOf(page, sub), all.pageOf(page, sub)
	for i := headerOf(sub); i < len(a); i++ {
		a[i] ^= b[i]
	}
	return a
}

// headerOf is the length of a page's header in bytes.
func headerOf(sub byte) int {
	if sub != 0 {
		return 4
	}
	return 2
}

func modeSense(t *Task) {
	u := t.unit
	control, page, sub := t.CDB[2]>>6, t.CDB[2]&0x3f, t.CDB[3]
	if control == pcSaved {
		t.end(CheckCondition, sense(IllegalRequest, 0x3900))
		return
	}
	u.mu.Lock()
	m := u.mode
	u.mu.Unlock()
	if control == pcDefault {
		m = u.defaultMode()
	}
	var pages []byte
	for _, p := range modePages() {
		if page != 0x3f && p.page != page || sub != 0xff && p.sub != sub {
			continue
		}
		if control == pcChangeable {
			pages = append(pages, changeable(p.page, p.sub)...)
		} else {
			pages = append(pages, m.pageOf(p.page, p.sub)...)
		}
	}
	if len(pages) == 0 {
		t.end(CheckCondition, badCDB(2))
		return
	}
	long := t.CDB[0] == opModeSense10
	allocation := uint64(t.CDB[4])
	if long {
		allocation = uint64(be.Uint16(t.CDB[7:]))
	}
	t.answer(append(u.modeHeader(m, long, t.CDB[1]&0x08 == 0, long && t.CDB[1]&0x10 != 0, len(pages)), pages...), allocation)
}

// modeHeader is the header of the mode parameters and their block descriptor.
func (u *Unit) modeHeader(m mode, long, descriptor, wide bool, pages int) []byte {
	specific := byte(0x10) // DPOFUA
	if m.swp || u.opt.ReadOnly {
		specific |= 0x80
	}
	var d []byte
	switch blocks := u.blocks(); {
	case !descriptor:
	case wide:
		d = be.AppendUint64(nil, blocks)
		d = be.AppendUint64(d, uint64(u.opt.BlockSize))
	default:
		d = be.AppendUint32(nil, uint32(min(blocks, 0xffffffff)))
		d = be.AppendUint32(d, uint32(u.opt.BlockSize))
	}
	if !long {
		return append([]byte{byte(3 + len(d) + pages), 0, specific, byte(len(d))}, d...)
	}
	h := []byte{0, 0, 0, specific, 0, 0, 0, byte(len(d))}
	be.PutUint16(h, uint16(6+len(d)+pages))
	if wide {
		h[4] = 1
	}
	return append(h, d...)
}

func beginModeSelect(t *Task) *Sense {
	n := int64(t.CDB[4])
	if t.CDB[0] == opModeSelect10 {
		n = int64(be.Uint16(t.CDB[7:]))
	}
	if t.CDB[1]&0x01 != 0 { // SP: nothing is saved
		return badCDB(1)
	}
	if n == 0 {
		return nil
	}
	if t.CDB[1]&0x10 == 0 {
		return badCDB(1)
	}
	return t.wantOut(n)
}

func modeSelect(t *Task) {
	u := t.unit
	if t.Want == 0 {
		t.complete(nil)
		return
	}
	u.mu.Lock()
	m, s := u.parseModes(t.Buf[:t.Want], t.CDB[0] == opModeSelect10)
	if s == nil && m != u.mode {
		u.setMode(m)
		u.attention(ModeChanged, t.state)
	}
	u.mu.Unlock()
	if s != nil {
		t.end(CheckCondition, s)
		return
	}
	t.complete(nil)
}

// parseModes returns the mode that a parameter list asks for; u.mu is held.
func (u *Unit) parseModes(b []byte, long bool) (mode, *Sense) {
	m := u.mode
	head, descriptor := 4, 0
	if long {
		head = 8
	}
	if len(b) < head {
		return m, listLength()
	}
	if long {
		descriptor = int(be.Uint16(b[6:]))
	} else {
		descriptor = int(b[3])
	}
	if len(b) < head+descriptor {
		return m, listLength()
	}
	if s := u.checkDescriptor(b[head:head+descriptor], head); s != nil {
		return m, s
	}
	for at := head + descriptor; at < len(b); {
		n, s := m.change(b[at:], at)
		if s != nil {
			return m, s
		}
		at += n
	}
	return m, nil
}

// checkDescriptor accepts the block descriptor that MODE SENSE tells.
func (u *Unit) checkDescriptor(d []byte, at int) *Sense {
	switch len(d) {
	case 0:
		return nil
	case 8:
		if n := be.Uint32(d[4:]) & 0xffffff; n == 0 || n == uint32(u.opt.BlockSize) {
			return nil
		}
		return badList(at + 5)
	case 16:
		if n := be.Uint32(d[12:]); n == 0 || n == uint32(u.opt.BlockSize) {
			return nil
		}
		return badList(at + 12)
	}
	return badList(at - 1)
}

// change applies the page at the start of b, which stands at offset at of the
// list, and returns its length.
func (m *mode) change(b []byte, at int) (int, *Sense) {
	page, sub, head := b[0]&0x3f, byte(0), 2
	if b[0]&0x40 != 0 {
		head = 4
	}
	if len(b) < head {
		return 0, listLength()
	}
	if head == 4 {
		sub = b[1]
	}
	now := m.pageOf(page, sub)
	if now == nil || (sub != 0) != (head == 4) {
		return 0, badList(at)
	}
	if len(b) < len(now) {
		return 0, listLength()
	}
	for i := head - 1; i < head; i++ {
		if b[i] != now[i] {
			return 0, badList(at + i)
		}
	}
	mask := changeable(page, sub)
	for i := head; i < len(now); i++ {
		if (b[i]^now[i])&^mask[i] != 0 {
			return 0, badList(at + i)
		}
	}
	switch {
	case page == 0x08:
		m.wce = b[2]&0x04 != 0
	case page == 0x0a:
		m.dsense, m.swp = b[2]&0x04 != 0, b[4]&0x08 != 0
	case page == 0x1c && sub == 2:
		m.threshold.parse(b)
	}
	return len(now), nil
}
