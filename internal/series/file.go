package series

import (
	"encoding/binary"
	"math"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// The file of a store (docs/format/series.md).
const (
	magic    = "HFseries"
	version  = 1
	headLen  = 16
	lineHead = 16 + 1 + 8 // subject, length of the metric, freshness; the metric follows
)

// MaxFile bounds the file, bytes.
func MaxFile() int64 {
	return int64(headLen + 8*len(Rings()) + MaxLines*(lineHead+MaxMetric+4*slots()) + 4)
}

func slots() (n int) {
	for _, r := range Rings() {
		n += r.Slots
	}
	return n
}

// Encode is the store as a file.
func (s *Store) Encode() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	le := binary.LittleEndian
	out := append(make([]byte, 0, headLen+len(s.lines)*(lineHead+MaxMetric+4*slots())), magic...)
	out = le.AppendUint32(out, version)
	out = le.AppendUint32(out, uint32(len(s.lines)))
	for _, b := range s.now {
		out = le.AppendUint64(out, uint64(b))
	}
	for k, l := range s.lines {
		out = append(out, k.Subject[:]...)
		out = append(out, byte(len(k.Metric)))
		out = le.AppendUint64(out, uint64(l.fresh))
		out = append(out, k.Metric...)
		for _, ring := range l.points {
			for _, p := range ring {
				out = le.AppendUint32(out, math.Float32bits(p))
			}
		}
	}
	return le.AppendUint32(out, checksum.CRC(out))
}

// Decode reads a file of Encode. The newest points are not added to any more.
// Corrupt: it is not one. Invalid: a later program made it.
func Decode(b []byte) (*Store, error) {
	le := binary.LittleEndian
	s := New()
	if len(b) < headLen+8*len(s.rings)+4 || string(b[:8]) != magic {
		return nil, corrupt("it is none")
	}
	if v := le.Uint32(b[8:]); v != version {
		return nil, holdfast.Errorf(holdfast.Invalid, "file of figures: version %d, this program knows %d", v, version)
	}
	body, sum := b[:len(b)-4], le.Uint32(b[len(b)-4:])
	if checksum.CRC(body) != sum {
		return nil, corrupt("its checksum does not match")
	}
	n := le.Uint32(b[12:])
	if n > MaxLines {
		return nil, corrupt("it has too many lines")
	}
	body = body[headLen:]
	for i := range s.now {
		v := le.Uint64(body)
		if v > math.MaxInt64/uint64(s.rings[i].Step) {
			return nil, corrupt("it is of no time")
		}
		s.now[i], body = int64(v), body[8:]
	}
	for range n {
		k, l, rest, err := s.decodeLine(body)
		if err != nil {
			return nil, err
		}
		if s.lines[k] != nil {
			return nil, corrupt("a line stands there twice")
		}
		s.lines[k], body = l, rest
	}
	if len(body) != 0 {
		return nil, corrupt("something follows its last line")
	}
	return s, nil
}

func (s *Store) decodeLine(b []byte) (Key, *line, []byte, error) {
	le := binary.LittleEndian
	if len(b) < lineHead {
		return Key{}, nil, nil, corrupt("it ends within a line")
	}
	k := Key{Subject: holdfast.UUID(b[:16])}
	name, fresh := int(b[16]), le.Uint64(b[17:])
	b = b[lineHead:]
	if name == 0 || name > MaxMetric || fresh > math.MaxInt64 || len(b) < name+4*slots() {
		return Key{}, nil, nil, corrupt("a line is none")
	}
	k.Metric, b = string(b[:name]), b[name:]
	l := s.newLine()
	l.fresh = int64(fresh)
	for _, ring := range l.points {
		for j := range ring {
			p := math.Float32frombits(le.Uint32(b))
			if math.IsInf(float64(p), 0) {
				return Key{}, nil, nil, corrupt("a point is no number")
			}
			ring[j], b = p, b[4:]
		}
	}
	return k, l, b, nil
}

func corrupt(why string) error {
	return holdfast.Errorf(holdfast.Corrupt, "file of figures: %s", why)
}
