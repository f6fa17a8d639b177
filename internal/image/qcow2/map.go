package qcow2

import (
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/holdfast-cloud/holdfast"
)

// What is written, by Map and Packer.
const (
	outBits     = 16
	outCluster  = 1 << outBits
	outEntries  = outCluster / 8             // of a table that is one cluster
	outSpan     = outEntries * outCluster    // bytes of the disk that an L2 table speaks of
	outRefcount = outCluster / 2             // clusters that a refcount block speaks of
	outHeader   = headerV3 + 8               // bytes
	maxDisk     = maxL1Bytes / 8 * outSpan   // bytes
	refcountOne = uint16(1)                  // of every cluster in the stream layout
	outVersion  = 3                          // of the format
	outOrder    = 4                          // refcounts of 2^4 bits
	spanWords   = outEntries / bits.UintSize // of a bitmap
	mapWordBits = bits.UintSize              // clusters in a word
	entryData   = uint64(flagCopied)         // an L1 or L2 entry of what is referred to once
	entryPacked = uint64(flagCompressed)     // an L2 entry of a compressed cluster
	packedShift = 62 - (outBits - 8)         // where its number of sectors begins
)

// Map says which clusters of a disk hold data, and lays out a file that holds
// them (the stream layout of docs/format/qcow2.md).
type Map struct {
	size  int64
	spans []*[spanWords]uint // by L2 table; nil: no data
	data  int64              // clusters
	tabs  int64              // L2 tables
}

// NewMap makes a map of a disk of so many bytes, of which nothing holds data.
func NewMap(size int64) (*Map, error) {
	if size <= 0 || size > maxDisk || size%sector != 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "a QCOW2 image cannot be of a disk of %d bytes", size)
	}
	return &Map{size: size, spans: make([]*[spanWords]uint, (size+outSpan-1)/outSpan)}, nil
}

// MapOf makes the map of a disk, without reading its data.
func MapOf(d Disk) (*Map, error) {
	m, err := NewMap((d.Size() + sector - 1) / sector * sector)
	for off := int64(0); err == nil; {
		var from int64
		if from, off, err = d.NextData(off); err != nil || from == off {
			break
		}
		m.Add(from, off-from)
	}
	return m, err
}

// Size is the disk's, in bytes.
func (m *Map) Size() int64 { return m.size }

// DataSize is how many bytes of data the file has: whole clusters.
func (m *Map) DataSize() int64 { return m.data * outCluster }

// Add says that n bytes of the disk at off hold data.
func (m *Map) Add(off, n int64) {
	for c := off / outCluster; n > 0 && c <= (off+n-1)/outCluster; c++ {
		span := c / outEntries
		if m.spans[span] == nil {
			m.spans[span] = new([spanWords]uint)
			m.tabs++
		}
		word, bit := &m.spans[span][c%outEntries/mapWordBits], uint(1)<<(c%mapWordBits)
		if *word&bit == 0 {
			*word |= bit
			m.data++
		}
	}
}

// next returns the first cluster from c on that holds data; ok is false if there
// is none.
func (m *Map) next(c int64) (_ int64, ok bool) {
	for span := c / outEntries; span < int64(len(m.spans)); span++ {
		if m.spans[span] == nil {
			continue
		}
		in := max(0, c-span*outEntries)
		for w := in / mapWordBits; w < spanWords; w++ {
			word := m.spans[span][w]
			if w == in/mapWordBits {
				word &^= 1<<(in%mapWordBits) - 1
			}
			if word != 0 {
				return span*outEntries + w*mapWordBits + int64(bits.TrailingZeros(word)), true
			}
		}
	}
	return 0, false
}

// layout is how many clusters the parts of a file have, in their order.
type layout struct{ l1, refTable, refBlocks, l2, data int64 }

// clusters rounds up to whole clusters.
func clusters(n int64) int64 { return (n + outCluster - 1) / outCluster }

func (m *Map) layout() layout {
	l := layout{l1: clusters(int64(len(m.spans)) * 8), l2: m.tabs, data: m.data}
	for { // the refcounts count themselves
		blocks := (l.total() + outRefcount - 1) / outRefcount
		table := clusters(blocks * 8)
		if blocks == l.refBlocks && table == l.refTable {
			return l
		}
		l.refBlocks, l.refTable = blocks, table
	}
}

func (l layout) total() int64    { return 1 + l.l1 + l.refTable + l.refBlocks + l.l2 + l.data }
func (l layout) l2At() int64     { return (1 + l.l1 + l.refTable + l.refBlocks) * outCluster }
func (l layout) dataAt() int64   { return l.l2At() + l.l2*outCluster }
func (l layout) refsAt() int64   { return (1 + l.l1) * outCluster }
func (l layout) blocksAt() int64 { return l.refsAt() + l.refTable*outCluster }

