package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
)

// candidate is what is measured: a server behind a unix socket, a file, or a
// volume in this process.
type candidate struct {
	name    string
	base    string // the candidate that its ratio refers to
	uri     string // of its disk
	clients []string
	file    string // used directly, past the page cache
	durable *durable
	only    string // the one cell that it takes part in; empty: all it can
	halves  bool   // takes part in the cell of data that halves
	goals   map[string]goal
	cmd     *exec.Cmd
}

const (
	nbdkitFile   = "nbdkit file"
	nbdkitMemory = "nbdkit memory"
	oneCopy      = "Holdfast, one copy"
	rawDisk      = "raw disk, O_DIRECT"
)

// clientBytes is the disk of each of several clients.
const clientBytes = 64 << 20

// answerWithin is how long a server may take to start.
const answerWithin = 5 * time.Second

// can reports whether a candidate takes part in a cell.
func (c *candidate) can(w cell) bool {
	switch {
	case c.only != "":
		return c.only == w.name
	case w.halves:
		return c.halves
	case w.durable:
		return c.durable != nil || c.file != ""
	case w.clients:
		return len(c.clients) > 0
	}
	return c.uri != "" || c.file != ""
}

// run returns the operations per second of one turn.
func (c *candidate) run(w cell, s settings) (float64, error) {
	if w.durable && c.durable != nil {
		return c.durable.run(s.Seconds)
	}
	return fio(c, w, s)
}

func uri(socket, export string) string { return "nbd+unix:///" + export + "?socket=" + socket }

// candidates starts the rivals, with their sockets and files in the given
// directories, and names what was given in s. What it returns beside an error is
// to be stopped as well.
func candidates(s settings, sockets, files string) (cs []*candidate, err error) {
	for _, start := range []func() (*candidate, error){
		func() (*candidate, error) { return startNbdkit(s, sockets, files) },
		func() (*candidate, error) { return startQemu(s, sockets, files) },
		func() (*candidate, error) {
			file, err := preallocated(files, "raw", s.Size)
			return &candidate{name: rawDisk, base: nbdkitFile, file: file}, err
		},
		func() (*candidate, error) { return startDurable(files) },
	} {
		c, err := start()
		if c != nil {
			cs = append(cs, c)
		}
		if err != nil {
			return cs, err
		}
	}
	cs = append(cs, volumes(s)...)
	if !s.Memory {
		return cs, nil
	}
	for _, start := range []func() (*candidate, error){
		func() (*candidate, error) { return startNbdkitMemory(s, sockets) },
		func() (*candidate, error) { return startMemory(s.Size, sockets) },
	} {
		c, err := start()
		if c != nil {
			cs = append(cs, c)
		}
		if err != nil {
			return cs, err
		}
	}
	return cs, nil
}

// volumes names Holdfast's volumes.
func volumes(s settings) (cs []*candidate) {
	add := func(name, socket, clients string, goals map[string]goal, only string) {
		if socket == "" {
			return
		}
		c := &candidate{name: name, base: nbdkitFile, uri: uri(socket, ""), goals: goals, only: only}
		for _, path := range filepath.SplitList(clients) {
			c.clients = append(c.clients, uri(path, ""))
		}
		cs = append(cs, c)
	}
	add(oneCopy, s.One, s.OneClients, goalsOfOne(), "")
	add("Holdfast, two copies", s.Two, s.TwoClients, goalsOfTwo(), "")
	add("Holdfast, two, always durable", s.Always, "", goalsOfAlways(), "random write, 32")
	add("Holdfast, one, sealed", s.Sealed, "", goalsOfSealed(), halving)
	for _, c := range cs {
		if s.Sealed != "" && c.name == oneCopy {
			c.halves = true
		}
		if c.only == halving {
			c.base = oneCopy
		}
	}
	return cs
}

func startNbdkit(s settings, sockets, files string) (*candidate, error) {
	c := &candidate{name: nbdkitFile, base: nbdkitFile}
	dir := filepath.Join(files, "nbdkit")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := preallocated(dir, "disk", s.Size); err != nil {
		return nil, err
	}
	for i := range 8 {
		name := fmt.Sprint("client", i)
		c.clients = append(c.clients, uri(sockets+"/k", name))
		if _, err := preallocated(dir, name, clientBytes); err != nil {
			return nil, err
		}
	}
	return c, c.start(sockets+"/k", "disk", "nbdkit", "-f", "-U", sockets+"/k", "file", "dir="+dir)
}

func startNbdkitMemory(s settings, sockets string) (*candidate, error) {
	c := &candidate{name: nbdkitMemory, base: nbdkitMemory}
	return c, c.start(sockets+"/m", "", "nbdkit", "-f", "-U", sockets+"/m", "memory", fmt.Sprint(s.Size))
}

func startQemu(s settings, sockets, files string) (*candidate, error) {
	c := &candidate{name: "qemu-nbd", base: nbdkitFile}
	file, err := preallocated(files, "qemu", s.Size)
	if err != nil {
		return nil, err
	}
	return c, c.start(sockets+"/q", "", "qemu-nbd", "--persistent", "--format=raw", "--cache=writeback", "--socket", sockets+"/q", file)
}

// preallocated makes a file of size bytes that has been written throughout:
// no candidate pays for the file's growth.
func preallocated(dir, name string, size int64) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, name))
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

// start runs a server and waits until it serves the export at the socket, which
// is then the candidate's disk.
func (c *candidate) start(socket, export string, args ...string) error {
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		c.cmd = nil
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	for deadline := time.Now().Add(answerWithin); ; time.Sleep(50 * time.Millisecond) {
		disk, err := nbd.Dial("unix", socket, export, nil)
		if err == nil {
			disk.Close()
			c.uri = uri(socket, export)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w", c.name, err)
		}
	}
}

// prepare fills what will be read with noise and reads it once, so that every
// candidate is measured with what it keeps of it in the page cache.
func (c *candidate) prepare(size int64) error {
	if c.uri == "" {
		return nil
	}
	if err := fill(c, c.uri, size); err != nil {
		return err
	}
	for _, u := range c.clients {
		if err := fill(c, u, clientBytes); err != nil {
			return err
		}
	}
	_, err := runFio(c, []string{"--rw=read", "--bs=1m", "--iodepth=4", fmt.Sprintf("--size=%d", size)}, c.uri)
	return err
}

// check opens a volume once and sees that it is large enough.
func check(socket string, size int64) error {
	vol, err := nbd.Dial("unix", socket, "", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	defer vol.Close()
	if vol.Size() < size || vol.ReadOnly() {
		return fmt.Errorf("%s: the volume has %d bytes (read-only: %v); %d writable ones are needed, see -size",
			socket, vol.Size(), vol.ReadOnly(), size)
	}
	return nil
}

// stop ends what was started here.
func (c *candidate) stop() {
	if c.durable != nil {
		c.durable.Close()
	}
	if c.cmd != nil {
		c.cmd.Process.Signal(os.Interrupt)
		c.cmd.Wait()
	}
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
	var socket string
	if _, err := fmt.Fscanln(out, &socket); err != nil {
		return c, fmt.Errorf("%s did not start: %w", c.name, err)
	}
	c.uri = uri(socket, "")
	return c, nil
}
