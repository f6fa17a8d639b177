package etcd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Range implements kv.Store; it is linearizable.
func (s *Store) Range(prefix string) ([]kv.Item, kv.Rev, error) { return s.rangeAt(prefix, 0) }

// RangeAt implements kv.Store.
func (s *Store) RangeAt(prefix string, at kv.Rev) ([]kv.Item, error) {
	items, _, err := s.rangeAt(prefix, at)
	return items, err
}

// rangeAt is Range, or as of a revision if at is not zero.
func (s *Store) rangeAt(prefix string, at kv.Rev) (items []kv.Item, rev kv.Rev, err error) {
	key, end := span(s.prefix + prefix)
	err = s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{
			Key: key, RangeEnd: end, Revision: int64(at),
			SortTarget: etcdserverpb.RangeRequest_KEY, SortOrder: etcdserverpb.RangeRequest_ASCEND,
		})
		if is(err, rpctypes.ErrGRPCCompacted) {
			return holdfast.Errorf(holdfast.Gap, "revision %d is forgotten", at)
		}
		if err != nil {
			return err
		}
		rev, items = kv.Rev(r.Header.Revision), make([]kv.Item, len(r.Kvs))
		for i, p := range r.Kvs {
			items[i] = s.own(item(p))
		}
		return nil
	})
	return items, rev, translate(err)
}

// own is an item as callers know it.
func (s *Store) own(it kv.Item) kv.Item {
	it.Key = strings.TrimPrefix(it.Key, s.prefix)
	return it
}

func item(p *mvccpb.KeyValue) kv.Item {
	return kv.Item{Key: string(p.Key), Value: p.Value, Mod: kv.Rev(p.ModRevision), Lease: kv.LeaseID(p.Lease)}
}

// span is the range of the keys that start with prefix.
func span(prefix string) (key, end []byte) {
	if prefix == "" {
		return []byte{0}, []byte{0}
	}
	end = []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return []byte(prefix), end[:i+1]
		}
	}
	return []byte(prefix), []byte{0}
}

// Commit implements kv.Store.
func (s *Store) Commit(conds []kv.Cond, ops []kv.Op) (rev kv.Rev, err error) {
	if err := kv.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	req := s.txn(conds, ops)
	err = s.call(false, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := etcdserverpb.NewKVClient(conn).Txn(ctx, req)
		if err != nil {
			return err
		}
		if !r.Succeeded && fenced(r) {
			return holdfast.Errorf(holdfast.Unavailable, "the control plane is moving to another place, or has moved; nothing was changed")
		}
		if !r.Succeeded {
			return holdfast.Errorf(holdfast.Conflict, "a record was changed by somebody else; read it again and retry")
		}
		rev = kv.Rev(r.Header.Revision)
		return nil
	})
	return rev, translate(err)
}

func (s *Store) txn(conds []kv.Cond, ops []kv.Op) *etcdserverpb.TxnRequest {
	req := &etcdserverpb.TxnRequest{}
	for _, c := range conds {
		req.Compare = append(req.Compare, &etcdserverpb.Compare{
			Key: []byte(s.prefix + c.Key), Target: etcdserverpb.Compare_MOD, Result: etcdserverpb.Compare_EQUAL,
			TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: int64(c.Mod)},
		})
	}
	for _, o := range ops {
		req.Success = append(req.Success, s.requestOp(o))
	}
	if s.fence != "" {
		req.Compare = append(req.Compare, s.fenceAt(0))
		req.Failure = []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestRange{
			RequestRange: &etcdserverpb.RangeRequest{Key: []byte(s.fence), CountOnly: true}}}}
	}
	return req
}

func (s *Store) requestOp(o kv.Op) *etcdserverpb.RequestOp {
	if o.Delete {
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(s.prefix + o.Key)}}}
	}
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
		RequestPut: &etcdserverpb.PutRequest{Key: []byte(s.prefix + o.Key), Value: o.Value, Lease: int64(o.Lease)}}}
}

// Grant implements kv.Store. The client chooses the identifier, so that a
// repeated request makes no second lease.
func (s *Store) Grant(ttl time.Duration) (kv.LeaseID, error) {
	if err := kv.CheckTTL(ttl); err != nil {
		return 0, err
	}
	id, err := newLeaseID(rand.Reader)
	if err != nil {
		return 0, err
	}
	err = s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewLeaseClient(conn).LeaseGrant(ctx,
			&etcdserverpb.LeaseGrantRequest{ID: int64(id), TTL: int64(ttl / time.Second)})
		if is(err, rpctypes.ErrGRPCLeaseExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, translate(err)
	}
	return id, nil
}

func newLeaseID(r io.Reader) (kv.LeaseID, error) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, holdfast.Errorf(holdfast.IO, "new lease identifier: %w", err)
		}
		if id := kv.LeaseID(binary.BigEndian.Uint64(b[:]) >> 1); id != 0 {
			return id, nil
		}
	}
}

// Renew implements kv.Store.
func (s *Store) Renew(id kv.LeaseID) error {
	return translate(s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := etcdserverpb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil && err != io.EOF {
			return err
		} // io.EOF: Recv has the cause
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if r.TTL <= 0 {
			return rpctypes.ErrGRPCLeaseNotFound
		}
		return nil
	}))
}

// Revoke implements kv.Store.
func (s *Store) Revoke(id kv.LeaseID) error {
	return translate(s.call(false, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewLeaseClient(conn).LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: int64(id)})
		return err
	}))
}

// Compact forgets the history up to now. Members do so by themselves every few
// minutes; an external etcd is its owner's business.
func (s *Store) Compact() error {
	_, rev, err := s.Range("\x00")
	if err != nil {
		return err
	}
	return translate(s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewKVClient(conn).Compact(ctx, &etcdserverpb.CompactionRequest{Revision: int64(rev), Physical: true})
		if is(err, rpctypes.ErrGRPCCompacted) {
			return nil
		}
		return err
	}))
}
