package httpapi

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

func (s *Server) joinCodeRoutes() {
	type ref struct {
		Code string `path:"code" minLength:"8" maxLength:"64" pattern:"^[0-9a-f]+$" doc:"Its id, or at least the first 8 digits of it"`
	}
	act(s, s.operation("POST", "/v1/join-codes", "join-code-create", "Make a code that admits one host within the hour", 201), s.joinCode)
	act(s, s.operation("GET", "/v1/join-codes", "join-code-list", "The codes that may still be used, without their secrets", 200),
		func(ctx context.Context, _ *none) ([]v1.JoinCodeInfo, error) {
			codes, err := s.o.Backend.JoinCodes(ctx)
			return render(codes, renderJoinCode), err
		})
	do(s, s.operation("DELETE", "/v1/join-codes/{code}", "join-code-revoke", "Make a code useless", 204),
		func(ctx context.Context, in *ref) error { return s.revokeJoinCode(ctx, in.Code) })
}

func renderJoinCode(j cluster.JoinCode) v1.JoinCodeInfo {
	return v1.JoinCodeInfo{ID: j.Hash, Rack: j.Rack, Created: j.Created}
}

func (s *Server) joinCode(ctx context.Context, in *request[v1.JoinCodeSpec]) (v1.JoinCodeText, error) {
	if in.Body.Rack != "" {
		if err := holdfast.CheckName("rack", in.Body.Rack); err != nil {
			return v1.JoinCodeText{}, err
		}
	}
	code, err := s.o.Backend.CreateJoinCode(ctx, in.Body.Rack, time.Duration(in.Body.Seconds)*time.Second)
	return v1.JoinCodeText{Code: code}, err
}

// revokeJoinCode finds the code by the beginning of its id.
func (s *Server) revokeJoinCode(ctx context.Context, id string) error {
	codes, err := s.o.Backend.JoinCodes(ctx)
	if err != nil {
		return err
	}
	var found []string
	for _, j := range codes {
		if strings.HasPrefix(j.Hash, id) {
			found = append(found, j.Hash)
		}
	}
	switch len(found) {
	case 0:
		return holdfast.Errorf(holdfast.NotFound, "no join code that may still be used has the id %s: it was used, has expired or was revoked; 'holdfast host code list' shows those that are left", id)
	case 1:
		return s.o.Backend.RevokeJoinCode(ctx, found[0])
	}
	return holdfast.Errorf(holdfast.Conflict, "%d join codes begin with %s; give more digits", len(found), id)
}
