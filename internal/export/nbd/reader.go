package nbd

import (
	"errors"
	"io"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// errGoodbye ends readAll when the client has sent NBD_CMD_DISC.
var errGoodbye = errors.New("the client disconnected")

// readAll takes requests until the connection ends.
func (s *session) readAll() error {
	for {
		err := s.readOne()
		switch {
		case err == nil:
		case errors.Is(err, errGoodbye), errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// readOne reads and starts one request. An error ends the connection.
func (s *session) readOne() error {
	size := s.headerSize()
	if s.br.Buffered() < size {
		s.settle()
	}
	b, err := s.br.Peek(size)
	if err != nil {
		if len(b) > 0 {
			return errGarbage("%d bytes where a request of %d was to come", len(b), size)
		}
		return err
	}
	cmd, good := parseRequest(b, s.extended)
	if !good {
		return errGarbage("no request starts with % x", b[:4])
	}
	s.br.Discard(size)
	if n := s.payload(cmd); n > holdfast.MaxIO {
		// The payload would have to be read to stay in step.
		return errGarbage("a payload of %d bytes; at most %d are taken at once", n, holdfast.MaxIO)
	}
	if cmd.cmd == cmdDisc {
		return errGoodbye
	}
	if cmd.cmd == cmdBlockStatus && s.payload(cmd) > 0 {
		if cmd, good, err = s.readStatus(cmd); err != nil {
			return err
		}
		if !good {
			return s.answer(cmd, eInval, "the payload does not name contexts that were selected")
		}
	}
	if e, why := s.check(cmd); e != ok {
		return s.refuse(cmd, e, why)
	}
	return s.start(cmd)
}

// payload is how many bytes follow a request's header. With extended headers a
// flag says that length is theirs; a write has them in any case, as some clients
// forget the flag.
func (s *session) payload(cmd request) uint64 {
	if cmd.cmd == cmdWrite || s.extended && cmd.flags&cfPayload != 0 {
		return cmd.length
	}
	return 0
}

// maxStatusPayload bounds the payload of a block status that is looked at: the
// length, and all contexts that there can be.
const maxStatusPayload = 8 + 4*maxContexts

// readStatus reads the payload of a block status: how many bytes it is about,
// and of which contexts it wants to know. It returns the request as it would be
// without one; false says that it makes no sense.
func (s *session) readStatus(cmd request) (request, bool, error) {
	n := int(cmd.length)
	var b [maxStatusPayload]byte
	if n < 12 || n > len(b) || n%4 != 0 {
		_, err := s.br.Discard(n)
		return cmd, false, err
	}
	if s.br.Buffered() < n {
		s.settle()
	}
	if _, err := io.ReadFull(s.br, b[:n]); err != nil {
		return cmd, false, errGarbage("it left in the middle of a block status")
	}
	cmd.length, cmd.flags = be.Uint64(b[:]), cmd.flags&^cfPayload
	for ids := b[8:n]; len(ids) > 0; ids = ids[4:] {
		id := be.Uint32(ids)
		if id < firstContext || id-firstContext >= uint32(len(s.contexts)) || cmd.only>>(id-firstContext)&1 != 0 {
			return cmd, false, nil // it was not selected, or is named twice
		}
		cmd.only |= 1 << (id - firstContext)
	}
	return cmd, true, nil
}

func errGarbage(format string, args ...any) error {
	return holdfast.Errorf(holdfast.Invalid, "the client broke the protocol: "+format, args...)
}

// check says whether cmd may be started, and if not, what the client is told.
func (s *session) check(cmd request) (errno, string) {
	allowed := uint16(cfFUA)
	change, rangeErr := false, eInval
	switch cmd.cmd {
	case cmdRead:
		if s.structured {
			allowed |= cfDF
		}
	case cmdWrite:
		change, rangeErr = true, eNoSpace
		if s.extended {
			allowed |= cfPayload
		}
	case cmdTrim:
		change = true
	case cmdWriteZeroes:
		allowed |= cfNoHole | cfFastZero
		change, rangeErr = true, eNoSpace
	case cmdBlockStatus:
		allowed |= cfReqOne
		if len(s.contexts) == 0 {
			return eInval, "no metadata context was selected"
		}
		if cmd.length == 0 {
			return eInval, "a block status of no bytes"
		}
	case cmdFlush:
		if cmd.off != 0 || cmd.length != 0 {
			return eInval, "a flush takes no offset and no length"
		}
	case cmdCache:
	default:
		return eInval, "unknown command"
	}
	if cmd.flags&^allowed != 0 {
		return eInval, "a flag does not belong to the command"
	}
	if change && s.readOnly {
		return ePerm, "the export is read-only"
	}
	if size := uint64(s.disk.Size()); cmd.off > size || cmd.length > size-cmd.off {
		return rangeErr, "beyond the end of the volume"
	}
	if cmd.cmd == cmdRead && cmd.length > holdfast.MaxIO {
		return eOverflow, "a read of more than 32 MiB"
	}
	if cmd.flags&cfFastZero != 0 && (cmd.off|cmd.length)%holdfast.BlockSize != 0 {
		// The blocks at the ends would be read and written back.
		return eNotSup, "only whole 4 KiB blocks become zero fast"
	}
	return ok, ""
}

// refuse answers cmd with an error, after its payload.
func (s *session) refuse(cmd request, e errno, why string) error {
	if n := s.payload(cmd); n > 0 {
		if _, err := s.br.Discard(int(n)); err != nil {
			return err
		}
	}
	return s.answer(cmd, e, why)
}

// answer replies to a request that needs nothing of the disk.
func (s *session) answer(cmd request, e errno, why string) error {
	sl := s.acquire(cmd, 0)
	if sl == nil {
		return s.why()
	}
	sl.submitting.Store(true) // the reader flushes
	sl.finish(false, func(b *batch) bool { sl.appendError(b, e, why); return false })
	sl.submitting.Store(false)
	return nil
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// start submits a checked request.
func (s *session) start(cmd request) error {
	cost, op := int64(0), export.Flush
	switch cmd.cmd {
	case cmdRead, cmdWrite:
		cost = int64(cmd.length)
	case cmdCache:
		cost = int64(min(cmd.length, holdfast.MaxIO))
	}
	if cmd.cmd != cmdFlush && cmd.length == 0 {
		return s.answer(cmd, ok, "") // of nothing, nothing is to be done
	}
	if s.cuts(cmd) {
		return s.startPieces(cmd)
	}
	sl := s.acquire(cmd, cost)
	if sl == nil {
		return s.why()
	}
	switch cmd.cmd {
	case cmdBlockStatus:
		go sl.blockStatus()
		return nil
	case cmdRead, cmdCache:
		op = export.Read
	case cmdWrite:
		op = export.Write
		if err := s.readPayload(sl); err != nil {
			sl.abandon()
			return err
		}
	case cmdTrim:
		op = export.Trim
	case cmdWriteZeroes:
		op = export.Zero
	}
	sl.submit(op, cmd.flags&cfFUA != 0 && op != export.Read && op != export.Flush)
	return s.flushIfLong()
}

func (s *session) readPayload(sl *slot) error {
	if s.br.Buffered() < int(sl.cost) {
		s.settle()
	}
	_, err := io.ReadFull(s.br, sl.buf.Mem[:sl.cost])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errGarbage("it left in the middle of a write")
	}
	return err
}

// abandon frees a slot that was never submitted and is not answered.
func (sl *slot) abandon() {
	s := sl.s
	s.end(holdfast.Errorf(holdfast.Unavailable, "the client left in the middle of a write"))
	sl.finish(false, nil)
}

// flushIfLong writes the batch if it has grown long enough.
func (s *session) flushIfLong() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Cost >= flushAt {
		s.flushLocked()
	}
	return nil
}
