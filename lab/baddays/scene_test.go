package baddays

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcdtest"
	"github.com/holdfast-cloud/holdfast/lab"
)

// patience bounds every wait. It is generous: what is measured is whether
// something happens, never how fast.
const patience = 4 * time.Minute

// scene is a lab that a test breaks.
type scene struct {
	t    *testing.T
	l    *lab.Lab
	etcd *etcdtest.Etcd // of somebody else, where the lab's control plane is; nil: it has its own
}

// choosing is held while a lab chooses its addresses and takes them.
var choosing sync.Mutex

// newLab brings a lab up under /tmp, where paths are short enough for
// sockets, and takes it down with the test.
func newLab(t *testing.T, racks int, disk int64) *scene {
	t.Helper()
	return newLabOf(t, lab.Options{Racks: racks, PerRack: 1, DiskSize: disk})
}

// newLabOf does that with other options.
func newLabOf(t *testing.T, o lab.Options) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf")
	if err != nil {
		t.Fatal(err)
	}
	getenv := func(key string) string {
		if key == "XDG_STATE_HOME" || key == "HOME" {
			return dir
		}
		return ""
	}
	s := &scene{t: t}
	t.Cleanup(func() {
		if s.l != nil {
			if t.Failed() {
				s.tellLogs()
			}
			if err := s.l.Down(false, getenv); err != nil {
				t.Error("the lab did not end: ", err)
			}
		}
		os.RemoveAll(dir)
	})
	var progress bytes.Buffer
	binary, begin := program(t), time.Now()
	choosing.Lock() // two labs must not choose the same free addresses
	o.Dir, o.Binary, o.Progress, o.Getenv = filepath.Join(dir, "l"), binary, &progress, getenv
	s.l, err = lab.Up(t.Context(), o)
	choosing.Unlock()
	if err != nil {
		if l, oerr := lab.Open(filepath.Join(dir, "l")); oerr == nil {
			s.l = l
		}
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Logf("a lab of %d racks after %.1f s", o.Racks, time.Since(begin).Seconds())
	return s
}

// as is the scene in a subtest.
func (s *scene) as(t *testing.T) *scene { return &scene{t: t, l: s.l, etcd: s.etcd} }

