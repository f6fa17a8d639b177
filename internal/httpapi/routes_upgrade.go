package httpapi

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// Upgrader is about the program that the hosts run. Each method hands on what is
// another host's.
type Upgrader interface {
	// UpgradePlan says which host would get another program after which. It asks the
	// hosts what they have.
	UpgradePlan(ctx context.Context, a UpgradeAsk) (v1.Upgrade, error)
	// Program says which programs a host has. Unavailable: it does not answer.
	Program(ctx context.Context, host holdfast.HostID) (v1.Program, error)
	// TakeProgram has a host take a program in beside its own. Invalid: it is not what
	// was announced, or could not run there; Conflict: it is older.
	TakeProgram(ctx context.Context, host holdfast.HostID, o program.Offer) (v1.Program, error)
	// StartProgram has a host's process become another program, once it has answered.
	// Conflict: it is older, or the cluster is not whole; NotFound: there is none of
	// that hash.
	StartProgram(ctx context.Context, host holdfast.HostID, s v1.ProgramStart) (v1.Program, error)
}

// UpgradeAsk says how the hosts are to get another program.
type UpgradeAsk struct {
	Way  string
	File upgrade.Build
	Back bool
}

// sendProgram is the request that brings a program: it is the body.
type sendProgram struct {
	HostRef
	SHA256 string `query:"sha256" required:"true" pattern:"^[0-9a-f]{64}$" doc:"Of the program, in small hexadecimal digits"`
	Back   bool   `query:"back" doc:"It may be older than the one that runs"`
	length int64
	body   io.Reader
	cut    func() // ends the waiting for more of it
}

// Resolve keeps the body to be streamed; huma would read it into memory.
func (i *sendProgram) Resolve(ctx huma.Context) []error {
	r, w := humachi.Unwrap(ctx)
	i.body, i.length, i.cut = r.Body, r.ContentLength, cutter(w)
	return nil
}

func (s *Server) upgradeRoutes() {
	type ask struct {
		Way     string `query:"way" enum:"file,disk,previous" default:"disk" doc:"file: the hosts are sent one; disk: it was put in its place on each; previous: what each ran before"`
		SHA256  string `query:"sha256" pattern:"^[0-9a-f]{64}$" doc:"Of the file that would be sent"`
		Version string `query:"version" maxLength:"100" doc:"Of that"`
		Arch    string `query:"arch" maxLength:"20" doc:"The kind of processor that it is for: amd64, arm64"`
		Back    bool   `query:"back" doc:"Older versions are wanted"`
	}
	act(s, s.operation("GET", "/v1/upgrade", "upgrade-plan", "Which host would get another program after which, and why not now", 200),
		func(ctx context.Context, in *ask) (v1.Upgrade, error) {
			a := UpgradeAsk{in.Way, upgrade.Build{Version: in.Version, Sum: in.SHA256, Arch: in.Arch}, in.Back || in.Way == upgrade.Previous}
			if in.Way == upgrade.ByFile && in.SHA256 == "" {
				return v1.Upgrade{}, mistake("query.sha256", "which file would be sent is missing: its SHA-256")
			}
			return s.o.Backend.UpgradePlan(ctx, a)
		})
	act(s, s.operation("GET", "/v1/hosts/{host}/program", "program-show", "Which programs a host has", 200),
		func(ctx context.Context, in *HostRef) (v1.Program, error) {
			h, err := lookup(ctx, s, in.Host, picture.host)
			if err != nil {
				return v1.Program{}, err
			}
			return s.o.Backend.Program(ctx, h.ID)
		})
	op := s.operation(http.MethodPut, "/v1/hosts/{host}/program", "program-send", "Send a host another program, in the body: it is kept beside the one that runs", 200)
	op.RequestBody = &huma.RequestBody{Required: true, Description: "The program", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	act(s, op, s.takeProgram)
	act(s, s.operation("POST", "/v1/hosts/{host}/program/start", "program-start", "Have a host's process become another program that it has; its VMs go on", 202),
		func(ctx context.Context, in *struct {
			HostRef
			Body v1.ProgramStart
		}) (v1.Program, error) {
			h, err := lookup(ctx, s, in.Host, picture.host)
			if err != nil {
				return v1.Program{}, err
			}
			return s.o.Backend.StartProgram(ctx, h.ID, in.Body)
		})
}

func (s *Server) takeProgram(ctx context.Context, in *sendProgram) (v1.Program, error) {
	h, err := lookup(ctx, s, in.Host, picture.host)
	if err != nil {
		return v1.Program{}, err
	}
	defer context.AfterFunc(ctx, in.cut)()
	return s.o.Backend.TakeProgram(ctx, h.ID, program.Offer{Sum: in.SHA256, Size: in.length, Body: in.body, Back: in.Back})
}
