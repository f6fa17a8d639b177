package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// here lets a test fetch from a server of its own.
func here(s *httptest.Server) Policy {
	p := Policy{Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, PlainHTTP: true, Roots: x509.NewCertPool()}
	if s != nil && s.Certificate() != nil {
		p.Roots.AddCert(s.Certificate())
	}
	return p
}

// quick waits for nothing.
func quick() limits {
	l := usual()
	l.pause = 0
	return l
}

// content is a file that is not the same anywhere.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16) ^ byte(i>>8)*7 ^ byte(i)*31
	}
	return b
}

// run reads a whole file.
func run(t *testing.T, p Policy, r Request, l limits) ([]byte, error) {
	t.Helper()
	b, err := open(t.Context(), p, r, l)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

func serve(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func TestAFileIsFetchedAndChecked(t *testing.T) {
	file := content(3 << 20)
	sum := sha256.Sum256(file)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "identity" || r.Referer() != "" || r.Header.Get("Cookie") != "" {
			t.Errorf("asked with %v", r.Header)
		}
		_, _ = w.Write(file)
	})
	got, err := run(t, here(s), Request{URL: s.URL, Sum: hex.EncodeToString(sum[:])}, quick())
	if err != nil || !bytes.Equal(got, file) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	b, err := open(t.Context(), here(s), Request{URL: s.URL, Sum: strings.Repeat("0", 64)}, quick())
	if err != nil || b.Err() != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(b); err != b.Err() {
		t.Errorf("another sum: %v, and later %v", err, b.Err())
	}
	b.Close()
	if !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), hex.EncodeToString(sum[:])) {
		t.Errorf("another sum: %v", err)
	}
}

func TestAServerThatIsNotKnownIsRefused(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {})
	if _, err := run(t, here(nil), Request{URL: s.URL}, quick()); !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}

// What must not be reached is not, however it is spelt and whoever leads there: not
// even a connection comes.
func TestNothingInsideIsReached(t *testing.T) {
	var reached atomic.Int32
	inside := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") }))
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	inside.Listener = counted{inside.Listener, &reached}
	inside.Start()
	t.Cleanup(inside.Close)
	strict := Policy{PlainHTTP: true} // so that nothing else stops it
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "0.0.0.0", "[::]", "2130706433", "0177.0.0.1", "017700000001", "0x7f000001", "0x7f.0.0.1", "127.1", "127.0.0.1.",
		"169.254.169.254", "[fe80::1%25lo]", "localhost", "LOCALHOST", "localhost.", "10.0.0.1", "192.168.0.1", "100.64.0.1", "224.0.0.1", "[fd00::1]"} {
		_, err := run(t, strict, Request{URL: "http://" + host + ":" + port + "/"}, quick())
		if err == nil {
			t.Errorf("%s was reached", host)
		}
		if !holdfast.IsKind(err, holdfast.Denied) && !holdfast.IsKind(err, holdfast.Invalid) && host != "localhost." {
			t.Errorf("%s: %v", host, err)
		}
	}
	// A server that is allowed leads to what is not.
	for _, to := range []string{"http://127.0.0.2:" + port, "http://[::1]:" + port, "http://2130706433:" + port, "http://169.254.169.254/", "file:///etc/passwd", "gopher://127.0.0.2:" + port, "http://a:b@127.0.0.1:" + port} {
		outer := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
		if _, err := run(t, here(outer), Request{URL: outer.URL}, quick()); err == nil {
			t.Errorf("by way of another server %s was reached", to)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections came", n)
	}
	// The same server is reached where that is allowed: it is the policy that stopped them.
	if got, err := run(t, here(nil), Request{URL: "http://127.0.0.1:" + port}, quick()); err != nil || string(got) != "secret" || reached.Load() != 1 {
		t.Errorf("where it is allowed: %q, %v", got, err)
	}
}

