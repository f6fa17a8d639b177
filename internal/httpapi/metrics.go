package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/docs/runbooks"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
)

const (
	metricsPath = "/metrics" // where scrapers look by themselves
	gatherWait  = 5 * time.Second
)

// metricsRoute serves the figures of docs/METRICS.md as Prometheus reads them.
func (s *Server) metricsRoute(r chi.Router) {
	op := s.operation(http.MethodGet, metricsPath, "metrics", "What the host measures, in the text format of Prometheus", http.StatusOK)
	op.Responses["200"] = &huma.Response{Description: "Figures", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: "string"}}}}
	s.api.OpenAPI().AddOperation(&op)
	r.Method(http.MethodGet, metricsPath, s.metrics.Handler())
}

// gather tells everything: the host itself its own, and from the picture what it
// knows of the cluster.
func (s *Server) gather(m *telemetry.Samples) error {
	ctx, cancel := context.WithTimeout(s.base, gatherWait)
	defer cancel()
	self := s.o.Backend.Self()
	m.Add("holdfast_build_info", 1, self.Version)
	m.Add("holdfast_host_info", 1, self.Name, self.Domain.Rack, self.Domain.Site)
	m.Truth("holdfast_host_in_cluster", self.InCluster)
	if !self.InCluster {
		return nil
	}
	m.Truth("holdfast_host_leads_control_plane", self.LeadsKV)
	s.o.Backend.Measure(m)
	s.gatherCluster(ctx, m)
	return nil
}

func (s *Server) gatherCluster(ctx context.Context, m *telemetry.Samples) {
	report, err := s.o.Backend.Report(ctx)
	m.Truth("holdfast_cluster_stale", err != nil || report.Stale != "")
	p, err := s.picture(ctx)
	if err != nil {
		return // nothing is known
	}
	st := p.renderStatus(s.o.Backend.Self(), report, v1.Works{})
	c := st.Counts
	for _, x := range []struct {
		name, state string
		n           int
	}{
		{"holdfast_cluster_hosts", "alive", c.HostsAlive}, {"holdfast_cluster_hosts", "away", c.Hosts - c.HostsAlive},
		{"holdfast_cluster_vms", "running", c.VMsRunning}, {"holdfast_cluster_vms", "waiting", c.VMsOn - c.VMsRunning}, {"holdfast_cluster_vms", "off", c.VMs - c.VMsOn},
		{"holdfast_cluster_volumes", "whole", c.Volumes - c.VolumesDegraded}, {"holdfast_cluster_volumes", "degraded", c.VolumesDegraded},
	} {
		m.Add(x.name, float64(x.n), x.state)
	}
	m.Add("holdfast_cluster_size_bytes", float64(c.BytesTotal))
	m.Add("holdfast_cluster_free_bytes", float64(c.BytesFree))
	m.Add("holdfast_cluster_losable_racks", float64(len(st.CanLose.Racks)))
	m.Add("holdfast_cluster_incidents", float64(len(p.Incidents)))
	held := map[[2]string]int{}
	for _, c := range st.Conditions {
		held[[2]string{runbooks.Name(c.ID), c.Severity}]++
	}
	for of, n := range held {
		m.Add("holdfast_cluster_conditions", float64(n), of[0], of[1])
	}
}

// counted counts the calls by what they asked for, and has them traced.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		to := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		traced := func(string, int) {}
		if s.o.Trace != nil {
			r, traced = s.o.Trace(r)
		}
		defer func() {
			op, code := s.operationOf(r), to.Status()
			if code == 0 {
				code = http.StatusSwitchingProtocols // the connection was taken over
			}
			s.metrics.Call(op, strconv.Itoa(code), time.Since(begun))
			if code == http.StatusSwitchingProtocols || strings.HasPrefix(to.Header().Get("Content-Type"), "text/event-stream") {
				op = "" // a stream
			}
			traced(op, code)
		}()
		next.ServeHTTP(to, r)
	})
}

// operationOf is the name of what a request asked for, once it was routed.
func (s *Server) operationOf(r *http.Request) string {
	op := s.described(r.Method, chi.RouteContext(r.Context()).RoutePattern())
	if op == nil {
		return "other"
	}
	return op.OperationID
}
