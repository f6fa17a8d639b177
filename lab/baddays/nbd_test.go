package baddays

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

// Numbers of the NBD protocol (docs/protocol/nbd.md) that a client needs which
// wants to be rude.
const (
	nbdOptMagic   = 0x49484156454f5054
	nbdReqMagic   = 0x25609513
	nbdOptGo      = 7
	nbdReplyAck   = 1
	nbdRead       = 0
	nbdWrite      = 1
	nbdFlagsFixed = 1 | 2 // fixed newstyle, no zeroes
)

// rudeNBD is a client that speaks the protocol as far as it has to, so that it
// can break it.
type rudeNBD struct {
	s *scene
	net.Conn
}

// socketOf is where a host exports a volume to its own machines.
func (s *scene) socketOf(h lab.Host, volume string) string {
	s.t.Helper()
	v, err := s.volume(volume)
	if err != nil {
		s.t.Fatal(err)
	}
	return h.Export(v.ID)
}

// rude connects and gets as far as the first request.
func (s *scene) rude(socket string) rudeNBD {
	s.t.Helper()
	c, err := net.DialTimeout("unix", socket, 10*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	r := rudeNBD{s, c}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r.read(18) // magic, magic, flags
	r.send(uint32(nbdFlagsFixed))
	r.send(uint64(nbdOptMagic), uint32(nbdOptGo), uint32(6), uint32(0), uint16(0))
	for {
		head := r.read(20)
		r.read(int(binary.BigEndian.Uint32(head[16:])))
		if binary.BigEndian.Uint32(head[12:]) == nbdReplyAck {
			return r
		}
	}
}

func (r rudeNBD) read(n int) []byte {
	r.s.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		r.s.t.Fatalf("the server does not answer: %v", err)
	}
	return b
}

func (r rudeNBD) send(fields ...any) {
	r.s.t.Helper()
	var b bytes.Buffer
	for _, f := range fields {
		if err := binary.Write(&b, binary.BigEndian, f); err != nil {
			r.s.t.Fatal(err)
		}
	}
	if _, err := r.Write(b.Bytes()); err != nil {
		r.s.t.Fatal(err)
	}
}

func (r rudeNBD) request(kind uint16, cookie, off uint64, length uint32) {
	r.s.t.Helper()
	r.send(uint32(nbdReqMagic), uint16(0), kind, cookie, off, length)
}

// badNBDClients do what crashed and hostile initiators do on a volume's own
// socket; the volume must be as it was, and there for the next one.
func badNBDClients(s *scene, h lab.Host) {
	s.done(h, nil, "volume", "create", "rudely", "--size", "8MiB")
	good := s.attach(h, "rudely")
	before := pattern(1, 1)
	if _, err := good.WriteAt(before, 0); err != nil {
		s.t.Fatal(err)
	}
	if err := good.Flush(); err != nil {
		s.t.Fatal(err)
	}
	good.Close()
	socket := s.socketOf(h, "rudely")
	for _, c := range []struct {
		name string
		do   func(rudeNBD)
	}{
		{"vanishes in the middle of a write", func(r rudeNBD) {
			r.request(nbdWrite, 1, 0, piece)
			r.send(bytes.Repeat([]byte{0xee}, piece/2))
		}},
		{"vanishes before any of its payload", func(r rudeNBD) { r.request(nbdWrite, 2, 0, piece) }},
		{"vanishes in the middle of a header", func(r rudeNBD) { r.send(uint32(nbdReqMagic), uint16(0)) }},
		{"vanishes with many reads that it never takes", func(r rudeNBD) {
			for i := range uint64(64) {
				r.request(nbdRead, i, 0, piece)
			}
		}},
		{"asks for more than the volume has", func(r rudeNBD) {
			r.request(nbdRead, 3, 1<<62, 1<<20)
			if b := r.read(16); binary.BigEndian.Uint32(b[4:]) == 0 {
				r.s.t.Error("a read far beyond the end was answered with success")
			}
		}},
		{"announces a payload of 4 GiB", func(r rudeNBD) {
			r.request(nbdWrite, 4, 0, 0xfffff000)
			r.ends()
		}},
		{"sends garbage", func(r rudeNBD) {
			r.send(bytes.Repeat([]byte("garbage "), 100))
			r.ends()
		}},
	} {
		r := s.rude(socket)
		c.do(r)
		r.Close()
		// The next client is let in as soon as the last one's session is over.
		var disk *nbd.Client
		s.until("the volume to be free after a client that "+c.name, func() (bool, string) {
			var err error
			disk, err = nbd.Dial("unix", socket, "", nil)
			return err == nil, fmt.Sprint(err)
		})
		got := make([]byte, len(before))
		if _, err := disk.ReadAt(got, 0); err != nil || !bytes.Equal(got, before) {
			s.t.Errorf("after a client that %s the volume holds something else (%v)", c.name, err)
		}
		disk.Close()
	}
	s.done(h, nil, "volume", "delete", "rudely")
	s.empty()
}

// ends waits until the server has closed the connection.
func (r rudeNBD) ends() {
	r.s.t.Helper()
	if _, err := io.Copy(io.Discard, r); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		r.s.t.Errorf("the server did not hang up: %v", err)
	}
}
