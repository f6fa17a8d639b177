package scsi

import (
	"encoding/hex"
	"fmt"
)

// What the device says of itself. The vendor is padded to 8, the product to
// 16, the revision to 4 characters (SPC-4 §6.6.2).
const (
	vendor   = "HOLDFAST"
	product  = "VOLUME          "
	revision = "1   "
)

func beginInquiry(t *Task) *Sense {
	if t.CDB[1]&1 == 0 && t.CDB[2] != 0 {
		return badCDB(2)
	}
	if t.CDB[1]&1 != 0 && t.unit.vpd(t.CDB[2], t.state) == nil {
		return badCDB(2)
	}
	return nil
}

func inquire(t *Task) {
	allocation := uint64(be.Uint16(t.CDB[3:]))
	if t.CDB[1]&1 == 0 {
		t.answer(t.unit.standard(), allocation)
		return
	}
	body := t.unit.vpd(t.CDB[2], t.state)
	page := make([]byte, 4, 4+len(body))
	page[1] = t.CDB[2]
	be.PutUint16(page[2:], uint16(len(body)))
	t.answer(append(page, body...), allocation)
}

// standard is the standard INQUIRY data.
func (u *Unit) standard() []byte {
	b := make([]byte, 96)
	if u.opt.Removable {
		b[1] = 0x80
	}
	b[2] = 6           // SPC-4
	b[3] = 0x10 | 2    // HISUP, response data format 2
	b[4] = 96 - 5      // additional length
	b[5] = 0x10 | 0x08 // TPGS: implicit; 3PC
	b[6] = 0x10        // MULTIP
	b[7] = 0x02        // CMDQUE
	copy(b[8:], vendor)
	copy(b[16:], product)
	copy(b[32:], revision)
	for i, v := range []uint16{0x00a0, 0x0960, 0x0460, 0x04c0} { // SAM-5, iSCSI, SPC-4, SBC-3
		be.PutUint16(b[58+2*i:], v)
	}
	return b
}

// inquireNothing answers INQUIRY where there is no logical unit: no device can
// be there.
func inquireNothing(t *Task) {
	if t.CDB[1]&1 != 0 || t.CDB[2] != 0 {
		t.end(CheckCondition, sense(IllegalRequest, UnitNotSupported))
		return
	}
	b := t.unit.standard()
	b[0], b[1] = 0x7f, 0
	t.answer(b, uint64(be.Uint16(t.CDB[3:])))
}

// vpd returns a page of vital product data without its header, or nil
// (SPC-4 §7.8, SBC-3 §6.6). It takes no lock.
func (u *Unit) vpd(page byte, st *nexusState) []byte {
	switch page {
	case 0x00:
		return []byte{0x00, 0x80, 0x83, 0x86, 0x87, 0x8f, 0xb0, 0xb1, 0xb2}
	case 0x80:
		return []byte(u.serial())
	case 0x83:
		return u.designators(st)
	case 0x86:
		b := make([]byte, 60)
		b[1] = 0x07 // HEADSUP, ORDSUP, SIMPSUP
		b[2] = 0x01 // V_SUP: a volatile cache
		b[3] = 0x01 // LUICLR
		return b
	case 0x87:
		return []byte{0x3f, 0xff, 0x00, 0x00} // every mode page is shared
	case 0x8f:
		return thirdParty()
	case 0xb0:
		return u.blockLimits()
	case 0xb1:
		b := make([]byte, 60)
		b[1] = 1 // does not rotate
		return b
	case 0xb2:
		return []byte{thresholdExponent, 0xe0 | 0x04, 2, 0} // LBPU, LBPWS, LBPWS10, LBPRZ; thin
	}
	return nil
}

func (u *Unit) serial() string { return hex.EncodeToString(u.opt.ID.UUID[:]) }

// blockLimits is page B0h (SBC-3 §6.6.4; the last five fields: SBC-4).
func (u *Unit) blockLimits() []byte {
	b := make([]byte, 60)
	physical := uint32(4096 >> u.shift)
	at := func(off int, v uint32) { be.PutUint32(b[off-4:], v) }
	b[0] = 0x01 // WSNZ, byte 4 of the page
	b[5-4] = compareMost
	be.PutUint16(b[6-4:], uint16(physical))
	at(8, uint32(u.opt.MaxTransfer>>u.shift))
	at(12, uint32(1<<20>>u.shift))
	at(16, uint32(prefetchMost>>u.shift))
	at(20, unmapMost)
	at(24, unmapDescriptors)
	at(28, physical)
	at(32, 1<<31)
	be.PutUint64(b[36-4:], sameMost)
	if u.opt.Atomic >= int64(u.opt.BlockSize) {
		at(44, uint32(u.opt.Atomic>>u.shift))
		at(48, physical)
		at(52, physical)
	}
	return b
}

// designators is page 83h: names of the unit that every port tells alike, and
// of the port that is asked.
func (u *Unit) designators(st *nexusState) []byte {
	var b []byte
	add := func(codeSet, kind byte, id []byte) {
		b = append(b, codeSet, kind, 0, byte(len(id)))
		b = append(b, id...)
	}
	add(1, 0x03, u.naa())
	add(2, 0x01, []byte(vendor+u.serial()))
	port := st.nexus.Port
	group := u.groupOf(port)
	tied := func(codeSet, kind byte, id []byte) { // to the port, by iSCSI
		b = append(b, 0x50|codeSet, 0x90|kind, 0, byte(len(id)))
		b = append(b, id...)
	}
	tied(1, 0x4, []byte{0, 0, byte(port >> 8), byte(port)})
	tied(1, 0x5, []byte{0, 0, byte(group.ID >> 8), byte(group.ID)})
	for _, p := range group.Ports {
		if p.ID == port && p.Name != "" {
			tied(3, 0x8, padded(p.Name))
		}
	}
	return b
}

// naa is the unit's locally assigned NAA name, eight bytes (SPC-4 §7.8.6.6.4):
// the front of its id behind the digit 3.
func (u *Unit) naa() []byte {
	n := append([]byte(nil), u.opt.ID.UUID[:8]...)
	n[0] = 0x30 | n[0]&0x0f
	return n
}

// padded ends a name with zeroes to a multiple of four.
func padded(s string) []byte {
	b := append([]byte(s), 0)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// String names the unit for logs.
func (u *Unit) String() string { return fmt.Sprintf("unit of volume %s", u.opt.Name) }
