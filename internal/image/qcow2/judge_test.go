package qcow2_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

const mib = 1 << 20

// judge runs one of QEMU's tools, or skips if it is absent.
func judge(t testing.TB, tool string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("judge absent: %s is not installed", tool)
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

// content makes a disk of n bytes: noise, text and zeros, in stretches of all
// lengths.
func content(n int) []byte {
	rnd := rand.New(rand.NewPCG(7, uint64(n)))
	b := make([]byte, n)
	for at := 0; at < n; {
		end := min(n, at+1+rnd.IntN(200_000))
		switch rnd.IntN(3) {
		case 0:
			for i := at; i < end; i++ {
				b[i] = byte(rnd.Uint32())
			}
		case 1:
			copy(b[at:end], bytes.Repeat([]byte("a rack may be lost "), (end-at)/19+1))
		}
		at = end
	}
	return b
}

func writeFile(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, path string, opt qcow2.Options) *qcow2.File {
	t.Helper()
	b := readFile(t, path)
	f, err := qcow2.Open(bytes.NewReader(b), int64(len(b)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// whole reads all of a disk: in one go, in odd pieces, and by its data only.
// All have to be the same.
func whole(t testing.TB, d qcow2.Disk) []byte {
	t.Helper()
	got := make([]byte, d.Size())
	if n, err := d.ReadAt(got, 0); n != len(got) || err != nil {
		t.Fatalf("read %d bytes of %d: %v", n, len(got), err)
	}
	pieces := make([]byte, 0, len(got))
	for off, n := int64(0), int64(1); off < d.Size(); off, n = off+n, n*7%99_991 {
		p := make([]byte, min(n, d.Size()-off))
		if _, err := d.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, p...)
	}
	if !bytes.Equal(got, pieces) {
		t.Error("what is read in pieces is not what is read in one go")
	}
	sparse := make([]byte, len(got))
	for off := int64(0); ; {
		from, to, err := d.NextData(off)
		if err != nil {
			t.Fatal(err)
		}
		if from == d.Size() {
			break
		}
		if from < off || to <= from || to > d.Size() {
			t.Fatalf("the data after %d is said to be from %d to %d", off, from, to)
		}
		copy(sparse[from:to], got[from:to])
		off = to
	}
	if !bytes.Equal(got, sparse) {
		t.Error("there is data where a hole is told")
	}
	return got
}

func TestWhatQEMUWritesIsReadByteByByte(t *testing.T) {
	for _, c := range []struct {
		options  string
		compress bool
	}{
		{"compat=0.10", false}, {"compat=0.10", true},
		{"cluster_size=512", false}, {"cluster_size=512", true}, {"cluster_size=4k", true},
		{"cluster_size=64k,lazy_refcounts=on", false}, {"cluster_size=64k", true},
		{"cluster_size=2M", false}, {"cluster_size=2M", true},
		{"compression_type=zstd", true}, {"compression_type=zstd,cluster_size=2M", true}, {"compression_type=zstd,cluster_size=512", true},
		{"extended_l2=on,cluster_size=16k", false}, {"extended_l2=on,cluster_size=128k", true},
		{"preallocation=metadata", false}, {"refcount_bits=1", false}, {"refcount_bits=64", false},
	} {
		t.Run(fmt.Sprintf("%s, compressed %v", c.options, c.compress), func(t *testing.T) {
			want := content(2*mib + 512)
			raw, img := writeFile(t, "raw", want), filepath.Join(t.TempDir(), "img")
			args := []string{"convert", "-t", "unsafe", "-f", "raw", "-O", "qcow2", "-o", c.options}
			if c.compress {
				args = append(args, "-c")
			}
			judge(t, "qemu-img", append(args, raw, img)...)
			if got := whole(t, open(t, img, qcow2.Options{})); !bytes.Equal(got, want) {
				t.Error("the disk is not what it was")
			}
		})
	}
}

func TestImagesThatWereWrittenTo(t *testing.T) {
	for _, options := range []string{"cluster_size=512", "cluster_size=64k", "extended_l2=on,cluster_size=32k", "lazy_refcounts=on", "compat=0.10"} {
		t.Run(options, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "img")
			judge(t, "qemu-img", "create", "-f", "qcow2", "-o", options, img, "8M")
			rnd := rand.New(rand.NewPCG(3, 4))
			var script []string
			for i := range 60 {
				verb := [...]string{fmt.Sprintf("write -P %d", i+1), fmt.Sprintf("write -P %d", i+1), "write -z", "discard"}[rnd.IntN(4)]
				script = append(script, "-c", fmt.Sprintf("%s %d %d", verb, rnd.IntN(7*mib)/512*512, (1+rnd.IntN(200))*512))
			}
			judge(t, "qemu-io", append(script, "-t", "unsafe", "-f", "qcow2", img)...)
			judge(t, "qemu-img", "snapshot", "-c", "before the upgrade", img)
			judge(t, "qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", "write -P 99 1M 70k", img)
			raw := filepath.Join(t.TempDir(), "raw")
			judge(t, "qemu-img", "convert", "-t", "unsafe", "-O", "raw", img, raw)
			f := open(t, img, qcow2.Options{})
			if got := whole(t, f); !bytes.Equal(got, readFile(t, raw)) {
				t.Error("the disk is not what QEMU reads")
			}
			if names, n := f.Snapshots(); n != 1 || len(names) != 1 || names[0] != "before the upgrade" {
				t.Errorf("%d snapshots, called %q", n, names)
			}
		})
	}
}

func TestADirtyImageIsReadAndTold(t *testing.T) {
	img := filepath.Join(t.TempDir(), "img")
	judge(t, "qemu-img", "create", "-f", "qcow2", "-o", "lazy_refcounts=on", img, "4M")
	exec.Command("qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", "write -P 7 1M 64k", "-c", "flush", "-c", "abort", img).Run() // it dies, as it shall
	f := open(t, img, qcow2.Options{})
	if !f.Dirty() {
		t.Error("the image is not told as dirty")
	}
	want := make([]byte, 4*mib)
	copy(want[mib:], bytes.Repeat([]byte{7}, 64<<10))
	if got := whole(t, f); !bytes.Equal(got, want) {
		t.Error("the disk is not what was written")
	}
}

// rawDisk is a disk without holes.
type rawDisk struct{ *bytes.Reader }

func (d rawDisk) NextData(off int64) (from, to int64, err error) {
	return min(off, d.Size()), d.Size(), nil
}

func TestADifferenceIsLaidOnItsBackingFile(t *testing.T) {
	dir := t.TempDir()
	base, top := filepath.Join(dir, "base"), filepath.Join(dir, "top")
	raw := writeFile(t, "raw", content(3*mib))
	judge(t, "qemu-img", "convert", "-t", "unsafe", "-f", "raw", "-O", "qcow2", raw, base)
	judge(t, "qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", "base", top, "5M")
	judge(t, "qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", "write -P 5 1M 100k", "-c", "write -z 2M 128k", "-c", "write -P 6 4M 5k", top)
	flat := filepath.Join(dir, "flat")
	judge(t, "qemu-img", "convert", "-t", "unsafe", "-O", "raw", top, flat)
	f := open(t, top, qcow2.Options{Backing: func(name, format string) (qcow2.Disk, error) {
		if name != "base" || format != "qcow2" {
			t.Errorf("it asks for %q, %q", name, format)
		}
		return open(t, base, qcow2.Options{}), nil
	}})
	if got := whole(t, f); !bytes.Equal(got, readFile(t, flat)) {
		t.Error("the disk is not what QEMU reads")
	}
	b := readFile(t, top)
	if _, err := qcow2.Open(bytes.NewReader(b), int64(len(b)), qcow2.Options{}); err == nil || !strings.Contains(err.Error(), `"base"`) {
		t.Errorf("without being asked for: %v", err)
	}
}

// clean has QEMU judge an image that we wrote.
func clean(t *testing.T, img, raw string) {
	t.Helper()
	if out := judge(t, "qemu-img", "check", "-f", "qcow2", img); !strings.Contains(out, "No errors were found") {
		t.Errorf("check: %s", out)
	}
	judge(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, img)
}

// sizes are of disks that end everywhere in a cluster and a table.
func sizes() []int { return []int{512, 4096, 65536, 3*mib + 4096, 17 * mib} }

func mapOf(t testing.TB, disk []byte) *qcow2.Map {
	t.Helper()
	m, err := qcow2.NewMap(int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(disk); off += 4096 {
		if b := disk[off:min(len(disk), off+4096)]; len(bytes.Trim(b, "\x00")) > 0 {
			m.Add(int64(off), int64(len(b)))
		}
	}
	return m
}

func TestAStreamIsWhatQEMUReads(t *testing.T) {
	for _, n := range sizes() {
		want := content(n)
		m := mapOf(t, want)
		var out bytes.Buffer
		if err := m.Write(&out, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if int64(out.Len()) != m.FileSize() {
			t.Errorf("%d bytes were written, and %d announced", out.Len(), m.FileSize())
		}
		img := writeFile(t, "img", out.Bytes())
		s, err := qcow2.NewStream(&out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read front to back it is another disk: %v", n, err)
		}
		if got := whole(t, open(t, img, qcow2.Options{})); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read in any order it is another disk", n)
		}
		clean(t, img, writeFile(t, "raw", want))
	}
}

func TestAPackedImageIsWhatQEMUReads(t *testing.T) {
	for _, n := range sizes() {
		want := content(n)
		raw := writeFile(t, "raw", want)
		for _, how := range []qcow2.Compression{qcow2.Deflate, qcow2.Zstd} {
			img := filepath.Join(t.TempDir(), "img")
			pack(t, img, want, how)
			if got := whole(t, open(t, img, qcow2.Options{})); !bytes.Equal(got, want) {
				t.Errorf("%d bytes, compression %d: it is another disk", n, how)
			}
			clean(t, img, raw)
		}
	}
}

// pack writes a compressed image.
func pack(t testing.TB, path string, disk []byte, how qcow2.Compression) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := qcow2.NewPacker(f, int64(len(disk)), how)
	for off := 0; off < len(disk) && err == nil; off += 65536 {
		err = p.Put(int64(off), disk[off:min(len(disk), off+65536)])
	}
	if err == nil {
		err = p.Close()
	}
	if st, serr := f.Stat(); err != nil || serr != nil || st.Size() != p.FileSize() {
		t.Fatalf("%v, %v; %d bytes announced", err, serr, p.FileSize())
	}
}

// A disk of several L2 tables, with holes of all lengths, in which refcounts
// take several blocks.
func TestALargeSparseImage(t *testing.T) {
	const size = 5 << 30
	path := filepath.Join(t.TempDir(), "raw")
	raw, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.Truncate(size)
	m, _ := qcow2.NewMap(size)
	img := filepath.Join(t.TempDir(), "img")
	packed, err := os.Create(img + ".packed")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	p, _ := qcow2.NewPacker(packed, size, qcow2.Zstd)
	cluster := bytes.Repeat([]byte("holdfast"), 8192)
	for _, off := range []int64{0, 3 << 16, 1 << 30, 1<<30 + 1<<16, 4<<30 - 1<<16, size - 1<<16} {
		raw.WriteAt(cluster, off)
		m.Add(off, 1<<16)
		if err := p.Put(off, cluster); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := m.Write(&out, raw); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(img, out.Bytes(), 0o600)
	clean(t, img, path)
	clean(t, img+".packed", path)
}
