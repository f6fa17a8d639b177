package qcow2

import (
	"encoding/binary"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// Stream reads, front to back, a file in the stream layout: one that Map.Write
// wrote. As an io.Reader it gives the whole disk, holes as zeros.
type Stream struct {
	r    io.Reader
	m    *Map
	next int64 // cluster to be looked at
	off  int64 // of the disk: what Read gives next
	from int64 // of the disk: where held begins
	held []byte
	done bool
	buf  []byte
}

// NewStream reads the tables of a file. Kind Invalid: it is no QCOW2 file, or its
// parts do not lie in the order that a stream needs.
func NewStream(r io.Reader) (*Stream, error) {
	s := &Stream{r: r, buf: make([]byte, outCluster)}
	if err := s.cluster(); err != nil {
		return nil, err
	}
	h, err := parseFields(s.buf)
	if err == nil {
		err = h.parseRest(s.buf, 1<<62)
	}
	if err != nil {
		return nil, err
	}
	if h.backing != "" || h.clusterBits != outBits || h.l1Offset != outCluster || h.extended || h.size%sector != 0 {
		return nil, errNoStream()
	}
	if s.m, err = NewMap(h.size); err != nil {
		return nil, err
	}
	if int64(len(s.m.spans)) != h.l1Entries {
		return nil, errNoStream()
	}
	return s, s.readTables()
}

func errNoStream() error {
	return holdfast.Errorf(holdfast.Invalid, "this QCOW2 image cannot be read front to back, since its parts lie in another order: 'holdfast image import FILE' lays it out anew on the way")
}

// cluster reads the next cluster of the file into s.buf.
func (s *Stream) cluster() error { return s.fill(s.buf) }

// fill reads what comes next.
func (s *Stream) fill(p []byte) error {
	_, err := io.ReadFull(s.r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return bad("it ends too early; was it sent whole?")
	}
	return err
}

// readTables reads everything before the data, and takes nothing but what
// writeTables writes.
func (s *Stream) readTables() error {
	spans, at, err := s.readL1()
	if err != nil {
		return err
	}
	l := s.m.layout() // as if there was no data
	first := (1 + l.l1 + l.refTable + l.refBlocks) * outCluster
	if len(spans) > 0 {
		first = at
	}
	if most := clusters(s.m.size)/outRefcount*2 + l.total() + 16; first/outCluster > most {
		return errNoStream() // more refcounts than all of the disk would need
	}
	for at := (1 + l.l1) * outCluster; at < first; at += outCluster { // refcounts
		if err := s.cluster(); err != nil {
			return err
		}
	}
	if err := s.readL2(spans, first+int64(len(spans))*outCluster); err != nil {
		return err
	}
	if s.m.layout().l2At() != first {
		return errNoStream()
	}
	return nil
}

// readL1 reads the L1 table: which L2 tables there are, and where the first is.
// They follow each other.
func (s *Stream) readL1() (spans []int64, first int64, err error) {
	for i := range int64(len(s.m.spans)) {
		if i%outEntries == 0 {
			if err := s.cluster(); err != nil {
				return nil, 0, err
			}
		}
		e := binary.BigEndian.Uint64(s.buf[i%outEntries*8:])
		if e == 0 {
			continue
		}
		if len(spans) == 0 {
			first = int64(e & offsetMask)
		}
		if e != uint64(first+int64(len(spans))*outCluster)|entryData {
			return nil, 0, errNoStream()
		}
		spans = append(spans, i)
	}
	return spans, first, nil
}

// readL2 reads the L2 tables; the data begins at a place in the file.
func (s *Stream) readL2(spans []int64, data int64) error {
	for _, span := range spans {
		if err := s.cluster(); err != nil {
			return err
		}
		for i := range int64(outEntries) {
			e := binary.BigEndian.Uint64(s.buf[i*8:])
			if e == 0 {
				continue
			}
			off := span*outSpan + i*outCluster
			if e != uint64(data)|entryData || off >= s.m.size {
				return errNoStream()
			}
			data += outCluster
			s.m.Add(off, 1)
		}
		if s.m.spans[span] == nil {
			return errNoStream() // a table without data is not written
		}
	}
	return nil
}

// Map says where the disk has data.
func (s *Stream) Map() *Map { return s.m }

// Next returns the next cluster that holds data and where on the disk it is,
// until the next call; io.EOF at the end. The last may be shorter.
func (s *Stream) Next() (off int64, p []byte, err error) {
	c, ok := s.m.next(s.next)
	if !ok {
		if s.done {
			return 0, nil, io.EOF
		}
		s.done = true
		switch n, err := io.ReadFull(s.r, s.buf[:1]); {
		case n > 0:
			return 0, nil, bad("it goes on after its end")
		case err != io.EOF:
			return 0, nil, err
		}
		return 0, nil, io.EOF
	}
	if err := s.cluster(); err != nil {
		return 0, nil, err
	}
	s.next = c + 1
	off = c * outCluster
	return off, s.buf[:min(outCluster, s.m.size-off)], nil
}

// ReadAt implements io.ReaderAt for who asks for what is next, as Map.Write of
// this stream's Map does: whole clusters that follow each other on the disk.
// What of p is past the end of the disk means nothing.
func (s *Stream) ReadAt(p []byte, off int64) (int, error) {
	for at := off; at < off+int64(len(p)); at += outCluster {
		if c, ok := s.m.next(s.next); !ok || c*outCluster != at || at+outCluster > off+int64(len(p)) {
			return int(at - off), holdfast.Errorf(holdfast.Invalid, "%d bytes at %d are not what the stream has next", len(p), off)
		}
		s.next = at/outCluster + 1
	}
	if err := s.fill(p); err != nil {
		return 0, err
	}
	if n := s.m.size - off; n < int64(len(p)) {
		return int(n), io.EOF
	}
	return len(p), nil
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.off == s.from+int64(len(s.held)) && !s.done { // at the end of what is held
		off, b, err := s.Next()
		switch {
		case err == io.EOF:
			s.from, s.held = s.m.size, nil
		case err != nil:
			return 0, err
		default:
			s.from, s.held = off, b
		}
	}
	switch {
	case s.off < s.from:
		n := int(min(int64(len(p)), s.from-s.off))
		clear(p[:n])
		s.off += int64(n)
		return n, nil
	case s.off == s.m.size:
		return 0, io.EOF
	}
	n := copy(p, s.held[s.off-s.from:])
	s.off += int64(n)
	return n, nil
}
