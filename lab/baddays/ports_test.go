package baddays

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// What the guest serves: its own boot id at one port, whatever it is sent at
// the other.
const serveBytes = `
nc -ll -p 7 -e cat &
nc -ll -p 8 -e cat /proc/sys/kernel/random/boot_id &
echo serving
sleep 100000
`

// TestPublishedPortsLeadToTheGuest sends bytes through every host's address to
// a guest and back: before its rack is lost, after, and when the rack is back.
func TestPublishedPortsLeadToTheGuest(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	guest := linuxGuest(t, linuxNetwork+serveBytes, slices.Concat(linuxPCI, linuxCard))
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe() // a disk to boot from, which is then not read
	s.importFiles(guest)
	s.done(s.l.Hosts[0], nil, "vm", "create", "echo", "--image", "probe", "--memory", "128MiB", "--kernel", "kernel", "--initrd", "initrd",
		"--append", "console=ttyS0 quiet mitigations=off", "--publish", "7007:7", "--publish", "8008:8")
	vm := s.running("echo", 0)
	first := s.throughEvery(s.l.Hosts, "")
	s.inSync("echo")

	s.kill(vm.Rack)
	s.running("echo", vm.Assigned+1)
	var alive []lab.Host
	for _, h := range s.l.Hosts {
		if h.Rack != vm.Rack {
			alive = append(alive, h)
		}
	}
	second := s.throughEvery(alive, first)

	s.start(vm.Rack)
	s.whole()
	if third := s.throughEvery(s.l.Hosts, first); third != second {
		t.Errorf("the guest was booted again, from %s to %s, when the rack came back", second, third)
	}
}

// throughEvery connects to the guest by way of every given host, sends
// something there and back, and returns the boot id of the guest that
// answered, which must be one, and another than not.
func (s *scene) throughEvery(hosts []lab.Host, not string) string {
	s.t.Helper()
	boot := ""
	for _, h := range hosts {
		var id string
		s.until("the guest to answer by way of host "+h.Name, func() (bool, string) {
			var err error
			id, err = bootID(h)
			return err == nil && id != not, fmt.Sprint(id, err)
		})
		if boot == "" {
			boot = id
		}
		if id != boot {
			s.t.Errorf("by way of host %s the guest is %s, by way of others %s", h.Name, id, boot)
		}
		s.echo(h)
	}
	return boot
}

func bootID(h lab.Host) (string, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(h.Addr, "8008"), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(io.LimitReader(c, 100))
	if err == nil && len(b) != 37 {
		err = fmt.Errorf("%q is no boot id", b)
	}
	return string(bytes.TrimSpace(b)), err
}

// echo sends a quarter of a MiB and wants it back.
func (s *scene) echo(h lab.Host) {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", net.JoinHostPort(h.Addr, "7007"), 5*time.Second)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	want := make([]byte, 256<<10)
	rand.Read(want)
	var sender sync.WaitGroup
	sender.Go(func() {
		_, _ = c.Write(want)
		_ = c.(*net.TCPConn).CloseWrite()
	})
	got, err := io.ReadAll(c)
	c.Close()
	sender.Wait()
	if err != nil || !bytes.Equal(got, want) {
		s.t.Errorf("by way of host %s %d of %d bytes came back, %v", h.Name, len(got), len(want), err)
	}
}
