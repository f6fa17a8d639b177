package scsi

import (
	"bytes"

	"github.com/holdfast-cloud/holdfast/internal/export"
)

// EXTENDED COPY(LID1) from blocks to blocks between units of one target
// (SPC-4 §5.16, §6.4.3), and what can be asked about it afterwards.

// Limits told by RECEIVE COPY OPERATING PARAMETERS and page 8Fh.
const (
	copyTargets  = 8
	copySegments = 16
	copyList     = 1024 // descriptors, in bytes
	copyHead     = 16
	targetSize   = 32
	segmentSize  = 28
	copiesKept   = 32
)

// Descriptor type codes.
const (
	blocksToBlocks = 0x02
	identified     = 0xe4
)

func (t *table) addCopies() {
	t.add(&command{op: opExtendedCopy, action: 0, name: "EXTENDED COPY(LID1)", access: accessWrite, medium: true, change: true,
		begin: beginCopy, run: runCopy}, "83000000000000000000ffffffff0000")
	t.add(&command{op: opReceiveCopy, action: 0, name: "RECEIVE COPY STATUS(LID1)", access: accessAny,
		begin: beginNothing, run: copyStatus}, "8400ff00000000000000ffffffff0000")
	t.add(&command{op: opReceiveCopy, action: 3, name: "RECEIVE COPY OPERATING PARAMETERS", access: accessAny,
		begin: beginNothing, run: copyParameters}, "8403ff00000000000000ffffffff0000")
}

// copies remembers how the last copies ended.
type copies []copyResult

type copyResult struct {
	by       Nexus
	id       byte
	failed   bool
	segments int
	blocks   uint32
}

func (c *copies) note(r copyResult) {
	for i := range *c {
		if (*c)[i].by == r.by && (*c)[i].id == r.id {
			(*c)[i] = r
			return
		}
	}
	if len(*c) == copiesKept {
		*c = append((*c)[:0], (*c)[1:]...)
	}
	*c = append(*c, r)
}

func beginCopy(t *Task) *Sense {
	n := int64(be.Uint32(t.CDB[10:]))
	switch {
	case n == 0:
		return nil
	case n < copyHead || n > copyHead+copyList+4096:
		return listLength()
	}
	return t.wantOut(n)
}

// segment is one copy of blocks, checked.
type segment struct {
	from, to         *Unit
	first, at, count uint64
}

// copyRequest is a parsed parameter list.
type copyRequest struct {
	id       byte
	hold     bool
	targets  [][]byte
	segments [][]byte
}

// parseCopy takes the parameter list apart (SPC-4 §6.4.3.1).
func parseCopy(b []byte) (c copyRequest, s *Sense) {
	if len(b) < copyHead {
		return c, listLength()
	}
	c.id, c.hold = b[0], b[1]>>3&3 != 3
	nt, ns, inline := uint64(be.Uint16(b[2:])), uint64(be.Uint32(b[8:])), uint64(be.Uint32(b[12:]))
	if nt+ns > copyList || inline > 0 || copyHead+nt+ns > uint64(len(b)) || nt%targetSize != 0 {
		return c, listLength()
	}
	for list := b[copyHead : copyHead+nt]; len(list) > 0; list = list[targetSize:] {
		c.targets = append(c.targets, list[:targetSize])
	}
	if len(c.targets) > copyTargets {
		return c, sense(IllegalRequest, TooManyTargets)
	}
	for _, d := range c.targets {
		if d[0] != identified {
			return c, sense(IllegalRequest, UnsupportedTarget)
		}
	}
	for list := b[copyHead+nt : copyHead+nt+ns]; len(list) > 0; {
		if len(c.segments) == copySegments {
			return c, sense(IllegalRequest, TooManySegments)
		}
		if list[0] != blocksToBlocks {
			return c, sense(IllegalRequest, UnsupportedSegment)
		}
		if len(list) < segmentSize || be.Uint16(list[2:]) != segmentSize-4 {
			return c, listLength()
		}
		c.segments = append(c.segments, list[:segmentSize])
		list = list[segmentSize:]
	}
	return c, nil
}

// unitOf finds the unit that a target descriptor names, in the same target.
func (p *Path) unitOf(d []byte) *Unit {
	n := int(d[7])
	if n > 20 || d[5]&0x30 != 0 {
		return nil
	}
	for _, u := range p.Device.Units() {
		switch d[5] & 0x0f {
		case 3:
			if bytes.Equal(d[8:8+n], u.naa()) {
				return u
			}
		case 1:
			if string(d[8:8+n]) == vendor+u.serial() {
				return u
			}
		}
	}
	return nil
}

// resolve checks a segment against the units it names.
func (t *Task) resolve(c copyRequest, d []byte) (g segment, s *Sense) {
	from, to := int(be.Uint16(d[4:])), int(be.Uint16(d[6:]))
	if from >= len(c.targets) || to >= len(c.targets) {
		return g, sense(CopyAborted, CopyTargetGone)
	}
	g.from, g.to = t.Path.unitOf(c.targets[from]), t.Path.unitOf(c.targets[to])
	if g.from == nil || g.to == nil || g.from.shift != g.to.shift {
		return g, sense(CopyAborted, CopyTargetGone)
	}
	g.count, g.first, g.at = uint64(be.Uint16(d[10:])), be.Uint64(d[12:]), be.Uint64(d[20:])
	if end := g.from.blocks(); g.first > end || g.count > end-g.first {
		return g, sense(CopyAborted, NoCode)
	}
	if end := g.to.blocks(); g.at > end || g.count > end-g.at {
		return g, sense(CopyAborted, NoCode)
	}
	return g, nil
}

