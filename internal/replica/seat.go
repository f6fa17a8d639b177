package replica

import (
	"encoding/binary"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// SeatAsk asks the host of a replica that is to be built, or brought up to date,
// for a seat at its disk; again every second, to keep it.
type SeatAsk struct {
	Disk   holdfast.DiskID
	Rank   uint64        // the lowest is first
	Waited time.Duration // since it was first asked for anywhere, 0 to 1000 hours
	Leave  bool          // the seat is given back, or not wanted any more
}

const (
	seatAskSize = 16 + 3*8
	maxWaited   = 1000 * time.Hour
)

// AppendTo appends the coding of a.
func (a *SeatAsk) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, a.Disk.UUID[:]...)
	b = le.AppendUint64(b, a.Rank)
	b = le.AppendUint64(b, uint64(a.Waited))
	var flags uint64
	if a.Leave {
		flags = 1
	}
	return le.AppendUint64(b, flags)
}

// DecodeSeatAsk reads a SeatAsk.
func DecodeSeatAsk(b []byte) (a SeatAsk, err error) {
	if len(b) != seatAskSize {
		return a, short("seat ask", len(b), seatAskSize)
	}
	le := binary.LittleEndian
	copy(a.Disk.UUID[:], b)
	w := le.Uint64(b[24:])
	if w > uint64(maxWaited) {
		w = uint64(maxWaited)
	}
	a.Rank, a.Waited, a.Leave = le.Uint64(b[16:]), time.Duration(w), le.Uint64(b[32:])&1 != 0
	return a, nil
}

// Seat is the answer to a SeatAsk.
type Seat struct {
	Granted bool
	Ahead   uint32 // how many are before it there, those at work included
	Limit   int64  // bytes a second that the disk takes of all rebuilds now; 0: no limit
	Cap     bool   // the limit is what somebody set, not what the foreground leaves
}

const seatSize = 3 * 8

// AppendTo appends the coding of s.
func (s *Seat) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	var flags uint64
	if s.Granted {
		flags = 1
	}
	if s.Cap {
		flags |= 2
	}
	b = le.AppendUint64(b, flags)
	b = le.AppendUint64(b, uint64(s.Ahead))
	return le.AppendUint64(b, uint64(s.Limit))
}

// DecodeSeat reads a Seat.
func DecodeSeat(b []byte) (s Seat, err error) {
	if len(b) < seatSize {
		return s, short("seat", len(b), seatSize)
	}
	le := binary.LittleEndian
	flags, limit := le.Uint64(b), le.Uint64(b[16:])
	if limit > 1<<62 {
		return s, holdfast.Errorf(holdfast.Invalid, "replica seat: a limit of %d bytes a second is out of range", limit)
	}
	s.Granted, s.Cap, s.Ahead, s.Limit = flags&1 != 0, flags&2 != 0, uint32(le.Uint64(b[8:])), int64(limit)
	return s, nil
}
