package nbd

import (
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
)

// holeUnit is the granularity in bytes at which a long read is searched for
// zeroes, aligned to the volume.
const holeUnit = 64 << 10

// maxMessage is the longest error text sent, in bytes.
const maxMessage = 512

// appendReply appends the answer to a completed request and reports whether
// it took the slot's buffer over. hole says that data, not fragmented, is
// zero throughout.
func (sl *slot) appendReply(b *batch, data []byte, hole bool, err error) (held bool) {
	cmd, last := &sl.cmd, sl.whole.last()
	switch {
	case err != nil:
		sl.appendFailure(b, last, errnoOf(err), err.Error())
	case cmd.cmd != cmdRead:
		sl.appendError(b, ok, "")
	case !sl.s.structured:
		b.Buf = appendSimple(b.Buf, cmd.cookie, ok)
		return b.Payload(data)
	case hole:
		sl.appendHole(b, last, sl.off, len(data))
	case cmd.flags&cfDF != 0 || len(data) <= holeUnit:
		return sl.appendData(b, last, sl.off, data)
	default:
		return sl.appendRuns(b, last, sl.off, data)
	}
	return false
}

// appendError appends an answer without payload: success, or an error and,
// where the protocol allows, its reason.
func (sl *slot) appendError(b *batch, e errno, why string) { sl.appendFailure(b, chunkDone, e, why) }

// appendFailure is appendError with the flags of the chunk that it may be.
func (sl *slot) appendFailure(b *batch, flags uint16, e errno, why string) {
	cookie := sl.cmd.cookie
	switch {
	case !sl.s.structured || e == ok && sl.cmd.cmd != cmdRead && !sl.s.extended:
		b.Buf = appendSimple(b.Buf, cookie, e)
	case e == ok:
		sl.chunk(b, chunkDone, chunkNone, 0)
	default:
		why = why[:min(len(why), maxMessage)]
		sl.chunk(b, flags, chunkError, 6+len(why))
		b.Buf = be.AppendUint32(b.Buf, uint32(e))
		b.Buf = be.AppendUint16(b.Buf, uint16(len(why)))
		b.Buf = append(b.Buf, why...)
	}
}

// chunk begins a chunk of an answer to the slot's request.
func (sl *slot) chunk(b *batch, flags, typ uint16, length int) {
	if sl.s.extended {
		b.Buf = appendExtended(b.Buf, flags, typ, &sl.cmd, length)
	} else {
		b.Buf = appendChunk(b.Buf, flags, typ, sl.cmd.cookie, length)
	}
}

func (sl *slot) appendData(b *batch, flags uint16, off uint64, data []byte) (held bool) {
	sl.chunk(b, flags, chunkData, 8+len(data))
	b.Buf = be.AppendUint64(b.Buf, off)
	return b.Payload(data)
}

func (sl *slot) appendHole(b *batch, flags uint16, off uint64, n int) {
	sl.chunk(b, flags, chunkHole, 12)
	b.Buf = be.AppendUint64(b.Buf, off)
	b.Buf = be.AppendUint32(b.Buf, uint32(n))
}

// appendRuns splits a long read into runs of data and of zeroes.
func (sl *slot) appendRuns(b *batch, last uint16, off uint64, data []byte) (held bool) {
	for len(data) > 0 {
		n, zero := cutRun(off, data)
		flags := uint16(0)
		if n == len(data) {
			flags = last
		}
		if zero {
			sl.appendHole(b, flags, off, n)
		} else if sl.appendData(b, flags, off, data[:n]) {
			held = true
		}
		off += uint64(n)
		data = data[n:]
	}
	return held
}

// cutRun returns the length of the first run of data that is all zero or all
// not, in units of holeUnit.
func cutRun(off uint64, data []byte) (n int, zero bool) {
	for n < len(data) {
		unit := min(holeUnit-int((off+uint64(n))%holeUnit), len(data)-n)
		z := buffer.Zero(data[n : n+unit])
		if n > 0 && z != zero {
			break
		}
		zero = z
		n += unit
	}
	return n, zero
}
