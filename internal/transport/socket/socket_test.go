package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a connection.
func pair(t *testing.T, network string) (a, b *Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	x, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, okA := New(x)
	b, okB := New(y)
	if !okA || !okB {
		t.Fatal("a socket is not known as one")
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func each(t *testing.T, f func(t *testing.T, a, b *Conn)) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			a, b := pair(t, network)
			f(t, a, b)
		})
	}
}

func TestMuchMoreThanTheSocketHolds(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		data := make([]byte, 8<<20)
		for i := range data {
			data[i] = byte(i ^ i>>11)
		}
		done := make(chan error, 1)
		go func() {
			_, err := a.Write(data)
			a.Close()
			done <- err
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes arrive, %v", len(got), len(data), err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWriteNowDoesNotWait(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		chunk := make([]byte, 64<<10)
		total := 0
		for {
			n := a.WriteNow(chunk)
			total += n
			if n == 0 {
				break
			}
		}
		if total == 0 {
			t.Fatal("nothing was sent to a socket with room")
		}
		if n, err := io.CopyN(io.Discard, b, int64(total)); err != nil {
			t.Fatalf("%d of %d bytes arrive: %v", n, total, err)
		}
		if a.WriteNow([]byte{7}) != 1 {
			t.Error("a socket with room again takes nothing")
		}
	})
}

func TestTheOtherEndCloses(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		b.Close()
		if n, err := a.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read: %d, %v; want the end", n, err)
		}
		var err error
		for range 100 { // TCP takes some before it learns that nobody listens
			if _, err = a.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		if err == nil {
			t.Error("writing to nobody never fails")
		}
		if a.WriteNow([]byte{1}) != 0 {
			t.Error("something was sent to nobody")
		}
	})
}

func TestClosingWakesWhoWaits(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		errs := make(chan error, 2)
		go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := a.Write(make([]byte, 64<<20)); errs <- err }()
		io.ReadFull(b, make([]byte, 1))
		a.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v, want it closed", err)
			}
		}
	})
}

func TestDeadlinesHold(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		a.SetDeadline(time.Now().Add(time.Millisecond))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v, want the deadline", err)
		}
	})
}

func TestWhatIsNoSocket(t *testing.T) {
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	if _, ok := New(x); ok {
		t.Error("a pipe in memory passes for a socket")
	}
}

func TestAnEndThatHangsUpIsNoticedWithoutReading(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		if HungUp(a.Conn) {
			t.Error("a connection hangs up by itself")
		}
		if _, err := b.Write([]byte{1}); err != nil || HungUp(a.Conn) {
			t.Errorf("one that speaks has hung up (%v)", err)
		}
		b.Close()
		for deadline := time.Now().Add(5 * time.Second); !HungUp(a.Conn); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody notices the end")
			}
		}
		a.Close()
		if !HungUp(a.Conn) {
			t.Error("one that was closed here has not ended")
		}
	})
}

func TestDeathIsNoticed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	told := func() (yes bool) {
		if err := raw.Control(func(fd uintptr) { yes = NoticesDeath(fd) }); err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if told() {
		t.Fatal("a connection notices death that was not told to")
	}
	NoticeDeath(c)
	if !told() {
		t.Error("a connection does not notice the death of its other end")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	NoticeDeath(a) // no socket: nothing happens
}
