package qcow2

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-cloud/holdfast"
)

// window is how far back a compressed cluster may refer, in bytes: QEMU gives
// its decompressor no more.
const window = 4096

// Compression is how the clusters of a packed file are compressed.
type Compression int

// Every program that reads QCOW2 knows Deflate; Zstd is read by QEMU from 5.1
// (2020) on, packs faster and mostly smaller.
const (
	Deflate Compression = iota
	Zstd
)

// Packer writes a compressed file (the packed layout of docs/format/qcow2.md).
type Packer struct {
	w    io.WriterAt
	size int64
	l1   []uint64
	l2   []byte // of span, not written yet; nil: none
	span int64
	last int64 // cluster of the disk that was put last; -1: none
	refs []uint16
	pack int64  // where the next compressed cluster may begin; 0: nowhere yet
	out  []byte // a compressed cluster
	how  Compression
	zip  func(cluster []byte) error // it into out
	data int64
}

// NewPacker begins a file of a disk of so many bytes.
func NewPacker(w io.WriterAt, size int64, how Compression) (*Packer, error) {
	m, err := NewMap(size)
	if err != nil {
		return nil, err
	}
	p := &Packer{w: w, size: size, l1: make([]uint64, len(m.spans)), last: -1, how: how}
	p.take(1 + clusters(int64(len(p.l1))*8))
	p.zip, err = p.deflate()
	if how == Zstd {
		p.zip, err = p.zstd()
	}
	return p, err
}

func (p *Packer) deflate() (func([]byte) error, error) {
	var out bytes.Buffer
	comp, err := flate.NewWriterWindow(&out, window)
	return func(b []byte) error {
		out.Reset()
		comp.Reset(&out)
		_, err := comp.Write(b)
		if err == nil {
			err = comp.Close()
		}
		p.out = out.Bytes()
		return err
	}, err
}

// zstd makes a frame of each cluster (RFC 8878) that needs no window beyond it.
func (p *Packer) zstd() (func([]byte) error, error) {
	comp, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(outCluster),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
	return func(b []byte) error {
		p.out = comp.EncodeAll(b, p.out[:0])
		return nil
	}, err
}

// take takes the next n clusters of the file, which are referred to once.
func (p *Packer) take(n int64) (at int64) {
	at = int64(len(p.refs)) * outCluster
	for range n {
		p.refs = append(p.refs, 1)
	}
	return at
}

// Put writes the cluster of the disk at off, or what the disk has of it, if it
// is not zero. Clusters are put in ascending order.
func (p *Packer) Put(off int64, b []byte) error {
	c := off / outCluster
	if off%outCluster != 0 || c <= p.last || len(b) > outCluster || off+int64(len(b)) > p.size {
		return holdfast.Errorf(holdfast.Invalid, "%d bytes at %d after cluster %d", len(b), off, p.last)
	}
	p.last = c
	if Zero(b) {
		return nil
	}
	if p.l2 != nil && p.span != c/outEntries {
		if err := p.endSpan(); err != nil {
			return err
		}
	}
	if p.l2 == nil {
		p.l2, p.span = make([]byte, outCluster), c/outEntries
	}
	if len(b) < outCluster {
		b = append(bytes.Clone(b), make([]byte, outCluster-len(b))...)
	}
	e, err := p.store(b)
	binary.BigEndian.PutUint64(p.l2[c%outEntries*8:], e)
	return err
}

// Zero reports whether b holds nothing but zeroes: by its first byte, mostly; the
// rest is one vectorised comparison of b with itself, one byte further.
func Zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// store writes a cluster and returns its entry.
func (p *Packer) store(b []byte) (entry uint64, err error) {
	if err := p.zip(b); err != nil {
		return 0, err
	}
	n := int64(len(p.out))
	if n >= outCluster { // it does not shrink
		at := p.take(1)
		p.data += outCluster
		return uint64(at) | entryData, p.write(b, at)
	}
	at := p.place(n)
	p.data += n
	// The last sector belongs to it as a whole, and the file has to have it.
	end := (at + n + sector - 1) / sector * sector
	p.out = append(p.out, make([]byte, end-at-n)...)
	return entryPacked | uint64(end/sector-at/sector-1)<<packedShift | uint64(at), p.write(p.out, at)
}

// place finds a place for n compressed bytes, and counts them in the clusters
// that they touch.
func (p *Packer) place(n int64) (at int64) {
	end := int64(len(p.refs)) * outCluster
	left := (outCluster - p.pack%outCluster) % outCluster // in the cluster that is being filled
	switch {
	case left >= n:
		at = p.pack
		p.refs[at/outCluster]++
	case left > 0 && p.pack+left == end: // goes on in the next
		at = p.pack
		p.refs[at/outCluster]++
		p.take(1)
	default:
		at = p.take(1)
	}
	p.pack = at + n
	return at
}

func (p *Packer) write(b []byte, at int64) error {
	_, err := p.w.WriteAt(b, at)
	return err
}

// endSpan writes the L2 table that is being filled.
func (p *Packer) endSpan() error {
	at := p.take(1)
	p.l1[p.span] = uint64(at) | entryData
	b := p.l2
	p.l2 = nil
	return p.write(b, at)
}

// Stored is how many bytes of data were written so far.
func (p *Packer) Stored() int64 { return p.data }

// Close writes the tables; FileSize is the length of the file then.
func (p *Packer) Close() error {
	if p.l2 != nil {
		if err := p.endSpan(); err != nil {
			return err
		}
	}
	at := int64(len(p.refs)) * outCluster
	blocks, table := int64(0), int64(0)
	for { // the refcounts count themselves
		b := (int64(len(p.refs)) + outRefcount - 1) / outRefcount
		t := clusters(b * 8)
		if b == blocks && t == table {
			break
		}
		p.take(b + t - blocks - table)
		blocks, table = b, t
	}
	out := clusterWriter{w: io.NewOffsetWriter(p.w, at)}
	out.table(blocks, func(i int64) uint64 { return uint64(at + (table+i)*outCluster) })
	for refs := p.refs; len(refs) > 0; refs = refs[min(len(refs), outRefcount):] {
		var b []byte
		for _, n := range refs[:min(len(refs), outRefcount)] {
			b = binary.BigEndian.AppendUint16(b, n)
		}
		out.write(b)
	}
	out.w = io.NewOffsetWriter(p.w, outCluster)
	out.table(int64(len(p.l1)), func(i int64) uint64 { return p.l1[i] })
	out.w = io.NewOffsetWriter(p.w, 0) // only now it is an image
	out.write(appendHeader(nil, p.size, int64(len(p.l1)), at, table, p.how))
	return out.err
}

// FileSize is the length of the file, in bytes.
func (p *Packer) FileSize() int64 { return int64(len(p.refs)) * outCluster }
