package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	// tryTimeout is what one member gets before the next is asked, if asking
	// twice does no harm.
	tryTimeout = time.Second
	// commitTimeout is what a commit gets: an election takes up to 2.5 s, after
	// which a proposal that the dead leader had is lost anyway.
	commitTimeout = 2500 * time.Millisecond
	pause         = 50 * time.Millisecond // between tries
)

// monotonic is the time since boot.
func monotonic() time.Duration { return clock.System{}.Now() }

// verdict is what an answer means for the call.
type verdict int

const (
	final   verdict = iota // this is the answer
	refused                // nothing happened; another try may succeed
	unsure                 // it may have happened
)

// call makes one call, on one member after another until one answers or
// kv.CallTimeout is over. again says whether it may be made twice.
func (s *Store) call(again bool, f func(context.Context, *grpc.ClientConn) error) error {
	end := monotonic() + kv.CallTimeout
	var last error
	tried := make(map[*endpoint]bool)
	for {
		eps, open := s.endpoints()
		if !open {
			return errClosed()
		}
		left := s.left(end)
		if left <= 0 {
			if last == nil {
				last = s.told(eps[0], whyUnreachable(eps))
			}
			return unavailable(last)
		}
		if len(tried) >= len(eps) {
			clear(tried)
		}
		e := pick(eps, tried)
		if e == nil {
			s.sleep(min(pause, left))
			continue
		}
		limit := commitTimeout
		if again {
			limit = tryTimeout
		}
		err := try(e, min(limit, left), f)
		v := judge(err)
		switch {
		case v == final:
			e.succeed()
			return err
		case v == unsure && !again:
			e.fail()
			return holdfast.Errorf(holdfast.Unknown, "the control plane's member %s did not confirm the change, which may or may not have been made: %w", e.url, err)
		}
		e.fail()
		tried[e] = true
		last = s.told(e, err)
		s.sleep(min(pause, max(0, s.left(end))))
	}
}

func try(e *endpoint, limit time.Duration, f func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(withLeader(context.Background()), limit)
	defer cancel()
	return f(ctx, e.conn)
}

// withLeader has a member that knows no leader refuse at once.
func withLeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
}

// sleep waits d or until the store is closed.
func (s *Store) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closed:
	}
}

// judge sorts an answer. etcd decides on what is refused below before it
// proposes anything, or while applying, without effect; everything else that
// is not an answer, a broken connection and a time-out above all, leaves open
// whether a proposal got through.
func judge(err error) verdict {
	var not *notOurs
	if errors.As(err, &not) {
		return refused // before anything was asked
	}
	var out *notIn
	if errors.As(err, &out) {
		return refused // likewise
	}
	var before *notAsked
	if errors.As(err, &before) && judge(before.err) != final {
		return refused // likewise
	}
	if err == nil || holdfast.KindOf(err) != holdfast.Other {
		return final
	}
	st, _ := status.FromError(err)
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.OutOfRange, codes.PermissionDenied, codes.Unauthenticated, codes.DataLoss:
		return final
	case codes.FailedPrecondition:
		if st.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCNotSupportedForLearner) ||
			st.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCNotCapable) {
			return refused
		}
		return final
	case codes.ResourceExhausted:
		if st.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests) {
			return refused
		}
		return final
	case codes.Unavailable:
		if st.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader) {
			return refused
		}
	}
	return unsure
}

// translate gives a final answer its kind.
func translate(err error) error {
	if err == nil || holdfast.KindOf(err) != holdfast.Other {
		return err
	}
	st, _ := status.FromError(err)
	k := holdfast.Other
	switch st.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		k = holdfast.Invalid
	case codes.NotFound:
		k = holdfast.NotFound
	case codes.PermissionDenied, codes.Unauthenticated:
		k = holdfast.Denied
	case codes.ResourceExhausted:
		k = holdfast.NoSpace
	case codes.DataLoss:
		k = holdfast.Damaged
	case codes.FailedPrecondition:
		k = holdfast.Unavailable
	}
	return holdfast.Errorf(k, "the control plane refused: %w", err)
}

// whyUnreachable asks a member that could not be connected to all the while for
// the reason, which only a call brings to light.
func whyUnreachable(eps []*endpoint) error {
	return try(eps[0], pause, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
		return err
	})
}

// told is a failure as its reader can use it: about an etcd that somebody else
// runs there is more to say than that it is away.
func (s *Store) told(e *endpoint, err error) error {
	if s.same == nil || err == nil {
		return err
	}
	return e.explain(err)
}

func unavailable(last error) error {
	if last == nil {
		return holdfast.Errorf(holdfast.Unavailable, "no member of the control plane can be reached; nothing was changed, retry later")
	}
	return holdfast.Errorf(holdfast.Unavailable, "the control plane is not available; nothing was changed, retry later: %w", last)
}

func errClosed() error {
	return holdfast.Errorf(holdfast.Closed, "the connection to the control plane is closed")
}
