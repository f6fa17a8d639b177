package store

import (
	"encoding/binary"
	"iter"
	"math"
	"sort"
)

// directory is a slot directory: where slots of a segment lie that are not in
// its own place. It is runs in the order of their slots, packed as in the
// catalog: what a cleaner moved together it moved in order, so that most take a
// byte. It is never changed, only replaced; nil is empty.
//
//	number of runs (2), marks (14 each: every 32nd run but the first), runs
type directory []byte

const (
	dirHead  = 2
	dirMark  = 14
	dirGroup = 32 // runs from one mark to the next
)

// A mark is what must be known to go on in the middle.
//
//	slot of the run (2), where it stands (4), and of the run before: segment (4), last slot + 1 (2), unit behind it (2)

// How a run is told: flags, and what they do not say.
const (
	runSame   = 1 << 0 // in the segment of the run before
	runBehind = 1 << 1 // at the unit behind that run's last there
	runBlock  = 1 << 2 // as long as a block
	runUnits  = 1 << 3 // what lies between that run and this is counted in units, not blocks
	runGap    = 4      // the bits from here on: how much that is
	runByte   = 14     // in place of it: a byte follows, with 14 less
	runFar    = 15     // in place of it: the slot follows
)

// appendRun packs the run behind another.
func appendRun(b []byte, was, r run) []byte {
	gap, flags := uint32(r.slot)-was.end(), uint8(0)
	if gap%blockUnit == 0 {
		gap /= blockUnit
	} else {
		flags = runUnits
	}
	if r.seg == was.seg {
		flags |= runSame
	}
	if r.dst == was.dst+was.n {
		flags |= runBehind
	}
	if r.n == blockUnit {
		flags |= runBlock
	}
	short := uint8(gap)
	switch {
	case gap >= runByte+256:
		short = runFar
	case gap >= runByte:
		short = runByte
	}
	b = append(b, flags|short<<runGap)
	if flags&runSame == 0 {
		b = le.AppendUint32(b, r.seg)
	}
	switch short {
	case runFar:
		b = le.AppendUint16(b, r.slot)
	case runByte:
		b = append(b, uint8(gap-runByte))
	}
	if flags&runBehind == 0 {
		b = le.AppendUint16(b, r.dst)
	}
	if flags&runBlock == 0 {
		b = binary.AppendUvarint(b, uint64(r.n))
	}
	return b
}

// runReader unpacks runs. What is cut off or out of order ends it; left is how
// many there should still be.
type runReader struct {
	b    []byte
	was  run
	left int
}

func (d *runReader) next() (run, bool) {
	if d.left == 0 || len(d.b) == 0 {
		return run{}, false
	}
	flags, b := d.b[0], d.b[1:]
	size := uint32(blockUnit)
	if flags&runUnits != 0 {
		size = 1
	}
	r := run{seg: d.was.seg, dst: d.was.dst + d.was.n, n: blockUnit}
	slot, short := d.was.end(), uint32(flags>>runGap)
	need := 0
	if flags&runSame == 0 {
		need += 4
	}
	if short == runByte {
		need++
	} else if short == runFar {
		need += 2
	}
	if flags&runBehind == 0 {
		need += 2
	}
	if len(b) < need {
		return run{}, false
	}
	if flags&runSame == 0 {
		r.seg, b = le.Uint32(b), b[4:]
	}
	switch short {
	case runFar:
		slot, b = uint32(le.Uint16(b)), b[2:]
	case runByte:
		slot, b = slot+(runByte+uint32(b[0]))*size, b[1:]
	default:
		slot += short * size
	}
	if flags&runBehind == 0 {
		r.dst, b = le.Uint16(b), b[2:]
	}
	if flags&runBlock == 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n == 0 || n > math.MaxUint16 {
			return run{}, false
		}
		r.n, b = uint16(n), b[k:]
	}
	if slot < d.was.end() || slot > math.MaxUint16 {
		return run{}, false
	}
	r.slot = uint16(slot)
	d.b, d.was = b, r
	d.left--
	return r, true
}

// pack makes a directory of runs that are in order.
func pack(runs []run) directory {
	if len(runs) == 0 {
		return nil
	}
	marks := (len(runs) - 1) / dirGroup
	d := make([]byte, dirHead+marks*dirMark, dirHead+marks*dirMark+len(runs)*2+16)
	le.PutUint16(d, uint16(len(runs)))
	var was run
	for i, r := range runs {
		if i > 0 && i%dirGroup == 0 {
			at := len(d)
			m := d[dirHead+(i/dirGroup-1)*dirMark:]
			le.PutUint16(m, r.slot)
			le.PutUint32(m[2:], uint32(at))
			le.PutUint32(m[6:], was.seg)
			le.PutUint16(m[10:], uint16(was.end()))
			le.PutUint16(m[12:], was.dst+was.n)
		}
		d = appendRun(d, was, r)
		was = r
	}
	return append(make(directory, 0, len(d)), d...)
}

// count is the number of runs.
func (d directory) count() int {
	if d == nil {
		return 0
	}
	return int(le.Uint16(d))
}

// packed is the runs as they stand in the catalog.
func (d directory) packed() []byte {
	if d == nil {
		return nil
	}
	return d[dirHead+(d.count()-1)/dirGroup*dirMark:]
}

// runs goes over the runs.
func (d directory) runs() iter.Seq[run] {
	return func(yield func(run) bool) {
		rd := runReader{b: d.packed(), left: d.count()}
		for r, ok := rd.next(); ok && yield(r); r, ok = rd.next() {
		}
	}
}

// find finds the run that holds a slot; without one, where the next begins.
func (d directory) find(slot uint16) (r run, ok bool, next uint16) {
	if d == nil {
		return run{}, false, math.MaxUint16
	}
	n := d.count()
	marks := d[dirHead : dirHead+(n-1)/dirGroup*dirMark]
	k := sort.Search(len(marks)/dirMark, func(i int) bool { return le.Uint16(marks[i*dirMark:]) > slot })
	rd := runReader{b: d[dirHead+len(marks):], left: n}
	if k > 0 {
		m := marks[(k-1)*dirMark:]
		// In place of the run before, one of no slots that ends where that does.
		rd = runReader{b: d[le.Uint32(m[2:]):], left: n - k*dirGroup, was: run{seg: le.Uint32(m[6:]), slot: le.Uint16(m[10:]), dst: le.Uint16(m[12:])}}
	}
	for r, ok := rd.next(); ok; r, ok = rd.next() {
		switch {
		case r.slot > slot:
			return run{}, false, r.slot
		case slot-r.slot < r.n:
			return r, true, 0
		}
	}
	return run{}, false, math.MaxUint16
}

// moved encodes the directory of a segment.
func (w *catalogWriter) moved(d directory) {
	w.u32(uint32(d.count()))
	w.b = append(w.b, d.packed()...)
}

// moved decodes the directory of a segment of so many slots.
func (c *catalogReader) moved(segUnits uint32) directory {
	n := c.count(1)
	if c.err != nil || n == 0 {
		return nil
	}
	rd := runReader{b: c.b, left: n}
	var runs []run
	for r, ok := rd.next(); ok && r.end() <= segUnits; r, ok = rd.next() {
		runs = append(runs, r)
	}
	if len(runs) != n {
		c.bad("a slot directory is out of order")
		return nil
	}
	c.b = rd.b
	return pack(runs)
}
