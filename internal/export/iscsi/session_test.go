package iscsi_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// offerFaulty offers a memory volume whose faults the test decides.
func offerFaulty(t *testing.T, size int64, opt ...scsi.Options) (*offering, *memexport.Faults) {
	f := &memexport.Faults{}
	target := memexport.Faulty(newMemory(t, size), f, clock.System{})
	o := offer(t, newDevice(t, newUnit(t, target, append(opt, scsi.Options{})[0])), anybody, iscsi.Limits{})
	t.Cleanup(f.Release)
	return o, f
}

// started is a command under way.
type started struct {
	sync.WaitGroup
	reply initiator.Reply
	err   error
	done  atomic.Bool
}

func start(s *initiator.Session, c initiator.Command) *started {
	x := &started{}
	x.Add(1)
	s.Start(0, c, func(r initiator.Reply, err error) {
		x.reply, x.err = r, err
		x.done.Store(true)
		x.Done()
	})
	return x
}

func manage(s *initiator.Session, function byte, itt, sn uint32) *started {
	x := &started{}
	x.Add(1)
	s.StartManage(function, [8]byte{}, itt, sn, func(r initiator.Reply, err error) {
		x.reply, x.err = r, err
		x.done.Store(true)
		x.Done()
	})
	return x
}

// held waits until n requests stand before the disk. A ping's answer tells that
// the commands before it have been taken.
func held(t *testing.T, s *initiator.Session, f *memexport.Faults, n int) {
	t.Helper()
	if _, err := s.Ping(nil); err != nil {
		t.Fatal(err)
	}
	if f.Held() != n {
		t.Fatalf("%d requests stand before the disk, want %d", f.Held(), n)
	}
}

func TestAPingComesBack(t *testing.T) {
	s := offerMemory(t, mib).login(initiator.Config{Digests: true})
	for _, n := range []int{0, 1, 48, 4096, 200000} {
		want := noise(n, n)
		r, err := s.Ping(want)
		if err != nil || !bytes.Equal(r.Text, want) {
			t.Errorf("a ping of %d bytes: %d came back, %v", n, len(r.Text), err)
		}
	}
}

// A task that is answered as aborted changes nothing afterwards: it had not
// come to the disk, or the answer waits for the disk.
func TestAbortTask(t *testing.T) {
	o, f := offerFaulty(t, mib)
	s := o.login(initiator.Config{})
	must(t, s, writeCmd(0, bytes.Repeat([]byte{1}, 4096)))
	f.Hold()
	itt, sn := s.Tag()
	w := start(s, writeCmd(0, bytes.Repeat([]byte{2}, 4096)))
	held(t, s, f, 1)
	abort := manage(s, pdu.AbortTask, itt, sn)
	s.Ping(nil)
	if abort.done.Load() {
		t.Error("the abort was answered while the write stood before the disk")
	}
	f.Release()
	abort.Wait()
	if abort.err != nil || abort.reply.Response != pdu.FunctionComplete {
		t.Errorf("abort: response %d, %v", abort.reply.Response, abort.err)
	}
	if w.done.Load() {
		t.Error("the aborted write was answered")
	}
	got := make([]byte, 4096)
	must(t, s, readCmd(0, got))
	before := bytes.Clone(got)
	s.Ping(nil)
	must(t, s, readCmd(0, got))
	if !bytes.Equal(before, got) {
		t.Error("the volume changed after the abort had been answered")
	}
	if r, err := s.Manage(pdu.AbortTask, [8]byte{}, itt, sn); err != nil || r.Response != pdu.NoSuchTask {
		t.Errorf("a second abort: response %d, %v; want that there is no such task", r.Response, err)
	}
}

// A write whose data never comes is aborted at once.
func TestAbortOfATaskThatWaitsForData(t *testing.T) {
	o, f := offerFaulty(t, mib)
	s := o.login(initiator.Config{Keys: keys("InitialR2T", "Yes", "ImmediateData", "No")})
	itt, sn := s.Tag()
	c := writeCmd(0, bytes.Repeat([]byte{2}, 4096))
	c.Hold = true
	w := start(s, c)
	if r, err := s.Manage(pdu.AbortTask, [8]byte{}, itt, sn); err != nil || r.Response != pdu.FunctionComplete {
		t.Fatalf("abort: response %d, %v", r.Response, err)
	}
	if w.done.Load() || f.Seen(export.Write) != 0 {
		t.Error("the write was done")
	}
	must(t, s, writeCmd(8, bytes.Repeat([]byte{3}, 4096)))
}

