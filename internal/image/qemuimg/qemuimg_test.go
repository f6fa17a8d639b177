package qemuimg

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image"
)

const mib = 1 << 20

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("judge absent: qemu-img is not installed")
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

// rawFile makes a raw disk with data in it.
func rawFile(t *testing.T) (path string, content []byte) {
	t.Helper()
	content = make([]byte, 5*mib)
	copy(content[mib:], bytes.Repeat([]byte("holdfast"), 30_000))
	path = filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func wantContent(t *testing.T, path string, opt Options, format image.Format, want []byte) {
	t.Helper()
	src, err := Open(context.Background(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(src)
	if err != nil || !bytes.Equal(got, want) || src.Size != int64(len(want)) || src.Format != format {
		t.Errorf("%d bytes of a %v, size %d, %v; want %d of a %v", len(got), src.Format, src.Size, err, len(want), format)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

func TestRawFileIsReadAsItIs(t *testing.T) {
	path, want := rawFile(t)
	wantContent(t, path, Options{}, image.Raw, want)
}

func TestQCOW2FileIsConverted(t *testing.T) {
	raw, want := rawFile(t)
	for _, how := range [][]string{nil, {"-c"}, {"-o", "compat=0.10"}, {"-o", "cluster_size=4k,extended_l2=off"}} {
		// A name that looks like a URL or an option is still a file's name.
		path := filepath.Join(t.TempDir(), "nbd:-x")
		qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, how...), raw, "file:"+path)...)
		temp := t.TempDir()
		wantContent(t, path, Options{TempDir: temp}, image.QCOW2, want)
		if left, _ := os.ReadDir(temp); len(left) != 0 {
			t.Errorf("%v is left behind", left)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	raw, _ := rawFile(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	secret := in("secret")
	os.WriteFile(secret, bytes.Repeat([]byte("secret"), 200), 0o600)
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", raw, in("good"))
	qemuImg(t, "create", "-f", "qcow2", "-b", secret, "-F", "raw", in("backed"))
	qemuImg(t, "create", "-f", "qcow2", "-o", "data_file="+in("data")+",data_file_raw=on", in("split"), "1M")
	qemuImg(t, "create", "-f", "qcow2", in("huge"), "1T")
	qemuImg(t, "create", "-f", "qcow2", in("empty"), "0")
	qemuImg(t, "create", "-f", "vmdk", in("vmdk"), "1M")
	good, err := os.ReadFile(in("good"))
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(in("cut"), good[:60], 0o600)
	os.WriteFile(in("garbage"), append(bytes.Clone(good[:8]), bytes.Repeat([]byte{0xff}, 4096)...), 0o600)
	for _, c := range []struct {
		name, says string
		kind       holdfast.Kind
	}{
		{"missing", "no such file", holdfast.NotFound},
		{".", "is a directory", holdfast.Invalid},
		{"backed", "only the difference to another file", holdfast.Invalid},
		{"split", "keeps its data in another file", holdfast.Invalid},
		{"huge", "room for 1048576000", holdfast.NoSpace},
		{"empty", "empty", holdfast.Invalid},
		{"vmdk", "VMDK", holdfast.Invalid},
		{"cut", "qemu-img cannot read this image", holdfast.Invalid},
		{"garbage", "qemu-img cannot read this image", holdfast.Invalid},
	} {
		src, err := Open(context.Background(), in(c.name), Options{Max: 1000 * mib})
		if err == nil {
			src.Close()
		}
		if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%v), want %v and %q", c.name, err, holdfast.KindOf(err), c.kind, c.says)
		}
	}
}

func TestConversionThatTakesTooLong(t *testing.T) {
	raw, _ := rawFile(t)
	path, temp := filepath.Join(t.TempDir(), "q"), t.TempDir()
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", raw, path)
	_, err := Open(context.Background(), path, Options{ConvertTime: time.Nanosecond, TempDir: temp})
	if !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) != 0 {
		t.Errorf("%v is left behind", left)
	}
}

func TestQCOW2WithoutQemuImg(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	os.WriteFile(path, []byte("QFI\xfb\x00\x00\x00\x03"), 0o600)
	t.Setenv("PATH", t.TempDir())
	if _, err := Open(context.Background(), path, Options{}); err == nil || !strings.Contains(err.Error(), "install") {
		t.Errorf("%v", err)
	}
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"format":"qcow2","virtual-size":1048576}`))
	f.Add([]byte(`{"format":"qcow2","virtual-size":1,"backing-filename":"x","format-specific":{"data":{"data-file":"y"}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, out []byte) {
		if size, err := parseInfo(out, 1<<40); err == nil && (size <= 0 || size > 1<<40) {
			t.Fatalf("a size of %d passes", size)
		}
	})
}
