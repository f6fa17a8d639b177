package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/alert"
	"github.com/holdfast-cloud/holdfast/internal/audit"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/image/fetch"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/once"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
	"github.com/holdfast-cloud/holdfast/internal/task"
	"github.com/holdfast-cloud/holdfast/internal/web"
	"github.com/holdfast-cloud/holdfast/internal/web/webtest"
)

var rewrite = flag.Bool("rewrite", false, "write what came out to testdata")

func TestMain(m *testing.M) {
	programtest.Main()
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// A script is a conversation: lines that start with "$ holdfast" are command
// lines, a line "< text" before one is its standard input, what follows is
// what it printed (standard error marked with "!"), and its exit status if
// that is not 0. Lines that start with # are comments, "% word" does something
// to the fake cluster. Paths are below the script's own directory DIR.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := converse(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s: it now reads (run with -rewrite to accept)\n%s", file, got)
			}
		})
	}
}

// still is a clock whose calendar stands still.
type still struct{ clock.System }

// Wall implements clock.Clock.
func (still) Wall() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// talk is one conversation under way.
type talk struct {
	t    *testing.T
	dir  string
	b    *apitest.Backend
	srv  *httpapi.Server
	a    *account.Store
	log  *audit.Log
	long *task.Store
	web  *httptest.Server // with an image of 64 KiB at /disk.raw; hosts may fetch from it
	sock string
	in   string
}

func converse(t *testing.T, script string) string {
	k := &talk{t: t, dir: t.TempDir()}
	k.fresh(apitest.New())
	defer k.stop()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			if out.Len() > 0 {
				fmt.Fprintln(&out)
			}
			fmt.Fprintln(&out, line)
		case strings.HasPrefix(line, "% "):
			fmt.Fprintln(&out, line)
			k.do(strings.Fields(line)[1:])
		case strings.HasPrefix(line, "< "):
			fmt.Fprintln(&out, line)
			k.in += strings.TrimPrefix(line, "< ") + "\n"
		case strings.HasPrefix(line, "$ holdfast"):
			fmt.Fprintln(&out, line)
			out.WriteString(k.run(strings.TrimPrefix(line, "$ holdfast")))
		}
	}
	return out.String()
}

func (k *talk) fresh(b *apitest.Backend) {
	k.stop()
	k.b = b
	b.Echo = func(s string) string { return "you said " + s }
	kvs := memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: func(string) *mrand.Rand { return mrand.New(mrand.NewPCG(1, 2)) }, MaxLatency: 1})
	k.a = account.Open(account.Config{KV: kvs.Handle("alpha", clock.System{}), Clock: still{}, Rand: mrand.NewChaCha8([32]byte{1}), Log: slog.New(slog.DiscardHandler)})
	k.log = audit.Open(audit.Config{KV: kvs.Handle("beta", clock.System{}), Clock: still{}, Log: slog.New(slog.DiscardHandler), Host: "alpha"})
	k.long = task.Open(task.Config{KV: kvs.Handle("gamma", clock.System{}), Clock: still{}, Rand: mrand.NewChaCha8([32]byte{2}), Log: slog.New(slog.DiscardHandler), Host: b.Me.ID})
	a, log, long := k.a, k.log, k.long
	keys := &once.Log{KV: kvs.Handle("delta", clock.System{}), Clock: still{}}
	alerts := &alert.Store{KV: kvs.Handle("epsilon", clock.System{}), Clock: still{}, Rand: mrand.NewChaCha8([32]byte{3})}
	pages := &web.Store{KV: kvs.Handle("zeta", clock.System{}), Clock: still{}, Rand: rand.Reader, Cluster: "field"}
	k.srv = httpapi.New(httpapi.Options{Backend: b, Version: "test", Accounts: func() (*account.Store, error) { return a, nil },
		Pages: func() (*web.Store, *web.Page, error) {
			r, err := pages.Ensure()
			if err != nil {
				return nil, nil, err
			}
			p, err := r.Page(pages.Clock.Wall(), rand.Reader)
			if err != nil {
				return nil, nil, err
			}
			site, err := pages.Site()
			return pages, p.With(site), err
		},
		Audit: func() (*audit.Log, error) { return log, nil }, Tasks: func() (*task.Store, error) { return long, nil },
		Once: func() (*once.Log, error) { return keys, nil }, Fetch: k.policy(), Alerts: func() (*alert.Store, error) { return alerts, nil }, AlertLost: func(string, string) {}})
	k.sock = filepath.Join(k.dir, "s")
	if err := k.srv.ServeUnix(k.sock); err != nil {
		k.t.Fatal(err)
	}
}

// policy lets hosts fetch from the web of the conversation.
func (k *talk) policy() (p fetch.Policy) {
	if k.web != nil {
		p = fetch.Policy{Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Roots: x509.NewCertPool()}
		p.Roots.AddCert(k.web.Certificate())
	}
	return p
}

func (k *talk) stop() {
	if k.srv != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		k.srv.Close(ctx)
		k.a.Close()
		k.log.Close()
		k.long.Close()
		k.srv = nil
	}
}