// tellLogs prints the end of every host's log.
func (s *scene) tellLogs() {
	for _, h := range s.l.Hosts {
		b, _ := os.ReadFile(h.Log())
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		s.t.Logf("host %s, the last lines of its log:\n%s", h.Name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

func (s *scene) host(name string) lab.Host {
	for _, h := range s.l.Hosts {
		if h.Name == name {
			return h
		}
	}
	s.t.Fatalf("the lab has no host %q", name)
	return lab.Host{}
}

// ask asks any host that answers.
func ask[T any](s *scene, f func(context.Context, *client.Client) (T, error)) (T, error) {
	return lab.Ask(context.Background(), s.l.Hosts, f) // also when the test is over
}

func (s *scene) vm(name string) (v1.VM, error) {
	return ask(s, func(ctx context.Context, c *client.Client) (v1.VM, error) { return c.VM(ctx, name) })
}

func (s *scene) volume(name string) (v1.Volume, error) {
	return ask(s, func(ctx context.Context, c *client.Client) (v1.Volume, error) { return c.Volume(ctx, name) })
}

func (s *scene) hosts() ([]v1.Host, error) {
	return ask(s, func(ctx context.Context, c *client.Client) ([]v1.Host, error) { return c.Hosts(ctx) })
}

func (s *scene) status() (v1.Status, error) {
	return ask(s, func(ctx context.Context, c *client.Client) (v1.Status, error) { return c.Status(ctx) })
}

// until waits for something to become true; f's words say what is missing.
func (s *scene) until(what string, f func() (bool, string)) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, said := f()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v for %s, in vain; last heard: %s", patience, what, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// whole waits until nothing in the cluster needs a person.
func (s *scene) whole() {
	s.t.Helper()
	s.until("the cluster to be whole", func() (bool, string) {
		st, err := s.status()
		return err == nil && st.Level == "ok" && st.Counts.HostsAlive == len(s.l.Hosts) && st.Counts.VMsOn == st.Counts.VMsRunning, fmt.Sprint(st.Sentence, err)
	})
}

// running waits until a VM runs, at a generation of at least gen, and returns it.
func (s *scene) running(name string, gen int64) v1.VM {
	s.t.Helper()
	var vm v1.VM
	s.until("VM "+name+" to run", func() (bool, string) {
		var err error
		vm, err = s.vm(name)
		return err == nil && vm.State == "running" && vm.Machine != nil && vm.Machine.Generation >= gen, fmt.Sprint(vm.State, " ", vm.Reason, err)
	})
	return vm
}

// inSync waits until a volume has all its copies.
func (s *scene) inSync(name string) v1.Volume {
	s.t.Helper()
	var v v1.Volume
	s.until("volume "+name+" to have its copies", func() (bool, string) {
		var err error
		v, err = s.volume(name)
		return err == nil && v.State == "ok", fmt.Sprint(v.State, err)
	})
	return v
}

const probeSize = 16 << 20

// importProbe imports the probe guest's image.
func (s *scene) importProbe() {
	s.t.Helper()
	head, err := probe.Image(probeSize)
	if err != nil {
		s.t.Fatal(err)
	}
	c := client.Socket(s.l.Hosts[0].Socket())
	defer c.Close()
	img := append(head, make([]byte, probeSize-len(head))...)
	if _, err := c.ImportImage(s.t.Context(), client.NewImage{Name: "probe", Size: probeSize}, bytes.NewReader(img)); err != nil {
		s.t.Fatal(err)
	}
}

// startProbe makes a VM of the probe guest and follows its console.
func (s *scene) startProbe(name string) *witness {
	s.t.Helper()
	c := client.Socket(s.l.Hosts[0].Socket())
	defer c.Close()
	if _, err := c.CreateVM(s.t.Context(), v1.VMSpec{Name: name, Image: "probe", MemoryMiB: 32}); err != nil {
		s.t.Fatal(err)
	}
	s.running(name, 0)
	w := &witness{s: s, vm: name}
	w.follow()
	return w
}

// qemus counts the QEMU processes of the lab.
func (s *scene) qemus() int {
	s.t.Helper()
	names, err := lab.Programs(s.l.Hosts)
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if strings.HasPrefix(name, "qemu-system") {
			n++
		}
	}
	return n
}

// oneMachine waits until there is one QEMU process for each VM that runs.
func (s *scene) oneMachine(vms int) {
	s.t.Helper()
	s.until("one machine per VM", func() (bool, string) {
		n := s.qemus()
		return n == vms, fmt.Sprintf("%d QEMU processes for %d VMs", n, vms)
	})
}

func (s *scene) rack(name string) []lab.Host {
	s.t.Helper()
	hosts, err := s.l.Rack(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return hosts
}

func (s *scene) kill(rack string) {
	s.t.Helper()
	if err := lab.Kill(s.rack(rack)); err != nil {
		s.t.Fatal(err)
	}
}

// start starts what does not run of a rack and returns when it answers. Machines
// that outlived their host's process are left alone, as by a service manager.
func (s *scene) start(rack string) {
	s.t.Helper()
	if err := s.l.Start(s.t.Context(), program(s.t), rack); err != nil {
		s.t.Fatal(err)
	}
}

// servePID finds a host's own process, not its machines'.
func (s *scene) servePID(h lab.Host) int {
	s.t.Helper()
	want := strings.Join([]string{program(s.t), "serve", "--config", h.Config(), ""}, "\x00")
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range dirs {
		if b, err := os.ReadFile(f); err == nil && string(b) == want {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	s.t.Fatalf("host %s has no process", h.Name)
	return 0
}

// endServe signals a host's own process and waits until it is gone.
func (s *scene) endServe(h lab.Host, sig syscall.Signal) {
	s.t.Helper()
	pid := s.servePID(h)
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatal(err)
	}
	s.until("the process of host "+h.Name+" to end", func() (bool, string) {
		_, err := os.ReadDir(fmt.Sprintf("/proc/%d/task/%d", pid, pid)) // until the keeper has collected it
		return err != nil, fmt.Sprintf("process %d goes on", pid)
	})
}

// run runs the command line against a host and returns what it printed and
// its exit status.
func (s *scene) run(h lab.Host, stdin io.Reader, args ...string) (string, int) {
	s.t.Helper()
	return command(s.t, stdin, append([]string{"--socket", h.Socket()}, args...)...)
}

// command runs the program.
func command(t *testing.T, stdin io.Reader, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// other returns a rack that is none of the given ones.
func (s *scene) other(racks ...string) string {
	for _, h := range s.l.Hosts {
		if !slices.Contains(racks, h.Rack) {
			return h.Rack
		}
	}
	return ""
}
