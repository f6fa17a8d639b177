package httpapi

import (
	"context"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// recoveryRoutes work without a majority of the control plane: that is what
// they are for.
func (s *Server) recoveryRoutes() {
	act(s, s.operation("GET", "/v1/cluster/recovery", "recovery", "The last recovery of the control plane on the answering host", 200),
		func(ctx context.Context, _ *none) (v1.Recovery, error) { return s.o.Backend.Recovery(ctx) })
	act(s, s.operation("POST", "/v1/cluster/recovery/plan", "recovery-plan", "What rebuilding the control plane on the answering host would do", 200),
		func(ctx context.Context, in *request[v1.RecoverySpec]) (v1.Recovery, error) {
			from, err := recoverFrom(in.Body)
			if err != nil {
				return v1.Recovery{}, err
			}
			return s.o.Backend.RecoveryPlan(ctx, from)
		})
	act(s, s.operation("POST", "/v1/cluster/recovery", "recover", "Rebuild the control plane on the answering host, whose process begins anew", 202),
		func(ctx context.Context, in *request[v1.RecoverySpec]) (v1.Recovery, error) {
			from, err := recoverFrom(in.Body)
			if err != nil {
				return v1.Recovery{}, err
			}
			if err := holdfast.CheckName("cluster", in.Body.Cluster); err != nil {
				return v1.Recovery{}, err
			}
			return s.o.Backend.Recover(ctx, in.Body.Cluster, from)
		})
}

// recoverFrom reads what a recovery is to begin with.
func recoverFrom(in v1.RecoverySpec) (from RecoverFrom, err error) {
	from.Disks = in.Disks
	for _, d := range in.Disks {
		if !strings.HasPrefix(d, "/") {
			return from, holdfast.Errorf(holdfast.Invalid, "disk %q: give an absolute path", d)
		}
	}
	if in.Key != "" || in.Passphrase != "" {
		from.Key, err = newKey(v1.KeySpec{Key: in.Key, Passphrase: in.Passphrase})
	}
	return from, err
}
