package httpapi_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// watcher reads a stream on a goroutine of its own.
type watcher struct {
	t      *testing.T
	events chan v1.Event
	at     string // where to go on
	end    context.CancelFunc
}

func watch(t *testing.T, c *client.Client, after string) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{t: t, events: make(chan v1.Event), at: after, end: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(w.events)
		err := c.Watch(ctx, after, func(e v1.Event) error {
			select {
			case w.events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until reads up to an event, which it returns with what came before it in words.
func (w *watcher) until(what string, is func(v1.Event) bool) (v1.Event, string) {
	w.t.Helper()
	var before []string
	deadline := time.After(time.Minute)
	for {
		select {
		case e := <-w.events:
			if e.At != "" {
				w.at = e.At
			}
			if is(e) {
				return e, strings.Join(before, " ")
			}
			before = append(before, words(e))
		case <-deadline:
			w.t.Fatalf("no %s; only %v", what, before)
		}
	}
}

func words(e v1.Event) string {
	switch {
	case e.Gone:
		return e.Kind + "-gone"
	case e.VM != nil:
		return "vm:" + e.VM.Name + ":" + e.VM.State
	case e.Host != nil:
		return "host:" + e.Host.Name + ":" + e.Host.State
	case e.Volume != nil:
		return "volume:" + e.Volume.Name
	}
	return e.Kind
}

func kind(k string) func(v1.Event) bool { return func(e v1.Event) bool { return e.Kind == k } }

func TestAWatcherIsToldEverythingAndThenEachChange(t *testing.T) {
	ctx := context.Background()
	b := apitest.Three()
	c, _ := serve(t, b)
	w := watch(t, c, "")
	_, before := w.until("ready", kind("ready"))
	if want := "all host:alpha:alive host:beta:alive host:gamma:alive disk disk disk status"; before != want {
		t.Errorf("told at first: %s; want %s", before, want)
	}
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: -1}, strings.NewReader(strings.Repeat("x", 9000))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVM(ctx, v1.VMSpec{Name: "db1", Image: "deb"}); err != nil {
		t.Fatal(err)
	}
	w.until("running VM", func(e v1.Event) bool { return e.VM != nil && e.VM.State == "running" })
	w.until("sentence", func(e v1.Event) bool {
		return e.Status != nil && strings.HasPrefix(e.Status.Sentence, "The 1 VM is running")
	})
	b.Lose("gamma")
	w.until("lost host", func(e v1.Event) bool { return words(e) == "host:gamma:away" })
	last, _ := w.until("status after that", func(e v1.Event) bool { return e.Status != nil && e.Status.Counts.HostsAlive == 2 })
	if last.At == "" || last.Status.Host != (v1.Self{}) {
		t.Errorf("the end of a batch: %+v", last)
	}
	if err := c.DeleteVM(ctx, "db1", v1.VMRemoval{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.until("end of the VM", func(e v1.Event) bool { return e.Kind == "vm" && (e.Gone || e.VM.State == "deleting") })
}

// A stream that broke off goes on where it ended, and tells what was missed, once.
// A host that has not followed for so long tells everything instead.
func TestAStreamGoesOn(t *testing.T) {
	ctx := context.Background()
	b := apitest.Three()
	c, _ := serve(t, b)
	stays := watch(t, c, "")
	stays.until("ready", kind("ready"))
	w := watch(t, c, "")
	w.until("ready", kind("ready"))
	w.end()
	for _, name := range []string{"one", "two"} {
		if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		stays.until(name, func(e v1.Event) bool { return e.Volume != nil && e.Volume.Name == name })
	}
	if err := c.DeleteVolume(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	stays.until("its end", func(e v1.Event) bool { return e.Kind == "volume" && (e.Gone || e.Volume.State == "deleting") })
	_, missed := watch(t, c, w.at).until("ready", kind("ready"))
	if strings.Contains(missed, "all") || strings.Count(missed, "volume:two") != 1 || strings.Contains(missed, "host:") || !strings.HasSuffix(missed, "status") {
		t.Errorf("missed: %s", missed)
	}
	other, _ := serve(t, b) // whose journal begins now
	_, told := watch(t, other, w.at).until("ready", kind("ready"))
	if !strings.HasPrefix(told, "all host:alpha:alive") || !strings.Contains(told, "volume:two") {
		t.Errorf("another host tells: %s", told)
	}
}

// A control plane that was rebuilt counts its revisions anew. Who watched before is
// told what it missed all the same.
func TestAStreamGoesOnAfterARecovery(t *testing.T) {
	ctx := context.Background()
	b := apitest.Three()
	b.St.Rev += 100
	c, _ := serve(t, b)
	w := watch(t, c, "")
	w.until("ready", kind("ready"))
	w.end()
	b.St.Cluster.Past, b.St.Rev = b.St.Rev, 1
	other, _ := serve(t, b)
	stays := watch(t, other, "")
	stays.until("ready", kind("ready")) // the journal begins at revision 1
	for i := range 3 {
		name := fmt.Sprint("new", i)
		if _, err := other.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		stays.until(name, func(e v1.Event) bool { return e.Volume != nil && e.Volume.Name == name })
	}
	if _, missed := watch(t, other, w.at).until("ready", kind("ready")); !strings.Contains(missed, "volume:new2") {
		t.Errorf("missed: %s", missed)
	}
}

// While the control plane is away the status says so, nothing is told of as gone,
// and afterwards the stream goes on.
func TestAWatcherOfABlindHost(t *testing.T) {
	b := apitest.Three()
	c, _ := serve(t, b)
	w := watch(t, c, "")
	w.until("ready", kind("ready"))
	b.SetReport(httpapi.Report{Stale: "this host has not reached a majority"})
	w.until("warning", func(e v1.Event) bool {
		return e.Status != nil && strings.HasPrefix(e.Status.Sentence, "This may be out of date")
	})
	b.SetReport(httpapi.Report{})
	b.Lose("beta")
	_, before := w.until("lost host", func(e v1.Event) bool { return words(e) == "host:beta:away" })
	if strings.Contains(before, "gone") {
		t.Errorf("told meanwhile: %s", before)
	}
}

func TestWatchersAreLimitedAndUnderstood(t *testing.T) {
	b := apitest.Three()
	c, socket := serve(t, b)
	for _, bad := range []string{"?after=x", "?after=-1", "?topic=vm", fmt.Sprintf("?after=%s", strings.Repeat("9", 30))} {
		if code, p := raw(t, socket, "GET", "/v1/watch"+bad, ""); code != 400 || !strings.Contains(p.Detail, "query.") {
			t.Errorf("%s: %d, %s", bad, code, p.Detail)
		}
	}
	alone, _ := serve(t, apitest.New())
	if err := alone.Watch(context.Background(), "", nil); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a host in no cluster: %v", err)
	}
	var all []*watcher
	for range 256 {
		w := watch(t, c, "")
		w.until("ready", kind("ready"))
		all = append(all, w)
	}
	if err := c.Watch(context.Background(), "", nil); !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "watch another") {
		t.Errorf("one too many: %v", err)
	}
	all[17].end()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until the host has noticed
		ctx, cancel := context.WithCancel(context.Background())
		err := c.Watch(ctx, "", func(v1.Event) error { cancel(); return nil })
		if cancel(); errors.Is(err, context.Canceled) {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// A browser has the stream packed; it ends as one that is not.
func TestAPackedStreamIsTheSame(t *testing.T) {
	b := apitest.Three()
	_, socket := serve(t, b)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	told := func(accept string) (coding, text string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://holdfast/v1/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", accept)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		var in io.Reader = resp.Body
		if coding = resp.Header.Get("Content-Encoding"); coding == "gzip" {
			if in, err = gzip.NewReader(in); err != nil {
				t.Fatal(err)
			}
		}
		lines := bufio.NewScanner(in)
		for lines.Scan() && lines.Text() != "event: ready" {
			text += lines.Text() + "\n"
		}
		return coding, text
	}
	coding, plain := told("identity")
	if coding != "" || !strings.Contains(plain, "gamma") {
		t.Errorf("%q: %.200s", coding, plain)
	}
	coding, packed := told("br, gzip")
	if coding != "gzip" || packed != plain {
		t.Errorf("%q: %.200s", coding, packed)
	}
}
