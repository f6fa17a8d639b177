package httpapi_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

func TestAHistoryIsOneFormOfEverything(t *testing.T) {
	b := apitest.Three()
	c, socket := serve(t, b)
	ctx := context.Background()
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "data", Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVM(ctx, v1.VMSpec{Name: "web", Volume: "data", CPUs: 1, MemoryMiB: 64}); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(-10 * time.Minute)
	for kind, name := range map[string]string{"vm": "web", "volume": "data", "host": "beta"} {
		h, err := c.History(ctx, kind, name, client.Span{Range: time.Hour, Step: time.Minute, End: end, Metrics: []string{"cpu", "nonsense"}})
		if err != nil {
			t.Fatal(err)
		}
		last := h.Start.Add(60 * time.Minute)
		if h.Kind != kind || h.Name != name || h.Step != 60 || len(h.Metrics) != 1 || len(h.Metrics[0].Points) != 60 || h.Metrics[0].Points[1] != nil || *h.Metrics[0].Points[2] != 2 ||
			last.Before(end.Truncate(time.Second)) || last.After(end.Add(time.Minute)) || strings.Join(h.Silent, "") != "gamma" {
			t.Errorf("%s: %+v", kind, h)
		}
	}
	if h, err := c.History(ctx, "host", "beta", client.Span{Range: 31 * 24 * time.Hour, Local: true}); err != nil || h.Step != 900 || len(h.Metrics) != 2 || h.Silent != nil {
		t.Errorf("of a month: %d, %v", h.Step, err)
	}
	for query, says := range map[string]string{
		"range=3601&step=10": "query.range", "step=11": "query.step", "range=5": "query.range", "end=tomorrow": "query.end", "end=2999-01-01T00:00:00Z": "query.end", "color=red": "color",
	} {
		status, p := raw(t, socket, "GET", "/v1/history/vms/web?"+query, "")
		text := p.Detail
		for _, e := range p.Errors {
			text += " " + e.Where + " " + e.What
		}
		if status < 400 || status > 499 || !strings.Contains(text, says) {
			t.Errorf("%s: %d, %s", query, status, text)
		}
	}
	if status, _ := raw(t, socket, "GET", "/v1/history/vms/"+url.PathEscape("no such"), ""); status != 404 {
		t.Errorf("a VM that is not there: %d", status)
	}
	if _, err := c.History(ctx, "rack", "a", client.Span{}); err == nil {
		t.Error("there are no figures of racks")
	}
}
