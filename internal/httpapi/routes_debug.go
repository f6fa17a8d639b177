package httpapi

import (
	"context"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func (s *Server) debugRoutes() {
	act(s, s.operation("GET", "/v1/debug", "debug", "What the hosts' processes are doing: stacks, memory, configuration, the last of their logs", 200),
		func(ctx context.Context, in *local) (v1.Diagnoses, error) {
			return s.o.Backend.Diagnose(ctx, in.Local)
		})
}
