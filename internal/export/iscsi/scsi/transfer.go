package scsi

import "github.com/holdfast-cloud/holdfast/internal/export"

// flags of reads and writes in the second byte of all but the six-byte CDBs.
const flagFUA = 0x08

// span reads address and length of a medium access out of a CDB of any of the
// read and write forms.
func span(cdb *[CDBSize]byte) (first, blocks uint64, lengthAt int) {
	switch cdb[0] >> 5 {
	case 0:
		first = uint64(cdb[1]&0x1f)<<16 | uint64(be.Uint16(cdb[2:]))
		if blocks = uint64(cdb[4]); blocks == 0 {
			blocks = 256
		}
		return first, blocks, 4
	case 1, 2:
		return uint64(be.Uint32(cdb[2:])), uint64(be.Uint16(cdb[7:])), 7
	case 5:
		return uint64(be.Uint32(cdb[2:])), uint64(be.Uint32(cdb[6:])), 6
	}
	return be.Uint64(cdb[2:]), uint64(be.Uint32(cdb[10:])), 10
}

// locate sets the task's span and checks it against the medium.
func (t *Task) locate(first, blocks uint64) *Sense {
	end := t.unit.blocks()
	if first > end || blocks > end-first {
		s := sense(IllegalRequest, OutOfRange)
		s.Info, s.HasInfo = max(first, end), true
		return s
	}
	t.first, t.blocks = first, blocks
	return nil
}

// beginTransfer sets up a read or write of the span in the CDB.
func (t *Task) beginTransfer(dir Direction) *Sense {
	first, blocks, at := span(&t.CDB)
	if blocks > uint64(t.unit.opt.MaxTransfer)>>t.unit.shift {
		return badCDB(at)
	}
	if s := t.locate(first, blocks); s != nil {
		return s
	}
	t.fua = t.CDB[0]>>5 != 0 && t.CDB[1]&flagFUA != 0
	t.Dir, t.Want = dir, t.size()
	// What the initiator did not expect to be moved is not moved, and told as
	// residual (RFC 7143 §11.4.5.1).
	t.Need = int(min(t.Want, t.Expect))
	return nil
}

// wantOut sets how much data the command takes; less is refused.
func (t *Task) wantOut(n int64) *Sense {
	t.Dir, t.Want = Out, n
	if t.Expect < n {
		return sense(IllegalRequest, InvalidUnitField)
	}
	t.Need = int(n)
	return nil
}

func beginRead(t *Task) *Sense  { return t.beginTransfer(In) }
func beginWrite(t *Task) *Sense { return t.beginTransfer(Out) }

func runRead(t *Task) {
	t.Total = t.Want
	if t.Need == 0 {
		t.complete(nil)
		return
	}
	if t.fua && !t.unit.opt.ReadOnly { // what is read shall be on the medium
		t.submit(export.Flush, 0, 0, nil, false, readFlushed)
		return
	}
	readFlushed(t, nil)
}

func readFlushed(t *Task, err error) {
	if err != nil {
		t.complete(err)
		return
	}
	t.Data = t.Buf[:t.Need]
	t.submit(export.Read, t.off(), int64(t.Need), t.Data, false, (*Task).complete)
}

func runWrite(t *Task) {
	if t.Need == 0 {
		t.complete(nil)
		return
	}
	t.submit(export.Write, t.off(), int64(t.Need), t.Buf[:t.Need], t.durable(), (*Task).complete)
}

// durable reports whether a write must be on disk before it is answered: by
// FUA, or because the initiator switched the write cache off.
func (t *Task) durable() bool {
	t.sure = t.fua || t.unit.writeThrough.Load()
	return t.sure
}

func beginWriteAtomic(t *Task) *Sense {
	t.alone = true
	first, blocks := be.Uint64(t.CDB[2:]), uint64(be.Uint16(t.CDB[12:]))
	unit := uint64(4096) >> t.unit.shift
	switch {
	case blocks > uint64(t.unit.opt.Atomic)>>t.unit.shift:
		return badCDB(12)
	case blocks%unit != 0:
		return badCDB(12)
	case first%unit != 0:
		return badCDB(2)
	}
	if s := t.locate(first, blocks); s != nil {
		return s
	}
	t.fua = t.CDB[1]&flagFUA != 0
	return t.wantOut(t.size())
}

// beginSync checks SYNCHRONIZE CACHE. Length 0 means up to the end; whatever
// the span, everything is flushed. IMMED is not used: a status that comes
// before the flush has ended would promise what is not known yet.
func beginSync(t *Task) *Sense {
	first, blocks, _ := span(&t.CDB)
	s := t.locate(first, blocks)
	t.first, t.blocks = 0, 0
	return s
}

func runSync(t *Task) {
	u := t.unit
	if u.opt.ReadOnly {
		t.complete(nil)
		return
	}
	t.mark = u.acked.Load()
	t.submit(export.Flush, 0, 0, nil, false, synced)
}

func synced(t *Task, err error) {
	if u := t.unit; err == nil {
		for old := u.flushed.Load(); old < t.mark && !u.flushed.CompareAndSwap(old, t.mark); old = u.flushed.Load() {
		}
	}
	t.complete(err)
}

func beginNothing(*Task) *Sense { return nil }
func runNothing(t *Task)        { t.complete(nil) }

// beginPrefetch checks PRE-FETCH: it moves no data to the initiator.
func beginPrefetch(t *Task) *Sense {
	first, blocks, _ := span(&t.CDB)
	if blocks == 0 {
		blocks = t.unit.blocks() - min(first, t.unit.blocks())
		return t.locate(first, blocks)
	}
	return t.locate(first, blocks)
}

// prefetchMost bounds what PRE-FETCH reads, in bytes.
const prefetchMost = 8 << 20

// runPrefetch reads the span so that whatever cache there is holds it. A span
// that is too long is read in part, which GOOD tells; CONDITION MET says that
// all of it was read.
func runPrefetch(t *Task) {
	if t.CDB[1]&0x02 != 0 || t.blocks == 0 {
		t.end(Good, nil) // IMMED: nothing is promised
		return
	}
	go func() {
		n := min(t.size(), prefetchMost)
		buf := make([]byte, min(n, 1<<20))
		for at := int64(0); at < n; at += int64(len(buf)) {
			piece := buf[:min(int64(len(buf)), n-at)]
			if err := t.wait(export.Read, t.off()+at, int64(len(piece)), piece, false); err != nil {
				t.complete(err)
				return
			}
		}
		if n < t.size() {
			t.end(Good, nil)
			return
		}
		t.end(ConditionMet, nil)
	}()
}
