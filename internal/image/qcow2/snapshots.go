package qcow2

import (
	"encoding/binary"
	"io"
)

// Bounds on what is read of the snapshots' table, for notes only.
const (
	maxNamed      = 8
	snapshotFixed = 40 // bytes of an entry before its extra data
	maxExtra      = 1024
)

// readSnapshots returns the names of the first snapshots in a file. They are
// for people: what cannot be read is left out.
func readSnapshots(r io.ReaderAt, h *header) (names []string) {
	at := h.snapshotsAt
	for i := uint32(0); i < min(h.snapshots, maxNamed) && at > 0 && at < 1<<62; i++ {
		var b [snapshotFixed]byte
		if _, err := r.ReadAt(b[:], at); err != nil {
			return names
		}
		id, name, extra := int64(binary.BigEndian.Uint16(b[12:])), int64(binary.BigEndian.Uint16(b[14:])), int64(binary.BigEndian.Uint32(b[36:]))
		if extra > maxExtra {
			return names
		}
		text := make([]byte, min(name, maxExtra))
		if _, err := r.ReadAt(text, at+snapshotFixed+extra+id); err != nil && err != io.EOF {
			return names
		}
		names = append(names, string(text))
		at += (snapshotFixed + extra + id + name + 7) &^ 7
	}
	return names
}
