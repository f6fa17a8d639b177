package scsi

import (
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-cloud/holdfast"
)

// MaxLUN is the highest logical unit number that can be addressed here, in the
// single-level flat space.
const MaxLUN = 0x3fff

// Device is what one target offers: logical units by number. It does not
// change while it is offered.
type Device struct {
	units map[uint16]*Unit
	luns  []uint16
}

// NewDevice returns a device with the given units, one at least. Errors: kind
// Invalid for numbers out of range.
func NewDevice(units map[uint16]*Unit) (*Device, error) {
	d := &Device{units: maps.Clone(units), luns: slices.Sorted(maps.Keys(units))}
	if len(units) == 0 || d.luns[len(d.luns)-1] > MaxLUN {
		return nil, holdfast.Errorf(holdfast.Invalid, "a target needs logical units with numbers from 0 to %d", MaxLUN)
	}
	return d, nil
}

// Units returns the units in the order of their numbers.
func (d *Device) Units() []*Unit {
	var us []*Unit
	for _, l := range d.luns {
		us = append(us, d.units[l])
	}
	return us
}

// Close closes all units; no path may be attached any more.
func (d *Device) Close() {
	for _, u := range d.Units() {
		u.Close()
	}
}

// Path is one attached nexus and what every unit keeps for it.
type Path struct {
	Device *Device
	Nexus  Nexus
	states map[*Unit]*nexusState
	once   sync.Once
}

// Attach begins a nexus. Errors: kind Unavailable if there are too many,
// Closed.
func (d *Device) Attach(n Nexus) (*Path, error) {
	p := &Path{Device: d, Nexus: n, states: map[*Unit]*nexusState{}}
	for _, u := range d.Units() {
		st, err := u.attach(n)
		if err != nil {
			p.Detach(false)
			return nil, err
		}
		p.states[u] = st
	}
	return p, nil
}

// Detach ends a nexus whose tasks have all ended. logout says that the
// initiator said goodbye.
func (p *Path) Detach(logout bool) {
	p.once.Do(func() {
		for _, u := range p.Device.Units() {
			if st := p.states[u]; st != nil {
				u.detach(st, logout)
			}
		}
	})
}

// Unit returns the logical unit that lun addresses, or nil.
func (p *Path) Unit(lun [8]byte) *Unit {
	n, ok := parseLUN(lun)
	if !ok {
		return nil
	}
	return p.Device.units[n]
}

// parseLUN understands peripheral and flat addressing of one level (SAM-5
// §4.7.7).
func parseLUN(l [8]byte) (uint16, bool) {
	if [6]byte(l[2:]) != [6]byte{} {
		return 0, false
	}
	switch {
	case l[0] == 0:
		return uint16(l[1]), true
	case l[0]>>6 == 1:
		return uint16(l[0]&0x3f)<<8 | uint16(l[1]), true
	}
	return 0, false
}

// formLUN is the number as REPORT LUNS tells it.
func formLUN(n uint16) (l [8]byte) {
	if n < 256 {
		l[1] = byte(n)
		return l
	}
	l[0], l[1] = 0x40|byte(n>>8), byte(n)
	return l
}
