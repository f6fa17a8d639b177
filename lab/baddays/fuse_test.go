package baddays

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fault is what a bad disk does.
type fault int32

const (
	healthy    fault = iota
	slowDisk         // every write takes a tenth of a second
	writesFail       // EIO
	syncsFail        // EIO from fdatasync, though every write went well
	readsFail        // EIO
	diskFull         // ENOSPC where nothing was written before: the file is sparse
)

// badDisk is a file that passes everything on to another one, and fails on
// demand: a file system of one file, spoken to by the kernel over /dev/fuse
// (linux/fuse.h, protocol 7.31). So the program under test meets the errors
// where it meets a real disk's, in its system calls.
type badDisk struct {
	path    string
	backing *os.File
	size    int64
	dev     int // of /dev/fuse
	what    atomic.Int32
	failed  atomic.Int64 // requests that were answered with an error
	stop    atomic.Bool
	workers sync.WaitGroup
}

// FUSE requests that a file without a directory gets.
const (
	fuseForget      = 2
	fuseGetattr     = 3
	fuseSetattr     = 4
	fuseOpen        = 14
	fuseRead        = 15
	fuseWrite       = 16
	fuseStatfs      = 17
	fuseRelease     = 18
	fuseFsync       = 20
	fuseFlush       = 25
	fuseInit        = 26
	fuseInterrupt   = 36
	fuseDestroy     = 38
	fuseBatchForget = 42
	fuseFallocate   = 43
)

const (
	fuseHead     = 40      // bytes of a request's header
	fuseMaxWrite = 1 << 20 // bytes of data in one request
	fuseMaxPages = 1 << 22 // flag: the answer to INIT says how many pages a request may have
	fuseWorkers  = 4
)

// needsFUSE skips a test where the kernel or the rights for it are missing.
func needsFUSE(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not tested: mounting a bad disk needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("not tested: ", err)
	}
}

// spoil puts a bad disk in the place of a file, which nobody may have open.
func (s *scene) spoil(path string) *badDisk {
	s.t.Helper()
	real := path + ".real"
	if err := os.Rename(path, real); err != nil {
		s.t.Fatal(err)
	}
	d := &badDisk{path: path}
	var err error
	if d.backing, err = os.OpenFile(real, os.O_RDWR, 0); err != nil {
		s.t.Fatal(err)
	}
	st, err := d.backing.Stat()
	if err != nil {
		s.t.Fatal(err)
	}
	d.size = st.Size()
	if err := os.WriteFile(path, nil, 0o600); err != nil { // to be mounted on
		s.t.Fatal(err)
	}
	if d.dev, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		s.t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=100600,user_id=0,group_id=0,allow_other", d.dev)
	if err := unix.Mount("bad disk", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(d.dev)
		s.t.Skipf("not tested: this kernel mounts no FUSE file system: %v", err)
	}
	for range fuseWorkers {
		d.workers.Go(d.serve)
	}
	s.t.Cleanup(d.end)
	return d
}

// end takes the disk away for good: whoever still has it open gets errors.
func (d *badDisk) end() {
	_ = unix.Unmount(d.path, unix.MNT_DETACH)
	d.stop.Store(true)
	d.workers.Wait()
	unix.Close(d.dev)
	d.backing.Close()
}

