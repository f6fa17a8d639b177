package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// Device is the name of the tun device; what is routed to it is carried.
const Device = "line"

// maxRequest bounds a request to the process, in bytes.
const maxRequest = 1 << 20

// Request is asked of the process: Lanes replace all it has, if there are any
// in it or Set says so.
type Request struct {
	Set   bool   `json:"set"`
	Lanes []Spec `json:"lanes"`
}

// Reply is its answer.
type Reply struct {
	Counts map[string]Count `json:"counts"`
}

// Socket is where the process answers that serves a directory.
func Socket(dir string) string { return filepath.Join(dir, "line.sock") }

// Run is the process: it serves a directory in whatever network namespace it was
// started in, until SIGTERM. It returns the exit status.
func Run(dir string) int {
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, "line:", err)
		return 1
	}
	return 0
}

func run(dir string) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	tun, err := openTun()
	if err != nil {
		return err
	}
	defer tun.Close()
	begun := time.Now()
	l := newLine(func() time.Duration { return time.Since(begun) }, func(b []byte) {
		_, _ = tun.Write(b) // a device that is down loses it, as any line would
	})
	_ = os.Remove(Socket(dir)) // of a process that was killed
	ln, err := net.Listen("unix", Socket(dir))
	if err != nil {
		return err
	}
	defer ln.Close()
	go l.deliver(nil)
	go l.answer(ln)
	buf := make([]byte, 1<<16)
	for {
		n, err := tun.Read(buf)
		if err != nil {
			return err
		}
		l.take(buf[:n])
	}
}

// openTun makes the device (tun(4): /usr/src/linux/Documentation/networking/tuntap.rst).
// It goes with the process.
func openTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "/dev/net/tun: %w; lines with a rate, a delay or a loss need it", err)
	}
	ifr, err := unix.NewIfreq(Device)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, holdfast.Errorf(holdfast.Unavailable, "a tun device: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// answer serves requests, one a connection.
func (l *line) answer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of file descriptors, most likely
			continue
		}
		l.reply(c)
	}
}

func (l *line) reply(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(askTimeout))
	r, err := parseRequest(c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "line:", err)
		return
	}
	if r.Set {
		l.set(r.Lanes)
	}
	_ = json.NewEncoder(c).Encode(Reply{Counts: l.counts()}) // who asked has gone, or reads it
}

func parseRequest(from io.Reader) (Request, error) {
	var r Request
	if err := json.NewDecoder(io.LimitReader(from, maxRequest)).Decode(&r); err != nil {
		return r, holdfast.Errorf(holdfast.Invalid, "a request: %w", err)
	}
	for _, s := range r.Lanes {
		if err := s.Shape.Check(); err != nil {
			return r, err
		}
	}
	return r, nil
}

const askTimeout = 5 * time.Second

// Ask sends the process of a directory a request. Kind Unavailable if there is
// none.
func Ask(dir string, r Request) (Reply, error) {
	var out Reply
	c, err := net.DialTimeout("unix", Socket(dir), askTimeout)
	if err != nil {
		return out, holdfast.Errorf(holdfast.Unavailable, "the lab's line: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(askTimeout))
	if err = json.NewEncoder(c).Encode(r); err == nil {
		err = json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&out)
	}
	if err != nil {
		return out, holdfast.Errorf(holdfast.Unavailable, "the lab's line does not answer: %w", err)
	}
	return out, nil
}
