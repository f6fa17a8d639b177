package volume

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// What a volume holds where is asked of its writer, as the data are.

// maxCarried bounds the runs of one answer, so that it fits a frame's head.
const maxCarried = 4096

// A run is a length and a flag: for allocation a hole, for changes dirty.
const carriedRun = 9

// mapAsk is KindSessionMap without its session.
type mapAsk struct {
	since  holdfast.SnapshotID // zero: where are holes?
	off, n int64
	most   int
}

const mapAskLen = 16 + 8 + 8 + 4

func (a mapAsk) appendTo(b []byte) []byte {
	b = append(b, a.since.UUID[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.off))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.n))
	return binary.LittleEndian.AppendUint32(b, uint32(a.most))
}

func decodeMapAsk(b []byte) (a mapAsk, err error) {
	if len(b) != mapAskLen {
		return a, holdfast.Errorf(holdfast.Invalid, "session map: %d bytes, need %d", len(b), mapAskLen)
	}
	le := binary.LittleEndian
	copy(a.since.UUID[:], b)
	a.off, a.n = int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:]))
	a.most = int(min(le.Uint32(b[32:]), maxCarried))
	return a, nil
}

// answer asks the disk here.
func (a mapAsk) answer(d export.Disk) (head []byte, err error) {
	if a.since.IsZero() {
		xs, err := d.Extents(a.off, a.n, a.most)
		for _, x := range xs {
			head = appendRun(head, x.Length, x.Hole)
		}
		return head, err
	}
	c, can := d.(export.Comparer)
	if !can {
		return nil, holdfast.Errorf(holdfast.Invalid, "this session cannot compare")
	}
	xs, err := c.Changes(a.since, a.off, a.n, a.most)
	for _, x := range xs {
		head = appendRun(head, x.Length, x.Dirty)
	}
	return head, err
}

func appendRun(b []byte, n int64, flag bool) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	if flag {
		return append(b, 1)
	}
	return append(b, 0)
}

// decodeRuns reads an answer, which must fit what was asked.
func (a mapAsk) decodeRuns(b []byte, each func(n int64, flag bool)) error {
	if len(b)%carriedRun != 0 || len(b)/carriedRun > a.most || len(b) == 0 {
		return holdfast.Errorf(holdfast.Invalid, "session map: the writer answered %d bytes", len(b))
	}
	for left := a.n; len(b) > 0; b = b[carriedRun:] {
		n := int64(binary.LittleEndian.Uint64(b))
		if n <= 0 || n > left || b[8] > 1 {
			return holdfast.Errorf(holdfast.Invalid, "session map: the writer answered a run of %d bytes where %d were left", n, left)
		}
		left -= n
		each(n, b[8] == 1)
	}
	return nil
}

func (s *Service) serveSessionMap(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	sv, rest := s.sessionOf(from, f.Head, reply)
	if sv == nil {
		return
	}
	ask, err := decodeMapAsk(rest)
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	s.tasks.Go(func() { // may go to the disk
		head, err := ask.answer(sv.disk)
		s.answer(reply, transport.Frame{Head: head}, err)
	})
}

// ask has the writer describe a range.
func (d *forwarded) ask(a mapAsk, each func(n int64, flag bool)) error {
	if a.off < 0 || a.n <= 0 || a.most <= 0 || a.n > d.Size()-a.off {
		return holdfast.Errorf(holdfast.Invalid, "%d bytes at %d are beyond the volume's end", a.n, a.off)
	}
	a.most = min(a.most, maxCarried)
	head := a.appendTo(append([]byte(nil), d.id.UUID[:]...))
	for {
		to, local, err := d.where()
		if err != nil {
			return err
		}
		if local != nil {
			runs, err := a.answer(local)
			if err == nil {
				return a.decodeRuns(runs, each)
			}
			if h := handedOver(err); h == nil || !d.awaitHanded(h) {
				return err
			}
			continue
		}
		f, err := transport.Call(d.s.Clock, d.s.Net, to, transport.Frame{Kind: KindSessionMap, Head: head}, sessionCall)
		if err != nil {
			return err
		}
		if next, went := wentWhere(f); went {
			d.follow(to, next)
			continue
		}
		return a.decodeRuns(f.Head, each)
	}
}

// Extents implements export.Disk. While the writer does not answer everything is
// claimed to be data, which it may be.
func (d *forwarded) Extents(off, n int64, max int) (out []export.Extent, err error) {
	err = d.ask(mapAsk{off: off, n: n, most: max}, func(n int64, hole bool) {
		out = append(out, export.Extent{Length: n, Hole: hole})
	})
	if holdfast.IsKind(err, holdfast.Unavailable) {
		return []export.Extent{{Length: n}}, nil
	}
	return out, err
}

// Changes implements export.Comparer.
func (d *forwarded) Changes(since holdfast.SnapshotID, off, n int64, max int) (out []export.Change, err error) {
	if since.IsZero() {
		return nil, holdfast.Errorf(holdfast.NotFound, "no snapshot is meant")
	}
	err = d.ask(mapAsk{since: since, off: off, n: n, most: max}, func(n int64, dirty bool) {
		out = append(out, export.Change{Length: n, Dirty: dirty})
	})
	return out, err
}
