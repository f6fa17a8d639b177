package scsi

import (
	"bytes"

	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
)

// Provisioning: UNMAP, WRITE SAME, GET LBA STATUS.

// Limits told in the Block Limits page.
const (
	unmapDescriptors = 256
	// unmapMost is the most blocks one UNMAP may name.
	unmapMost = 1 << 20
	// sameMost is the longest WRITE SAME, in blocks: it may have to write a
	// pattern.
	sameMost = 1 << 17
)

func beginUnmap(t *Task) *Sense {
	n := int64(be.Uint16(t.CDB[7:]))
	if n == 0 {
		return nil
	}
	if n < 8 {
		return listLength()
	}
	return t.wantOut(n)
}

// run of blocks.
type run struct{ first, blocks uint64 }

// parseUnmap reads the parameter list of UNMAP (SBC-3 §5.28.2).
func parseUnmap(b []byte, capacity uint64) ([]run, *Sense) {
	if len(b) < 8 {
		return nil, listLength()
	}
	n := int(be.Uint16(b[2:]))
	list := b[8:]
	list = list[:min(n, len(list))/16*16]
	if len(list)/16 > unmapDescriptors {
		return nil, badList(2)
	}
	var runs []run
	total := uint64(0)
	for at := 0; at < len(list); at += 16 {
		r := run{be.Uint64(list[at:]), uint64(be.Uint32(list[at+8:]))}
		if r.first > capacity || r.blocks > capacity-r.first {
			s := sense(IllegalRequest, OutOfRange)
			s.Info, s.HasInfo = max(r.first, capacity), true
			return nil, s
		}
		if total += r.blocks; total > unmapMost {
			return nil, badList(8 + at + 8)
		}
		if r.blocks > 0 {
			runs = append(runs, r)
		}
	}
	return runs, nil
}

func runUnmap(t *Task) {
	if t.Want == 0 {
		t.complete(nil)
		return
	}
	runs, s := parseUnmap(t.Buf[:t.Want], t.unit.blocks())
	switch {
	case s != nil:
		t.end(CheckCondition, s)
	case len(runs) == 0:
		t.complete(nil)
	case len(runs) == 1:
		t.submit(export.Trim, int64(runs[0].first)<<t.unit.shift, int64(runs[0].blocks)<<t.unit.shift, nil, t.durable(), (*Task).complete)
	default:
		t.aside(func(t *Task) error {
			for _, r := range runs {
				err := t.wait(export.Trim, int64(r.first)<<t.unit.shift, int64(r.blocks)<<t.unit.shift, nil, t.durable())
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// Flags of WRITE SAME.
const (
	sameUnmap  = 0x08
	sameNoData = 0x01
)

func beginWriteSame(t *Task) *Sense {
	first, blocks, at := span(&t.CDB)
	if blocks == 0 || blocks > sameMost { // WSNZ: 0 is not "up to the end"
		return badCDB(at)
	}
	if s := t.locate(first, blocks); s != nil {
		return s
	}
	if t.CDB[0] == opWriteSame16 && t.CDB[1]&sameNoData != 0 {
		return nil
	}
	if t.Expect != 1<<t.unit.shift {
		return sense(IllegalRequest, InvalidUnitField)
	}
	return t.wantOut(1 << t.unit.shift)
}

func runWriteSame(t *Task) {
	pattern := t.Buf[:t.Want]
	zero := buffer.Zero(pattern)
	switch {
	case zero && t.CDB[1]&sameUnmap != 0:
		t.submit(export.Trim, t.off(), t.size(), nil, t.durable(), (*Task).complete)
	case zero:
		t.submit(export.Zero, t.off(), t.size(), nil, t.durable(), (*Task).complete)
	default: // with UNMAP too: what reads as zero when unmapped must not be
		t.aside(func(t *Task) error { return t.writePattern(pattern) })
	}
}

func (t *Task) writePattern(pattern []byte) error {
	n := t.size()
	buf := bytes.Repeat(pattern, int(min(n, piece))/len(pattern))
	for at := int64(0); at < n; at += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), n-at)]
		if err := t.wait(export.Write, t.off()+at, int64(len(b)), b, t.durable()); err != nil {
			return err
		}
	}
	return nil
}

func beginLBAStatus(t *Task) *Sense {
	first := be.Uint64(t.CDB[2:])
	if first >= t.unit.blocks() {
		s := sense(IllegalRequest, OutOfRange)
		s.Info, s.HasInfo = first, true
		return s
	}
	return t.locate(first, t.unit.blocks()-first)
}

// statusMost bounds the descriptors of one GET LBA STATUS.
const statusMost = 1024

// lbaStatus tells which blocks are mapped. A block of which any part holds
// data is mapped; runs of the same state are joined.
func lbaStatus(t *Task) {
	allocation := be.Uint32(t.CDB[10:])
	t.aside(func(t *Task) error {
		most := int(min(statusMost, max(1, (int64(allocation)-8)/16)))
		list, err := t.mapped(most)
		if err != nil {
			return err
		}
		b := make([]byte, 8, 8+16*len(list))
		be.PutUint32(b, uint32(4+16*len(list)))
		for _, r := range list {
			b = be.AppendUint64(b, r.first)
			b = be.AppendUint32(b, uint32(r.blocks))
			b = append(b, r.state, 0, 0, 0)
		}
		b = b[:min(uint64(len(b)), uint64(allocation))]
		t.Dir, t.Data, t.Total = In, b, int64(len(b))
		return nil
	})
}

// provisioned is a run of blocks of one provisioning state.
type provisioned struct {
	run
	state byte
}

// The provisioning states.
const (
	stateMapped      = 0
	stateDeallocated = 1
)

// mapped describes the span from its start in at most most runs.
func (t *Task) mapped(most int) ([]provisioned, error) {
	var list []provisioned
	shift := t.unit.shift
	end := t.first + t.blocks
	next := t.first
	for pos := t.off(); next < end; {
		xs, err := t.disk.Extents(pos, int64(end)<<shift-pos, 2*most+2)
		if err != nil {
			return nil, err
		}
		for _, x := range xs {
			pos += x.Length
			to := uint64(pos) >> shift // a hole counts where it covers whole blocks
			state := byte(stateDeallocated)
			if !x.Hole {
				to = (uint64(pos) + 1<<shift - 1) >> shift
				state = stateMapped
			}
			to = min(to, end)
			for to > next {
				step := min(to-next, 0xfffffff8)
				if k := len(list); k > 0 && list[k-1].state == state && list[k-1].blocks+step <= 0xffffffff {
					list[k-1].blocks += step
				} else if k == most {
					return list, nil
				} else {
					list = append(list, provisioned{run{next, step}, state})
				}
				next += step
			}
		}
		if len(xs) == 0 {
			break
		}
	}
	return list, nil
}
