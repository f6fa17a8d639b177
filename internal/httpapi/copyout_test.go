package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

func TestWhatIsExportedCanBeImported(t *testing.T) {
	ctx := context.Background()
	c, _ := serve(t, apitest.Three())
	disk := append(bytes.Repeat([]byte("holdfast"), 20_000), make([]byte, 3840)...)
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: int64(len(disk))}, bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	get := func(r io.ReadCloser, n int64, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil || int64(len(b)) != n {
			t.Fatalf("%d bytes of %d: %v", len(b), n, err)
		}
		return b
	}
	if raw := get(c.ExportImage(ctx, "deb", client.CopyOut{Raw: true})); !bytes.Equal(raw, disk) {
		t.Error("raw, the image is another")
	}
	file := get(c.ExportImage(ctx, "deb", client.CopyOut{}))
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "again", Size: int64(len(file))}, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if raw := get(c.ExportImage(ctx, "again", client.CopyOut{Raw: true})); !bytes.Equal(raw, disk) {
		t.Error("exported and imported, the image is another")
	}
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "half", Size: int64(len(file) - 1)}, bytes.NewReader(file[:len(file)-1])); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("half of it: %v", err)
	}
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "data", From: "deb"}); err != nil {
		t.Fatal(err)
	}
	if n := len(get(c.ExportVolume(ctx, "data", client.CopyOut{Raw: true}))); n != len(disk) {
		t.Errorf("the volume has %d bytes", n)
	}
	if _, _, err := c.ExportVolume(ctx, "data", client.CopyOut{Snapshot: "monday"}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
	if _, _, err := c.ExportImage(ctx, "nosuch", client.CopyOut{}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
}