// mayCopy checks what READ and WRITE would check on the other unit, and
// returns its disk.
func (t *Task) mayCopy(u *Unit, write bool) (export.Disk, *Sense) {
	x := &Task{unit: u, state: t.Path.states[u], cmd: u.table.byOp[opRead16][0]}
	if write {
		x.cmd = u.table.byOp[opWrite16][0]
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.forbidden(x) != 0 || u.ready(x) != nil || u.disk == nil {
		return nil, sense(CopyAborted, CopyTargetGone)
	}
	return u.disk, nil
}

func runCopy(t *Task) {
	if t.Want == 0 {
		t.complete(nil)
		return
	}
	t.aside(func(t *Task) error {
		c, s := parseCopy(t.Buf[:t.Want])
		if s != nil {
			return s
		}
		result := copyResult{by: t.state.nexus, id: c.id}
		err := t.copyAll(c, &result)
		result.failed = err != nil
		if c.hold {
			t.unit.mu.Lock()
			t.unit.copies.note(result)
			t.unit.mu.Unlock()
		}
		return err
	})
}

func (t *Task) copyAll(c copyRequest, result *copyResult) error {
	for _, d := range c.segments {
		g, s := t.resolve(c, d)
		if s != nil {
			return s
		}
		if err := t.copySegment(g); err != nil {
			return err
		}
		result.segments++
		result.blocks += uint32(g.count)
	}
	return nil
}

// copySegment copies piece by piece, holes as holes; backwards where that is
// needed because the two ranges overlap.
func (t *Task) copySegment(g segment) error {
	src, s := t.mayCopy(g.from, false)
	if s != nil {
		return s
	}
	dst, s := t.mayCopy(g.to, true)
	if s != nil {
		return s
	}
	shift := g.from.shift
	n, from, to := int64(g.count)<<shift, int64(g.first)<<shift, int64(g.at)<<shift
	backwards := g.from == g.to && to > from && to < from+n
	buf := make([]byte, min(n, piece))
	for done := int64(0); done < n; {
		step := min(int64(len(buf)), n-done)
		at := done
		if backwards {
			at = n - done - step
		}
		if err := copyPiece(src, dst, from+at, to+at, buf[:step], g.to.writeThrough.Load()); err != nil {
			g.from.diskFailed(src, err)
			g.to.diskFailed(dst, err)
			return err
		}
		done += step
	}
	if g.to != t.unit {
		g.to.acked.Add(1)
	}
	return nil
}

func copyPiece(src, dst export.Disk, from, to int64, buf []byte, fua bool) error {
	n := int64(len(buf))
	if xs, err := src.Extents(from, n, 1); err == nil && len(xs) == 1 && xs[0].Hole && xs[0].Length == n {
		return do(dst, export.Request{Op: export.Trim, Off: to, Length: n, FUA: fua})
	}
	if err := do(src, export.Request{Op: export.Read, Off: from, Length: n, Data: buf}); err != nil {
		return err
	}
	return do(dst, export.Request{Op: export.Write, Off: to, Length: n, Data: buf, FUA: fua})
}

func copyStatus(t *Task) {
	u := t.unit
	u.mu.Lock()
	var r *copyResult
	for i := range u.copies {
		if c := u.copies[i]; c.by == t.state.nexus && c.id == t.CDB[2] {
			r = &c
		}
	}
	u.mu.Unlock()
	if r == nil {
		t.end(CheckCondition, badCDB(2))
		return
	}
	b := make([]byte, 12)
	be.PutUint32(b, 8)
	b[4] = 1
	if r.failed {
		b[4] = 2
	}
	be.PutUint16(b[5:], uint16(r.segments))
	b[7] = 0xf1 // the count is in blocks
	be.PutUint32(b[8:], r.blocks)
	t.answer(b, uint64(be.Uint32(t.CDB[10:])))
}

func copyParameters(t *Task) {
	b := make([]byte, 46)
	be.PutUint32(b, uint32(len(b)-4))
	be.PutUint16(b[8:], copyTargets)
	be.PutUint16(b[10:], copySegments)
	be.PutUint32(b[12:], copyList)
	be.PutUint32(b[16:], uint32(0xffff)<<t.unit.shift) // longest segment in bytes
	be.PutUint16(b[34:], copiesKept)
	b[36] = copiesKept
	b[37] = byte(t.unit.shift)
	b[43], b[44], b[45] = 2, blocksToBlocks, identified
	t.answer(b, uint64(be.Uint32(t.CDB[10:])))
}

// thirdParty is page 8Fh: the same as descriptors (SPC-4 §7.8.17).
func thirdParty() []byte {
	b := be.AppendUint16(nil, 0x0001) // supported commands
	list := []byte{opExtendedCopy, 1, 0, opReceiveCopy, 2, 0, 3}
	list = append([]byte{byte(len(list))}, list...)
	for len(list)%4 != 0 {
		list = append(list, 0)
	}
	b = be.AppendUint16(b, uint16(len(list)))
	b = append(b, list...)

	p := make([]byte, 32) // parameter data
	be.PutUint16(p, 0x0004)
	be.PutUint16(p[2:], 28)
	be.PutUint16(p[8:], copyTargets)
	be.PutUint16(p[10:], copySegments)
	be.PutUint32(p[12:], copyList)
	b = append(b, p...)

	b = append(b, 0x00, 0x08, 0, 4, 2, blocksToBlocks, identified, 0) // supported descriptors

	g := make([]byte, 36) // general copy operations
	be.PutUint16(g, 0x8001)
	be.PutUint16(g[2:], 32)
	be.PutUint32(g[4:], copiesKept)
	be.PutUint32(g[8:], copiesKept)
	be.PutUint32(g[12:], 0xffff<<9)
	g[16] = 9
	return append(b, g...)
}
