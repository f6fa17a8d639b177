package baddays

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// bytesRot flips a bit in everything that the guest wrote and that lies on
// the disk of the host it runs on; the guest must not notice, and a person
// must.
func bytesRot(s *scene, w *witness) {
	vm := s.running(w.vm, 0)
	host := ""
	for _, r := range s.inSync(w.vm).Replicas {
		if host == "" || r.Host == vm.Host {
			host = r.Host
		}
	}
	if host != vm.Host {
		s.t.Fatalf("VM %s runs on host %s, where its volume has no copy", vm.Name, vm.Host)
	}
	n := s.rot(s.host(host).Disk())
	if n == 0 {
		s.t.Fatal("nothing of the guest was found on the disk")
	}
	w.reset()
	s.until("the bad bytes to be reported", func() (bool, string) {
		out, _ := s.run(s.host(host), nil, "status")
		return strings.Contains(out, "failed their hash") && !strings.Contains(out, " 0 blocks were restored"), out
	})
	out, _ := s.run(s.host(host), nil, "status")
	w.reset() // what was restored is good
	again, _ := s.run(s.host(host), nil, "status")
	s.t.Logf("%d blocks were damaged\n%s\nafter another boot:\n%s", n, out, again)
	s.inSync(w.vm)
}

// rot flips one bit in each block of the probe guest in a file.
func (s *scene) rot(path string) (n int) {
	s.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	s.data(path, func(at int64, buf []byte) {
		for o := 0; o+probe.BlockSize <= len(buf); o += probe.BlockSize {
			if !bytes.HasPrefix(buf[o:], []byte(probe.Magic)) {
				continue
			}
			place := at + int64(o) + 2000
			if _, err := f.WriteAt([]byte{buf[o+2000] ^ 0x10}, place); err != nil {
				s.t.Fatal(fmt.Errorf("damage at %d: %w", place, err))
			}
			n++
		}
	})
	return n
}

// data reads what was ever written of a file, which is mostly holes, a MiB at
// a time, beginning at whole blocks.
func (s *scene) data(path string, f func(at int64, b []byte)) {
	s.t.Helper()
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) { // gone meanwhile
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		at, err = unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return
		}
		if err != nil {
			s.t.Fatal(err)
		}
		at = at / probe.BlockSize * probe.BlockSize
		k, err := file.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			s.t.Fatal(err)
		}
		f(at, buf[:k])
		at += int64(max(k, probe.BlockSize))
	}
}
