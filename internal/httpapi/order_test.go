package httpapi

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Hosts that lead one after the other may live in different centuries: what
// happened last is told first all the same.
func TestIncidentsAreToldInTheOrderOfTheRecords(t *testing.T) {
	st := &cluster.State{Incidents: map[string]cluster.Versioned[cluster.Incident]{}}
	for id, year := range map[string]int{"000000000100-a1": 2026, "000000000200-b1": 2099, "000000000300-c1": 1970} {
		st.Incidents[id] = cluster.Versioned[cluster.Incident]{Val: cluster.Incident{ID: id, Opened: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}}
	}
	got := ""
	for _, inc := range pictureOf(st).incidents() {
		got += inc.ID[9:] + " "
	}
	if got != "300-c1 200-b1 100-a1 " {
		t.Errorf("told in the order %s", got)
	}
}
