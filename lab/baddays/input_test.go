package baddays

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

// Exit statuses that scripts rely on (see internal/cli).
const (
	notUnderstood = 2
	notFound      = 3
	inConflict    = 4
	notAllowed    = 6
	noSpace       = 7
)

// refused runs a command that must be refused with a status, and a text that
// says why.
func (s *scene) refused(h lab.Host, stdin io.Reader, status int, why string, args ...string) {
	s.t.Helper()
	out, code := s.run(h, stdin, args...)
	if code != status || !strings.Contains(out, why) {
		s.t.Errorf("holdfast %s: exit status %d, %q; want %d and %q", strings.Join(args, " "), code, out, status, why)
	}
}

// done runs a command that must succeed.
func (s *scene) done(h lab.Host, stdin io.Reader, args ...string) string {
	s.t.Helper()
	out, code := s.run(h, stdin, args...)
	if code != 0 {
		s.t.Fatalf("holdfast %s: exit status %d, %s", strings.Join(args, " "), code, out)
	}
	return strings.TrimSpace(out)
}

const smallDisk = 512 << 20

// TestBadInput gives one cluster of one host everything that people and
// scripts get wrong, and looks that nothing half made is left.
func TestBadInput(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	s := newLab(t, 1, smallDisk)
	h := s.l.Hosts[0]
	for _, part := range []struct {
		name string
		f    func(*scene, lab.Host)
	}{
		{"sizes and names", badSizesAndNames},
		{"images", badImages},
		{"configurations", badConfigurations},
		{"data directories", badDataDirs},
		{"NBD clients", badNBDClients},
		{"a block of which there is one copy rots", oneCopyRots},
		{"a disk that fills up", aDiskFillsUp},
		{"join codes", badJoinCodes},
		{"disks", badDisks},
	} {
		t.Run(part.name, func(t *testing.T) { part.f(s.as(t), h) })
	}
}

func badSizesAndNames(s *scene, h lab.Host) {
	s.done(h, nil, "volume", "create", "taken", "--size", "4MiB")
	s.refused(h, nil, inConflict, "exists", "volume", "create", "taken", "--size", "4MiB")
	s.refused(h, nil, notUnderstood, "size", "volume", "create", "v", "--size", "0")
	s.refused(h, nil, notUnderstood, "size", "volume", "create", "v")
	s.refused(h, nil, notUnderstood, "size", "volume", "create", "v", "--size=-4096")
	s.refused(h, nil, notUnderstood, "4096", "volume", "create", "v", "--size", "4097")
	s.refused(h, nil, notUnderstood, "size", "volume", "create", "v", "--size", "many")
	s.refused(h, nil, notUnderstood, "64", "volume", "create", "v", "--size", "65TiB")
	s.refused(h, nil, noSpace, "room", "volume", "create", "v", "--size", "1TiB")
	s.refused(h, nil, notUnderstood, "name", "volume", "create", "No Spaces Please", "--size", "4MiB")
	s.refused(h, nil, notUnderstood, "name", "volume", "create", strings.Repeat("x", 64), "--size", "4MiB")
	s.refused(h, nil, notUnderstood, "copies", "volume", "create", "v", "--size", "4MiB", "--copies", "9")
	s.refused(h, nil, notUnderstood, "min", "volume", "create", "v", "--size", "4MiB", "--copies", "1", "--min", "2")
	s.refused(h, nil, notUnderstood, "durability", "volume", "create", "v", "--size", "4MiB", "--durability", "sometimes")
	s.refused(h, nil, notUnderstood, "never made smaller", "volume", "grow", "taken", "--size", "4096")
	s.refused(h, nil, notFound, "nosuch", "volume", "grow", "nosuch", "--size", "8MiB")
	s.refused(h, nil, notFound, "nosuch", "volume", "delete", "nosuch")
	s.refused(h, nil, notFound, "nosuch", "vm", "create", "w", "--image", "nosuch")
	s.refused(h, nil, notFound, "nosuch", "vm", "start", "nosuch")
	s.refused(h, nil, notUnderstood, "is not a command", "volumes")
	s.refused(h, nil, notUnderstood, "is missing", "volume", "create")
	s.refused(h, nil, notUnderstood, "unknown flag", "status", "--colour")
	s.done(h, nil, "volume", "delete", "taken")
	s.empty()
}