type counted struct {
	net.Listener
	n *atomic.Int32
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// A name is judged by what it leads to when it is dialled, not when it was looked at.
func TestANameIsJudgedWhenItIsDialled(t *testing.T) {
	p := Policy{}
	if _, err := p.ParseURL("https://localhost/"); err != nil {
		t.Fatalf("a name alone: %v", err)
	}
	for network, address := range map[string]string{"tcp4": "127.0.0.1:443", "tcp6": "[::1]:443", "tcp": "1.1.1.1:443", "udp4": "1.1.1.1:443", "unix": "/run/x"} {
		if err := p.dialled(network, address); !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%s %s: %v", network, address, err)
		}
	}
	if err := p.dialled("tcp4", "1.1.1.1:443"); err != nil {
		t.Error(err)
	}
}

func TestRedirects(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n := len(r.URL.Path); {
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case r.URL.Path == "/plain":
			http.Redirect(w, r, "http://127.0.0.1/x", http.StatusFound)
		case n > 1:
			http.Redirect(w, r, r.URL.Path[:n-1], http.StatusFound)
		default:
			fmt.Fprint(w, "here")
		}
	})
	if got, err := run(t, here(s), Request{URL: s.URL + "/xxxxx"}, quick()); err != nil || string(got) != "here" {
		t.Errorf("five redirects: %q, %v", got, err)
	}
	for _, path := range []string{"/xxxxxx", "/loop"} {
		if _, err := run(t, here(s), Request{URL: s.URL + path}, quick()); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "more than 5") {
			t.Errorf("%s: %v", path, err)
		}
	}
	p := here(s)
	p.PlainHTTP = false
	if _, err := run(t, p, Request{URL: s.URL + "/plain"}, quick()); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("from https to http: %v", err)
	}
}

func TestWhatIsTooLargeIsRefused(t *testing.T) {
	var sent atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/said" {
			w.Header().Set("Content-Length", "100000000")
			return
		}
		b := content(64 << 10)
		for { // for ever
			n, err := w.Write(b)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	})
	for _, path := range []string{"/said", "/endless"} {
		got, err := run(t, here(s), Request{URL: s.URL + path, Max: 1 << 20}, quick())
		if !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "too large") || len(got) > 1<<20 {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	s.CloseClientConnections()
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d bytes were sent all the same", n)
	}
	p := here(s)
	p.MaxSize = 1000
	if _, err := run(t, p, Request{URL: s.URL + "/endless", Max: 1 << 30}, quick()); err == nil || !strings.Contains(err.Error(), "1000 bytes are allowed") {
		t.Errorf("more than the policy allows: %v", err)
	}
}

// flaky serves a file and breaks each connection after a while.
type flaky struct {
	file   []byte
	tag    func(turn int32) string
	each   int // bytes until it breaks
	ranges bool
	turn   atomic.Int32
	asked  []string
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turn := f.turn.Add(1)
	f.asked = append(f.asked, r.Header.Get("Range"))
	from := 0
	if tag := f.tag(turn); tag != "" {
		w.Header().Set("ETag", tag)
	}
	if f.ranges && r.Header.Get("Range") != "" && r.Header.Get("If-Range") == f.tag(turn) {
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(f.file)-1, len(f.file)))
		w.Header().Set("Content-Length", fmt.Sprint(len(f.file)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(f.file)))
	}
	rest := f.file[from:]
	_, _ = w.Write(rest[:min(f.each, len(rest))])
	_ = http.NewResponseController(w).Flush()
	if len(rest) > f.each {
		panic(http.ErrAbortHandler)
	}
}

func always(tag string) func(int32) string { return func(int32) string { return tag } }

func TestABrokenConnectionIsGoneOnWith(t *testing.T) {
	file := content(5 << 20)
	sum := sha256.Sum256(file)
	f := &flaky{file: file, tag: always(`"one"`), each: 3 << 19, ranges: true}
	s := serve(t, f.ServeHTTP)
	var said []string
	got, err := run(t, here(s), Request{URL: s.URL, Sum: hex.EncodeToString(sum[:]), Say: func(text string) { said = append(said, text) }}, quick())
	if err != nil || !bytes.Equal(got, file) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n := int(f.turn.Load()); n < 4 || len(said) != n-1 {
		t.Errorf("%d connections, told of: %q", n, said)
	}
	if f.asked[0] != "" || f.asked[1] == "" {
		t.Errorf("asked for %q", f.asked)
	}
}

