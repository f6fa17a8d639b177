package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// answer is a body and nothing else.
type answer[T any] struct{ Body T }

// request is a body and nothing else.
type request[T any] struct{ Body T }

type none struct{}

func (s *Server) routes(r chi.Router) {
	s.loginRoutes()
	s.accountRoutes()
	s.oidcRoutes()
	s.passkeyRoutes()
	s.pagesRoutes()
	s.auditRoutes()
	s.projectRoutes()
	s.clusterRoutes()
	s.hostRoutes()
	s.diskRoutes()
	s.poolRoutes()
	s.keyRoutes()
	s.recoveryRoutes()
	s.moveRoutes()
	s.volumeRoutes()
	s.snapshotRoutes()
	s.groupRoutes()
	s.diffRoute()
	s.verifyRoutes()
	s.forceRoutes()
	s.imageRoutes()
	s.fetchRoutes()
	s.copyOutRoutes()
	s.backupRoutes()
	s.scheduleRoutes()
	s.vmRoutes()
	s.vmDiskRoutes()
	s.vmSnapshotRoutes()
	s.exportRoutes()
	s.incidentRoutes()
	s.integrityRoutes()
	s.workRoutes()
	s.historyRoutes()
	s.taskRoutes()
	s.alertRoutes()
	s.debugRoutes()
	s.upgradeRoutes()
	s.consoleRoute(r)
	s.screenRoute(r)
	s.metricsRoute(r)
	s.watchRoute(r)
	s.featureRoutes()
	s.describeDryRuns()
	s.referenceRoute(r)
}

// picture reads the state for one request.
func (s *Server) picture(ctx context.Context) (picture, error) {
	st, err := s.changer(ctx).State(ctx)
	if err != nil {
		return picture{}, err
	}
	if project := projectOf(ctx); project != "" {
		a, err := s.accounts()
		if err != nil {
			return picture{}, err
		}
		st = within(st, project, a.Owner)
	}
	return pictureOf(st), nil
}

// read registers an endpoint that renders from the picture.
func read[I, O any](s *Server, path, id, summary string, f func(p picture, in *I) (O, error)) {
	huma.Register(s.api, s.operation(http.MethodGet, path, id, summary, http.StatusOK),
		func(ctx context.Context, in *I) (*answer[O], error) {
			p, err := s.picture(ctx)
			if err != nil {
				return nil, fail(err)
			}
			pure(ctx, p.State)
			out, err := f(p, in)
			if err != nil {
				return nil, fail(err)
			}
			return &answer[O]{out}, nil
		})
}

// act registers an endpoint that changes something and answers with it.
func act[I, O any](s *Server, op huma.Operation, f func(ctx context.Context, in *I) (O, error)) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*answer[O], error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, fail(err)
		}
		made(ctx, out)
		return &answer[O]{out}, nil
	})
}

// do registers an endpoint that changes something and answers with nothing.
func do[I any](s *Server, op huma.Operation, f func(ctx context.Context, in *I) error) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*struct{}, error) {
		return nil, fail(f(ctx, in))
	})
}

func (s *Server) clusterRoutes() {
	act(s, s.operation("GET", "/v1/status", "status", "How is it? The truth in one line, then the details; of a project, to whom that is all there is", 200),
		func(ctx context.Context, _ *none) (v1.Status, error) { return s.status(ctx) })
	act(s, s.operation("GET", "/v1/self", "self", "The host that answers", 200),
		func(context.Context, *none) (v1.Self, error) { return renderSelf(s.o.Backend.Self()), nil })
	read(s, "/v1/cluster", "cluster-info", "The cluster", func(p picture, _ *none) (v1.Cluster, error) {
		return p.renderCluster(), nil
	})
	act(s, s.operation("POST", "/v1/cluster", "cluster-init", "Make a cluster of the answering host", 201), s.initCluster)
	s.joinCodeRoutes()
	act(s, s.operation("POST", "/v1/self/join", "self-join", "Make the answering host a member", 200), s.join)
	act(s, s.operation("POST", joinPath, "join", "For joining hosts: trade a code's secret for a certificate", 200), s.admit)
}

