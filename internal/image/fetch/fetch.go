package fetch

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// limits bound what a server can make a host wait for.
type limits struct {
	redirects int
	answer    time.Duration // to connect, and again to answer
	pace      time.Duration // in which least bytes must come
	least     int64
	tries     int           // in a row that bring less than that
	pause     time.Duration // before the second of them; then twice as long each time
}

func usual() limits {
	return limits{redirects: 5, answer: 20 * time.Second, pace: time.Minute, least: 1 << 20, tries: 6, pause: time.Second}
}

// Request is what is fetched.
type Request struct {
	URL string
	Sum string // SHA-256 of the file as ParseSum gives it; "": not checked
	Max int64  // bytes; 0, or more than the policy's: the policy's
	// Say is told what people should know of: where the connection broke and was
	// gone on with. It may be nil.
	Say func(text string)
	// At is told how many bytes have come, of how many; -1: not known. It may be nil.
	At func(at, size int64)
}

// Body is a file as it comes. It is read to its end by one goroutine; at the end it
// is all there, and has the sum that was asked for. Errors are final: what can be
// tried again has been.
type Body struct {
	ctx    context.Context
	p      Policy
	r      Request
	l      limits
	client *http.Client

	now  io.ReadCloser // the connection's; nil: broken, of why
	why  error
	stop func()
	size int64 // of the file; -1: the end decides
	mark string
	off  int64
	sum  hash.Hash

	mu  sync.Mutex // for who looks at err while somebody reads
	err error

	left  time.Duration // until least bytes must have come
	got   int64         // since then
	tries int
	since int64 // off at the first of the tries
}

// Open asks a server for a file. Kinds: Invalid, the URL, or what the server has is
// no file of the size allowed; Denied, its address is not allowed; NotFound;
// Unavailable, the server.
func Open(ctx context.Context, p Policy, r Request) (*Body, error) { return open(ctx, p, r, usual()) }

func open(ctx context.Context, p Policy, r Request, l limits) (*Body, error) {
	if _, err := p.ParseURL(r.URL); err != nil {
		return nil, err
	}
	if r.Max <= 0 || r.Max > p.maxSize() {
		r.Max = p.maxSize()
	}
	if r.Say == nil {
		r.Say = func(string) {}
	}
	if r.At == nil {
		r.At = func(int64, int64) {}
	}
	b := &Body{ctx: ctx, p: p, r: r, l: l, size: -1, sum: sha256.New(), left: l.pace}
	d := &net.Dialer{Timeout: l.answer, Control: func(network, address string, _ syscall.RawConn) error { return p.dialled(network, address) }}
	b.client = &http.Client{
		Transport: &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.Roots},
			TLSHandshakeTimeout: l.answer, ResponseHeaderTimeout: l.answer, MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives: true, DisableCompression: true}, // and no proxy: it would dial where it likes
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > l.redirects {
				return holdfast.Errorf(holdfast.Invalid, "the server leads from one address to another, more than %d times", l.redirects)
			}
			req.Header.Del("Referer")
			if err := p.check(req.URL); err != nil {
				return holdfast.Errorf(holdfast.KindOf(err), "the server leads to another address: %w", err)
			}
			return nil
		},
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// Size is the file's in bytes, or -1 if only its end will say.
func (b *Body) Size() int64 { return b.size }

// Err is why the file could not be read to its end; nil: nothing is known to be wrong.
func (b *Body) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// Close lets the connection go.
func (b *Body) Close() error {
	b.drop()
	return nil
}

func (b *Body) drop() {
	if b.now != nil {
		b.stop() // first: closing would wait for the rest of the body
		b.now.Close()
		b.now = nil
	}
}

// errOnce is a failure that may be over soon.
type errOnce struct{ error }

func (e errOnce) Unwrap() error { return e.error }

// connect asks for the file, or for the rest of it.
func (b *Body) connect() error {
	ctx, stop := context.WithCancel(b.ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.r.URL, nil)
	if err != nil {
		stop()
		return holdfast.Errorf(holdfast.Invalid, "the URL: %w", err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "holdfast")
	if b.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.off))
		req.Header.Set("If-Range", b.mark)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		stop()
		return b.unreached(err)
	}
	if err = b.accept(resp); err != nil {
		stop()
		resp.Body.Close()
		return err
	}
	b.now, b.stop = resp.Body, stop
	return nil
}