func TestWhatIsNotTheSameFileIsNotGoneOnWith(t *testing.T) {
	file := content(2 << 20)
	for name, f := range map[string]*flaky{
		"another file":  {file: file, tag: func(n int32) string { return fmt.Sprintf(`"%d"`, n) }, each: 1 << 20, ranges: true},
		"no parts":      {file: file, tag: always(`"one"`), each: 1 << 20},
		"nothing known": {file: file, tag: always(""), each: 1 << 20, ranges: true},
		"a weak tag":    {file: file, tag: always(`W/"one"`), each: 1 << 20, ranges: true},
	} {
		s := serve(t, f.ServeHTTP)
		got, err := run(t, here(s), Request{URL: s.URL}, quick())
		if !holdfast.IsKind(err, holdfast.Unavailable) || len(got) > 1<<20 || !strings.Contains(err.Error(), "import it again") {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// A part that lies about what it is of is not taken for the rest.
func TestPartsThatLie(t *testing.T) {
	file := content(2 << 20)
	for _, says := range []string{"", "bytes */2097152", "bytes 0-2097151/2097152", "bytes 1048577-2097151/2097152", "bytes 1048576-2097151/9999999", "bytes 1048576-1048580/2097152", "bytes x"} {
		var turn atomic.Int32
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"one"`)
			if turn.Add(1) == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(file)))
				_, _ = w.Write(file[:1<<20])
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Range", says)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(file[1<<20:])
		})
		if got, err := run(t, here(s), Request{URL: s.URL}, quick()); !holdfast.IsKind(err, holdfast.Unavailable) || len(got) > 1<<20 {
			t.Errorf("%q: %d bytes, %v", says, len(got), err)
		}
	}
}

func TestAServerThatNeverGetsThereIsGivenUp(t *testing.T) {
	f := &flaky{file: content(1 << 20), tag: always(`"one"`), each: 100, ranges: true}
	s := serve(t, f.ServeHTTP)
	l := quick()
	l.least = 1000
	_, err := run(t, here(s), Request{URL: s.URL}, l)
	if !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "no going on") {
		t.Errorf("%v", err)
	}
	if n := int(f.turn.Load()); n > 2*l.tries {
		t.Errorf("%d connections", n)
	}
}

// A server that keeps the line open and sends next to nothing does not hold a host.
func TestSlowServersAreGivenUp(t *testing.T) {
	over := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-over
			return
		}
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		<-over
		panic(http.ErrAbortHandler)
	})
	defer close(over)
	l := quick()
	l.pace, l.answer, l.tries = 20*time.Millisecond, 5*time.Second, 2
	_, err := run(t, here(s), Request{URL: s.URL + "/drip"}, l)
	if !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "no going on") && !strings.Contains(err.Error(), "begins anew") {
		t.Errorf("a drip: %v", err)
	}
	l.answer = 20 * time.Millisecond
	if _, err = run(t, here(s), Request{URL: s.URL + "/silent"}, l); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("no answer: %v", err)
	}
}

func TestWhatServersAnswer(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &code)
		if code == 200 {
			w.Header().Set("Content-Encoding", "br")
		}
		w.WriteHeader(code)
	})
	for code, kind := range map[int]holdfast.Kind{404: holdfast.NotFound, 410: holdfast.NotFound, 403: holdfast.Invalid, 401: holdfast.Invalid, 204: holdfast.Invalid, 206: holdfast.Invalid, 304: holdfast.Invalid, 500: holdfast.Unavailable, 503: holdfast.Unavailable, 429: holdfast.Unavailable, 200: holdfast.Invalid} {
		if _, err := run(t, here(s), Request{URL: fmt.Sprintf("%s/%d", s.URL, code)}, quick()); !holdfast.IsKind(err, kind) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

func TestAFetchEndsWhenNobodyWantsIt(t *testing.T) {
	begun, over := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-over
	})
	defer close(over)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := open(ctx, here(s), Request{URL: s.URL}, quick())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	<-begun
	cancel()
	if _, err := io.ReadAll(b); err != context.Canceled {
		t.Errorf("%v", err)
	}
}
