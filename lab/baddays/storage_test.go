package baddays

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestStorageDays breaks what volumes stand on, without any VM: memory, keys
// and disks of one lab of three hosts.
func TestStorageDays(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	s := newLab(t, 3, lab.DefaultDiskSize)
	for _, part := range []struct {
		name string
		f    func(*scene)
	}{
		{"all hosts restart, and nobody has the cluster key", everybodyForgetsTheKey},
		{"a host whose memory is a disk is killed", memoryIsLost},
		{"a host is drained while it is used", aWriterIsDrained},
		{"one of two disks fails", oneOfTwoDisksFails},
		{"a disk is evacuated, another is replaced", disksAreReplaced},
		{"what was lost is built anew", everythingIsBuiltAnew},
		{"copies of a volume differ", copiesDiffer},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.f(s.as(t)) }) {
			t.Fatal("the lab is in no state to go on")
		}
	}
}

const (
	passphrase = "correct horse battery staple\n"
	marker     = "a plain word that must never reach a disk. "
)

// everybodyForgetsTheKey: an encrypted volume is locked after the power of all
// hosts was lost, opens when the key is given again, and nothing of what was
// written to it is on a disk.
func everybodyForgetsTheKey(s *scene) {
	a, b := s.host("a1"), s.host("b1")
	s.done(a, strings.NewReader(passphrase), "cluster", "key", "init", "--passphrase-file", "-")
	s.done(a, nil, "volume", "create", "secret", "--size", "16MiB", "--encrypt", "--compress", "auto")
	s.done(a, nil, "volume", "create", "open", "--size", "16MiB", "--copies", "3")
	secret := slices.Concat(bytes.Repeat([]byte(marker), piece/len(marker)+1)[:piece], pattern(2, 1))
	open := bytes.Repeat([]byte("anybody may read this. "), piece/20)[:piece]
	s.fill(a, "secret", secret)
	s.fill(a, "open", open)

	if err := lab.Kill(s.l.Hosts); err != nil {
		s.t.Fatal(err)
	}
	for _, h := range s.l.Hosts {
		s.start(h.Rack)
	}
	s.until("the volume to be locked", func() (bool, string) {
		v, err := s.volume("secret")
		return err == nil && v.State == "locked", fmt.Sprint(v.State, err)
	})
	s.holds(b, "open", open)
	if _, err := nbd.Dial("unix", b.Export(s.named("secret").ID), "", nil); err == nil {
		s.t.Error("a locked volume is served")
	}
	s.refused(b, strings.NewReader("wrong horse battery staple\n"), notAllowed, "", "cluster", "key", "unlock", "--passphrase-file", "-")
	s.done(b, strings.NewReader(passphrase), "cluster", "key", "unlock", "--passphrase-file", "-")
	s.holds(a, "secret", secret)
	s.inSync("secret")
	s.whole()

	for _, h := range s.l.Hosts {
		for _, plain := range [][]byte{[]byte(marker), secret[piece : piece+64], []byte(passphrase[:20])} {
			if at := s.find(h, plain); at != "" {
				s.t.Errorf("host %s wrote down what is secret: %s", h.Name, at)
			}
		}
		if s.find(h, open[:64]) == "" {
			s.t.Errorf("nothing of the volume that is not encrypted is found on host %s: nothing would be", h.Name)
		}
	}
}

// memoryIsLost: a volume in a pool of tier ram outlives the host that wrote it,
// whose part of the pool is empty when it comes back.
func memoryIsLost(s *scene) {
	a, b, c := s.host("a1"), s.host("b1"), s.host("c1")
	s.done(a, nil, "pool", "create", "fast", "--tier", "ram")
	for _, h := range []lab.Host{a, b} {
		s.done(h, nil, "disk", "add", "--ram", "64MiB", "--pool", "fast")
	}
	s.done(a, nil, "volume", "create", "scratch", "--size", "16MiB", "--pool", "fast")
	s.fill(a, "scratch", pattern(1, 1))
	if v := s.inSync("scratch"); v.Writer != a.Name {
		s.t.Fatalf("the writer is %s, where nobody writes", v.Writer)
	}
	s.kill(a.Rack)
	s.holds(c, "scratch", pattern(1, 1)) // which has no copy of its own
	if v := s.named("scratch"); v.Writer == a.Name || v.State != "degraded" {
		s.t.Errorf("after the loss the volume is %s, and its writer is %s", v.State, v.Writer)
	}
	s.start(a.Rack)
	s.holds(a, "scratch", pattern(1, 1))
	s.holds(a, "secret", []byte(marker)) // another host had the key
}

