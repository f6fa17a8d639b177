package guestnet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Main is the hidden subcommand `guestnet FILE`: it serves one machine until
// that is gone. It returns the exit code.
func Main(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "guestnet: needs the path of its configuration")
		return 2
	}
	b, err := os.ReadFile(args[0])
	if err == nil {
		var cfg Config
		if cfg, err = parseConfig(b); err == nil {
			err = serve(cfg, args[0])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guestnet:", err)
		return 1
	}
	return 0
}

func serve(cfg Config, path string) error {
	r, err := newRouter()
	if err != nil {
		return err
	}
	defer r.close()
	if err := serveDHCP(r); err != nil {
		return err
	}
	startForwarding(r, &settings{path: path, cfg: cfg})
	os.Remove(cfg.Dial)
	ln, err := net.Listen("unix", cfg.Dial)
	if err != nil {
		return fmt.Errorf("listen for the agent: %w", err)
	}
	defer ln.Close()
	go acceptDials(r, ln)
	carry(r, cfg)
	return nil
}

// serveDHCP answers the guest's broadcasts.
func serveDHCP(r *router) error {
	c, err := r.listenUDP(67)
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, dhcpMaxSize)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := dhcpReply(buf[:n]); reply != nil {
				// The guest has no address yet; broadcast reaches it.
				c.WriteTo(reply, &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
			}
		}
	}()
	return nil
}

const redialPause = 200 * time.Millisecond

// carry moves frames between QEMU and the stack, connecting anew while the
// machine lives.
func carry(r *router, cfg Config) {
	for locked(cfg.Lock) {
		conn, err := net.DialTimeout("unix", cfg.Frames, dialTimeout)
		if err != nil {
			time.Sleep(redialPause)
			continue
		}
		exchange(r, conn)
	}
}

func exchange(r *router, conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		var out []byte
		for frame := r.next(ctx); frame != nil; frame = r.next(ctx) {
			out = appendFrame(out[:0], frame)
			if _, err := conn.Write(out); err != nil {
				break
			}
		}
		conn.Close()
	}()
	in := bufio.NewReaderSize(conn, 64<<10)
	buf := make([]byte, maxFrame)
	for {
		frame, err := readFrame(in, buf)
		if err != nil {
			break
		}
		r.receive(frame)
	}
	conn.Close()
	cancel()
	wg.Wait()
}

// locked reports whether a process of the machine holds its lock.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// maxDials bounds the connections that the agent may hold through us.
const maxDials = 4096

func acceptDials(r *router, ln net.Listener) {
	slots := make(chan struct{}, maxDials)
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			dialFor(r, conn)
		}()
	}
}

func dialFor(r *router, conn net.Conn) {
	conn.SetDeadline(time.Now().Add(dialTimeout))
	line, err := readShortLine(conn)
	if err == nil && line == askCount {
		fmt.Fprintf(conn, "ok %d %d\n", r.received.Load(), r.sent.Load())
		return
	}
	port, err := parsePort(line, err)
	if err != nil {
		fmt.Fprintf(conn, "error %v\n", err)
		return
	}
	c, err := r.dialGuest(port)
	if err != nil {
		conn.SetDeadline(time.Now().Add(dialTimeout))
		fmt.Fprintf(conn, "error %v\n", err)
		return
	}
	conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "ok\n"); err != nil {
		c.Close()
		return
	}
	splice(c, conn)
}

// askCount asks for the bytes that the guest has received and sent.
const askCount = "count"

// parsePort is the port in a line that was read.
func parsePort(line string, err error) (uint16, error) {
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(line, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.20q is not a port", line)
	}
	return uint16(n), nil
}

// readShortLine reads a line byte by byte: what follows is the guest's.
func readShortLine(r io.Reader) (string, error) {
	var b [1]byte
	var line strings.Builder
	for line.Len() < 200 {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return line.String(), nil
		}
		line.WriteByte(b[0])
	}
	return "", fmt.Errorf("a line without an end")
}
