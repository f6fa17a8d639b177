package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// ticket is what an endpoint gave for a user and a password. Every endpoint has its
// own: some etcds forget one that they have not seen for a while.
type ticket struct {
	url   string
	login func() (user, password string, err error)

	asking sync.Mutex // held while one is fetched: it costs the etcd much, and is for all

	mu   sync.Mutex
	have bool
	text string // empty: the etcd has no users now
}

// notIn says that an endpoint did not let this host's user in: nothing was asked
// of it.
type notIn struct {
	url string
	err error
}

func (e *notIn) Error() string { return fmt.Sprintf("entering etcd %s: %v", e.url, e.err) }
func (e *notIn) Unwrap() error { return e.err }

const methodAuthenticate = "/etcdserverpb.Auth/Authenticate"

// options put the ticket into every call, and fetch another when it is refused:
// etcd does that before it does anything else.
func (t *ticket) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if method == methodAuthenticate {
				return invoke(ctx, method, req, reply, conn, opts...)
			}
			text, err := t.fetch(ctx, conn, nil)
			if err != nil {
				return err
			}
			if err = invoke(shown(ctx, text), method, req, reply, conn, opts...); !isStale(err, text) {
				return err
			}
			if text, err = t.fetch(ctx, conn, &text); err != nil {
				return err
			}
			return invoke(shown(ctx, text), method, req, reply, conn, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			text, err := t.fetch(ctx, conn, nil)
			if err != nil {
				return nil, err
			}
			s, err := stream(shown(ctx, text), desc, conn, method, opts...)
			if err != nil {
				return nil, err
			}
			return &shownStream{s, t, text}, nil
		}),
	}
}

// shownStream forgets a ticket that its first answer refuses: whoever opened the
// stream opens another.
type shownStream struct {
	grpc.ClientStream
	t    *ticket
	text string
}

func (s *shownStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if isStale(err, s.text) {
		s.t.forget(s.text)
	}
	return err
}

func shown(ctx context.Context, text string) context.Context {
	if text == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, text)
}

// isStale reports whether an etcd wants another ticket than the one that it was
// shown: it does not know that, its users have changed since, or it has some now and
// had none. Without a ticket it takes the certificate's common name for the user.
func isStale(err error, text string) bool {
	return is(err, rpctypes.ErrGRPCInvalidAuthToken) || is(err, rpctypes.ErrGRPCAuthOldRevision) || is(err, rpctypes.ErrGRPCUserEmpty) ||
		text == "" && is(err, rpctypes.ErrGRPCPermissionDenied)
}

func (t *ticket) forget(stale string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text == stale {
		t.have, t.text = false, ""
	}
}

func (t *ticket) held(stale *string) (text string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text, t.have && (stale == nil || t.text != *stale)
}

// fetch returns the ticket, a new one if there is none or it is the stale one.
func (t *ticket) fetch(ctx context.Context, conn *grpc.ClientConn, stale *string) (string, error) {
	if text, ok := t.held(stale); ok {
		return text, nil
	}
	t.asking.Lock()
	defer t.asking.Unlock()
	if text, ok := t.held(stale); ok { // by now
		return text, nil
	}
	user, password, err := t.login()
	if err != nil {
		return "", &notIn{t.url, err}
	}
	var r etcdserverpb.AuthenticateResponse
	err = conn.Invoke(ctx, methodAuthenticate, &etcdserverpb.AuthenticateRequest{Name: user, Password: password}, &r)
	var not *notOurs
	switch {
	case is(err, rpctypes.ErrGRPCAuthNotEnabled):
		r.Token = ""
	case errors.As(err, &not):
		return "", err
	case err != nil:
		return "", &notIn{t.url, err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.have, t.text = true, r.Token
	return r.Token, nil
}