// empty waits until there is no volume left, deleted ones included, and no
// replica of any on the disk.
func (s *scene) empty() {
	s.t.Helper()
	s.until("nothing to be left", func() (bool, string) {
		st, err := s.status()
		return err == nil && st.Counts.Volumes == 0 && st.Counts.VMs == 0, fmt.Sprint(st.Counts, err)
	})
}

func badImages(s *scene, h lab.Host) {
	dir := s.t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	some := make([]byte, 1<<20)
	rand.Read(some)
	s.refused(h, nil, notUnderstood, "empty", "image", "import", file("empty", nil))
	s.refused(h, strings.NewReader(""), notUnderstood, "empty", "image", "import", "-", "--name", "empty")
	s.refused(h, bytes.NewReader(some), notUnderstood, "", "image", "import", "-", "--name", "short", "--size", "2MiB")
	s.refused(h, bytes.NewReader(some), notUnderstood, "", "image", "import", "-", "--name", "long", "--size", "512KiB")
	s.refused(h, nil, notUnderstood, "QCOW", "image", "import", file("disk.img", append([]byte("QFI\xfb"), some...)))
	s.refused(h, nil, notFound, "no such file", "image", "import", filepath.Join(dir, "nosuch"))
	s.refused(h, nil, notUnderstood, "directory", "image", "import", dir)
	huge := file("huge", nil)
	if err := os.Truncate(huge, 64<<30); err != nil {
		s.t.Fatal(err)
	}
	s.refused(h, nil, noSpace, "room", "image", "import", huge)
	s.refused(h, endless{}, noSpace, "", "image", "import", "-", "--name", "endless")
	s.empty()
	s.done(h, bytes.NewReader(some), "image", "import", "-", "--name", "good")
	s.refused(h, bytes.NewReader(some), inConflict, "exists", "image", "import", "-", "--name", "good")
	s.refused(h, nil, notUnderstood, "", "volume", "clone", "good", "c", "--size", "4096")
	s.done(h, nil, "image", "delete", "good")
	s.empty()
}

// endless never ends, and compresses badly.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return rand.Read(b) }

// config writes a configuration beside the lab's.
func (s *scene) config(host int, more string) (path, dir string) {
	s.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "holdfast.yaml")
	text := fmt.Sprintf("name: n%d\nrack: n\ndata_dir: %s/data\nadvertise: 127.%d.9.%d\n%s", host, dir, s.l.Net, host, more)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path, dir
}

func badConfigurations(s *scene, h lab.Host) {
	for _, c := range []struct{ more, why string }{
		{"rakc: a\n", "rack"},
		{"listen:\n  api: nowhere\n", "nowhere"},
		{"accelerator: steam\n", "steam"},
		{"log:\n  level: loud\n", "loud"},
		{"- a list\n", ""},
	} {
		path, dir := s.config(1, c.more)
		s.refused(h, nil, notUnderstood, c.why, "serve", "--config", path)
		if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
			s.t.Errorf("%q: the refused configuration left a data directory", c.more)
		}
	}
	s.refused(h, nil, notFound, "no such file", "serve", "--config", "/nosuch")
	s.refused(h, nil, notUnderstood, "--config is missing", "serve")
}

func badDataDirs(s *scene, h lab.Host) {
	s.refused(h, nil, inConflict, "in use", "serve", "--config", h.Config())
	for _, c := range []struct {
		file, text, why string
		status          int
	}{
		{"host.json", `{"format": 29991231, "host": "00000000-0000-4000-8000-000000000001"}`, "newer", notUnderstood},
		{"host.json", `{"format": 20261121}`, "names no host", 1},
		{"host.json", `{"format": 2026`, "host.json", 1},
		{"cluster.json", `{"name": "x"}`, "names no cluster", 1},
		{"cluster.json", ``, "cluster.json", 1},
	} {
		path, dir := s.config(1, "")
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "data", c.file), []byte(c.text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.refused(h, nil, c.status, c.why, "serve", "--config", path)
		if b, err := os.ReadFile(filepath.Join(dir, "data", c.file)); err != nil || string(b) != c.text {
			s.t.Errorf("%s was changed to %q, %v", c.file, b, err)
		}
	}
}

// stranger starts a host that is in no cluster.
func (s *scene) stranger(host int) lab.Host { return s.strangerBy(host, program(s.t)) }

