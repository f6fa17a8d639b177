package httpapi_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
)

// figures scrapes a host.
func figures(t *testing.T, socket string) string {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://h/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d, %v: %s", resp.StatusCode, err, b)
	}
	return string(b)
}

// A host tells of itself from the beginning, of the cluster once it is in one,
// and of calls by what they asked for.
func TestFigures(t *testing.T) {
	_, socket := serve(t, apitest.New())
	if text := figures(t, socket); !strings.Contains(text, "holdfast_host_in_cluster 0\n") || strings.Contains(text, "holdfast_cluster") {
		t.Errorf("a host in no cluster tells:\n%s", text)
	}
	c, socket := serve(t, apitest.Three())
	if _, err := c.CreateVolume(context.Background(), v1.VolumeSpec{Name: "data", Size: 1 << 20, Copies: 3, Min: 2}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/volumes/none", "/v1/volumes/none", "/no/such/thing", "/v1/status?x=1"} {
		raw(t, socket, "GET", path, "")
	}
	text := figures(t, socket)
	for _, want := range []string{
		`holdfast_cluster_hosts{state="alive"} 3`, `holdfast_cluster_volumes{state="whole"} 1`, "holdfast_cluster_stale 0", "holdfast_cluster_losable_racks 3",
		`holdfast_host_info{host="alpha",rack="a",site=""} 1`,
		`holdfast_api_requests_total{code="201",operation="volume-create"} 1`, `holdfast_api_requests_total{code="404",operation="volume-show"} 2`,
		`holdfast_api_requests_total{code="404",operation="other"} 1`, `holdfast_api_requests_total{code="422",operation="status"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is not told", want)
		}
	}
	for _, f := range telemetry.Families() {
		if strings.HasPrefix(f.Name, "holdfast_cluster_") && !strings.Contains(text, "\n"+f.Name) && f.Name != "holdfast_cluster_conditions" {
			t.Errorf("%s is not told", f.Name)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
