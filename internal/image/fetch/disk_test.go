package fetch

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// memory is a disk in memory, for the making of images.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }
func (m memory) Size() int64                             { return int64(len(m)) }
func (m memory) NextData(off int64) (from, to int64, err error) {
	return min(off, m.Size()), m.Size(), nil
}

func qcow2Of(t *testing.T, disk []byte) []byte {
	t.Helper()
	m, err := qcow2.MapOf(memory(disk))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := m.Write(&out, memory(disk)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDisksOfFiles(t *testing.T) {
	raw := content(1 << 20)
	q := qcow2Of(t, raw)
	dir := t.TempDir()
	for name, c := range map[string]struct {
		file []byte
		asIs bool
	}{"raw": {raw, false}, "QCOW2": {q, false}, "as it is": {q, true}} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(c.file)))
			_, _ = w.Write(c.file)
		})
		b, err := open(t.Context(), here(s), Request{URL: s.URL}, quick())
		if err != nil {
			t.Fatal(err)
		}
		d, err := OpenDisk(b, dir, 0, c.asIs)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, in := c.file, io.Reader(d)
		if name == "QCOW2" {
			if in, err = qcow2.NewStream(d); err != nil {
				t.Fatal(err)
			}
			want = raw
		} else if d.Size != int64(len(c.file)) {
			t.Errorf("%s: %d bytes are announced", name, d.Size)
		}
		if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		d.Close()
		b.Close()
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(q) })
	b, err := open(t.Context(), here(s), Request{URL: s.URL}, quick())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := OpenDisk(b, dir, 1<<62, false); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("where space is to be left: %v", err)
	}
}
