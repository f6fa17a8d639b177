package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
)

// candidate is a server behind a unix socket.
type candidate struct {
	name   string
	socket string
	base   string  // the candidate that its ratio refers to
	goals  []goals // what the ratio should be, by workload
	cmd    *exec.Cmd
}

// goals are the least ratios to the base.
type goals struct {
	workload string
	ratio    float64
}

const (
	nbdkitFile   = "nbdkit file"
	nbdkitMemory = "nbdkit memory"
)

// candidates starts the rivals, with their sockets and files in the given
// directories, and names the sockets of s. What it returns beside an error is
// to be stopped as well.
func candidates(s settings, sockets, files string) ([]*candidate, error) {
	var cs []*candidate
	start := func(name, base string, args ...string) error {
		c := &candidate{name: name, base: base, socket: filepath.Join(sockets, strconv.Itoa(len(cs)))}
		for i, a := range args {
			if a == "SOCKET" {
				args[i] = c.socket
			}
		}
		cs = append(cs, c)
		return c.start(args)
	}
	for i, args := range [][]string{
		{nbdkitFile, "nbdkit", "-f", "-U", "SOCKET", "file"},
		{"qemu-nbd", "qemu-nbd", "--persistent", "--format=raw", "--cache=writeback", "--socket", "SOCKET"},
	} {
		file, err := preallocated(files, i, s.Size)
		if err != nil {
			return cs, err
		}
		if err := start(args[0], nbdkitFile, append(args[1:], file)...); err != nil {
			return cs, err
		}
	}
	if s.One != "" {
		cs = append(cs, &candidate{name: "Holdfast, one copy", socket: s.One, base: nbdkitFile,
			goals: []goals{{workloads[0].name, 0.7}, {workloads[1].name, 0.7}, {workloads[2].name, 0.7}}})
	}
	if s.Two != "" {
		cs = append(cs, &candidate{name: "Holdfast, two copies", socket: s.Two, base: nbdkitFile,
			goals: []goals{{workloads[1].name, 0.5}, {workloads[2].name, 0.4}}})
	}
	if s.Memory {
		if err := start(nbdkitMemory, nbdkitMemory, "nbdkit", "-f", "-U", "SOCKET", "memory", fmt.Sprint(s.Size)); err != nil {
			return cs, err
		}
		c, err := startMemory(s.Size, sockets)
		cs = append(cs, c)
		if err != nil {
			return cs, err
		}
	}
	return cs, nil
}

// preallocated makes a file of size bytes that has been written throughout:
// no candidate pays for the file's growth.
func preallocated(dir string, i int, size int64) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, fmt.Sprintf("disk%d.raw", i)))
	if err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		return "", err
	}
	return path, f.Sync()
}

// start runs a server and waits for its socket to answer.
func (c *candidate) start(args []string) error {
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		c.cmd = nil
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	for range 100 {
		if _, err := os.Stat(c.socket); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// check opens the volume once and sees that it is large enough.
func (c *candidate) check(size int64) error {
	vol, err := nbd.Dial("unix", c.socket, "", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	defer vol.Close()
	if vol.Size() < size || vol.ReadOnly() {
		return fmt.Errorf("%s: the volume has %d bytes (read-only: %v); %d writable ones are needed, see -size",
			c.name, vol.Size(), vol.ReadOnly(), size)
	}
	return nil
}

// stop ends a server that was started here.
func (c *candidate) stop() {
	if c == nil || c.cmd == nil {
		return
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.cmd.Wait()
}

// startMemory runs this program again, to serve memory.
func startMemory(size int64, dir string) (*candidate, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &candidate{name: "Holdfast's server, memory", base: nbdkitMemory}
	c.cmd = exec.Command(self, "-serve-memory", filepath.Join(dir, "memory"), "-size", fmt.Sprint(size))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		c.cmd = nil
		return c, err
	}
	if _, err := fmt.Fscanln(out, &c.socket); err != nil {
		return c, fmt.Errorf("%s did not start: %w", c.name, err)
	}
	return c, nil
}
