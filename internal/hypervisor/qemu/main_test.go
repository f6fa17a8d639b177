package qemu

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/guestnet"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// The test binary stands in for the program: it knows the helper subcommands.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "jail" {
		os.Exit(JailMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "guestnet" {
		os.Exit(guestnet.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

const imageSize = 16 << 20

// shortDir is a directory whose path leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// nbdServer serves one raw image over a unix socket, by nbdkit.
type nbdServer struct {
	t      *testing.T
	dir    string
	image  string
	plugin []string
	cmd    *exec.Cmd
}

func newProbeServer(t *testing.T) *nbdServer {
	t.Helper()
	head, err := probe.Image(imageSize)
	if err != nil {
		t.Fatal(err)
	}
	return newServer(t, head)
}

func newEmptyServer(t *testing.T) *nbdServer {
	t.Helper()
	return newServer(t, nil)
}

// newServer serves an image that begins with head.
func newServer(t *testing.T, head []byte) *nbdServer {
	t.Helper()
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("nbdkit is not installed")
	}
	s := &nbdServer{t: t, dir: shortDir(t)}
	s.image = filepath.Join(s.dir, "probe.img")
	if err := os.WriteFile(s.image, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.image, imageSize); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "s"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.plugin = []string{"file", s.image}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *nbdServer) socket() string { return filepath.Join(s.dir, "s", "nbd") }

func (s *nbdServer) start() {
	s.t.Helper()
	os.Remove(s.socket())
	s.cmd = exec.Command("nbdkit", append([]string{"-f", "-U", s.socket()}, s.plugin...)...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "nbdkit listens", func() bool { // its socket is there a moment before it answers
		c, err := net.Dial("unix", s.socket())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err := os.Chmod(s.socket(), 0o666); err != nil {
		s.t.Fatal(err)
	}
}

func (s *nbdServer) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// patience only ends a hang.
const patience = 3 * time.Minute

// eventually polls for what another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func newHypervisor(t *testing.T, dir string) *Hypervisor {
	t.Helper()
	h, err := New(Config{Dir: dir, Accelerator: "tcg"})
	if err != nil {
		if holdfast.IsKind(err, holdfast.Unavailable) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

var vmID = holdfast.VMID{UUID: holdfast.UUID{0x11, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}}

func probeSpec(s *nbdServer) hypervisor.Spec {
	return hypervisor.Spec{VM: vmID, Name: "probe", Generation: 3, Epoch: 7, CPUs: 1, MemoryMiB: 16,
		Disks: []hypervisor.Disk{{Socket: s.socket()}}}
}

// lines returns the guest's whole lines so far; torn ones at the ends of the
// history are left out.
func lines(m hypervisor.Machine) []probe.Line {
	var all []probe.Line
	said := m.History()
	said = said[:bytes.LastIndexByte(said, '\n')+1]
	sc := bufio.NewScanner(bytes.NewReader(said))
	for sc.Scan() {
		if l, err := probe.ParseLine(sc.Text()); err == nil {
			all = append(all, l)
		}
	}
	return all
}

func flushed(m hypervisor.Machine) (n uint32) {
	for _, l := range lines(m) {
		if l.What == probe.Flushed {
			n = l.Counter
		}
	}
	return n
}

func awaitFlushed(t *testing.T, m hypervisor.Machine, n uint32) {
	t.Helper()
	limit := time.Now().Add(patience)
	for flushed(m) < n {
		if time.Now().After(limit) {
			t.Fatalf("the guest did not reach %d; it said:\n%s", n, m.History())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func start(t *testing.T, h *Hypervisor, s hypervisor.Spec) hypervisor.Machine {
	t.Helper()
	m, err := h.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := m.(*Machine).rec.QEMU.open(); err == nil {
			p.signal(9)
			p.wait(time.Minute)
			p.close()
		}
	})
	return m
}
