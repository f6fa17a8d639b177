package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-cloud/holdfast"
)

// What may have reached the log must never be told as "nothing happened".
func TestWhatAnAnswerMeansForACommit(t *testing.T) {
	for _, c := range []struct {
		err  error
		want verdict
	}{
		{nil, final},
		{holdfast.Errorf(holdfast.Conflict, "compared"), final},
		{rpctypes.ErrGRPCLeaseNotFound, final},
		{rpctypes.ErrGRPCNoSpace, final},
		{rpctypes.ErrGRPCRequestTooLarge, final},
		{rpctypes.ErrGRPCNoLeader, refused},
		{rpctypes.ErrGRPCNotSupportedForLearner, refused},
		{rpctypes.ErrGRPCNotCapable, refused},
		{rpctypes.ErrGRPCRequestTooManyRequests, refused},
		{rpctypes.ErrGRPCTimeout, unsure},
		{rpctypes.ErrGRPCTimeoutDueToLeaderFail, unsure},
		{rpctypes.ErrGRPCTimeoutDueToConnectionLost, unsure},
		{rpctypes.ErrGRPCLeaderChanged, unsure},
		{rpctypes.ErrGRPCStopped, unsure},
		{status.Error(codes.Unavailable, "connection reset by peer"), unsure},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), unsure},
		{status.Error(codes.Canceled, "the client connection is closing"), unsure},
		{status.Error(codes.Unknown, "raft proposal dropped"), unsure},
		{context.DeadlineExceeded, unsure},
		{errors.New("anything"), unsure},
	} {
		if got := judge(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestTheRangeOfAPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"a": "a b", "a/": "a/ a0", "a\xff": "a\xff b", "\xff\xff": "\xff\xff \x00", "": "\x00 \x00",
	} {
		key, end := span(prefix)
		if got := string(key) + " " + string(end); got != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"https://127.0.0.1:2379", "https://[::1]:1", "http://a:1", "https://a:b@c:1", "https://:1", "https://a:1/x?y", "https://a:99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseURL("test", s)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || strings.ContainsAny(hostPort(u), "/@?") {
			t.Errorf("%q was taken for %q", s, hostPort(u))
		}
	})
}