// FileSize is the length of the file, in bytes.
func (m *Map) FileSize() int64 { return m.layout().total() * outCluster }

// header makes the header of a file whose L1 table follows it.
func appendHeader(b []byte, size, l1Entries, refsAt, refClusters int64, how Compression) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(append(b, magic...), outVersion)
	b = be.AppendUint32(be.AppendUint64(b, 0), 0) // no backing file
	b = be.AppendUint64(be.AppendUint32(b, outBits), uint64(size))
	b = be.AppendUint32(b, 0) // not encrypted
	b = be.AppendUint64(be.AppendUint32(b, uint32(l1Entries)), outCluster)
	b = be.AppendUint32(be.AppendUint64(b, uint64(refsAt)), uint32(refClusters))
	b = be.AppendUint64(be.AppendUint32(b, 0), 0) // no snapshots
	features := uint64(0)
	if how != Deflate {
		features = 1 << bitCompressionType
	}
	b = append(be.AppendUint64(b, features), make([]byte, 16)...) // incompatible; no others
	b = be.AppendUint32(be.AppendUint32(b, outOrder), outHeader)
	return append(append(b, byte(how)), make([]byte, 7)...)
}

// Write writes the file, front to back, with the data of src: FileSize bytes.
// What src has beyond its end, in the last cluster, is zero. src is read in
// ascending order, ahead of what is written, and not after Write returned.
func (m *Map) Write(w io.Writer, src io.ReaderAt) error {
	if err := m.writeTables(w); err != nil {
		return err
	}
	a := m.readAhead(src)
	defer a.stop()
	for s := range a.read {
		if s.err != nil {
			return s.err
		}
		if _, err := w.Write(s.b); err != nil {
			return err
		}
		a.free <- s.b
	}
	return nil
}

// WriteAt is Write for a file: its data is written in large pieces that are
// aligned in the file and in memory, two at a time and not in their order. w is
// not written to after WriteAt returned.
func (m *Map) WriteAt(w io.WriterAt, src io.ReaderAt) error {
	if err := m.writeTables(io.NewOffsetWriter(w, 0)); err != nil {
		return err
	}
	a := m.readAhead(src)
	errs := make(chan error, copyWriters)
	for range copyWriters {
		go func() { errs <- a.writeAt(w, m.layout().dataAt()) }()
	}
	var first error
	for range copyWriters {
		if err := <-errs; err != nil && first == nil {
			first = err
			close(a.quit) // then the other one ends, too
		}
	}
	if first == nil {
		close(a.quit)
	}
	for range a.read {
	}
	return first
}

// writeTables writes everything before the data.
func (m *Map) writeTables(w io.Writer) error {
	l := m.layout()
	out := clusterWriter{w: w}
	out.write(appendHeader(nil, m.size, int64(len(m.spans)), l.refsAt(), l.refTable, Deflate))
	out.table(int64(len(m.spans)), m.l1Entry(l))
	out.table(l.refBlocks, func(i int64) uint64 { return uint64(l.blocksAt() + i*outCluster) })
	for left := l.total(); left > 0; left -= outRefcount {
		var b []byte
		for range min(left, outRefcount) {
			b = binary.BigEndian.AppendUint16(b, refcountOne)
		}
		out.write(b)
	}
	at := l.dataAt()
	for _, span := range m.spans {
		if span == nil {
			continue
		}
		out.table(outEntries, func(i int64) uint64 {
			if span[i/mapWordBits]>>(i%mapWordBits)&1 == 0 {
				return 0
			}
			at += outCluster
			return uint64(at-outCluster) | entryData
		})
	}
	return out.err
}

// l1Entry returns the entries of the L1 table, which must be asked for in order.
func (m *Map) l1Entry(l layout) func(i int64) uint64 {
	at := l.l2At()
	return func(i int64) uint64 {
		if m.spans[i] == nil {
			return 0
		}
		at += outCluster
		return uint64(at-outCluster) | entryData
	}
}

// clusterWriter writes whole clusters, until one fails.
type clusterWriter struct {
	w   io.Writer
	buf [outCluster]byte
	err error
}

// write writes at most a cluster, filled up with zeros.
func (c *clusterWriter) write(b []byte) {
	clear(c.buf[copy(c.buf[:], b):])
	if c.err == nil {
		_, c.err = c.w.Write(c.buf[:])
	}
}

// table writes a table of n entries, in whole clusters.
func (c *clusterWriter) table(n int64, entry func(i int64) uint64) {
	b := make([]byte, 0, outCluster)
	for i := range n {
		b = binary.BigEndian.AppendUint64(b, entry(i))
		if len(b) == outCluster || i == n-1 {
			c.write(b)
			b = b[:0]
		}
	}
}
