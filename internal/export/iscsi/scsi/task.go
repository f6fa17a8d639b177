package scsi

import (
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Direction is where a task's data goes.
type Direction byte

// The directions; no command of a block device here has both.
const (
	NoData Direction = iota
	In               // to the initiator
	Out              // from the initiator
)

// Attr is a task attribute (SAM-5 §8.6).
type Attr byte

// The attributes; ACA is refused by the transport.
const (
	Simple Attr = iota
	Ordered
	Head
)

// CDBSize is the longest CDB in use, in bytes.
const CDBSize = 16

// Task is one command on its way. The transport owns the value, may use it
// again after Done, and touches nothing of it between Run and Done.
type Task struct {
	// Set before Begin.
	Path   *Path
	LUN    [8]byte
	CDB    [CDBSize]byte
	Attr   Attr
	Expect int64 // the transport's expected data transfer length, in bytes
	// Done is called once for a task that Begin let in, on any goroutine,
	// possibly inside Run. It must not block. If Aborted is set nothing is
	// told to the initiator, unless Status is TaskAborted.
	Done func(*Task)

	// Set by Begin.
	Dir  Direction
	Want int64 // length of the data as the CDB says, in bytes
	Need int   // length of Buf that must be lent to Run, filled if Dir is Out

	// Lent for the time between Run and Done.
	Buf []byte

	// Results.
	Status  Status
	Sense   []byte
	Data    []byte // to the initiator; its transport cuts it at Expect
	Total   int64  // how much the command would have sent, for residuals
	Aborted bool

	unit  *Unit
	state *nexusState
	cmd   *command
	phase phase
	at    int    // place in the unit's list
	seq   uint64 // order of arrival
	// first and blocks are the span of a medium access, alone whether no
	// other task may touch it meanwhile.
	first, blocks uint64
	alone         bool
	fua           bool
	sure          bool   // what it wrote is durable when it ends
	mark          uint64 // a flush: how many writes it covers
	disk          export.Disk
	req           export.Request
	then          func(*Task, error)
	reqDone       func(*export.Request, error) // bound once
	enders        []*abortion
	foreign       bool // aborted by another nexus, whose initiator is told
}

// phase is where in its life a task is; it belongs to the unit's lock.
type phase byte

const (
	idle    phase = iota
	arrived       // begun; its data is on the way
	blocked       // waits for other tasks
	parked        // waits for the medium to be opened
	chosen        // its wait is over; whoever chose it is about to start it
	running
	ended
)

// reset makes t fresh for a next command, keeping what is bound to it.
func (t *Task) reset() {
	done, path := t.reqDone, t.Path
	*t = Task{Path: path, LUN: t.LUN, CDB: t.CDB, Attr: t.Attr, Expect: t.Expect, Done: t.Done, reqDone: done}
}

// Clear forgets everything about a task that has ended but what spares work
// for its next use.
func (t *Task) Clear() {
	t.Path, t.Done = nil, nil
	t.LUN, t.CDB, t.Attr, t.Expect = [8]byte{}, [CDBSize]byte{}, Simple, 0
	t.reset()
}

// fail sets the result of a task that Begin refuses.
func (t *Task) fail(s *Sense, descriptor bool) bool {
	t.Status, t.Sense, t.Need, t.Dir, t.Want = CheckCondition, s.Encode(descriptor), 0, NoData, 0
	return false
}

// off and size are the span in bytes.
func (t *Task) off() int64  { return int64(t.first) << t.unit.shift }
func (t *Task) size() int64 { return int64(t.blocks) << t.unit.shift }

// submit starts one request of a running task; then gets its result.
func (t *Task) submit(op export.Op, off, length int64, data []byte, fua bool, then func(*Task, error)) {
	if t.reqDone == nil {
		t.reqDone = func(_ *export.Request, err error) {
			then := t.then
			t.req.Data, t.then = nil, nil
			then(t, err)
		}
	}
	t.then = then
	t.req = export.Request{Op: op, Off: off, Length: length, Data: data, FUA: fua, Done: t.reqDone}
	t.disk.Submit(&t.req)
}

// wait is submit for commands with a goroutine of their own.
func (t *Task) wait(op export.Op, off, length int64, data []byte, fua bool) error {
	return do(t.disk, export.Request{Op: op, Off: off, Length: length, Data: data, FUA: fua})
}

func do(d export.Disk, r export.Request) error {
	done := make(chan error, 1)
	r.Done = func(_ *export.Request, err error) { done <- err }
	d.Submit(&r)
	return <-done
}

// aside runs f on a goroutine of its own and ends the task with what it
// returns: nil, a *Sense, or an error of the disk.
func (t *Task) aside(f func(*Task) error) {
	go func() { t.complete(f(t)) }()
}

// complete ends a task with the result of its last request.
func (t *Task) complete(err error) {
	if err == nil {
		if t.cmd.change {
			t.unit.changed(t)
		}
		t.end(Good, nil)
		return
	}
	if s, ok := err.(*Sense); ok {
		t.end(CheckCondition, s)
		return
	}
	t.unit.diskFailed(t.disk, err)
	t.end(CheckCondition, senseOf(err, t.cmd.change))
}

// answer ends a task with parameter data, cut at its allocation length.
func (t *Task) answer(data []byte, allocation uint64) {
	if uint64(len(data)) > allocation {
		data = data[:allocation]
	}
	t.Dir, t.Data, t.Total = In, data, int64(len(data))
	t.end(Good, nil)
}

// void takes back the result of a task that was aborted.
func (t *Task) void() {
	t.Status, t.Sense, t.Data, t.Total = Good, nil, nil, 0
	if t.foreign {
		t.Status = TaskAborted
	}
}

// Seq tells this use of the value from its others, between Begin and Done.
func (t *Task) Seq() uint64 { return t.seq }

// end finishes a task that has been begun.
func (t *Task) end(status Status, s *Sense) {
	t.Status = status
	if s != nil {
		t.Sense = s.Encode(t.unit.descriptorSense())
		t.Data, t.Total = nil, 0
		if t.Dir == In {
			t.Want = 0
		}
	}
	t.unit.leave(t)
}

// Fail gives a task that was aborted a result of its transport's: CHECK
// CONDITION for data that did not arrive as it should.
func (t *Task) Fail(k Key, c Code) {
	t.Status, t.Sense, t.Data, t.Total = CheckCondition, sense(k, c).Encode(t.unit.descriptorSense()), nil, 0
}