// forget drops what the kernel keeps of the disk in memory. Another process
// does it: this one serves the disk.
func (d *badDisk) forget(s *scene) {
	s.t.Helper()
	out, err := exec.Command("dd", "of="+d.path, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none").CombinedOutput()
	if err != nil {
		s.t.Fatalf("drop the cache of %s: %v %s", d.path, err, out)
	}
}

func (d *badDisk) does(f fault) { d.what.Store(int32(f)) }

// serve answers requests until the disk is taken away.
func (d *badDisk) serve() {
	buf := make([]byte, fuseHead+40+fuseMaxWrite+4096)
	for !d.stop.Load() {
		ready := []unix.PollFd{{Fd: int32(d.dev), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, 100); err != nil && err != unix.EINTR {
			return
		}
		n, err := unix.Read(d.dev, buf)
		switch {
		case err == unix.ENODEV: // unmounted
			return
		case err != nil || n < fuseHead:
			continue
		}
		op, unique := binary.LittleEndian.Uint32(buf[4:]), binary.LittleEndian.Uint64(buf[8:])
		if op == fuseForget || op == fuseBatchForget || op == fuseInterrupt {
			continue
		}
		out, errno := d.answer(op, buf[fuseHead:n])
		if errno != 0 {
			d.failed.Add(1)
			out = nil
		}
		head := binary.LittleEndian.AppendUint32(nil, uint32(16+len(out)))
		head = binary.LittleEndian.AppendUint32(head, uint32(-int32(errno)))
		head = binary.LittleEndian.AppendUint64(head, unique)
		_, _ = unix.Write(d.dev, append(head, out...))
	}
}

// answer does what a request asks for, or what the fault makes of it.
func (d *badDisk) answer(op uint32, in []byte) (out []byte, errno unix.Errno) {
	le := binary.LittleEndian
	now := fault(d.what.Load())
	switch op {
	case fuseInit:
		out = make([]byte, 64)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[8:], 128<<10) // read ahead
		le.PutUint32(out[12:], fuseMaxPages)
		le.PutUint16(out[16:], 64)
		le.PutUint16(out[18:], 48)
		le.PutUint32(out[20:], fuseMaxWrite)
		le.PutUint32(out[24:], 1)
		le.PutUint16(out[28:], fuseMaxWrite>>12)
	case fuseGetattr, fuseSetattr: // the size of a disk never changes
		out = make([]byte, 104)
		le.PutUint64(out, 3600) // seconds for which this holds
		le.PutUint64(out[16:], 1)
		le.PutUint64(out[24:], uint64(d.size))
		le.PutUint64(out[32:], uint64(d.size/512))
		le.PutUint32(out[76:], unix.S_IFREG|0o600)
		le.PutUint32(out[80:], 1)
		le.PutUint32(out[96:], 4096)
	case fuseOpen:
		out = make([]byte, 16)
	case fuseRead:
		if now == readsFail {
			return nil, unix.EIO
		}
		out = make([]byte, le.Uint32(in[16:]))
		n, err := unix.Pread(int(d.backing.Fd()), out, int64(le.Uint64(in[8:])))
		return out[:max(n, 0)], errnoOf(err)
	case fuseWrite:
		return d.write(now, int64(le.Uint64(in[8:])), in[40:40+le.Uint32(in[16:])])
	case fuseFsync:
		if now == syncsFail {
			return nil, unix.EIO
		}
		return nil, errnoOf(unix.Fdatasync(int(d.backing.Fd())))
	case fuseFallocate:
		return nil, errnoOf(unix.Fallocate(int(d.backing.Fd()), le.Uint32(in[24:]), int64(le.Uint64(in[8:])), int64(le.Uint64(in[16:]))))
	case fuseStatfs:
		out = make([]byte, 80)
		le.PutUint32(out[40:], 4096)
		le.PutUint32(out[44:], 255)
		le.PutUint32(out[48:], 4096)
	case fuseFlush, fuseRelease, fuseDestroy:
	default:
		return nil, unix.ENOSYS
	}
	return out, 0
}

func (d *badDisk) write(now fault, off int64, data []byte) (out []byte, errno unix.Errno) {
	switch now {
	case slowDisk:
		time.Sleep(100 * time.Millisecond)
	case writesFail:
		return nil, unix.EIO
	case diskFull:
		if hole, err := unix.Seek(int(d.backing.Fd()), off, unix.SEEK_HOLE); err != nil || hole < off+int64(len(data)) {
			return nil, unix.ENOSPC
		}
	}
	n, err := unix.Pwrite(int(d.backing.Fd()), data, off)
	out = make([]byte, 8)
	binary.LittleEndian.PutUint32(out, uint32(max(n, 0)))
	return out, errnoOf(err)
}

func errnoOf(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return 0
}

// TestTheBadDiskIsADisk: what is wrong with it must be what was asked for.
func TestTheBadDiskIsADisk(t *testing.T) {
	needsFUSE(t)
	s := &scene{t: t}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<20); err != nil {
		t.Fatal(err)
	}
	d := s.spoil(path)
	// Another process uses it: this one serves it.
	dd := func(args ...string) error {
		return exec.Command("dd", append([]string{"bs=4096", "count=1", "status=none"}, args...)...).Run()
	}
	write := []string{"if=/dev/zero", "of=" + path, "conv=notrunc"}
	for _, c := range []struct {
		f    fault
		ok   bool
		args []string
	}{
		{healthy, true, write},
		{healthy, true, append(write, "oflag=direct")},
		{healthy, true, append(write, "conv=notrunc,fdatasync")},
		{healthy, true, []string{"if=" + path, "of=/dev/null"}},
		{slowDisk, true, write},
		{writesFail, false, write},
		{syncsFail, true, write},
		{syncsFail, false, append(write, "conv=notrunc,fdatasync")},
		{readsFail, false, []string{"if=" + path, "of=/dev/null", "iflag=direct"}},
		{diskFull, true, append(write, "seek=0")},
		{diskFull, false, append(write, "seek=1000")},
	} {
		d.does(c.f)
		if err := dd(c.args...); (err == nil) != c.ok {
			t.Errorf("fault %d, dd %v: %v", c.f, c.args, err)
		}
	}
}
