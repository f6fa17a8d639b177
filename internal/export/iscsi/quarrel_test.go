package iscsi_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// quarrelsome is one of several initiators that abort, reset, reserve, log in
// over each other and vanish, all at once.
type quarrelsome struct {
	o   *offering
	n   byte
	rnd *rand.Rand
	s   *initiator.Session
}

// once does one thing; an error means that the session is over.
func (q *quarrelsome) once() error {
	r := q.rnd
	lba, blocks := uint64(r.IntN(64)), 1+r.IntN(600)
	do := func(c initiator.Command) error {
		c.Attr = byte(r.IntN(4))
		if r.IntN(3) > 0 {
			_, err := q.s.Do(c)
			return err
		}
		q.s.Start(0, c, func(initiator.Reply, error) {}) // goes on beside the next ones
		return nil
	}
	itt, sn := q.s.Tag()
	switch r.IntN(14) {
	case 0, 1, 2:
		return do(writeCmd(lba, make([]byte, blocks*512)))
	case 3, 4:
		return do(readCmd(lba, make([]byte, blocks*512)))
	case 5:
		return do(syncCmd())
	case 6:
		c := writeCmd(lba, make([]byte, blocks*512))
		c.Hold = true
		q.s.Start(0, c, func(initiator.Reply, error) {})
		_, err := q.s.Manage(pdu.AbortTask, [8]byte{}, itt, sn)
		return err
	case 7:
		q.s.Start(0, writeCmd(lba, make([]byte, blocks*512)), func(initiator.Reply, error) {})
		_, err := q.s.Manage(pdu.AbortTask, [8]byte{}, itt, sn)
		return err
	case 8:
		_, err := q.s.Manage([]byte{pdu.AbortTaskSet, pdu.ClearTaskSet, pdu.UnitReset, pdu.WarmReset}[r.IntN(4)], [8]byte{}, pdu.NoTag, 0)
		return err
	case 9:
		list := make([]byte, 24)
		list[7], list[15] = byte(r.IntN(3)), byte(r.IntN(3))
		return do(initiator.Command{CDB: []byte{0x5f, byte(r.IntN(7)), []byte{1, 3, 5, 6, 7, 8}[r.IntN(6)], 0, 0, 0, 0, 0, 24, 0}, Out: list})
	case 10:
		c := initiator.Command{CDB: make([]byte, 16), Out: make([]byte, 1024)}
		c.CDB[0], c.CDB[9], c.CDB[13] = 0x89, byte(lba), 1
		return do(c)
	case 11:
		return do(initiator.Command{CDB: rw16(0x8b, lba, 4, false), Out: make([]byte, 2048)})
	case 12:
		_, err := q.s.Ping(make([]byte, r.IntN(9000)))
		return err
	}
	if r.IntN(4) > 0 {
		return nil
	}
	if r.IntN(2) == 0 {
		q.s.Logout(0, 0)
	}
	q.s.Close()
	return pdu.ErrDigest // any error: it is over
}

func (q *quarrelsome) live(things int) {
	for range things {
		if q.s == nil {
			s, err := q.o.try(initiator.Config{Target: targetName, ISID: [6]byte{q.n}, Digests: q.rnd.IntN(2) == 0,
				Keys: keys("InitialR2T", []string{"Yes", "No"}[q.rnd.IntN(2)], "ImmediateData", "Yes", "MaxOutstandingR2T", "3", "MaxBurstLength", "65536")})
			if err != nil { // another one took its place while it logged in
				continue
			}
			q.s = s
		}
		if err := q.once(); err != nil {
			q.s.Close()
			q.s = nil
		}
	}
}

// Nothing hangs, nothing panics, and afterwards the unit serves as before.
func TestInitiatorsThatQuarrel(t *testing.T) {
	var faults memexport.Faults
	faults.Later(clock.System{}.Go)
	target := memexport.Faulty(newMemory(t, mib), &faults, clock.System{})
	o := offer(t, newDevice(t, newUnit(t, target, scsi.Options{})), anybody, iscsi.Limits{Bytes: mib, Commands: 16})
	things := 600
	if testing.Short() {
		things = 150
	}
	var all sync.WaitGroup
	for n := range byte(5) {
		all.Add(1)
		q := &quarrelsome{o: o, n: n / 2, rnd: rand.New(rand.NewPCG(uint64(n), 7))} // some share a port
		go func() {
			defer all.Done()
			q.live(things)
			if q.s != nil {
				q.s.Close()
			}
		}()
	}
	all.Wait()
	s := o.login(initiator.Config{ISID: [6]byte{99}})
	list := make([]byte, 24)
	list[15] = 1
	must(t, s, initiator.Command{CDB: []byte{0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0}, Out: list}) // register, whoever is registered
	list[7], list[15] = 1, 0
	must(t, s, initiator.Command{CDB: []byte{0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0}, Out: list}) // clear
	must(t, s, writeCmd(0, noise(1, 4096)))
	must(t, s, syncCmd())
}
