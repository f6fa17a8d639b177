package nbd

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
)

// Magic numbers (proto.md, "Newstyle negotiation", "Request message").
const (
	magicInit       = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x0003e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	magicExtendedRequest = 0x21e41c71
	magicExtendedReply   = 0x6e8a278c
)

// Handshake flags (server, 16 bits) and client flags (32 bits) share bits.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optStartTLS        = 5
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
	optExtendedHeaders = 11
)

// Option replies.
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4
	repErr         = 1 << 31
	repErrUnsup    = repErr + 1
	repErrPolicy   = repErr + 2
	repErrInvalid  = repErr + 3
	repErrTLSReqd  = repErr + 5
	repErrUnknown  = repErr + 6
	repErrShutdown = repErr + 7
	repErrTooBig   = repErr + 9
	repErrExtended = repErr + 10
)

// Information types of repInfo.
const (
	infoExport    = 0
	infoName      = 1
	infoBlockSize = 3
)

// Transmission flags.
const (
	tfHasFlags    = 1 << 0
	tfReadOnly    = 1 << 1
	tfFlush       = 1 << 2
	tfFUA         = 1 << 3
	tfTrim        = 1 << 5
	tfWriteZeroes = 1 << 6
	tfDF          = 1 << 7
	tfMultiConn   = 1 << 8
	tfCache       = 1 << 10
	tfFastZero    = 1 << 11
	tfStatusIDs   = 1 << 12 // BLOCK_STAT_PAYLOAD
)

// Commands.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdCache       = 5
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
	commands       = 8
)

// Command flags.
const (
	cfFUA      = 1 << 0
	cfNoHole   = 1 << 1
	cfDF       = 1 << 2
	cfReqOne   = 1 << 3
	cfFastZero = 1 << 4
	cfPayload  = 1 << 5 // PAYLOAD_LEN: length is of a payload; with extended headers only
)

// Structured reply chunk types and the flag of the last one.
const (
	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkBlockStatus = 5
	chunkStatusExt   = 6 // BLOCK_STATUS_EXT
	chunkError       = 1<<15 + 1
	chunkErrorOffset = 1<<15 + 2

	chunkDone = 1 << 0
)

// States of the base:allocation context.
const (
	stateHole = 1 << 0
	stateZero = 1 << 1
)

// stateDirty is the state of the contexts holdfast:dirty:SNAPSHOT, as it is that
// of QEMU's dirty bitmaps.
const stateDirty = 1 << 0

const (
	requestSize  = 28   // magic, flags, type, cookie, offset, length
	extendedSize = 32   // the same with a length of 64 bits; of a request and of a chunk, which has the request's offset
	simpleSize   = 16   // magic, error, cookie
	chunkSize    = 20   // magic, flags, type, cookie, length
	maxString    = 4096 // longest string of the protocol, in bytes
	minBlock     = 1    // smallest unit served, in bytes
)

// be is the byte order of the protocol.
var be = binary.BigEndian

// request is a decoded transmission request.
type request struct {
	flags  uint16
	cmd    uint16
	cookie uint64
	off    uint64
	length uint64
	// only is, for a block status whose payload names contexts, a bit for each of
	// them; 0: it is about all that were selected.
	only uint32
}

// parseRequest decodes a request header of requestSize bytes, or of
// extendedSize; false means that the stream is out of step and must be closed.
func parseRequest(b []byte, extended bool) (request, bool) {
	magic, length := uint32(magicRequest), uint64(0)
	if extended {
		magic, length = magicExtendedRequest, be.Uint64(b[24:])
	} else {
		length = uint64(be.Uint32(b[24:]))
	}
	return request{
		flags:  be.Uint16(b[4:]),
		cmd:    be.Uint16(b[6:]),
		cookie: be.Uint64(b[8:]),
		off:    be.Uint64(b[16:]),
		length: length,
	}, be.Uint32(b) == magic
}

func appendRequest(b []byte, r request) []byte {
	b = appendRequestHead(b, magicRequest, r)
	return be.AppendUint32(b, uint32(r.length))
}

func appendRequestHead(b []byte, magic uint32, r request) []byte {
	b = be.AppendUint32(b, magic)
	b = be.AppendUint16(b, r.flags)
	b = be.AppendUint16(b, r.cmd)
	b = be.AppendUint64(b, r.cookie)
	return be.AppendUint64(b, r.off)
}

func appendSimple(b []byte, cookie uint64, e errno) []byte {
	b = be.AppendUint32(b, magicSimple)
	b = be.AppendUint32(b, uint32(e))
	return be.AppendUint64(b, cookie)
}

func appendChunk(b []byte, flags, typ uint16, cookie uint64, length int) []byte {
	b = be.AppendUint32(b, magicStructured)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, typ)
	b = be.AppendUint64(b, cookie)
	return be.AppendUint32(b, uint32(length))
}

// appendExtended is appendChunk with an extended header.
func appendExtended(b []byte, flags, typ uint16, cmd *request, length int) []byte {
	b = be.AppendUint32(b, magicExtendedReply)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, typ)
	b = be.AppendUint64(b, cmd.cookie)
	b = be.AppendUint64(b, cmd.off)
	return be.AppendUint64(b, uint64(length))
}

// errno is an error number of the protocol.
type errno uint32

// The error numbers (proto.md, "Error values").
const (
	ok        errno = 0
	ePerm     errno = 1
	eIO       errno = 5
	eInval    errno = 22
	eNoSpace  errno = 28
	eOverflow errno = 75
	eNotSup   errno = 95
	eShutdown errno = 108
)

// errnoOf maps a disk's error to what the client is told.
func errnoOf(err error) errno {
	if err == nil {
		return ok
	}
	switch holdfast.KindOf(err) {
	case holdfast.Invalid:
		return eInval
	case holdfast.NoSpace:
		return eNoSpace
	case holdfast.Denied:
		return ePerm
	case holdfast.Fenced, holdfast.LostCache, holdfast.Closed:
		return eShutdown
	}
	return eIO
}

// kindOf is the reverse, for the client.
func (e errno) kindOf() holdfast.Kind {
	switch e {
	case ePerm:
		return holdfast.Denied
	case eNoSpace:
		return holdfast.NoSpace
	case eInval, eOverflow, eNotSup:
		return holdfast.Invalid
	case eShutdown:
		return holdfast.Closed
	}
	return holdfast.IO
}

// endsSession reports whether err means that the disk's session is over, so
// that the connection must be closed without an answer: an initiator that can
// reconnect repeats the request elsewhere; told an error, it would fail it.
func endsSession(err error) bool {
	if err == nil {
		return false
	}
	switch holdfast.KindOf(err) {
	case holdfast.Fenced, holdfast.LostCache, holdfast.Closed:
		return true
	}
	return false
}