// do acts on the fake cluster.
func (k *talk) do(words []string) {
	switch words[0] {
	case "three":
		k.fresh(apitest.Three())
	case "stop":
		k.stop()
	case "web":
		k.web = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/disk.raw" {
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write(bytes.Repeat([]byte("disk"), 16<<10))
		}))
		k.t.Cleanup(k.web.Close)
		k.fresh(apitest.Three())
	case "written": // so many entries of the audit log
		n, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			k.t.Fatal(err)
		}
		for {
			p, err := k.log.Read(-1, 1)
			if err != nil || p.Next > n {
				k.t.Fatalf("%d entries, %v", p.Next, err)
			}
			if p.Next == n {
				break
			}
			time.Sleep(time.Millisecond)
		}
	case "meanwhile":
		k.meanwhile(words[1], strings.Join(words[2:], " "))
	case "lose":
		k.b.Lose(words[1])
	case "stale":
		k.b.Stale(words[1], words[2])
	case "busy":
		k.b.Busy.Work = k.b.MuchWork()
	case "writes":
		k.b.Write(words[1], words[2])
	case "lock":
		k.b.Lock()
	case "incident":
		opened := time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
		k.b.St.Incidents["1"] = cluster.Versioned[cluster.Incident]{Val: cluster.Incident{ID: "1", Racks: []string{"b"},
			Hosts: []holdfast.HostID{k.b.Host("beta")}, Opened: opened, Steps: []cluster.Step{
				{At: opened, What: "lost", Text: "rack b whole: beta"},
				{At: opened.Add(200 * time.Millisecond), What: "cut", Text: "db1 at \x1b[31mepoch\x1b[0m 2"},
			}}}
	case "file":
		size, err := config.ParseSize(words[2])
		if err != nil {
			k.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(k.dir, words[1]), make([]byte, size), 0o600); err != nil {
			k.t.Fatal(err)
		}
	case "certificate": // for some names, in NAME.crt and NAME.key
		certs, key := webtest.New(k.t, still{}.Wall()).Site(words[2:]...)
		for name, b := range map[string][]byte{words[1] + ".crt": certs, words[1] + ".key": key} {
			if err := os.WriteFile(filepath.Join(k.dir, name), b, 0o600); err != nil {
				k.t.Fatal(err)
			}
		}
	case "text":
		if err := os.WriteFile(filepath.Join(k.dir, words[1]), []byte(strings.Join(words[2:], " ")+"\n"), 0o600); err != nil {
			k.t.Fatal(err)
		}
	default:
		k.t.Fatalf("unknown word %q", words[0])
	}
}

// meanwhile has somebody else PUT something at a path as soon as it was read once.
func (k *talk) meanwhile(path, body string) {
	dial := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(k.dir, "s"))
	}}
	k.t.Cleanup(dial.CloseIdleConnections)
	var once sync.Once
	put := func(r *http.Response) (err error) {
		if r.Request.Method != "GET" || r.Request.URL.Path != path {
			return nil
		}
		once.Do(func() {
			req, _ := http.NewRequest("PUT", "http://holdfast"+path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			var resp *http.Response
			if resp, err = dial.RoundTrip(req); err == nil {
				defer resp.Body.Close()
				if resp.StatusCode != 200 {
					text, _ := io.ReadAll(resp.Body)
					err = fmt.Errorf("meanwhile: %s %s", resp.Status, text)
					k.t.Error(err)
				}
			}
		})
		return err
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Transport: dial, ModifyResponse: put,
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "holdfast" }})
	l, err := net.Listen("unix", filepath.Join(k.dir, "front"))
	if err != nil {
		k.t.Fatal(err)
	}
	front.Listener.Close()
	front.Listener = l
	front.Start()
	k.t.Cleanup(front.Close)
	k.sock = l.Addr().String()
}

func (k *talk) run(line string) string {
	var out, errs bytes.Buffer
	names := []string{k.dir, "DIR", "\r", ""}
	if line = strings.ReplaceAll(line, "DIR", k.dir); k.web != nil {
		line = strings.ReplaceAll(line, "WEB", k.web.URL)
		names = append(names, k.web.URL, "WEB")
	}
	args := strings.Fields(line)
	status := Run(Env{Version: "test", Stdin: strings.NewReader(k.in), Stdout: &out, Stderr: &errs,
		Getenv: func(key string) string { return map[string]string{"HOLDFAST_SOCKET": k.sock, "HOME": k.dir}[key] },
		Serve: func(_ context.Context, c config.Config) error {
			fmt.Fprintln(&out, "serving", c.Name, "in rack", c.Rack)
			return nil
		},
		Helpers: []Helper{{Name: "jail", Run: func(args []string) int { fmt.Fprintln(&out, "jail", args); return 9 }}},
	}, args)
	k.in = ""
	var all strings.Builder
	all.WriteString(out.String())
	for e := range strings.Lines(errs.String()) {
		all.WriteString("! " + e)
	}
	if status != 0 {
		fmt.Fprintf(&all, "exit %d\n", status)
	}
	return strings.NewReplacer(names...).Replace(all.String())
}
