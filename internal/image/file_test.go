package image_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// qemuImg runs qemu-img in a directory.
func qemuImg(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("judge absent: qemu-img is not installed")
	}
	cmd := exec.Command("qemu-img", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// imported imports a QCOW2 file the way that the command line and the API do.
func imported(t *testing.T, path, backing string) (*volume, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	q, err := image.OpenQCOW2(f, backing)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	r, n, err := q.Stream()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sent := &counter{r: r}
	s, err := qcow2.NewStream(sent)
	if err != nil {
		t.Fatal(err)
	}
	v := newVolume(t)
	if _, err := image.Import(s, v, image.Options{Size: s.Map().Size()}); err != nil {
		return nil, err
	}
	if sent.n != n {
		t.Errorf("%d bytes were sent and %d announced", sent.n, n)
	}
	return v, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func TestAQCOW2ImageIsImported(t *testing.T) {
	dir, want := t.TempDir(), disk(9*mib+512)
	os.WriteFile(filepath.Join(dir, "raw"), want, 0o600)
	for _, args := range [][]string{{"-O", "qcow2"}, {"-O", "qcow2", "-c"}, {"-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=4k"}} {
		qemuImg(t, dir, append(append([]string{"convert", "-t", "unsafe", "-f", "raw"}, args...), "raw", "img")...)
		v, err := imported(t, filepath.Join(dir, "img"), "")
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		v.holds(want)
	}
}

func TestBackingFilesAreReadOnlyWhereItIsAllowed(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "vms")
	os.MkdirAll(filepath.Join(sub, "base"), 0o700)
	want := disk(4 * mib)
	os.WriteFile(filepath.Join(sub, "base", "raw"), want, 0o600)
	os.WriteFile(filepath.Join(dir, "secret"), want, 0o600)
	os.Symlink(filepath.Join(dir, "secret"), filepath.Join(sub, "link"))
	exec.Command("mkfifo", filepath.Join(sub, "pipe")).Run()
	create := func(name, backing, format string) string {
		args := []string{"create", "-u", "-f", "qcow2", "-b", backing}
		if format != "" {
			args = append(args, "-F", format)
		}
		qemuImg(t, sub, append(args, name, "4M")...)
		return filepath.Join(sub, name)
	}
	create("one", "other", "qcow2")
	create("base/middle", "raw", "raw") // relative to where it lies
	for name, path := range map[string]string{
		"a chain":       create("top", "base/middle", "qcow2"),
		"absolute":      create("abs", filepath.Join(sub, "base/raw"), "raw"),
		"up and down":   create("updown", "base/../base/raw", "raw"),
		"of its format": create("odd", "base/middle", "qcow2"),
	} {
		v, err := imported(t, path, sub)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v.holds(want)
		if _, err := imported(t, path, ""); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "only the difference") {
			t.Errorf("%s, not asked for: %v", name, err)
		}
	}
	for _, c := range []struct {
		name, path, says string
		kind             holdfast.Kind
	}{
		{"outside", create("out", "../secret", "raw"), "not below", holdfast.Invalid},
		{"outside, absolute", create("abs2", filepath.Join(dir, "secret"), "raw"), "not below", holdfast.Invalid},
		{"outside, behind a link", create("linked", "link", "raw"), "escapes", holdfast.IO},
		{"a URL", create("url", "nbd://localhost/secret", "raw"), "not the name of a file", holdfast.Invalid},
		{"JSON", create("json", `json:{"driver":"file"}`, "raw"), "not the name of a file", holdfast.Invalid},
		{"absent", create("gone", "nosuch", "raw"), "nosuch", holdfast.NotFound},
		{"another format", create("vmdk", "base/raw", "vmdk"), `"vmdk"`, holdfast.Invalid},
		{"a pipe", create("pipe2", "pipe", "raw"), "is not a file", holdfast.Invalid},
		{"a directory", create("dir", "base", "raw"), "is not a file", holdfast.Invalid},
		{"itself", create("other", "one", "qcow2"), "on itself", holdfast.Invalid},
	} {
		if _, err := imported(t, c.path, sub); !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%v), want %q", c.name, err, holdfast.KindOf(err), c.says)
		}
	}
}

func TestSparseRawBackingFilesKeepTheirHoles(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(64 << 30)
	f.WriteAt(bytes.Repeat([]byte{1}, 4096), 40<<30)
	f.Close()
	qemuImg(t, dir, "create", "-f", "qcow2", "-b", "raw", "-F", "raw", "img")
	top, err := os.Open(filepath.Join(dir, "img"))
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	q, err := image.OpenQCOW2(top, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	m, err := qcow2.MapOf(q)
	if err != nil || m.Size() != 64<<30 || m.DataSize() > mib {
		t.Errorf("%d bytes of data in a disk of %d, %v", m.DataSize(), m.Size(), err)
	}
}
