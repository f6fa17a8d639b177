package serve

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

func TestASnapshotOfAnExportHasANameThatIsTaken(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 37, 25, 1000, time.FixedZone("east", 3600))
	name := exportName(now)
	if err := holdfast.CheckName("snapshot", name); err != nil || name != "export-20261122-093725-000001" {
		t.Errorf("%s: %v", name, err)
	}
}

// leaving is a disk on its way out, of which some is stored, and the disk's bytes.
func leaving(t *testing.T, raw bool) (*copyingOut, []byte) {
	t.Helper()
	const size = 3<<20 + 2*holdfast.BlockSize
	target, err := memexport.New(size, false)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := target.Open(false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := qcow2.NewMap(size)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, size)
	for _, off := range []int{0, 1 << 20, 1<<20 + 1<<16, size - holdfast.BlockSize} {
		b := content[off : off+holdfast.BlockSize]
		copy(b, bytes.Repeat([]byte{byte(off>>16 + 1)}, len(b)))
		if err := do(disk, export.Request{Op: export.Write, Off: int64(off), Length: int64(len(b)), Data: b}); err != nil {
			t.Fatal(err)
		}
		m.Add(int64(off), int64(len(b)))
	}
	return &copyingOut{ctx: t.Context(), size: size, disk: disk, m: m, raw: raw, ended: func() {}}, content
}

func TestAnExportIsTheSameHoweverItIsTaken(t *testing.T) {
	for _, raw := range []bool{false, true} {
		o, content := leaving(t, raw)
		var written bytes.Buffer
		n, err := o.WriteTo(&written)
		if o.Close(); err != nil || n != int64(written.Len()) {
			t.Fatalf("raw %v: %d bytes of %d: %v", raw, n, written.Len(), err)
		}
		o, _ = leaving(t, raw)
		begun := make([]byte, 100)
		if _, err := io.ReadFull(o, begun); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(o)
		if o.Close(); err != nil || !bytes.Equal(append(begun, rest...), written.Bytes()) {
			t.Errorf("raw %v: read it is another file: %v", raw, err)
		}
		got := io.Reader(&written)
		if !raw {
			if got, err = qcow2.NewStream(&written); err != nil {
				t.Fatal(err)
			}
		}
		if all, err := io.ReadAll(got); err != nil || !bytes.Equal(all, content) {
			t.Errorf("raw %v: it is another disk: %v", raw, err)
		}
	}
}

func TestAnExportThatIsLeftEnds(t *testing.T) {
	o, _ := leaving(t, false)
	if _, err := io.ReadFull(o, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	o.Close()
	if _, err := o.Read(make([]byte, 1)); err == nil {
		t.Error("it goes on")
	}
}
