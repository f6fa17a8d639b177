package filedisk

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/disktest"
)

func conform(t *testing.T, o Options, newPath func(*testing.T) string) {
	disktest.Run(t, disktest.Subject{
		Clock: clock.System{},
		In:    func(f func()) { f() },
		New: func(t *testing.T) func() (disk.Device, error) {
			path := newPath(t)
			return func() (disk.Device, error) { return Open(path, o) }
		},
	})
}

func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := Create(path, MinSize); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileConforms(t *testing.T) { conform(t, Options{}, newFile) }

func TestCachedFileConforms(t *testing.T) { conform(t, Options{Cache: Both}, newFile) }

func TestDirectFileConforms(t *testing.T) {
	d, err := Open(newFile(t), Options{Cache: Neither})
	if holdfast.IsKind(err, holdfast.Invalid) {
		t.Skipf("the file system of the temporary directory: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	conform(t, Options{Cache: Neither}, newFile)
}

// loop attaches a new 64 MiB file as a block device, or skips the test.
func loop(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a loop device needs root")
	}
	out, err := exec.Command("losetup", "--find", "--show", newFile(t)).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", dev, err, out)
		}
	})
	return dev
}

func TestBlockDeviceConforms(t *testing.T) {
	conform(t, Options{}, loop)
}

func TestDirectBlockDeviceConforms(t *testing.T) {
	conform(t, Options{Cache: Neither}, loop)
}