// strangerBy does it by another program.
func (s *scene) strangerBy(host int, program string) lab.Host {
	s.t.Helper()
	path, dir := s.config(host, "")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "serve", "--config", path)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	h := lab.Host{Name: fmt.Sprintf("n%d", host), Rack: "n", Dir: filepath.Join(dir, "data")} // where the socket is
	s.until("the new host to answer", func() (bool, string) {
		out, code := s.run(h, nil, "status")
		return code == 0, out
	})
	return h
}

// outside checks that a host is still in no cluster, and keeps nothing of the
// try.
func (s *scene) outside(h lab.Host) {
	s.t.Helper()
	var st v1.Status
	if err := json.Unmarshal([]byte(s.done(h, nil, "status", "-o", "json")), &st); err != nil || st.Host.InCluster {
		s.t.Errorf("host %s is in a cluster: %v", h.Name, err)
	}
	for _, f := range []string{"cluster.json", "pki/host.crt", "etcd"} {
		if _, err := os.Stat(filepath.Join(h.Dir, f)); !os.IsNotExist(err) {
			s.t.Errorf("host %s has %s", h.Name, f)
		}
	}
}

func badJoinCodes(s *scene, h lab.Host) {
	n := s.stranger(1)
	text := s.done(h, nil, "host", "code", "--rack", "n")
	code, err := v1.ParseJoinCode(text)
	if err != nil {
		s.t.Fatal(err)
	}
	s.refused(n, nil, notUnderstood, "not a join code", "host", "join", "hello")
	s.refused(n, nil, notUnderstood, "not a join code", "host", "join", text[:len(text)-3])
	wrong := code
	wrong.Secret = make([]byte, len(code.Secret))
	s.refused(n, nil, notAllowed, "wrong, has expired or was used", "host", "join", wrong.String())
	foreign := code
	foreign.CA[0] ^= 1
	s.refused(n, nil, notAllowed, "not of the cluster that made this join code", "host", "join", foreign.String())
	elsewhere := s.done(h, nil, "host", "code", "--rack", "elsewhere")
	s.refused(n, nil, notAllowed, "is for rack", "host", "join", elsewhere)
	short := s.done(h, nil, "host", "code", "--rack", "n", "--expires", "1s")
	s.until("a code to expire", func() (bool, string) {
		out := s.done(h, nil, "host", "code", "list", "-o", "name")
		return len(strings.Fields(out)) == 2, out // the first one and the one for elsewhere
	})
	s.refused(n, nil, notAllowed, "wrong, has expired or was used", "host", "join", short)
	s.outside(n)

	s.done(n, strings.NewReader(text), "host", "join", "-")
	s.refused(n, nil, inConflict, "in a cluster already", "host", "join", text)
	s.refused(n, nil, inConflict, "in a cluster already", "cluster", "init", "--name", "mine", "--save", s.t.TempDir())
	m := s.stranger(2)
	s.refused(m, nil, notAllowed, "wrong, has expired or was used", "host", "join", text)
	s.outside(m)
	if hosts := strings.Count(s.done(h, nil, "host", "list", "-o", "name"), "\n") + 1; hosts != 2 {
		s.t.Errorf("the cluster has %d hosts, not 2", hosts)
	}
}

// badDisks comes last: it stops the host.
func badDisks(s *scene, h lab.Host) {
	dir := s.t.TempDir()
	s.refused(h, nil, notFound, "", "disk", "add", filepath.Join(dir, "nosuch"))
	s.refused(h, nil, inConflict, "", "disk", "add", h.Disk())
	s.refused(h, nil, inConflict, "", "disk", "add", h.Disk(), "--size", "1GiB")
	s.refused(h, nil, notUnderstood, "at least", "disk", "add", filepath.Join(dir, "tiny"), "--size", "1MiB")
	if _, err := os.Stat(filepath.Join(dir, "tiny")); !os.IsNotExist(err) {
		s.t.Error("the disk that was too small is still there")
	}

	other := newLab(s.t, 1, smallDisk)
	o := other.l.Hosts[0]
	other.kill("a")
	s.refused(h, nil, inConflict, "already holds a Holdfast store", "disk", "add", o.Disk())

	// The disk of another cluster in the place of this one's.
	s.kill("a")
	if err := os.Rename(o.Disk(), h.Disk()); err != nil {
		s.t.Fatal(err)
	}
	s.start("a")
	s.until("the foreign disk to be reported", func() (bool, string) {
		out, _ := s.run(h, nil, "status")
		return strings.Contains(out, "belongs to cluster"), out
	})
}