// status works in every condition a host can be in: it is what people ask when
// something is wrong.
func (s *Server) status(ctx context.Context) (v1.Status, error) {
	self := s.o.Backend.Self()
	if !self.InCluster {
		return strayStatus(self), nil
	}
	p, err := s.picture(ctx)
	if err != nil {
		return blindStatus(self, err), nil
	}
	report, err := s.o.Backend.Report(ctx)
	if err != nil {
		report = Report{Stale: err.Error()}
	}
	if projectOf(ctx) != "" {
		return p.renderOwn(self, report), nil
	}
	work, err := s.o.Backend.Work(ctx, false)
	if err != nil {
		work = v1.Works{} // what is wrong is said all the same
	}
	return p.renderStatus(self, report, work), nil
}

func (s *Server) initCluster(ctx context.Context, in *request[v1.ClusterInit]) (v1.Admin, error) {
	if err := holdfast.CheckName("cluster", in.Body.Name); err != nil {
		return v1.Admin{}, err
	}
	a, err := s.o.Backend.InitCluster(ctx, in.Body.Name)
	if err != nil {
		return v1.Admin{}, err
	}
	out := v1.Admin{Cluster: v1.Cluster{Name: in.Body.Name}, CA: string(a.CA), Cert: string(a.Cert), Key: string(a.Key)}
	if p, err := s.picture(ctx); err == nil {
		out.Cluster = p.renderCluster()
	}
	return out, nil
}

func (s *Server) join(ctx context.Context, in *request[v1.HostJoin]) (v1.Self, error) {
	code, err := v1.ParseJoinCode(in.Body.Code)
	if err != nil {
		return v1.Self{}, err
	}
	if err := s.o.Backend.Join(ctx, code); err != nil {
		return v1.Self{}, err
	}
	return renderSelf(s.o.Backend.Self()), nil
}

func (s *Server) admit(ctx context.Context, in *request[v1.JoinRequest]) (v1.JoinAnswer, error) {
	for what, name := range map[string]string{"host": in.Body.Name, "rack": in.Body.Rack} {
		if err := holdfast.CheckName(what, name); err != nil {
			return v1.JoinAnswer{}, err
		}
	}
	if in.Body.Site != "" {
		if err := holdfast.CheckName("site", in.Body.Site); err != nil {
			return v1.JoinAnswer{}, err
		}
	}
	return s.o.Backend.Admit(ctx, in.Body)
}

// HostRef names a host in a path.
type HostRef struct {
	Host string `path:"host" maxLength:"63" doc:"Name or identity"`
}

func (s *Server) hostRoutes() {
	list(s, listing[v1.Host]{path: "/v1/hosts", id: "host-list", summary: "The hosts",
		key: func(h v1.Host) string { return keyOf(h.Site, h.Rack, h.Name, h.ID) },
		all: func(_ context.Context, p picture) ([]v1.Host, error) { return render(p.hosts(), p.renderHost), nil }})
	read(s, "/v1/hosts/{host}", "host-show", "One host", func(p picture, in *HostRef) (v1.Host, error) {
		h, err := p.host(in.Host)
		return p.renderHost(h), err
	})
	s.drainRoutes()
	s.removalRoutes()
}

func (s *Server) incidentRoutes() {
	type ref struct {
		Incident string `path:"incident" maxLength:"128"`
	}
	list(s, listing[v1.Incident]{path: "/v1/incidents", id: "incident-list", summary: "Losses of hosts and what was done, newest first",
		key: func(i v1.Incident) string { return i.ID }, down: true,
		all: func(_ context.Context, p picture) ([]v1.Incident, error) {
			return render(p.incidents(), p.renderIncident), nil
		}})
	read(s, "/v1/incidents/{incident}", "incident-show", "One loss and its timeline", func(p picture, in *ref) (v1.Incident, error) {
		i, err := p.incident(in.Incident)
		return p.renderIncident(i), err
	})
}

// render maps records to wire types; the list is never null.
func render[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, f(a))
	}
	return out
}

// lookup finds the record that a path names.
func lookup[T any](ctx context.Context, s *Server, ref string, f func(picture, string) (T, error)) (T, error) {
	p, err := s.picture(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	return f(p, ref)
}

// volumeAnswer renders a record that the backend just committed, which may be
// newer than the picture.
func (s *Server) volumeAnswer(ctx context.Context, v cluster.Volume) (v1.Volume, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Volume{}, err
	}
	return p.renderVolume(v), nil
}
