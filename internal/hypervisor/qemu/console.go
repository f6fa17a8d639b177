package qemu

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// historySize is how much of the serial port's output is kept, in bytes.
const historySize = 64 << 10

// trimEvery is how often old output is dropped.
const trimEvery = time.Second

// The serial port's output goes to a file, whether an agent is there or not;
// consoles follow the file and so see history and what follows without a gap or a
// repetition, across agent restarts too. What is typed comes by a named pipe,
// which QEMU has open for reading and writing and which so has no end when an
// agent goes. Both are one "pipe" character device of QEMU's. A socket would not
// do, nor a log beside one: QEMU writes bytes to its log again, and loses others,
// when nobody has read a few hundred from the socket for a while.

// openSerial opens the serial port for input; nil, without an error, if the
// machine was started by an earlier program that had no files for it.
func (d runDir) openSerial() (*os.File, error) {
	f, err := os.OpenFile(d.serialIn(), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// keepSerialShort drops the serial port's old output as more comes.
func (m *Machine) keepSerialShort() {
	defer m.h.wg.Done()
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ended:
			return
		case <-tick.C:
			trim(m.dir.serialOut())
		}
	}
}

// trim gives back the space of all but the last bytes of the file. Its length
// stays, so readers keep their place and the writer notices nothing.
func trim(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() <= 2*historySize {
		return
	}
	n := (fi.Size() - historySize) &^ 4095
	unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n)
}

// History implements hypervisor.Machine.
func (m *Machine) History() []byte {
	m.mu.Lock()
	off, last := m.state == hypervisor.Off, m.last
	m.mu.Unlock()
	if !off {
		if b, err := tail(m.dir.serialOut(), historySize); err == nil {
			return b
		}
		m.mu.Lock()
		last = m.last
		m.mu.Unlock()
	}
	return append([]byte(nil), last...)
}

// Console implements hypervisor.Machine.
func (m *Machine) Console() (io.ReadWriteCloser, error) {
	if m.State() == hypervisor.Off {
		return nil, m.offError()
	}
	c, err := follow(m.dir.serialOut())
	if err != nil {
		return nil, err
	}
	c.m = m
	m.mu.Lock()
	over := m.released || m.state == hypervisor.Off
	if !over {
		m.consoles[c] = struct{}{}
	}
	m.mu.Unlock()
	if over {
		c.Close()
		return nil, m.offError()
	}
	return c, nil
}

// console follows the serial port's file; one reader at a time.
type console struct {
	m      *Machine
	file   *os.File
	notify *os.File // inotify; closing it ends a waiting Read
	off    int64
	once   sync.Once
}

func follow(path string) (*console, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the machine was started by an earlier program, whose serial port this one does not know; shut it down and start it")
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "open the serial port's history: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		if _, err = unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_DELETE_SELF); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		file.Close()
		return nil, holdfast.Errorf(holdfast.Unavailable, "follow the serial port: %w", err)
	}
	c := &console{file: file, notify: os.NewFile(uintptr(fd), "inotify")}
	if fi, err := file.Stat(); err == nil {
		c.off = max(0, fi.Size()-historySize)
	}
	return c, nil
}

// Read returns history, then waits for more. A reader that falls far behind
// skips what was trimmed. io.EOF: the machine or the agent's hold on it ended.
func (c *console) Read(p []byte) (int, error) {
	events := make([]byte, 4096)
	for {
		if fi, err := c.file.Stat(); err == nil && fi.Size()-c.off > 2*historySize {
			c.off = fi.Size() - historySize
		}
		n, err := c.file.ReadAt(p, c.off)
		if n > 0 || len(p) == 0 {
			c.off += int64(n)
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, io.EOF // closed
		}
		if _, err := c.notify.Read(events); err != nil {
			return 0, io.EOF
		}
	}
}

// Write types p into the serial port.
func (c *console) Write(p []byte) (int, error) {
	c.m.mu.Lock()
	serial := c.m.serial
	c.m.mu.Unlock()
	if serial == nil {
		return 0, holdfast.Errorf(holdfast.Unavailable, "the machine of VM %s is held by the watchdog", c.m.rec.Spec.VM)
	}
	serial.SetWriteDeadline(time.Now().Add(commandTimeout))
	n, err := serial.Write(p)
	if err != nil {
		return n, holdfast.Errorf(holdfast.Unavailable, "the machine does not take input: %w", err)
	}
	return n, nil
}

// Close detaches the console.
func (c *console) Close() error {
	c.once.Do(func() {
		if c.m != nil {
			c.m.mu.Lock()
			delete(c.m.consoles, c)
			c.m.mu.Unlock()
		}
		c.notify.Close()
		c.file.Close()
	})
	return nil
}
