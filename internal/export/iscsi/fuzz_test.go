package iscsi_test

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// FuzzConnection sends any bytes to a server: before login, or in a session
// that has one. The connection ends, and the next initiator is served.
func FuzzConnection(f *testing.F) {
	var h pdu.Header
	for _, op := range []pdu.Opcode{pdu.NopOut, pdu.Command, pdu.TaskRequest, pdu.LoginRequest, pdu.TextRequest, pdu.DataOut, pdu.LogoutReq, pdu.SnackRequest, 0x3e} {
		h.SetOp(op)
		h[1] = pdu.Final
		h.SetWord(pdu.AtCmdSN, 1)
		f.Add(append([]byte(nil), h[:]...), true)
		h[0] |= pdu.Immediate
		f.Add(append(append([]byte(nil), h[:]...), h[:]...), false)
	}
	w := h
	w.SetOp(pdu.Command)
	w[1] = pdu.CommandWrite | pdu.Simple
	w.SetWord(pdu.AtLength, 4096)
	w[pdu.AtCDB], w[pdu.AtCDB+8] = 0x2a, 8
	w.SetDataLength(8)
	d := h
	d.SetOp(pdu.DataOut)
	d[1] = pdu.Final
	d.SetWord(pdu.AtTTT, pdu.NoTag)
	f.Add(append(append(append([]byte(nil), w[:]...), 1, 2, 3, 4, 5, 6, 7, 8), d[:]...), true)
	w[pdu.AtCDB+8] = 0 // it writes no block
	f.Add(append(append(append([]byte(nil), w[:]...), 1, 2, 3, 4, 5, 6, 7, 8), d[:]...), true)
	f.Fuzz(func(t *testing.T, b []byte, session bool) {
		target := newMemory(t, mib)
		u, err := scsi.New(target, scsi.Options{ID: unitID(1)})
		if err != nil {
			t.Fatal(err)
		}
		s := iscsi.New(iscsi.Config{Limits: iscsi.Limits{Login: time.Minute}})
		defer s.Close()
		ln := newPipes()
		if err := s.Serve(ln, "here", 1); err != nil {
			t.Fatal(err)
		}
		if err := s.Offer(iscsi.Target{Name: targetName, Device: newDevice(t, u), Access: anybody}); err != nil {
			t.Fatal(err)
		}
		nc := ln.dial()
		defer nc.Close()
		if session {
			if err := initiator.Enter(nc, initiator.Config{Name: hostName, Target: targetName, ISID: [6]byte{9}}); err != nil {
				t.Fatal(err)
			}
		}
		go io.Copy(io.Discard, nc)
		nc.SetWriteDeadline(time.Now().Add(time.Minute)) // a hang fails, it does not decide
		nc.Write(b)
		nc.Close()
		again, err := initiator.Login(ln.dial(), initiator.Config{Name: hostName, Target: targetName, ISID: [6]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		calm(t, again)
		again.Close()
	})
}

// pipes is a listener whose connections stay in memory.
type pipes struct {
	next   chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	end := &farEnd{Conn: a}
	p.next <- nearEnd{b, end}
	return end
}

// farEnd and nearEnd are a pipe whose server can ask, as of a socket, whether
// the other side has hung up.
type (
	farEnd struct {
		net.Conn
		closed atomic.Bool
	}
	nearEnd struct {
		net.Conn
		far *farEnd
	}
)

func (e *farEnd) Close() error {
	e.closed.Store(true)
	return e.Conn.Close()
}

func (e nearEnd) HungUp() bool { return e.far.closed.Load() }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.next:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
