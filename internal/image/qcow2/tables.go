package qcow2

import (
	"encoding/binary"
	"slices"
)

// kind is what the tables say of a part of the disk.
type kind uint8

const (
	hole       kind = iota // reads as zero
	below                  // not in this file: what the backing file holds
	stored                 // in the file as it is
	compressed             // in the file, a whole cluster
)

// piece is a part of the disk of one kind.
type piece struct {
	kind kind
	n    int64 // bytes
	at   int64 // in the file, if it is there
	size int64 // of what is compressed, in the file
}

// readL1 reads the L1 table, and checks that no two tables lie on each other.
func (f *File) readL1() error {
	need := (f.h.size + f.h.l2Span() - 1) / f.h.l2Span()
	b := make([]byte, need*8)
	if err := readFull(f.r, b, f.h.l1Offset); err != nil {
		return err
	}
	f.l1 = make([]uint64, need)
	for i := range f.l1 {
		e := binary.BigEndian.Uint64(b[i*8:])
		f.l1[i] = e
		if e&^(flagCopied|offsetMask) != 0 {
			return bad("entry %d of its L1 table is %#x, which means nothing", i, e)
		}
		if at := int64(e & offsetMask); at != 0 {
			f.tables = append(f.tables, at)
		}
	}
	slices.Sort(f.tables)
	cs := f.h.clusterSize()
	for i, at := range f.tables {
		switch {
		case at%cs != 0 || at > f.length-cs:
			return bad("an L2 table at %d, which is not a place within its %d bytes; was it downloaded whole?", at, f.length)
		case i > 0 && f.tables[i-1] == at:
			return bad("its L1 table refers to the L2 table at %d more than once", at)
		case f.onFront(at, cs):
			return bad("the L2 table at %d lies on the header or the L1 table", at)
		}
	}
	return nil
}

// onFront reports whether n bytes lie on the header or the L1 table.
func (f *File) onFront(at, n int64) bool {
	return at < f.h.clusterSize() || at < f.h.l1Offset+f.h.l1Entries*8 && f.h.l1Offset < at+n
}

// onTables reports whether n bytes of data lie on what is no data.
func (f *File) onTables(at, n int64) bool {
	if f.onFront(at, n) {
		return true
	}
	i, found := slices.BinarySearch(f.tables, at)
	return found || i > 0 && f.tables[i-1]+f.h.clusterSize() > at || i < len(f.tables) && f.tables[i] < at+n
}

// piece says what is at off, which is below the disk's size, up to the end of
// the cluster or further. f.mu is held.
func (f *File) piece(off int64) (piece, error) {
	cs := f.h.clusterSize()
	at := int64(f.l1[off/f.h.l2Span()] & offsetMask)
	if at == 0 {
		return piece{kind: f.nothing(), n: f.h.l2Span() - off%f.h.l2Span()}, nil
	}
	if f.l2At != at {
		if f.l2 == nil {
			f.l2 = make([]byte, cs)
		}
		f.l2At = 0
		if err := readFull(f.r, f.l2, at); err != nil {
			return piece{}, err
		}
		f.l2At = at
	}
	i := off % f.h.l2Span() >> f.h.clusterBits << f.h.entryBits()
	e := binary.BigEndian.Uint64(f.l2[i:])
	var bitmap uint64
	if f.h.extended {
		bitmap = binary.BigEndian.Uint64(f.l2[i+8:])
	}
	in := off & (cs - 1)
	switch {
	case e&flagCompressed != 0:
		if bitmap != 0 {
			return piece{}, bad("the cluster at %d is compressed and has subclusters", off-in)
		}
		return f.compressedAt(off, e)
	case e&^(flagCopied|flagZero|offsetMask) != 0:
		return piece{}, bad("the L2 entry of the cluster at %d is %#x, which means nothing", off-in, e)
	case e&flagZero != 0 && (f.h.version < 3 || f.h.extended):
		return piece{}, bad("the cluster at %d is marked as zero, which this kind of image does not know", off-in)
	case f.h.extended:
		return f.subcluster(off, int64(e&offsetMask), bitmap)
	case e&flagZero != 0:
		return piece{kind: hole, n: cs - in}, nil
	case e&offsetMask == 0:
		return piece{kind: f.nothing(), n: cs - in}, nil
	}
	host := int64(e & offsetMask)
	return piece{kind: stored, n: cs - in, at: host + in}, f.checkData(off-in, host)
}

// nothing is the kind of what the file does not hold.
func (f *File) nothing() kind {
	if f.below != nil {
		return below
	}
	return hole
}

// checkData checks where the data of the cluster at off lies.
func (f *File) checkData(off, host int64) error {
	cs := f.h.clusterSize()
	switch {
	case host%cs != 0:
		return bad("the data of the cluster at %d is said to be at %d, where no cluster begins", off, host)
	case host >= f.length:
		return bad("the data of the cluster at %d is said to be at %d, and it has only %d bytes; was it downloaded whole?", off, host, f.length)
	case f.onTables(host, cs):
		return bad("the data of the cluster at %d is said to be at %d, where a table is", off, host)
	}
	return nil
}

// subcluster is piece for extended L2 entries.
func (f *File) subcluster(off, host int64, bitmap uint64) (piece, error) {
	cs := f.h.clusterSize()
	in, sub := off&(cs-1), cs/subclusters
	alloc, zero := uint32(bitmap), uint32(bitmap>>32)
	switch {
	case alloc&zero != 0:
		return piece{}, bad("a part of the cluster at %d is said to be both stored and zero", off-in)
	case alloc != 0 && host == 0:
		return piece{}, bad("a part of the cluster at %d is said to be stored, but not where", off-in)
	case host != 0:
		if err := f.checkData(off-in, host); err != nil {
			return piece{}, err
		}
	}
	i := uint(in / sub)
	x := piece{kind: f.nothing(), n: sub - in%sub}
	switch {
	case alloc>>i&1 != 0:
		x.kind, x.at = stored, host+in
	case zero>>i&1 != 0:
		x.kind = hole
	}
	return x, nil
}

// compressedAt reads the entry of a compressed cluster.
func (f *File) compressedAt(off int64, e uint64) (piece, error) {
	in := off & (f.h.clusterSize() - 1)
	bits := 62 - (f.h.clusterBits - 8)
	at := int64(e & (1<<bits - 1))
	sectors := int64(e&(flagCompressed-1)>>bits) + 1
	x := piece{kind: compressed, n: f.h.clusterSize() - in, at: at, size: sectors*sector - at%sector}
	switch {
	case at >= f.length || x.size-(f.length-at) >= sector:
		return x, bad("the compressed data of the cluster at %d is said to be at %d, which is not within its %d bytes; was it downloaded whole?", off-in, at, f.length)
	case f.onTables(at, x.size):
		return x, bad("the compressed data of the cluster at %d is said to be at %d, where a table is", off-in, at)
	}
	return x, nil
}