func TestAUnitResetEndsEverybodysTasks(t *testing.T) {
	o, f := offerFaulty(t, mib)
	a, b := o.login(initiator.Config{}), o.login(initiator.Config{ISID: [6]byte{1}})
	f.Hold()
	wa := start(a, writeCmd(0, make([]byte, 512)))
	held(t, a, f, 1)
	wb := start(b, writeCmd(8, make([]byte, 512)))
	held(t, b, f, 2)
	reset := manage(a, pdu.UnitReset, pdu.NoTag, 0)
	a.Ping(nil)
	f.Release()
	reset.Wait()
	if reset.err != nil || reset.reply.Response != 0 {
		t.Errorf("reset: response %d, %v", reset.reply.Response, reset.err)
	}
	wb.Wait()
	if wb.err != nil || wb.reply.Status != byte(scsi.TaskAborted) {
		t.Errorf("the other initiator's write ended with status %#x, %v; want TASK ABORTED", wb.reply.Status, wb.err)
	}
	if wa.done.Load() {
		t.Error("the own write was answered")
	}
	for _, s := range []*initiator.Session{a, b} {
		if seen := calm(t, s); len(seen) != 1 || seen[0] != 0x2903 {
			t.Errorf("told %04x, want BUS DEVICE RESET FUNCTION OCCURRED", seen)
		}
	}
}

func TestAColdResetDropsTheSessions(t *testing.T) {
	o := offerMemory(t, mib)
	s := o.login(initiator.Config{})
	if r, err := s.Manage(pdu.ColdReset, [8]byte{}, pdu.NoTag, 0); err == nil && r.Response != 0 {
		t.Fatalf("reset: response %d", r.Response)
	}
	for {
		if _, err := s.Do(initiator.Command{CDB: make([]byte, 6)}); err != nil {
			break
		}
	}
	if again, err := o.try(initiator.Config{Target: targetName}); err != nil {
		t.Fatal(err)
	} else {
		calm(t, again)
	}
}

func TestFunctionsThatAreNotThere(t *testing.T) {
	s := offerMemory(t, mib).login(initiator.Config{})
	for function, want := range map[byte]byte{pdu.ClearACA: pdu.FunctionNotSupported, pdu.Reassign: pdu.NoReassignment, 99: pdu.FunctionNotSupported} {
		if r, err := s.Manage(function, [8]byte{}, 1, 1); err != nil || r.Response != want {
			t.Errorf("function %d: response %d, %v; want %d", function, r.Response, err, want)
		}
	}
	if r, err := s.Manage(pdu.UnitReset, [8]byte{0, 77}, pdu.NoTag, 0); err != nil || r.Response != pdu.NoSuchUnit {
		t.Errorf("a reset of no unit: response %d, %v", r.Response, err)
	}
}

// Data-Outs that are out of order end their command, and only that.
func TestMisplacedDataEndsTheCommand(t *testing.T) {
	s := offerMemory(t, mib).login(initiator.Config{Keys: keys("InitialR2T", "Yes", "ImmediateData", "No", "MaxBurstLength", "1048576")})
	data := bytes.Repeat([]byte{9}, 300<<10) // two Data-Outs
	for name, change := range map[string]func(h *pdu.Header){
		"number": func(h *pdu.Header) { h.SetWord(pdu.AtDataSN, 5) },
		"offset": func(h *pdu.Header) { h.SetWord(pdu.AtOffset, 512) },
		"tag":    func(h *pdu.Header) { h.SetWord(pdu.AtTTT, 12345) },
		"end":    func(h *pdu.Header) { h[1] = pdu.Final },
	} {
		c := writeCmd(0, data)
		c.Data = change
		t.Log(name)
		wantSense(t, s, c, 0xb, 0x4b00)
	}
	got := make([]byte, len(data))
	must(t, s, readCmd(0, got))
	if !bytes.Equal(got, make([]byte, len(data))) {
		t.Error("misplaced data was written")
	}
	must(t, s, writeCmd(0, data))
}

// Commands that come in the wrong order over two connections run in the right
// one.
func TestCommandsAreOrderedOverConnections(t *testing.T) {
	o := offerMemory(t, mib)
	s := o.login(initiator.Config{})
	if err := s.Add(o.dial()); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 64*512)
	var all sync.WaitGroup
	for i := range 400 {
		all.Add(1)
		p := noise(i, 512)
		at := uint64(i % 64)
		copy(want[at*512:], p)
		c := writeCmd(at, p)
		c.Attr = pdu.Ordered
		s.Start(i%2, c, func(r initiator.Reply, err error) {
			defer all.Done()
			if err != nil || r.Status != 0 {
				t.Errorf("write: status %#x, %v", r.Status, err)
			}
		})
	}
	all.Wait()
	got := make([]byte, len(want))
	must(t, s, readCmd(0, got))
	if !bytes.Equal(got, want) {
		t.Error("the last write to a block is not what it holds")
	}
}

