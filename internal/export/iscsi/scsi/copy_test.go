package scsi

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// twoUnits is a target with two units of 16 MiB.
func twoUnits(t *testing.T) (*stage, *Path, [2]*Unit) {
	var units [2]*Unit
	for i := range units {
		m, err := memexport.New(16<<20, false)
		if err != nil {
			t.Fatal(err)
		}
		if units[i], err = New(m, Options{ID: holdfast.VolumeID{UUID: holdfast.UUID{byte(i + 1), 9}}}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := NewDevice(map[uint16]*Unit{0: units[0], 1: units[1]})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, unit: units[0], dev: d}
	t.Cleanup(d.Close)
	p := s.path(1)
	ready := &Task{Path: p, LUN: [8]byte{0, 1}}
	done := make(chan struct{})
	ready.Done = func(*Task) { close(done) }
	if p.Begin(ready); !p.Begin(ready) { // after its unit attention: waits until the disk is open
		t.Fatalf("the second unit: status %#x", ready.Status)
	}
	p.Run(ready)
	<-done
	return s, p, units
}

// opened1 returns the unit's disk, if it is open.
func (u *Unit) opened1() export.Disk {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.disk
}

// copyList2 is a parameter list for one segment between the two units.
func copyList2(id byte, units [2]*Unit, from, to int, first, at, count int) []byte {
	b := make([]byte, copyHead+2*targetSize+segmentSize)
	b[0] = id
	be.PutUint16(b[2:], 2*targetSize)
	be.PutUint32(b[8:], segmentSize)
	for i, u := range units {
		d := b[copyHead+i*targetSize:]
		d[0], d[4], d[5], d[7] = identified, 1, 3, 8
		copy(d[8:], u.naa())
		be.PutUint16(d[30:], 512)
	}
	d := b[copyHead+2*targetSize:]
	d[0], d[3] = blocksToBlocks, segmentSize-4
	be.PutUint16(d[4:], uint16(from))
	be.PutUint16(d[6:], uint16(to))
	be.PutUint16(d[10:], uint16(count))
	be.PutUint64(d[12:], uint64(first))
	be.PutUint64(d[20:], uint64(at))
	return b
}

func xcopy(list []byte) []byte {
	return []byte{opExtendedCopy, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(list)), 0, 0}
}

// content reads a unit's disk.
func content(t *testing.T, u *Unit, off, n int64) []byte {
	b := make([]byte, n)
	if err := do(u.opened1(), export.Request{Op: export.Read, Off: off, Length: n, Data: b}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCopiesBetweenAndWithinUnits(t *testing.T) {
	for _, x := range []struct {
		name            string
		from, to        int
		first, at, size int // in blocks
	}{
		{"to another unit", 0, 1, 7, 100, 5000},
		{"within a unit", 0, 0, 0, 20000, 6000},
		{"forwards over itself", 0, 0, 10, 1000, 9000},
		{"backwards over itself", 0, 0, 1000, 10, 9000},
	} {
		t.Run(x.name, func(t *testing.T) {
			s, p, units := twoUnits(t)
			src := make([]byte, 10<<20)
			for i := range src {
				if i>>20 != 3 { // the fourth MiB stays a hole
					src[i] = byte(i>>9)*31 + byte(i) | 1
				}
			}
			for i := range 10 {
				if i != 3 {
					part := src[i<<20 : (i+1)<<20]
					if err := do(units[0].opened1(), export.Request{Op: export.Write, Off: int64(i) << 20, Length: 1 << 20, Data: part}); err != nil {
						t.Fatal(err)
					}
				}
			}
			list := copyList2(5, units, x.from, x.to, x.first, x.at, x.size)
			s.good(s.run(p, xcopy(list), list, 0))
			got := content(t, units[x.to], int64(x.at)*512, int64(x.size)*512)
			if !bytes.Equal(got, src[x.first*512:(x.first+x.size)*512]) {
				t.Error("the copy differs")
			}
			r := s.good(s.run(p, []byte{opReceiveCopy, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, nil, 64))
			if r.Data[4] != 1 || be.Uint32(r.Data[8:]) != uint32(x.size) {
				t.Errorf("the copy's status is % x", r.Data)
			}
		})
	}
}

// A copy writes where its initiator may write, and nowhere else.
func TestACopyAsksForPermission(t *testing.T) {
	s, p, units := twoUnits(t)
	list := copyList2(1, units, 0, 1, 0, 0, 8)
	units[1].mu.Lock()
	units[1].pr = reservations{kind: writeExclusive, holder: nexus(7), list: []registration{{nexus(7), 7}}}
	units[1].mu.Unlock()
	s.want(s.run(p, xcopy(list), list, 0), CheckCondition, CopyAborted, CopyTargetGone)
	list = copyList2(1, units, 1, 0, 0, 0, 8) // reading is permitted
	s.good(s.run(p, xcopy(list), list, 0))
}
