package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestADataDirectoryKeepsItsHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(path, newUUID)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := d.membership(); m != nil || err != nil {
		t.Fatalf("a new directory is in cluster %v, %v", m, err)
	}
	want := membership{Cluster: holdfast.ClusterID{UUID: holdfast.UUID{1}}, Name: "field", Disks: []string{"/dev/sdb"}}
	if err := d.write("cluster.json", want); err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(path, newUUID); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("a second process: %v", err)
	}
	d.close()
	e, err := openDataDir(path, newUUID)
	if err != nil || e.id != d.id {
		t.Fatalf("opened again: host %v, %v; was %v", e.id, err, d.id)
	}
	defer e.close()
	if m, err := e.membership(); err != nil || m.Cluster != want.Cluster || len(m.Disks) != 1 {
		t.Errorf("membership %v, %v", m, err)
	}
}

// FuzzDataDir opens a directory with any files: it opens, or says why not, and
// changes neither file.
func FuzzDataDir(f *testing.F) {
	f.Add(`{"format": 20261121, "host": "00000000-0000-4000-8000-000000000001"}`, `{"cluster": "00000000-0000-4000-8000-000000000002"}`)
	f.Add(`{"format": 99999999}`, `[]`)
	f.Add(``, `{"disks": 1}`)
	f.Fuzz(func(t *testing.T, host, member string) {
		dir := t.TempDir()
		for name, text := range map[string]string{"host.json": host, "cluster.json": member} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := openDataDir(dir, newUUID)
		if err == nil {
			if d.id.Host.IsZero() || d.id.Format > dataFormat {
				t.Errorf("opened as %v", d.id)
			}
			if m, err := d.membership(); err == nil && m.Cluster.IsZero() {
				t.Error("a membership in no cluster")
			}
			d.close()
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not say where: %v", err)
		}
		for name, text := range map[string]string{"host.json": host, "cluster.json": member} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
				t.Errorf("%s was changed", name)
			}
		}
	})
}