func TestOneConnectionLogsOutTheSessionGoesOn(t *testing.T) {
	o := offerMemory(t, mib)
	s := o.login(initiator.Config{})
	if err := s.Add(o.dial()); err != nil {
		t.Fatal(err)
	}
	must(t, s, writeCmd(0, noise(1, 4096)))
	if r, err := s.Logout(1, 1); err != nil || r.Response != 0 {
		t.Fatalf("logout: response %d, %v", r.Response, err)
	}
	got := make([]byte, 4096)
	must(t, s, readCmd(0, got))
	if !bytes.Equal(got, noise(1, 4096)) {
		t.Error("the session's data is gone")
	}
	if r, err := s.Logout(1, 7); err != nil || r.Response != 1 {
		t.Errorf("logout of no connection: response %d, %v", r.Response, err)
	}
}

// A logout that waits for its turn is acted upon by whoever brings what is
// missing, the reader of another connection.
func TestALogoutThatOvertakesOnAnotherConnection(t *testing.T) {
	o := offerMemory(t, mib)
	s := o.login(initiator.Config{})
	if err := s.Add(o.dial()); err != nil {
		t.Fatal(err)
	}
	if r, err := s.LogoutOvertaking(1, 1); err != nil || r.Response != 0 {
		t.Fatalf("logout: response %d, %v", r.Response, err)
	}
	must(t, s, writeCmd(0, noise(1, 4096)))
	if r, err := s.Logout(1, 1); err != nil || r.Response != 1 {
		t.Errorf("logout of the connection that is gone: response %d, %v", r.Response, err)
	}
}

func TestWithdrawingATarget(t *testing.T) {
	o, f := offerFaulty(t, mib)
	s := o.login(initiator.Config{})
	f.Hold()
	w := start(s, writeCmd(0, make([]byte, 512)))
	held(t, s, f, 1)
	gone := make(chan struct{})
	go func() {
		o.Withdraw(targetName)
		close(gone)
	}()
	w.Wait() // the connection is dropped
	f.Release()
	<-gone
	_, err := o.try(initiator.Config{Target: targetName})
	wantRefused(t, err, pdu.LoginNotFound)
}

// More data than a session may hold at once waits its turn.
func TestManyLongTransfersShareTheMemory(t *testing.T) {
	o := offer(t, newDevice(t, newUnit(t, newMemory(t, 64*mib), scsi.Options{})), anybody, iscsi.Limits{Bytes: 3 * mib})
	s := o.login(initiator.Config{})
	var all sync.WaitGroup
	run := func(c initiator.Command, then func()) {
		all.Add(1)
		s.Start(0, c, func(r initiator.Reply, err error) {
			defer all.Done()
			if err != nil || r.Status != 0 {
				t.Errorf("status %#x, %v", r.Status, err)
			} else {
				then()
			}
		})
	}
	for i := range 32 {
		run(writeCmd(uint64(i)*4096, noise(i, 2*mib)), func() {})
	}
	all.Wait()
	for i := range 32 {
		got := make([]byte, 2*mib)
		run(readCmd(uint64(i)*4096, got), func() {
			if !bytes.Equal(got, noise(i, 2*mib)) {
				t.Errorf("write %d is not what is read", i)
			}
		})
	}
	all.Wait()
}

// Data that comes with a command that takes none is passed over, whatever the
// way it comes.
func TestDataThatNobodyWants(t *testing.T) {
	s := offerMemory(t, mib).login(initiator.Config{Keys: keys("InitialR2T", "No", "FirstBurstLength", "65536", "MaxRecvDataSegmentLength", "4096")})
	data := noise(1, 300<<10)
	for _, c := range []initiator.Command{
		{CDB: rw16(write16, 0, 0, false), Out: data}, // writes no block
		{CDB: rw16(write16, 0, 1, false), Out: data}, // writes one
		{CDB: make([]byte, 6), Out: data},            // takes no data
		{CDB: []byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}, Out: data},
	} {
		r := must(t, s, c)
		if want := uint32(len(data) - int(c.CDB[len(c.CDB)-3])*512); r.Flags != pdu.Underflow || len(c.CDB) == 16 && r.Residual != want {
			t.Errorf("command % x: residual %d, flags %#x; want %d less", c.CDB, r.Residual, r.Flags, want)
		}
	}
	for _, c := range []initiator.Command{
		{CDB: rw16(write16, 1<<40, 1, false), Out: data},
		{CDB: []byte{0xff, 0, 0, 0, 0, 0}, Out: data},
	} {
		if r := run(t, s, c); r.Status != 2 {
			t.Errorf("command % x ended with status %#x", c.CDB, r.Status)
		}
	}
	must(t, s, writeCmd(0, data[:4096]))
}
