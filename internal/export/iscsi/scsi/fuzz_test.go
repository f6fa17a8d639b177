package scsi

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// FuzzCDB runs any command with any data against two units: it ends, and what
// it answers is well-formed.
func FuzzCDB(f *testing.F) {
	for _, cdb := range [][]byte{
		{opInquiry, 1, 0x83, 0, 255, 0}, write10(0, 1), read10(5, 9), flush,
		{opModeSense6, 0, 0x3f, 0xff, 255, 0}, {opModeSelect6, 0x10, 0, 0, 24, 0}, prOut(prRegister, 0), prOut(prPreempt, 1),
		{opUnmap, 0, 0, 0, 0, 0, 0, 0, 24, 0}, {opCompareAndWrite, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0},
		{opWriteSame16, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0}, {opExtendedCopy, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 76, 0, 0},
		{opServiceIn16, actionLBAStatus, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, {opMaintenanceIn, actionOpcodes, 0x81, opRead10, 0, 0, 0, 0, 1, 0, 0, 0},
		{opStartStop, 0, 0, 0, 2, 0}, {opVerify10, 2, 0, 0, 0, 0, 0, 0, 1, 0}, {opLogSense, 0, 0x4c, 0, 0, 0, 0, 0, 64, 0},
	} {
		f.Add(cdb, make([]byte, 64), uint32(512), byte(0))
	}
	f.Fuzz(func(t *testing.T, cdb, data []byte, expect uint32, lun byte) {
		units := map[uint16]*Unit{}
		for i := range uint16(2) {
			m, err := memexport.New(1<<20, false)
			if err != nil {
				t.Fatal(err)
			}
			u, err := New(m, Options{ID: holdfast.VolumeID{UUID: holdfast.UUID{byte(i)}}, Removable: i == 1, Atomic: 1 << 16})
			if err != nil {
				t.Fatal(err)
			}
			units[i] = u
		}
		d, err := NewDevice(units)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		p, err := d.Attach(nexus(1))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Detach(true)
		s := &stage{t: t}
		s.run(p, make([]byte, 6), nil, 0)
		task := &Task{Path: p, LUN: [8]byte{0, lun}, Expect: int64(expect % (1 << 21))}
		copy(task.CDB[:], cdb)
		done := make(chan struct{})
		task.Done = func(*Task) { close(done) }
		if p.Begin(task) {
			if int64(task.Need) > task.Expect {
				t.Fatalf("it needs %d bytes of %d", task.Need, task.Expect)
			}
			task.Buf = make([]byte, task.Need)
			copy(task.Buf, data)
			p.Run(task)
			<-done
		}
		if (task.Status == CheckCondition) != (len(task.Sense) > 0) || int64(len(task.Data)) > task.Total {
			t.Fatalf("status %#x with %d bytes of sense and %d of %d of data", task.Status, len(task.Sense), len(task.Data), task.Total)
		}
	})
}

// FuzzReservations reads any stored reservations.
func FuzzReservations(f *testing.F) {
	r := reservations{kind: exclusiveAccess, holder: nexus(1), list: []registration{{nexus(1), 1}, {nexus(2), 2}}}
	f.Add(r.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeReservations(b)
		if err != nil || len(b) == 0 {
			return
		}
		if again, err := decodeReservations(r.encode()); err != nil || len(again.list) != len(r.list) || again.kind != r.kind {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
