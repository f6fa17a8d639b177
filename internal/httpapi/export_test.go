package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast/internal/alert"
)

// Access is the table, for its tests.
var Access = access

// DryRuns are the operations that can be tried.
var DryRuns = dryRuns

// AlertStep looks once whether receivers are to be told something.
func (s *Server) AlertStep(ctx context.Context, a *alert.Store) { s.alertKeeper(a).Step(ctx) }
