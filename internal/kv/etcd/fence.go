package etcd

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// fenceAt is the condition that the fence was last changed at a revision; zero:
// that it does not exist.
func (s *Store) fenceAt(mod kv.Rev) *etcdserverpb.Compare {
	return &etcdserverpb.Compare{Key: []byte(s.fence), Target: etcdserverpb.Compare_MOD, Result: etcdserverpb.Compare_EQUAL,
		TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: int64(mod)}}
}

// fenced reports whether a commit was refused because the fence exists.
func fenced(r *etcdserverpb.TxnResponse) bool {
	for _, x := range r.Responses {
		if got := x.GetResponseRange(); got != nil && got.Count > 0 {
			return true
		}
	}
	return false
}

// Lift takes a fence away that was set at a revision, so that commits are made
// again. One that is away already stays away; kind Conflict: another stands there.
func (s *Store) Lift(mod kv.Rev) error {
	req := &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{s.fenceAt(mod)},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(s.fence)}}}},
		Failure: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestRange{
			RequestRange: &etcdserverpb.RangeRequest{Key: []byte(s.fence), CountOnly: true}}}}}
	return translate(s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := etcdserverpb.NewKVClient(conn).Txn(ctx, req)
		if err == nil && !r.Succeeded && fenced(r) {
			return holdfast.Errorf(holdfast.Conflict, "another move has ended this control plane meanwhile")
		}
		return err
	}))
}

// EndLeases ends all leases of an etcd that is ours alone, with what hangs on them:
// behind a fence nobody gets a right by another one.
func (s *Store) EndLeases() error {
	var all []*etcdserverpb.LeaseStatus
	err := s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := etcdserverpb.NewLeaseClient(conn).LeaseLeases(ctx, &etcdserverpb.LeaseLeasesRequest{})
		if err == nil {
			all = r.Leases
		}
		return err
	})
	if err != nil {
		return translate(err)
	}
	for _, l := range all {
		err := s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := etcdserverpb.NewLeaseClient(conn).LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: l.ID})
			if is(err, rpctypes.ErrGRPCLeaseNotFound) {
				return nil
			}
			return err
		})
		if err != nil {
			return translate(err)
		}
	}
	return nil
}
