package nbd

import "github.com/holdfast-cloud/holdfast/internal/export"

// pieceSize is how long a read is, in bytes, that is done and answered at once. A
// longer one is cut into such pieces, where the client understands that: each is
// sent while what was read lies in the processor's cache, and the client works on
// it while the next one is read. A volume's limits count the pieces as they
// count the whole, for it is a multiple of what they count as one operation.
const pieceSize = 512 << 10

// pieces is a read that is done in pieces. Under the session's lock, but for the
// reader until it has begun the first.
type pieces struct{ left int }

// last is the flags of the answer to a piece, or to a whole request if there are
// none: the last one to be answered ends the answer.
func (p *pieces) last() (flags uint16) {
	if p != nil {
		if p.left--; p.left > 0 {
			return 0
		}
	}
	return chunkDone
}

// cuts reports whether a request is done in pieces.
func (s *session) cuts(cmd request) bool {
	return cmd.cmd == cmdRead && s.structured && cmd.flags&cfDF == 0 && cmd.length > pieceSize
}

func (s *session) startPieces(cmd request) error {
	whole := &pieces{left: int((cmd.length + pieceSize - 1) / pieceSize)}
	for at := uint64(0); at < cmd.length; at += pieceSize {
		sl := s.acquire(cmd, int64(min(pieceSize, cmd.length-at)))
		if sl == nil {
			return s.why()
		}
		sl.off, sl.whole = cmd.off+at, whole
		sl.submit(export.Read, false)
		if err := s.flushIfLong(); err != nil {
			return err
		}
	}
	return nil
}
