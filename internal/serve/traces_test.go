package serve

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
)

// TestACollectorIsToldOfCallsAndFailOvers has a host tell one, which was configured.
func TestACollectorIsToldOfCallsAndFailOvers(t *testing.T) {
	var mu sync.Mutex
	var told bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		told.Write(b)
		mu.Unlock()
	}))
	t.Cleanup(collector.Close)
	b := newBoxWith(t, 61, "a", "traces:\n  endpoint: "+collector.URL+"\n")
	ctx := context.Background()
	if _, err := b.api.InitCluster(ctx, v1.ClusterInit{Name: "traced"}); err != nil {
		t.Fatal(err)
	}
	m, err := b.host.member()
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it leads", func() bool { return m.node.Cluster.State().Leader == b.host.dir.id.Host })
	now := time.Now()
	x := m.node.Cluster.Begin()
	x.PutIncident(cluster.Incident{ID: "000000000009-gone", Opened: now.Add(-time.Minute), Closed: &now,
		Steps: []cluster.Step{{At: now, What: ha.Mended, Text: "everything runs"}}}, 0)
	if _, err := x.Commit(); err != nil {
		t.Fatal(err)
	}
	until(t, "the collector knows of a call and of the fail-over", func() bool {
		if _, err := b.api.Hosts(ctx); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return bytes.Contains(told.Bytes(), []byte("host-list")) && bytes.Contains(told.Bytes(), []byte("000000000009-gone"))
	})
}
