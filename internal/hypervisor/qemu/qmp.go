package qemu

import (
	"bufio"
	"encoding/json"
	"net"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// maxMessage bounds one QMP message, in bytes: QEMU is not trusted, for a
// guest may have taken it over.
const maxMessage = 1 << 20

// message is anything that QEMU sends: the greeting, an answer or an event
// (QEMU, docs/interop/qmp-spec).
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	ID       uint64          `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *qmpError       `json:"error"`
	Event    string          `json:"event"`
	Data     json.RawMessage `json:"data"`
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// parseMessage reads one line.
func parseMessage(line []byte) (message, error) {
	var m message
	if len(line) > maxMessage {
		return m, holdfast.Errorf(holdfast.Invalid, "QEMU sent a message of %d bytes, at most %d are accepted", len(line), maxMessage)
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, holdfast.Errorf(holdfast.Invalid, "QEMU sent %.60q, which is not a QMP message: %w", line, err)
	}
	if m.Greeting == nil && m.Return == nil && m.Error == nil && m.Event == "" {
		return message{}, holdfast.Errorf(holdfast.Invalid, "QEMU sent %.60q, which is neither answer nor event", line)
	}
	return m, nil
}

// monitor is a QMP connection. Its methods may be called from any goroutine.
type monitor struct {
	conn  net.Conn
	event func(name string, data json.RawMessage) // called in order, from one goroutine
	over  chan struct{}                           // closed when the reader has ended

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan message
	err     error // why the connection ended
}

// newMonitor negotiates on a connection to a QMP socket, which it then owns.
// Events go to event, which must not call execute on the same goroutine.
func newMonitor(conn net.Conn, timeout time.Duration, event func(string, json.RawMessage)) (*monitor, error) {
	m := &monitor{conn: conn, event: event, over: make(chan struct{}), pending: make(map[uint64]chan message)}
	go m.read()
	if err := m.execute("qmp_capabilities", nil, nil, timeout); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// close ends the connection and waits for the reader.
func (m *monitor) close() {
	m.conn.Close()
	<-m.over
}

func (m *monitor) read() {
	defer close(m.over)
	sc := bufio.NewScanner(m.conn)
	sc.Buffer(make([]byte, 0, 4096), maxMessage)
	var err error
	for err == nil && sc.Scan() {
		var msg message
		if msg, err = parseMessage(sc.Bytes()); err == nil {
			m.dispatch(msg)
		}
	}
	if err == nil {
		err = sc.Err()
	}
	m.conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = holdfast.Errorf(holdfast.Closed, "the connection to QEMU's monitor ended (%v)", err)
	for id, ch := range m.pending {
		close(ch)
		delete(m.pending, id)
	}
}

func (m *monitor) dispatch(msg message) {
	if msg.Event != "" {
		if m.event != nil {
			m.event(msg.Event, msg.Data)
		}
		return
	}
	m.mu.Lock()
	ch := m.pending[msg.ID]
	delete(m.pending, msg.ID)
	m.mu.Unlock()
	if ch != nil {
		ch <- msg
	}
}

// execute runs a command and decodes its answer into out, if not nil. It waits
// at most timeout; a command that is not answered in time is of kind
// Unavailable and may still be executed.
func (m *monitor) execute(command string, args, out any, timeout time.Duration) error {
	ch := make(chan message, 1)
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return m.err
	}
	m.next++
	id := m.next
	m.pending[id] = ch
	m.mu.Unlock()
	if err := m.send(id, command, args, timeout); err != nil {
		m.forget(id)
		return err
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case msg, ok := <-ch:
		return m.answer(command, msg, ok, out)
	case <-t.C:
		m.forget(id)
		return holdfast.Errorf(holdfast.Unavailable, "QEMU did not answer %s within %v", command, timeout)
	}
}

func (m *monitor) send(id uint64, command string, args any, timeout time.Duration) error {
	req := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id}
	b, err := json.Marshal(req)
	if err != nil {
		return holdfast.Errorf(holdfast.Invalid, "QMP %s: %w", command, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := m.conn.Write(append(b, '\n')); err != nil {
		m.conn.Close() // a message may have been cut
		return holdfast.Errorf(holdfast.Unavailable, "send %s to QEMU: %w", command, err)
	}
	return nil
}

func (m *monitor) forget(id uint64) {
	m.mu.Lock()
	delete(m.pending, id)
	m.mu.Unlock()
}

func (m *monitor) answer(command string, msg message, ok bool, out any) error {
	switch {
	case !ok:
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.err
	case msg.Error != nil:
		return holdfast.Errorf(holdfast.Other, "QEMU refused %s: %s", command, msg.Error.Desc)
	case out != nil:
		if err := json.Unmarshal(msg.Return, out); err != nil {
			return holdfast.Errorf(holdfast.Invalid, "QEMU's answer to %s: %w", command, err)
		}
	}
	return nil
}
