package serve

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// A host gets an image from a server that dies in the middle, and tells of it as a
// task, which outlives the host's process; what that was at is interrupted.
func TestAHostGetsAnImageByURL(t *testing.T) {
	t.Parallel()
	disk := make([]byte, 5<<20)
	for i := range disk {
		disk[i] = byte(i >> 12)
	}
	over := make(chan struct{})
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		switch {
		case r.URL.Path == "/hangs":
			w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
			_, _ = w.Write(disk[:1<<20])
			_ = http.NewResponseController(w).Flush()
			<-over
		case r.Header.Get("Range") == "":
			w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
			_, _ = w.Write(disk[:2<<20])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(disk))
		}
	}))
	defer web.Close()
	defer close(over)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newBoxWith(t, 172, "a", "fetch: {private: [127.0.0.1/32], ca: "+ca+"}\n")
	if err := a.founds("field"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.api.AddDisk(t.Context(), v1.DiskSpec{Path: a.conf.DataDir + "/disk", Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	var end v1.Task
	until(t, "the image is there", func() bool {
		is, err := a.api.FetchImage(t.Context(), v1.ImageFetch{Name: "debian", URL: web.URL, Copies: 1})
		if err == nil {
			end, err = a.api.WaitTask(t.Context(), is.ID, time.Second, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return end.State == "done" // or the disk is not in use yet
	})
	v, err := a.api.Image(t.Context(), "debian")
	if err != nil || v.Size != int64(len(disk)) || v.State == "importing" {
		t.Errorf("%+v, %v", v, err)
	}
	is, err := a.api.FetchImage(t.Context(), v1.ImageFetch{Name: "never", URL: web.URL + "/hangs", Copies: 1})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it has begun", func() bool {
		now, err := a.api.Task(t.Context(), is.ID)
		return err == nil && now.Progress > 0
	})
	a.stop()
	a.start()
	until(t, "the tasks are told of again", func() bool {
		was, err := a.api.Task(t.Context(), is.ID)
		done, derr := a.api.Task(t.Context(), end.ID)
		return err == nil && was.State == "interrupted" && derr == nil && done.State == "done"
	})
	until(t, "what was half imported is gone", func() bool {
		_, err := a.api.Image(t.Context(), "never")
		return holdfast.IsKind(err, holdfast.NotFound)
	})
}