// aWriterIsDrained while a session that another host carries writes: that goes on,
// and another host is the writer. A session at the writer's own socket stays, and
// is told of; the next one, elsewhere, makes another host the writer.
func aWriterIsDrained(s *scene) {
	a := s.host("a1")
	w := s.host(s.named("secret").Writer)
	c := s.host(s.other(w.Name[:1]) + "1")
	disk := s.attach(c, "secret")
	defer func() { disk.Close() }()
	write := func(at int) {
		if _, err := disk.WriteAt([]byte(marker), int64(at*len(marker))); err != nil {
			s.t.Fatalf("the session does not go on: %v", err)
		}
	}
	write(0)
	out := s.done(a, nil, "host", "drain", w.Name)
	if strings.Contains(out, "still use it for secret") {
		s.t.Errorf("host %s is drained, and a session that could go stays:\n%s", w.Name, out)
	}
	var next lab.Host
	s.until("a writer that is not drained", func() (bool, string) {
		next = s.host(s.named("secret").Writer)
		return next.Name != w.Name, "the writer is " + next.Name
	})
	write(1)
	s.done(a, nil, "host", "undrain", w.Name)
	disk.Close()

	disk = s.attach(next, "secret")
	write(2)
	out = s.done(a, nil, "host", "drain", next.Name)
	if now := s.named("secret").Writer; now == next.Name && !strings.Contains(out, "still use it for secret") {
		s.t.Errorf("nobody says that host %s is used still:\n%s", next.Name, out)
	}
	s.until("status to say that a drained host is used still", func() (bool, string) {
		status := s.done(a, nil, "status")
		return strings.Contains(status, "still use it for secret"), status
	})
	write(3)
	s.until("a session of which a host that is not drained is the writer", func() (bool, string) {
		disk.Close() // that it ended may be seen only after the next one began
		disk = s.attach(w, "secret")
		now := s.named("secret").Writer
		return now != next.Name, "the writer is " + now
	})
	got := make([]byte, 4*len(marker))
	if _, err := disk.ReadAt(got, 0); err != nil || string(got) != strings.Repeat(marker, 4) {
		s.t.Errorf("%v: it holds %q", err, got)
	}
	s.done(a, nil, "host", "undrain", next.Name)
}

// oneOfTwoDisksFails: what stood on a disk that fails while it is written to is
// built anew on the host's other disk; see everythingIsBuiltAnew. Nobody who
// uses the volume notices.
func oneOfTwoDisksFails(s *scene) {
	needsFUSE(s.t)
	a, c := s.host("a1"), s.host("c1")
	if err := lab.Stop(s.t.Context(), []lab.Host{c}); err != nil {
		s.t.Fatal(err)
	}
	disk := s.spoil(c.Disk())
	s.start(c.Rack)
	s.secondDisk(c)
	s.inSync("open")
	disk.does(writesFail)
	s.fill(a, "open", pattern(3, 1))
	s.holds(c, "open", pattern(3, 1))
	s.until("the disk to be reported", func() (bool, string) {
		out, _ := s.run(a, nil, "status")
		return strings.Contains(out, "disk c1:"+c.Disk()+" is not in use"), out
	})
}

// disksAreReplaced: what stands on a disk moves to the host's other one, and
// again to one that takes that one's place.
func disksAreReplaced(s *scene) {
	a := s.host("a1")
	before := s.read(a, "open", piece)
	second := s.secondDisk(a)
	s.done(a, nil, "disk", "evacuate", a.Name+":"+a.Disk())
	s.on(a, "open", second)
	third := filepath.Join(a.Dir, "third")
	s.done(a, nil, "disk", "replace", a.Name+":"+second, third, "--size", "1GiB")
	s.on(a, "open", third)
	s.holds(a, "open", before)
}

// everythingIsBuiltAnew: all volumes have their copies again, though nobody did
// anything, and the failed disk can go.
func everythingIsBuiltAnew(s *scene) {
	a, c := s.host("a1"), s.host("c1")
	for _, name := range []string{"scratch", "secret", "open"} {
		s.inSync(name)
	}
	s.on(c, "open", filepath.Join(c.Dir, "second"))
	s.holds(c, "scratch", pattern(1, 1))
	s.holds(c, "secret", []byte(marker))
	s.holds(c, "open", pattern(3, 1))
	s.done(a, nil, "disk", "remove", c.Name+":"+c.Disk())
	s.whole()
}

// secondDisk gives a host another disk.
func (s *scene) secondDisk(h lab.Host) string {
	s.t.Helper()
	path := filepath.Join(h.Dir, "second")
	s.done(h, nil, "disk", "add", path, "--size", "1GiB")
	return path
}

// named returns a volume.
func (s *scene) named(name string) v1.Volume {
	s.t.Helper()
	v, err := s.volume(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// on checks that a host's copy of a volume stands on a disk.
func (s *scene) on(h lab.Host, volume, path string) {
	s.t.Helper()
	for _, r := range s.named(volume).Replicas {
		if r.Host == h.Name && (r.Path != path || !r.InSync) {
			s.t.Errorf("the copy of %s on host %s is on %s, in sync: %v; want %s", volume, h.Name, r.Path, r.InSync, path)
		}
	}
}

// fill writes to the beginning of a volume, at a host, and flushes.
func (s *scene) fill(h lab.Host, volume string, b []byte) {
	s.t.Helper()
	disk := s.attach(h, volume)
	defer disk.Close()
	if _, err := disk.WriteAt(b, 0); err != nil {
		s.t.Fatal(err)
	}
	if err := disk.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// read reads the beginning of a volume, at a host, as soon as it can be read.
func (s *scene) read(h lab.Host, volume string, n int) []byte {
	s.t.Helper()
	b := make([]byte, n)
	s.until("volume "+volume+" to be read on host "+h.Name, func() (bool, string) {
		disk := s.attach(h, volume)
		defer disk.Close()
		_, err := disk.ReadAt(b, 0)
		return err == nil, fmt.Sprint(err)
	})
	return b
}

// holds checks what a volume begins with.
func (s *scene) holds(h lab.Host, volume string, want []byte) {
	s.t.Helper()
	if got := s.read(h, volume, len(want)); !bytes.Equal(got, want) {
		s.t.Errorf("volume %s, read on host %s, holds something else than was written", volume, h.Name)
	}
}

// find looks for some bytes in all files of a host, and returns where they are.
func (s *scene) find(h lab.Host, b []byte) (found string) {
	s.t.Helper()
	err := filepath.WalkDir(h.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			s.data(path, func(at int64, buf []byte) {
				if i := bytes.Index(buf, b); i >= 0 {
					found = fmt.Sprintf("%s, byte %d", path, at+int64(i))
				}
			})
		}
		return nil // files come and go
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}
