package scsi

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// Types of persistent reservations (SPC-4 §6.15.3.4).
const (
	writeExclusive            = 1
	exclusiveAccess           = 3
	writeExclusiveRegistrants = 5
	exclusiveRegistrants      = 6
	writeExclusiveAll         = 7
	exclusiveAll              = 8
)

func validType(k byte) bool {
	return k == writeExclusive || k == exclusiveAccess || k >= writeExclusiveRegistrants && k <= exclusiveAll
}

// maxRegistrations bounds the registrations of a unit.
const maxRegistrations = 256

// registration is a nexus's key.
type registration struct {
	nexus Nexus
	key   uint64
}

// reservations is the persistent reservation state of a unit (SPC-4 §5.13).
// It is a value: a command works on a clone, which replaces the unit's when
// it has been stored.
type reservations struct {
	generation uint32
	aptpl      bool // survives the loss of power
	list       []registration
	kind       byte  // type of the reservation, 0 for none
	holder     Nexus // for the types with one holder
}

func (r reservations) clone() reservations {
	r.list = slices.Clone(r.list)
	return r
}

func (r *reservations) find(n Nexus) *registration {
	for i := range r.list {
		if r.list[i].nexus == n {
			return &r.list[i]
		}
	}
	return nil
}

// everybody reports whether all registrants hold the reservation.
func (r *reservations) everybody() bool { return r.kind == writeExclusiveAll || r.kind == exclusiveAll }

func (r *reservations) holds(n Nexus) bool {
	if r.kind == 0 || r.find(n) == nil {
		return false
	}
	return r.everybody() || r.holder == n
}

// permits reports whether the reservation lets a nexus do a.
func (r *reservations) permits(n Nexus, a access) bool {
	switch r.kind {
	case 0:
		return true
	case writeExclusive:
		return a == accessRead || r.holds(n)
	case exclusiveAccess:
		return r.holds(n)
	case writeExclusiveRegistrants, writeExclusiveAll:
		return a == accessRead || r.find(n) != nil
	}
	return r.find(n) != nil
}

// remove deletes the registrations that which chooses and returns their
// nexuses. A reservation whose holder, or whose last registrant, is among them
// is released; then released is true.
func (r *reservations) remove(which func(registration) bool) (gone []Nexus, released bool) {
	keep := r.list[:0]
	for _, x := range r.list {
		if which(x) {
			gone = append(gone, x.nexus)
		} else {
			keep = append(keep, x)
		}
	}
	r.list = keep
	if r.kind != 0 && (r.everybody() && len(keep) == 0 || !r.everybody() && r.find(r.holder) == nil) {
		r.kind, r.holder, released = 0, Nexus{}, true
	}
	return gone, released
}

// Store keeps what a loss of power must not take: the persistent reservations
// of one unit that were registered with APTPL. Implementations may block.
type Store interface {
	// Load returns what was saved last, nil if nothing was.
	Load() ([]byte, error)
	// Save replaces it durably. Errors: kind Fenced if this is no longer the
	// unit's host, Unavailable.
	Save([]byte) error
}

// MemoryStore keeps reservations as long as it lives.
type MemoryStore struct{ saved []byte }

// Load implements Store.
func (m *MemoryStore) Load() ([]byte, error) { return slices.Clone(m.saved), nil }

// Save implements Store.
func (m *MemoryStore) Save(b []byte) error {
	m.saved = slices.Clone(b)
	return nil
}

// reservationVersion is the version of the stored form (docs/protocol/iscsi.md).
const reservationVersion = 1

// encode returns the stored form.
func (r *reservations) encode() []byte {
	b := be.AppendUint16(nil, reservationVersion)
	b = be.AppendUint32(b, r.generation)
	b = append(b, r.kind)
	b = be.AppendUint16(b, uint16(len(r.list)))
	for _, x := range r.list {
		b = be.AppendUint64(b, x.key)
		holds := byte(0)
		if r.kind != 0 && x.nexus == r.holder {
			holds = 1
		}
		b = append(b, holds)
		b = be.AppendUint16(b, x.nexus.Port)
		b = append(b, x.nexus.ISID[:]...)
		b = append(b, byte(len(x.nexus.Initiator)))
		b = append(b, x.nexus.Initiator...)
	}
	return b
}

// decodeReservations reads the stored form. Errors: kind Corrupt.
func decodeReservations(b []byte) (reservations, error) {
	const head, entry = 9, 18
	bad := holdfast.Errorf(holdfast.Corrupt, "the stored persistent reservations are malformed; clear them if no initiator relies on them")
	var r reservations
	if len(b) == 0 {
		return r, nil
	}
	if len(b) < head || be.Uint16(b) != reservationVersion {
		return r, bad
	}
	r.generation, r.kind, r.aptpl = be.Uint32(b[2:]), b[6], true
	n := int(be.Uint16(b[7:]))
	b = b[head:]
	if n > maxRegistrations || r.kind != 0 && !validType(r.kind) {
		return reservations{}, bad
	}
	for range n {
		if len(b) < entry || len(b) < entry+int(b[17]) {
			return reservations{}, bad
		}
		x := registration{key: be.Uint64(b), nexus: Nexus{Port: be.Uint16(b[9:]), ISID: [6]byte(b[11:17]), Initiator: string(b[entry : entry+int(b[17])])}}
		if r.find(x.nexus) != nil {
			return reservations{}, bad
		}
		r.list = append(r.list, x)
		if b[8] == 1 {
			r.holder = x.nexus
		}
		b = b[entry+int(b[17]):]
	}
	if len(b) > 0 || r.kind != 0 && (len(r.list) == 0 || !r.everybody() && r.find(r.holder) == nil) {
		return reservations{}, bad
	}
	return r, nil
}

func (u *Unit) loadReservations() error {
	b, err := u.opt.Reservations.Load()
	if err != nil {
		return err
	}
	u.pr, err = decodeReservations(b)
	return err
}