// unreached explains why no answer came.
func (b *Body) unreached(err error) error {
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	var known *holdfast.Error
	if errors.As(err, &known) {
		return known
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return errOnce{holdfast.Errorf(holdfast.Unavailable, "the server cannot be reached: %w", err)}
}

// accept looks at an answer: is it the file, or its rest?
func (b *Body) accept(resp *http.Response) error {
	code := resp.StatusCode
	switch {
	case code == http.StatusNotFound || code == http.StatusGone:
		return holdfast.Errorf(holdfast.NotFound, "the server has no such file (%d)", code)
	case code == http.StatusTooManyRequests || code >= 500:
		return errOnce{holdfast.Errorf(holdfast.Unavailable, "the server cannot send it now (%d)", code)}
	case code == http.StatusPartialContent && b.off > 0:
		return b.acceptRest(resp)
	case code != http.StatusOK:
		return holdfast.Errorf(holdfast.Invalid, "the server does not send the file: it answers %d", code)
	case b.off > 0:
		return holdfast.Errorf(holdfast.Unavailable, "the connection broke after %d bytes, and the server begins anew: it has another file now, or sends no parts; import it again", b.off)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return holdfast.Errorf(holdfast.Invalid, "the server sends the file packed (%.20q): ask for one that is not, or download it and import that", enc)
	}
	if b.size = resp.ContentLength; b.size > b.r.Max {
		return b.tooLarge()
	}
	b.mark = resp.Header.Get("ETag")
	if !strings.HasPrefix(b.mark, `"`) { // weak ones say nothing of bytes
		b.mark = resp.Header.Get("Last-Modified")
	}
	return nil
}

// acceptRest looks at a part: is it the one that is missing, of the same file?
func (b *Body) acceptRest(resp *http.Response) error {
	var from, to, size int64
	n, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
	if n < 3 || err != nil || from != b.off || to != size-1 || b.size >= 0 && size != b.size {
		return holdfast.Errorf(holdfast.Unavailable, "the connection broke after %d bytes, and the server goes on with something else (%.80q); import it again", b.off, resp.Header.Get("Content-Range"))
	}
	if tag := resp.Header.Get("ETag"); strings.HasPrefix(b.mark, `"`) && tag != b.mark {
		return holdfast.Errorf(holdfast.Unavailable, "the connection broke after %d bytes, and the server has another file now; import it again", b.off)
	}
	if b.size = size; size > b.r.Max {
		return b.tooLarge()
	}
	return nil
}

func (b *Body) tooLarge() error {
	is := "more"
	if b.size > 0 {
		is = strconv.FormatInt(b.size, 10) + " bytes"
	}
	return holdfast.Errorf(holdfast.Invalid, "the file is too large: it has %s, and %d bytes are allowed", is, b.r.Max)
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if b.off += int64(n); b.off > b.r.Max {
		n, err = 0, b.tooLarge()
	}
	b.sum.Write(p[:n])
	b.r.At(b.off, b.size)
	if err == io.EOF {
		if is := hex.EncodeToString(b.sum.Sum(nil)); b.r.Sum != "" && is != b.r.Sum {
			err = holdfast.Errorf(holdfast.Invalid, "the file is not the one that was asked for: its SHA-256 is %s, not %s", is, b.r.Sum)
		}
	}
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
	if err != nil {
		b.drop()
	}
	return n, err
}

// read gets some bytes, over one connection or the next. io.EOF: the file is over.
func (b *Body) read(p []byte) (int, error) {
	for {
		n, err := b.some(p)
		whole := b.size < 0 || b.off+int64(n) == b.size
		switch {
		case err == nil || err == io.EOF && whole:
			return n, err
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		b.drop()
		if b.why = err; n > 0 { // first what has come
			return n, nil
		}
		if err := b.again(err); err != nil {
			return 0, err
		}
	}
}

// some reads from the connection, as long as that is quick enough.
func (b *Body) some(p []byte) (int, error) {
	if b.now == nil {
		return 0, b.why
	}
	begun := time.Now()
	slow := time.AfterFunc(b.left, b.stop)
	n, err := b.now.Read(p)
	inTime := slow.Stop()
	b.left -= time.Since(begun)
	if b.got += int64(n); b.got >= b.l.least {
		b.left, b.got = b.l.pace, 0
	}
	if err != nil && err != io.EOF && !inTime {
		err = holdfast.Errorf(holdfast.Unavailable, "less than %d bytes came in %v", b.l.least, b.l.pace)
	}
	return n, err
}

// again connects anew where the last connection broke.
func (b *Body) again(cause error) error {
	if b.off == 0 {
		b.size, b.mark = -1, ""
	} else if b.mark == "" {
		return holdfast.Errorf(holdfast.Unavailable, "the connection broke after %d bytes (%w), and the server does not say by what the same file would be known; import it again", b.off, cause)
	}
	if b.off-b.since >= b.l.least {
		b.tries = 0
	}
	b.since = b.off
	for ; ; b.tries++ {
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if b.tries >= b.l.tries {
			return holdfast.Errorf(holdfast.Unavailable, "the connection broke after %d bytes, and %d times there was no going on: %w", b.off, b.tries, cause)
		}
		b.r.Say(fmt.Sprintf("the connection broke after %d bytes (%v); going on there", b.off, cause))
		select {
		case <-time.After(b.l.pause << b.tries):
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
		b.left, b.got = b.l.pace, 0
		err := b.connect()
		if err == nil {
			b.tries++ // until enough has come
			return nil
		}
		var once errOnce
		if !errors.As(err, &once) {
			return err
		}
		cause = once.error
	}
}
