package etcd

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	// askEvery is how often a watch asks its member for a sign of life, and
	// silence what it takes for the member's death.
	askEvery = time.Second
	silence  = 4 * time.Second
	// watchBuffer batches may wait for the reader; the rest waits at the member.
	watchBuffer = 64
)

// watcher is one stream on one member; when that breaks, so does the watch.
// It implements kv.Watcher.
type watcher struct {
	cancel context.CancelFunc
	out    chan []kv.Event
	done   chan struct{} // closed after err was set
	err    error
	heard  atomic.Int64 // when the member last said something
}

// Watch implements kv.Store.
func (s *Store) Watch(prefix string, from kv.Rev) kv.Watcher {
	ctx, cancel := context.WithCancel(withLeader(context.Background()))
	w := &watcher{cancel: cancel, out: make(chan []kv.Event, watchBuffer), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer cancel()
		w.err = s.follow(ctx, w, prefix, from)
	}()
	return w
}

// follow runs the stream to its end, whose cause it returns.
func (s *Store) follow(ctx context.Context, w *watcher, prefix string, from kv.Rev) error {
	e, err := s.reach(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := etcdserverpb.NewWatchClient(e.conn).Watch(ctx)
	if err != nil {
		return s.broken(e, err)
	}
	key, end := span(s.prefix + prefix)
	if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: key, RangeEnd: end, StartRevision: int64(from) + 1},
	}}); err != nil && !errors.Is(err, io.EOF) {
		return s.broken(e, err)
	}
	w.heard.Store(int64(monotonic()))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.tend(ctx, cancel, w, stream)
	}()
	err = s.read(ctx, w, stream)
	cancel()
	<-gone
	if holdfast.IsKind(err, holdfast.Gap) {
		return err
	}
	return s.broken(e, err)
}

// reach waits for a connected member.
func (s *Store) reach(ctx context.Context) (*endpoint, error) {
	for end := monotonic() + kv.CallTimeout; ; s.sleep(pause) {
		eps, open := s.endpoints()
		if !open {
			return nil, errClosed()
		}
		if e := pick(eps, nil); e != nil {
			return e, nil
		}
		if monotonic() > end || ctx.Err() != nil {
			return nil, unavailable(nil)
		}
	}
}

func (s *Store) broken(e *endpoint, err error) error {
	if _, open := s.endpoints(); !open {
		return errClosed()
	}
	e.fail()
	return holdfast.Errorf(holdfast.Unavailable, "the watch on %s broke; read again and watch from there: %w", e.url, err)
}

// tend asks for progress and ends a stream that has fallen silent.
func (s *Store) tend(ctx context.Context, cancel context.CancelFunc, w *watcher, stream etcdserverpb.Watch_WatchClient) {
	t := time.NewTicker(askEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.closed:
			cancel()
			return
		case <-t.C:
		}
		if monotonic()-time.Duration(w.heard.Load()) > silence {
			cancel()
			return
		}
		if stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
			ProgressRequest: &etcdserverpb.WatchProgressRequest{}}}) != nil {
			return // read has the cause
		}
	}
}

// read hands over what the member sends. A revision comes in one piece unless
// fragments were asked for, which they are not.
func (s *Store) read(ctx context.Context, w *watcher, stream etcdserverpb.Watch_WatchClient) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		w.heard.Store(int64(monotonic()))
		switch {
		case r.CompactRevision != 0:
			return holdfast.Errorf(holdfast.Gap, "the changes are forgotten up to revision %d; read again and watch from there", r.CompactRevision)
		case r.Canceled:
			return errors.New("the member ended it: " + r.CancelReason)
		case len(r.Events) == 0:
			continue
		}
		select {
		case w.out <- s.events(r.Events):
		case <-ctx.Done():
			return ctx.Err()
		}
		w.heard.Store(int64(monotonic())) // the reader was slow, not the member
	}
}

func (s *Store) events(in []*mvccpb.Event) []kv.Event {
	out := make([]kv.Event, len(in))
	for i, e := range in {
		if e.Type == mvccpb.Event_DELETE {
			out[i] = kv.Event{Item: s.own(kv.Item{Key: string(e.Kv.Key), Mod: kv.Rev(e.Kv.ModRevision)}), Deleted: true}
		} else {
			out[i] = kv.Event{Item: s.own(item(e.Kv))}
		}
	}
	return out
}

// Next implements kv.Watcher.
func (w *watcher) Next(timeout time.Duration) ([]kv.Event, error) {
	if evs, err := w.poll(); evs != nil || err != nil || timeout == 0 {
		return evs, err
	}
	var after <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		after = t.C
	}
	select {
	case evs := <-w.out:
		return evs, nil
	case <-after:
		return nil, nil
	case <-w.done:
		return w.poll()
	}
}

// poll returns what has arrived, and the end only after all of that.
func (w *watcher) poll() ([]kv.Event, error) {
	select {
	case evs := <-w.out:
		return evs, nil
	default:
	}
	select {
	case <-w.done:
	default:
		return nil, nil
	}
	select { // what came in between the two
	case evs := <-w.out:
		return evs, nil
	default:
		return nil, w.err
	}
}

// Close implements kv.Watcher.
func (w *watcher) Close() {
	w.cancel()
	<-w.done
}
