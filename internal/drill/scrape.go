package drill

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab"
)

// maxScrape bounds what is read of a host's figures.
const maxScrape = 16 << 20

// scrape asks a host for its figures (docs/METRICS.md) and returns those without
// labels.
func scrape(ctx context.Context, h lab.Host) (map[string]float64, error) {
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", h.Socket())
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://holdfast/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the figures of host %s: %w", h.Name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the figures of host %s: %s", h.Name, resp.Status)
	}
	return parseFigures(io.LimitReader(resp.Body, maxScrape))
}

// parseFigures reads the text format of Prometheus, of which it takes what has no
// labels. A line that is none is left out.
func parseFigures(r io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		name, rest, ok := strings.Cut(s.Text(), " ")
		if !ok || name == "" || name[0] == '#' || strings.ContainsAny(name, "{}") {
			continue
		}
		if f := strings.Fields(rest); len(f) > 0 {
			if v, err := strconv.ParseFloat(f[0], 64); err == nil {
				out[name] = v
			}
		}
	}
	if err := s.Err(); err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "figures: %w", err)
	}
	return out, nil
}
