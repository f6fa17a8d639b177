package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func (s *Server) moveRoutes() {
	act(s, s.operation("GET", "/v1/cluster/move-kv", "move-ready", "Whether the answering host could have the control plane in the external etcd of its configuration", 200),
		func(ctx context.Context, _ *none) (v1.KVReady, error) { return s.o.Backend.KVReady(ctx), nil })
	act(s, s.operation("POST", "/v1/cluster/move-kv/plan", "move-plan", "What moving the control plane into that etcd would do", 200),
		func(ctx context.Context, _ *none) (v1.KVMove, error) { return s.o.Backend.MovePlan(ctx) })
	act(s, s.operation("POST", "/v1/cluster/move-kv", "move-kv", "Move the control plane there; the hosts' processes begin anew", 202),
		func(ctx context.Context, in *request[v1.KVMoveSpec]) (v1.KVMove, error) {
			if err := holdfast.CheckName("cluster", in.Body.Cluster); err != nil {
				return v1.KVMove{}, err
			}
			return s.o.Backend.MoveKV(ctx, in.Body.Cluster)
		})
	do(s, s.operation("DELETE", "/v1/cluster/move-kv", "move-cancel", "Give up a move that has begun and not arrived", 204),
		func(ctx context.Context, _ *none) error { return s.o.Backend.CancelMove(ctx) })
}
