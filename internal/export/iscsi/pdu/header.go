package pdu

import (
	"encoding/binary"
)

// HeaderSize is the length of the basic header segment in bytes.
const HeaderSize = 48

var be = binary.BigEndian

// Header is a basic header segment as it stands on the wire. Fields that mean
// different things in different PDUs are reached by their offset in the
// accessors named after RFC 7143 §11.
type Header [HeaderSize]byte

// Op returns the opcode.
func (h *Header) Op() Opcode { return Opcode(h[0] & opMask) }

// SetOp sets the opcode and clears the immediate flag.
func (h *Header) SetOp(o Opcode) { h[0] = byte(o) }

// Immediate reports the I bit.
func (h *Header) Immediate() bool { return h[0]&Immediate != 0 }

// Flags returns the second byte.
func (h *Header) Flags() byte { return h[1] }

// AHSLength returns the length of the additional header segments in bytes.
func (h *Header) AHSLength() int { return int(h[4]) * 4 }

// DataLength returns the length of the data segment in bytes, 0 to 16 MiB.
func (h *Header) DataLength() int { return int(h[5])<<16 | int(h[6])<<8 | int(h[7]) }

// SetDataLength sets the length of the data segment in bytes.
func (h *Header) SetDataLength(n int) { h[5], h[6], h[7] = byte(n>>16), byte(n>>8), byte(n) }

// LUN returns the eight bytes of the logical unit number.
func (h *Header) LUN() [8]byte { return [8]byte(h[8:16]) }

// SetLUN sets the logical unit number.
func (h *Header) SetLUN(l [8]byte) { copy(h[8:16], l[:]) }

// Word returns the 32-bit field at an offset in bytes.
func (h *Header) Word(at int) uint32 { return be.Uint32(h[at:]) }

// SetWord sets the 32-bit field at an offset in bytes.
func (h *Header) SetWord(at int, v uint32) { be.PutUint32(h[at:], v) }

// Half returns the 16-bit field at an offset in bytes.
func (h *Header) Half(at int) uint16 { return be.Uint16(h[at:]) }

// SetHalf sets the 16-bit field at an offset in bytes.
func (h *Header) SetHalf(at int, v uint16) { be.PutUint16(h[at:], v) }

// Offsets of fields. Several share a place because they belong to different PDUs.
const (
	AtITT         = 16 // initiator task tag
	AtTTT         = 20 // target transfer tag; reference tag of task requests; SNACK tag
	AtLength      = 20 // command: expected data transfer length
	AtCmdSN       = 24 // from the initiator
	AtStatSN      = 24 // from the target
	AtExpStatSN   = 28 // from the initiator
	AtExpCmdSN    = 28 // from the target
	AtMaxCmdSN    = 32 // from the target
	AtCDB         = 32 // command
	AtRefCmdSN    = 32 // task request
	AtDataSN      = 36 // data and R2T
	AtOffset      = 40 // data and R2T: buffer offset
	AtResidual    = 44 // Data-In and response
	AtDesired     = 44 // R2T: desired length
	AtExpDataSN   = 36 // response
	AtISID        = 8  // login, 6 bytes
	AtTSIH        = 14 // login
	AtCID         = 20 // login and logout, 16 bits
	AtLoginStatus = 36 // login response: class and detail
	AtEvent       = 36 // asynchronous message
	AtParameter1  = 38
	AtParameter2  = 40
	AtParameter3  = 42
	AtTime2Wait   = 40 // logout response
	AtTime2Retain = 42
)

// ITT returns the initiator task tag.
func (h *Header) ITT() uint32 { return h.Word(AtITT) }

// Padding returns how many zero bytes follow n bytes of data on the wire.
func Padding(n int) int { return -n & 3 }
