package iscsi

import (
	"net"
	"testing"
)

func TestHungUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pair := func() (far, near net.Conn) {
		far, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if near, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close(); near.Close() })
		return far, near
	}
	for name, end := range map[string]func(far, near net.Conn){
		"closed":           func(far, _ net.Conn) { far.Close() },
		"reset":            func(far, _ net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() },
		"closed with data": func(far, _ net.Conn) { far.Write([]byte("more")); far.Close() },
		"closed here":      func(_, near net.Conn) { near.Close() },
	} {
		far, near := pair()
		far.Write([]byte("data"))
		if hungUp(near) {
			t.Errorf("%s: a connection that stands is said to be gone", name)
		}
		end(far, near)
		// On the loopback interface an end has arrived when Close returns.
		if !hungUp(near) {
			t.Errorf("%s: it was not seen", name)
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if hungUp(a) {
		t.Error("a connection that cannot be asked is said to be gone")
	}
}
