package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// A bundle has everything that there is to have, says what it lacks, and nothing in
// it is a secret.
func TestABundleKeepsSecrets(t *testing.T) {
	ctx := context.Background()
	srv := httpapi.New(httpapi.Options{Backend: apitest.Three(), Version: "test"})
	sock := filepath.Join(t.TempDir(), "s")
	if err := srv.ServeUnix(sock); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		srv.Close(ended)
	}()
	c := client.Socket(sock)
	defer c.Close()
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: -1}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVM(ctx, v1.VMSpec{Name: "db1", Image: "deb", UserData: "#cloud-config\npassword: hunter2\n", SSHKeys: []string{"ssh-ed25519 AAAAhunter2 me"}}); err != nil {
		t.Fatal(err)
	}
	var out, told bytes.Buffer
	if err := gather(ctx, c, "test", time.Unix(0, 0), &out, &told); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, &out)
	for name, text := range files {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", name, text)
		}
	}
	for name, has := range map[string]string{"status.json": "sentence", "vms.json": "db1", "hosts.json": "gamma", "volumes.json": "db1", "metrics.txt": "holdfast_build_info",
		"hosts/alpha/stacks.txt": "goroutine", "hosts/alpha/log.txt": "begun", "hosts/beta/process.json": "beta", "missing.txt": "host gamma: it did not answer", "README.txt": "Left out"} {
		if !strings.Contains(files["holdfast-debug/"+name], has) {
			t.Errorf("%s has no %q: %.200s", name, has, files["holdfast-debug/"+name])
		}
	}
	if !strings.Contains(told.String(), "without host gamma") {
		t.Errorf("told: %s", told.String())
	}
}

func unpack(t *testing.T, r io.Reader) map[string]string {
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(b)
	}
}

func TestWhoDoesMostComesFirst(t *testing.T) {
	at := time.Unix(100, 0)
	look := func(name string, epoch uint32, after time.Duration, read, written int64) used {
		return used{v1.Volume{ID: name, Name: name}, at.Add(after), v1.Activity{Epoch: epoch, ReadBytes: read, WrittenBytes: written}}
	}
	was := map[string]used{"a": look("a", 1, 0, 0, 100), "b": look("b", 1, 0, 5, 5), "moved": look("moved", 1, 0, 1, 1)}
	is := map[string]used{"a": look("a", 1, 2*time.Second, 0, 300), "b": look("b", 1, 2*time.Second, 1005, 5), "moved": look("moved", 2, 2*time.Second, 9e9, 9e9), "new": look("new", 1, 0, 7, 7)}
	var names []string
	for _, b := range busiest(was, is) {
		names = append(names, b.volume.Name)
		if b.volume.Name == "a" && (b.written != 100 || b.read != 0) || b.volume.Name == "b" && b.read != 500 {
			t.Errorf("%s: %v read, %v written a second", b.volume.Name, b.read, b.written)
		}
	}
	if got := strings.Join(names, " "); got != "b a moved new" {
		t.Errorf("in the order %s", got)
	}
}

func TestWhatVolumesDidLatelyIsDrawn(t *testing.T) {
	lately := history{}
	look := func(figures map[string]float64) (shown []string) {
		var all []busy
		for _, name := range slices.Sorted(maps.Keys(figures)) {
			all = append(all, busy{used: used{volume: v1.Volume{ID: name, Name: name}}, written: figures[name]})
		}
		for _, b := range lately.add(all) {
			shown = append(shown, b.volume.Name+" "+spark(b.lately))
		}
		return shown
	}
	look(map[string]float64{"a": 0, "b": 0})
	look(map[string]float64{"a": 100, "b": 0, "c": 5})
	if got := strings.Join(look(map[string]float64{"a": 50, "b": 0}), ", "); got != "a ▁█▄, b ▁▁▁" {
		t.Error(got)
	}
	for range 2 * topSpan {
		look(map[string]float64{"a": 1, "c": 1})
	}
	if got := strings.Join(look(map[string]float64{"a": 8, "b": 3}), ", "); got != "a ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█, b █" {
		t.Error(got)
	}
}
