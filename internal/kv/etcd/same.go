package etcd

import (
	"context"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// sameEtcd sees to it that everything a Store asks is asked of one etcd, and of
// the right one: an endpoint is asked who it is before it is asked anything else.
// Two endpoints of different etcds would each be a control plane of its own.
type sameEtcd struct {
	prefix string
	check  func(get func(string) ([]byte, bool, error)) error

	mu sync.Mutex
	id uint64 // of the etcd that was found to be the right one; 0: none yet
}

// notOurs says that an endpoint is not to be asked.
type notOurs struct {
	url string
	why error
}

func (e *notOurs) Error() string { return fmt.Sprintf("the etcd at %s is not used: %v", e.url, e.why) }
func (e *notOurs) Unwrap() error { return e.why }

const methodStatus = "/etcdserverpb.Maintenance/Status"
const methodRange = "/etcdserverpb.KV/Range"

// asking marks the calls by which an endpoint is asked who it is.
type asking struct{}

// options puts the question before an endpoint's first call. It is asked once for
// as long as the process runs: an etcd does not become another one at its place.
func (o *sameEtcd) options(url string) []grpc.DialOption {
	var mu sync.Mutex
	known := false
	first := func(ctx context.Context, conn *grpc.ClientConn) error {
		if ctx.Value(asking{}) != nil {
			return nil
		}
		mu.Lock()
		done := known
		mu.Unlock()
		if done {
			return nil
		}
		if err := o.ask(context.WithValue(ctx, asking{}, true), url, conn); err != nil {
			return err
		}
		mu.Lock()
		known = true
		mu.Unlock()
		return nil
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if err := first(ctx, conn); err != nil {
				return err
			}
			return invoke(ctx, method, req, reply, conn, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if err := first(ctx, conn); err != nil {
				return nil, err
			}
			return stream(ctx, desc, conn, method, opts...)
		}),
	}
}

// ask asks an endpoint who it is. An error of its own leaves that open.
func (o *sameEtcd) ask(ctx context.Context, url string, conn *grpc.ClientConn) error {
	var st etcdserverpb.StatusResponse
	if err := conn.Invoke(ctx, methodStatus, &etcdserverpb.StatusRequest{}, &st); err != nil {
		return &notAsked{err}
	}
	id := st.Header.ClusterId
	o.mu.Lock()
	right := o.id
	o.mu.Unlock()
	switch {
	case right == id:
		return nil
	case right != 0:
		return &notOurs{url, fmt.Errorf("it is a member of another etcd (%x) than the other endpoints (%x); give the members of one", id, right)}
	}
	var failed error
	err := o.check(func(key string) ([]byte, bool, error) {
		var r etcdserverpb.RangeResponse
		if err := conn.Invoke(ctx, methodRange, &etcdserverpb.RangeRequest{Key: []byte(o.prefix + key)}, &r); err != nil {
			failed = err
			return nil, false, err
		}
		if len(r.Kvs) == 0 {
			return nil, false, nil
		}
		return r.Kvs[0].Value, true, nil
	})
	if failed != nil {
		return &notAsked{failed}
	}
	if err != nil {
		return &notOurs{url, err}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.id == 0 {
		o.id = id
	}
	if o.id != id {
		return &notOurs{url, fmt.Errorf("it is a member of another etcd (%x) than the other endpoints (%x); give the members of one", id, o.id)}
	}
	return nil
}

// notAsked is the failure of a question before the call itself: whatever it was,
// the call has not been made.
type notAsked struct{ err error }

func (e *notAsked) Error() string { return e.err.Error() }
func (e *notAsked) Unwrap() error { return e.err }
