package scsi

// Service actions of PERSISTENT RESERVE IN (SPC-4 §6.15).
const (
	prReadKeys         = 0
	prReadReservation  = 1
	prReportCapability = 2
	prReadFullStatus   = 3
)

func reserveIn(t *Task) {
	u := t.unit
	u.mu.Lock()
	r := u.pr.clone()
	u.mu.Unlock()
	allocation := uint64(be.Uint16(t.CDB[7:]))
	switch t.CDB[1] & 0x1f {
	case prReadKeys:
		t.answer(r.keys(), allocation)
	case prReadReservation:
		t.answer(r.current(), allocation)
	case prReportCapability:
		t.answer(r.capabilities(), allocation)
	default:
		t.answer(r.full(), allocation)
	}
}

// header starts a list with the generation and room for its length.
func (r *reservations) header() []byte {
	b := be.AppendUint32(nil, r.generation)
	return append(b, 0, 0, 0, 0)
}

func sealed(b []byte) []byte {
	be.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

func (r *reservations) keys() []byte {
	b := r.header()
	for _, x := range r.list {
		b = be.AppendUint64(b, x.key)
	}
	return sealed(b)
}

func (r *reservations) current() []byte {
	b := r.header()
	if r.kind != 0 {
		key := uint64(0) // of all registrants, none
		if h := r.find(r.holder); h != nil && !r.everybody() {
			key = h.key
		}
		b = be.AppendUint64(b, key)
		b = append(b, 0, 0, 0, 0, 0, r.kind, 0, 0)
	}
	return sealed(b)
}

// capabilities: reservations may survive the loss of power; all six types.
func (r *reservations) capabilities() []byte {
	b := []byte{0, 8, 0x01, 0x80, 0x80 | 0x40 | 0x20 | 0x08 | 0x02, 0x01, 0, 0}
	if r.aptpl {
		b[3] |= 0x01
	}
	return b
}

func (r *reservations) full() []byte {
	b := r.header()
	for _, x := range r.list {
		d := make([]byte, 24)
		be.PutUint64(d, x.key)
		if r.holds(x.nexus) {
			d[12], d[13] = 0x01, r.kind
		}
		be.PutUint16(d[18:], x.nexus.Port)
		id := x.nexus.transportID()
		be.PutUint32(d[20:], uint32(len(id)))
		b = append(append(b, d...), id...)
	}
	return sealed(b)
}
