package serve

import (
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/tracing"
)

const (
	// lateTold is how long after its end a fail-over is told of by a host that has come
	// to lead since: the one before may not have got to it.
	lateTold = 10 * time.Minute
	// closedLook is how often it looks whether it has been stopped.
	closedLook = time.Second
)

// openTraces opens the way to the collector that is configured; nil: there is none.
func (h *Host) openTraces() (*tracing.Tracer, error) {
	c := h.cfg.Traces
	if c.Endpoint == "" {
		return nil, nil
	}
	return tracing.Open(tracing.Config{Endpoint: c.Endpoint, CA: c.CA, HeaderFile: c.HeaderFile, Share: *c.Share,
		Host: h.cfg.Name, HostID: h.dir.id.Host.String(), Rack: h.cfg.Rack, Version: h.version, Log: h.log})
}

// traceFailOvers tells of incidents that are over, as long as this host leads.
func (h *Host) traceFailOvers(m *member) {
	told := map[string]bool{}
	for {
		st := m.node.Cluster.State()
		for id := range told {
			if _, there := st.Incidents[id]; !there {
				delete(told, id)
			}
		}
		for _, rec := range st.SortedIncidents() {
			inc := rec.Val
			if st.Leader != h.dir.id.Host || inc.Closed == nil || told[inc.ID] || time.Since(*inc.Closed) > lateTold {
				continue
			}
			told[inc.ID] = true
			h.traces.FailOver(inc, hostNames(st, inc))
		}
		select {
		case <-m.done:
			return
		default:
			m.node.Cluster.WaitRev(st.Rev+1, closedLook)
		}
	}
}

func hostNames(st *cluster.State, inc cluster.Incident) (names []string) {
	for _, id := range inc.Hosts {
		names = append(names, st.Hosts[id].Val.Name)
	}
	return names
}
