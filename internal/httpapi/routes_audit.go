package httpapi

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func (s *Server) auditRoutes() {
	type ask struct {
		From  int64 `query:"from" default:"-1" minimum:"-1" doc:"The first entry; absent: the last ones are told"`
		Limit int   `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}
	act(s, s.operation("GET", "/v1/audit", "audit-list", "A page of who did what, the oldest first", 200),
		func(_ context.Context, in *ask) (v1.AuditPage, error) {
			if s.o.Audit == nil {
				return v1.AuditPage{}, holdfast.Errorf(holdfast.Unavailable, "this host keeps no audit log")
			}
			log, err := s.o.Audit()
			if err != nil {
				return v1.AuditPage{}, err
			}
			return log.Read(in.From, in.Limit)
		})
}
