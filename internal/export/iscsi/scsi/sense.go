package scsi

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-cloud/holdfast"
)

var be = binary.BigEndian

// Status is a SCSI status byte (SAM-5 §5.3.1).
type Status byte

// The statuses in use.
const (
	Good                Status = 0x00
	CheckCondition      Status = 0x02
	ConditionMet        Status = 0x04
	Busy                Status = 0x08
	ReservationConflict Status = 0x18
	TaskSetFull         Status = 0x28
	TaskAborted         Status = 0x40
)

// Key is a sense key (SPC-4 §4.5.8).
type Key byte

// The sense keys in use.
const (
	NoSense        Key = 0x0
	NotReady       Key = 0x2
	MediumError    Key = 0x3
	HardwareError  Key = 0x4
	IllegalRequest Key = 0x5
	UnitAttention  Key = 0x6
	DataProtect    Key = 0x7
	CopyAborted    Key = 0xa
	AbortedCommand Key = 0xb
	Miscompare     Key = 0xe
)

// Code is an additional sense code and its qualifier in one number.
type Code uint16

// The codes in use (SPC-4 annex E.2).
const (
	NoCode               Code = 0x0000
	NotReadyNoCause      Code = 0x0400
	BecomingReady        Code = 0x0401
	NeedsStart           Code = 0x0402
	InTransition         Code = 0x040a
	InStandby            Code = 0x040b
	PathUnavailable      Code = 0x040c
	WriteError           Code = 0x0c00
	CopyTargetGone       Code = 0x0d02
	InvalidUnitField     Code = 0x0e03
	UnrecoveredRead      Code = 0x1100
	ListLengthError      Code = 0x1a00
	MiscompareVerify     Code = 0x1d00
	InvalidOpcode        Code = 0x2000
	OutOfRange           Code = 0x2100
	InvalidFieldCDB      Code = 0x2400
	UnitNotSupported     Code = 0x2500
	InvalidFieldList     Code = 0x2600
	InvalidRelease       Code = 0x2604
	TooManyTargets       Code = 0x2606
	UnsupportedTarget    Code = 0x2607
	TooManySegments      Code = 0x2608
	UnsupportedSegment   Code = 0x2609
	WriteProtected       Code = 0x2700
	SoftwareProtected    Code = 0x2702
	SpaceExhausted       Code = 0x2707
	MediumMayHaveChanged Code = 0x2800
	PowerOn              Code = 0x2900
	BusReset             Code = 0x2902
	DeviceReset          Code = 0x2903
	NexusLoss            Code = 0x2907
	ModeChanged          Code = 0x2a01
	ReservationsPreempt  Code = 0x2a03
	ReservationsRelease  Code = 0x2a04
	RegistrationsPreempt Code = 0x2a05
	AccessStateChanged   Code = 0x2a06
	CapacityChanged      Code = 0x2a09
	CommandsCleared      Code = 0x2f00
	SoftThreshold        Code = 0x3807
	NoMedium             Code = 0x3a00
	NoMediumEjected      Code = 0x3a02
	LUNsChanged          Code = 0x3f0e
	InternalFailure      Code = 0x4400
	OverlappedCommands   Code = 0x4e00
	RemovalPrevented     Code = 0x5302
	NoRegistrationRoom   Code = 0x5504
	CRCError             Code = 0x4705
	UnexpectedData       Code = 0x0c0c
	InfoUnitTooLong      Code = 0x0e02
	DataPhaseError       Code = 0x4b00
)

// Sense is why a command ended with CHECK CONDITION.
type Sense struct {
	Key  Key
	Code Code
	// Info is the command's information field (the address or offset of what
	// was wrong), where HasInfo.
	Info    uint64
	HasInfo bool
	// Field points at the first wrong byte of the CDB (InCDB) or of the
	// parameter list; -1 for none. Bit is the wrong bit's number, -1 for none.
	Field int
	InCDB bool
	Bit   int
}

// Error implements error.
func (s *Sense) Error() string {
	return fmt.Sprintf("sense key %x, code %02x/%02x", s.Key, byte(s.Code>>8), byte(s.Code))
}

func sense(k Key, c Code) *Sense { return &Sense{Key: k, Code: c, Field: -1, Bit: -1} }

// badCDB is ILLEGAL REQUEST, INVALID FIELD IN CDB, pointing at a byte.
func badCDB(field int) *Sense {
	return &Sense{Key: IllegalRequest, Code: InvalidFieldCDB, Field: field, InCDB: true, Bit: -1}
}

// badList is ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST.
func badList(field int) *Sense {
	return &Sense{Key: IllegalRequest, Code: InvalidFieldList, Field: field, Bit: -1}
}

func listLength() *Sense { return sense(IllegalRequest, ListLengthError) }

// Fixed sense is always sent whole, in bytes.
const fixedSense = 18

// Encode returns the sense data in fixed or descriptor format (SPC-4 §4.5).
func (s *Sense) Encode(descriptor bool) []byte {
	if descriptor {
		return s.descriptors()
	}
	b := make([]byte, fixedSense)
	b[0], b[2], b[7] = 0x70, byte(s.Key), fixedSense-8
	if s.HasInfo && s.Info <= 0xffffffff {
		b[0] |= 0x80
		be.PutUint32(b[3:], uint32(s.Info))
	}
	be.PutUint16(b[12:], uint16(s.Code))
	s.pointer(b[15:18])
	return b
}

// pointer fills the three sense-key specific bytes.
func (s *Sense) pointer(b []byte) {
	if s.Field < 0 {
		return
	}
	b[0] = 0x80
	if s.InCDB {
		b[0] |= 0x40
	}
	if s.Bit >= 0 {
		b[0] |= 0x08 | byte(s.Bit)
	}
	be.PutUint16(b[1:], uint16(s.Field))
}

func (s *Sense) descriptors() []byte {
	b := []byte{0x72, byte(s.Key), byte(s.Code >> 8), byte(s.Code), 0, 0, 0, 0}
	if s.HasInfo {
		b = append(b, 0x00, 0x0a, 0x80, 0)
		b = be.AppendUint64(b, s.Info)
	}
	if s.Field >= 0 {
		d := [8]byte{0x02, 0x06}
		s.pointer(d[4:7])
		b = append(b, d[:]...)
	}
	b[7] = byte(len(b) - 8)
	return b
}

// senseOf turns a failure of the disk into sense data. write says that the
// command was to change the medium.
func senseOf(err error, write bool) *Sense {
	if s, ok := err.(*Sense); ok { // never wrapped
		return s
	}
	switch holdfast.KindOf(err) {
	case holdfast.NoSpace:
		return sense(DataProtect, SpaceExhausted)
	case holdfast.Denied:
		return sense(DataProtect, WriteProtected)
	case holdfast.Invalid:
		return sense(IllegalRequest, OutOfRange)
	case holdfast.Unavailable, holdfast.Conflict, holdfast.Unknown:
		return sense(NotReady, BecomingReady)
	case holdfast.Fenced, holdfast.Closed, holdfast.NotFound:
		return sense(NotReady, InTransition)
	case holdfast.Busy:
		return sense(NotReady, NotReadyNoCause)
	case holdfast.LostCache:
		return sense(UnitAttention, PowerOn)
	case holdfast.IO, holdfast.Corrupt, holdfast.Damaged:
		if write {
			return sense(MediumError, WriteError)
		}
		return sense(MediumError, UnrecoveredRead)
	}
	return sense(HardwareError, InternalFailure)
}
