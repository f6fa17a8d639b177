package scsi

import (
	"bytes"

	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Commands that look at what is on the medium: VERIFY, WRITE AND VERIFY,
// ORWRITE, COMPARE AND WRITE. Each has a goroutine of its own; those that
// read, decide and write have their span for themselves meanwhile.

// piece is how much is read at once for comparing, in bytes.
const piece = 1 << 20

// byteCheck is the BYTCHK field of VERIFY and WRITE AND VERIFY.
func byteCheck(cdb *[CDBSize]byte) byte { return cdb[1] >> 1 & 3 }

func beginVerify(t *Task) *Sense {
	first, blocks, at := span(&t.CDB)
	check := byteCheck(&t.CDB)
	most := uint64(t.unit.opt.MaxTransfer) >> t.unit.shift
	if check == 2 {
		return badCDB(1)
	}
	if check == 1 && blocks > most {
		return badCDB(at)
	}
	if s := t.locate(first, blocks); s != nil {
		return s
	}
	switch {
	case blocks == 0 || check == 0:
		return nil
	case check == 3:
		return t.wantOut(1 << t.unit.shift)
	}
	return t.wantOut(t.size())
}

func runVerify(t *Task) {
	if t.blocks == 0 {
		t.complete(nil)
		return
	}
	t.aside(func(t *Task) error { return t.verify(byteCheck(&t.CDB)) })
}

// verify reads the span, which checks the hash of every block, and compares.
func (t *Task) verify(check byte) error {
	n := t.size()
	if check == 1 {
		n = int64(t.Need)
	}
	buf := make([]byte, min(n, piece))
	for at := int64(0); at < n; at += int64(len(buf)) {
		got := buf[:min(int64(len(buf)), n-at)]
		if err := t.wait(export.Read, t.off()+at, int64(len(got)), got, false); err != nil {
			return err
		}
		switch check {
		case 1:
			if i := differ(got, t.Buf[at:]); i >= 0 {
				return mismatch(at + int64(i))
			}
		case 3:
			for b := 0; b < len(got); b += 1 << t.unit.shift {
				if i := differ(got[b:b+1<<t.unit.shift], t.Buf); i >= 0 {
					return mismatch(int64(i))
				}
			}
		}
	}
	return nil
}

// mismatch is MISCOMPARE with the offset of the first byte that differs.
func mismatch(at int64) *Sense {
	s := sense(Miscompare, MiscompareVerify)
	s.Info, s.HasInfo = uint64(at), true
	return s
}

// differ returns the first place where got differs from want, or -1; want may
// be longer.
func differ(got, want []byte) int {
	want = want[:len(got)]
	if bytes.Equal(got, want) {
		return -1
	}
	for i := range got {
		if got[i] != want[i] {
			return i
		}
	}
	return -1
}

func beginWriteVerify(t *Task) *Sense {
	if c := byteCheck(&t.CDB); c >= 2 {
		return badCDB(1)
	}
	s := t.beginTransfer(Out)
	t.fua = true // what is verified is what is on the medium
	return s
}

func runWriteVerify(t *Task) {
	if t.blocks == 0 {
		t.complete(nil)
		return
	}
	t.aside(func(t *Task) error {
		t.sure = true
		if t.Need == 0 {
			return nil
		}
		if err := t.wait(export.Write, t.off(), int64(t.Need), t.Buf[:t.Need], true); err != nil {
			return err
		}
		return t.verify(byteCheck(&t.CDB))
	})
}

func beginOrWrite(t *Task) *Sense {
	s := t.beginTransfer(Out)
	if s == nil && t.Expect < t.Want {
		return sense(IllegalRequest, InvalidUnitField)
	}
	t.alone = true
	return s
}

func runOrWrite(t *Task) {
	if t.blocks == 0 {
		t.complete(nil)
		return
	}
	t.aside(func(t *Task) error {
		old := make([]byte, t.size())
		if err := t.wait(export.Read, t.off(), t.size(), old, false); err != nil {
			return err
		}
		for i, b := range t.Buf[:len(old)] {
			old[i] |= b
		}
		return t.wait(export.Write, t.off(), t.size(), old, t.durable())
	})
}

// compareMost is the longest COMPARE AND WRITE, in blocks.
const compareMost = 255

func beginCompareAndWrite(t *Task) *Sense {
	if s := t.locate(be.Uint64(t.CDB[2:]), uint64(t.CDB[13])); s != nil {
		return s
	}
	if t.blocks == 0 && t.Expect == 0 {
		return nil
	}
	t.alone = true
	t.fua = t.CDB[1]&flagFUA != 0
	if t.Expect != 2*t.size() {
		return badCDB(13) // the blocks and what came with them do not fit
	}
	return t.wantOut(2 * t.size())
}

func runCompareAndWrite(t *Task) {
	if t.blocks == 0 {
		t.complete(nil)
		return
	}
	t.aside(func(t *Task) error {
		n := t.size()
		old := make([]byte, n)
		if err := t.wait(export.Read, t.off(), n, old, false); err != nil {
			return err
		}
		if i := differ(old, t.Buf); i >= 0 {
			return mismatch(int64(i))
		}
		return t.wait(export.Write, t.off(), n, t.Buf[n:2*n], t.durable())
	})
}
