package httpapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/series"
)

// Span is how a history is asked for, of whatever it is.
type Span struct {
	Range   int64     `query:"range" default:"3600" minimum:"10" maximum:"2678400" doc:"Seconds that are told of"`
	Step    int64     `query:"step" minimum:"0" maximum:"900" doc:"Seconds between two points: 10 are kept for an hour, 60 for a day, 900 for 31 days; absent: the shortest that reaches back so far"`
	End     time.Time `query:"end" doc:"Until when; absent: now"`
	Metrics string    `query:"metrics" maxLength:"400" doc:"Names, with commas between them; absent: all"`
	Local   bool      `query:"local" doc:"Only what the answering host has measured"`
}

func (s *Server) historyRoutes() {
	type vm struct {
		VMRef
		Span
	}
	act(s, s.operation("GET", "/v1/history/vms/{vm}", "vm-history", "What a VM has used over time, on all hosts where it was", 200),
		func(ctx context.Context, in *vm) (v1.History, error) {
			v, err := lookup(ctx, s, in.VM, picture.vm)
			if err != nil {
				return v1.History{}, err
			}
			return s.history(ctx, v1.History{Kind: "vm", Name: v.Name}, v.ID.UUID, in.Span)
		})
	type volume struct {
		VolumeRef
		Span
	}
	act(s, s.operation("GET", "/v1/history/volumes/{volume}", "volume-history", "What was asked of a volume over time, and how long that took", 200),
		func(ctx context.Context, in *volume) (v1.History, error) {
			v, err := lookup(ctx, s, in.Volume, picture.stored)
			if err != nil {
				return v1.History{}, err
			}
			return s.history(ctx, v1.History{Kind: "volume", Name: v.Name}, v.ID.UUID, in.Span)
		})
	type host struct {
		HostRef
		Span
	}
	act(s, s.operation("GET", "/v1/history/hosts/{host}", "host-history", "What a host had to do over time, and what room it had", 200),
		func(ctx context.Context, in *host) (v1.History, error) {
			h, err := lookup(ctx, s, in.Host, picture.host)
			if err != nil {
				return v1.History{}, err
			}
			return s.history(ctx, v1.History{Kind: "host", Name: h.Name}, h.ID.UUID, in.Span)
		})
}

// history asks the hosts, and leaves of what they tell what was asked for.
func (s *Server) history(ctx context.Context, of v1.History, id holdfast.UUID, in Span) (v1.History, error) {
	now := time.Now()
	if in.End.IsZero() {
		in.End = now
	}
	if in.End.Unix() < 0 || in.End.After(now.Add(series.Longest())) {
		return v1.History{}, holdfast.Errorf(holdfast.Invalid, "query.end: %s is not a time that figures could be of", in.End.Format(time.RFC3339))
	}
	w, err := series.WindowOf(now, in.End, time.Duration(in.Range)*time.Second, in.Step)
	if err != nil {
		return v1.History{}, holdfast.Errorf(holdfast.KindOf(err), "query.%w", err)
	}
	of.ID, of.Start, of.Step = id.String(), time.Unix(w.Start, 0).UTC(), w.Step
	if err := s.o.Backend.History(ctx, &of, id, w, in.Local); err != nil {
		return v1.History{}, err
	}
	if in.Metrics != "" {
		named := strings.Split(in.Metrics, ",")
		of.Metrics = slices.DeleteFunc(of.Metrics, func(m v1.Metric) bool { return !slices.Contains(named, m.Name) })
	}
	return of, nil
}
