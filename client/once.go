package client

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

const (
	keyHeader = "Idempotency-Key"
	patience  = 45 * time.Second // with a host that was lost in the middle: longer than one counts as being at it
	firstWait = 100 * time.Millisecond
	longWait  = 2 * time.Second
)

// notSent is why a request did not get to a host at all.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// lost is why no answer came to a request that a host may have had.
type lost struct{ error }

func (e lost) Unwrap() error { return e.error }

// underWay says that a host is at the same request still.
type underWay struct{ error }

func (e underWay) Unwrap() error { return e.error }

// keyless says that a host does not take the key of a request, whatever that is.
type keyless struct{ error }

func (e keyless) Unwrap() error { return e.error }

// create has a host make something, once: if the connection is lost before the answer
// comes, the request is sent again under the same key, until it is known what came of
// it. Kind Unknown: that could not be found out.
func create[T any](ctx context.Context, c *Client, p string, in any) (T, error) {
	var out T
	if ctx.Value(dryKey{}) != nil { // nothing is made
		return out, c.call(ctx, http.MethodPost, p, in, &out)
	}
	return out, c.once(ctx, p, in, &out, rand.Text())
}

func (c *Client) once(ctx context.Context, p string, in, out any, key string) error {
	var since time.Time // the first loss
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		req, err := c.request(ctx, http.MethodPost, p, in)
		if err != nil {
			return err
		}
		if key != "" {
			req.Header.Set(keyHeader, key)
		}
		err = c.send(req, out)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case key != "" && errors.As(err, &keyless{}) && since.IsZero(): // it remembers none now: then it is done without
			key = ""
			continue
		case key == "" || !since.IsZero() && !isGone(err) || since.IsZero() && !errors.As(err, &lost{}):
			return err
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) > patience {
			return holdfast.Errorf(holdfast.Unknown, "%w; whether it was done is not known: look, before you ask for it again", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isGone reports whether it is still to be found out what came of a request.
func isGone(err error) bool {
	return errors.As(err, &lost{}) || errors.As(err, &notSent{}) || errors.As(err, &underWay{})
}

// changed says that something is not what it was when its tag was noted.
type changed struct{ error }

func (e changed) Unwrap() error { return e.error }

// IsChanged reports whether a call with IfMatch was refused because somebody else
// was quicker.
func IsChanged(err error) bool { return errors.As(err, &changed{}) }

type tagKey struct{}
type matchKey struct{}

// WithTag has calls with the context note in tag what a host answers as the ETag of
// what it shows, for IfMatch.
func WithTag(ctx context.Context, tag *string) context.Context {
	return context.WithValue(ctx, tagKey{}, tag)
}

// IfMatch has calls with the context change something only if it is what it was when
// its tag was noted. Kind Conflict: it is not, and nothing was done.
func IfMatch(ctx context.Context, tag string) context.Context {
	return context.WithValue(ctx, matchKey{}, tag)
}