func TestReadsSeeWhatIsWrittenPastTheCache(t *testing.T) {
	d, err := Open(newFile(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.past < 0 {
		t.Skip("the file system of the temporary directory has no direct I/O")
	}
	const n = 64 << 10
	buf, got := alignedBuffer(n, 4096), make([]byte, n)
	for round := range 50 {
		for i := range buf {
			buf[i] = byte(round)
		}
		at := int64(round%4) * n / 2
		if round%3 == 2 { // through the page cache: its memory or length is not aligned
			err = d.WriteAt(append([]byte{}, buf[:n-512]...), at)
		} else {
			err = d.WriteAt(buf, at)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := d.ReadAt(got, at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:n-512], buf[:n-512]) {
			t.Fatalf("round %d: what was written is not what is read", round)
		}
	}
}

func TestReadNowReadsWhatIsInMemory(t *testing.T) {
	d, err := Open(newFile(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, got := bytes.Repeat([]byte{7}, 8192), make([]byte, 8192)
	if err := d.WriteAt(want, 4096); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(got, 4096); err != nil { // now it is in the page cache
		t.Fatal(err)
	}
	clear(got)
	if d.ReadNow(got, 4096) && !bytes.Equal(got, want) {
		t.Error("what is read at once is not what was written")
	}
	if d.ReadNow(got, d.Geometry().Size) || d.ReadNow(got[:100], 0) {
		t.Error("a read beyond the end, or of half a sector, succeeds")
	}
	d.Close()
	if d.ReadNow(got, 4096) {
		t.Error("a closed disk is read")
	}
}

func TestWriteSyncWritesLikeWriteAt(t *testing.T) {
	for _, cache := range []Cache{Reads, Both} {
		d, err := Open(newFile(t), Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		want, got := alignedBuffer(3<<20, 4096), make([]byte, 3<<20)
		for i := range want {
			want[i] = byte(i ^ i>>9)
		}
		for _, p := range [][]byte{want, want[512:1024]} { // past the cache where that goes, and through it
			if err := d.WriteSync(p, 4096); err != nil {
				t.Fatal(err)
			}
			if err := d.ReadAt(got[:len(p)], 4096); err != nil || !bytes.Equal(got[:len(p)], p) {
				t.Errorf("cache %d: %d bytes written are not what is read (%v)", cache, len(p), err)
			}
		}
		if err := d.WriteSync(want, d.Geometry().Size); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("a write beyond the end: %v", err)
		}
		d.Close()
		if err := d.WriteSync(want, 0); !holdfast.IsKind(err, holdfast.Closed) {
			t.Errorf("a write to a closed disk: %v", err)
		}
	}
}

func TestMountedBlockDeviceIsRefused(t *testing.T) {
	dev := loop(t)
	if out, err := exec.Command("mkfs.ext4", "-q", dev).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	at := filepath.Join(t.TempDir(), "mount point")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dev, at, "ext4", 0, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	_, err := Open(dev, Options{})
	if !holdfast.IsKind(err, holdfast.Busy) || !strings.Contains(err.Error(), at) {
		t.Errorf("a mounted disk: %v; want kind busy and the mount point", err)
	}
}

// What MayCreate says is what Create says, and makes nothing.
func TestMayCreateSaysWhatCreateWould(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		path string
		size int64
	}{{"a", MinSize}, {"b", MinSize - 1}, {"c", MinSize + 1}, {"a", MinSize}, {"none/d", MinSize}, {"a/e", MinSize}} {
		path := filepath.Join(dir, c.path)
		before, _ := os.ReadDir(dir)
		may := MayCreate(path, c.size)
		if after, _ := os.ReadDir(dir); len(after) != len(before) {
			t.Errorf("%s was made", c.path)
		}
		if err := Create(path, c.size); (err == nil) != (may == nil) || err != nil && (holdfast.KindOf(err) != holdfast.KindOf(may) || err.Error() != may.Error()) {
			t.Errorf("%s, %d: %v, and then %v", c.path, c.size, may, err)
		}
	}
}

func TestCreateMakesASparseFileOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := Create(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 1<<40 || st.Blocks*512 > 1<<20 || st.Mode&0o777 != 0o600 {
		t.Errorf("size %d, allocated %d, mode %o", st.Size, st.Blocks*512, st.Mode&0o777)
	}
	if err := Create(path, MinSize); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("created again: %v", err)
	}
}

func TestDiscardGivesSpaceBack(t *testing.T) {
	path := newFile(t)
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	allocated := func() int64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	if err := d.WriteAt(bytes.Repeat([]byte{1}, 8<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	full := allocated()
	if err := d.Discard(0, 8<<20); err != nil {
		t.Fatal(err)
	}
	if d.noDiscard.Load() {
		t.Skip("the file system cannot punch holes")
	}
	if now := allocated(); now > full-(7<<20) {
		t.Errorf("%d bytes allocated before the discard, %d after", full, now)
	}
}

func TestWhatCannotBeADiskIsRefused(t *testing.T) {
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		kind holdfast.Kind
		says string
	}{
		{small, holdfast.Invalid, "64 MiB"},
		{dir, holdfast.Invalid, "neither"},
		{pipe, holdfast.Invalid, "neither"},
		{"/dev/null", holdfast.Invalid, "neither"},
		{filepath.Join(dir, "absent"), holdfast.NotFound, "check the path"},
	} {
		_, err := Open(c.path, Options{})
		if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (kind %v); want kind %v and %q", c.path, err, holdfast.KindOf(err), c.kind, c.says)
		}
	}
	for _, size := range []int64{-1, 0, MinSize - 4096, MinSize + 1} {
		if err := Create(filepath.Join(dir, "new"), size); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("create with %d bytes: %v", size, err)
		}
	}
}

func TestAFileCutShortIsAnError(t *testing.T) {
	path := newFile(t)
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if err := d.ReadAt(make([]byte, 8192), 4096); !holdfast.IsKind(err, holdfast.IO) {
		t.Errorf("read beyond the cut: %v", err)
	}
}

func TestAFullFileSystemIsNoSpace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small file system needs root")
	}
	at := t.TempDir()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	path := filepath.Join(at, "disk")
	if err := Create(path, MinSize); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.WriteAt(make([]byte, 2<<20), 0); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("write to a full file system: %v", err)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(`36 35 98:0 /a /mnt\040two rw - ext4 /dev/root rw`, "98:0")
	f.Add("short line\n1 2 7:0", "7:0")
	f.Add(`1 1 7:0 / \9\400\ rw`, "7:0")
	f.Fuzz(func(t *testing.T, info, dev string) {
		for _, at := range parseMounts(strings.NewReader(info), []string{dev}) {
			if len(at) > len(info) {
				t.Errorf("mount point %q is longer than its line", at)
			}
		}
	})
}

func TestMountPointsAreUnescaped(t *testing.T) {
	info := "36 35 98:0 / /mnt\\040two\\134 rw - ext4 /dev/root rw\n37 35 98:1 / /other rw - ext4 x rw\n"
	if at := parseMounts(strings.NewReader(info), []string{"98:0"}); !slices.Equal(at, []string{`/mnt two\`}) {
		t.Errorf("%q", at)
	}
}

func BenchmarkWrite4KiB(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk")
	if err := Create(path, MinSize); err != nil {
		b.Fatal(err)
	}
	d, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := d.WriteAt(p, int64(i%(MinSize/4096))*4096); err != nil {
			b.Fatal(err)
		}
	}
}
