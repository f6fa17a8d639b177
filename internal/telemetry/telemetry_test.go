package telemetry

import (
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write docs/METRICS.md anew")

// scrape asks a registry as Prometheus does.
func scrape(t *testing.T, r *Registry) (code int, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

func TestFiguresAreToldWithTheirLabels(t *testing.T) {
	r := New(func(s *Samples) error {
		s.Add("holdfast_disk_free_bytes", 4096, "/dev/sdb")
		s.Truth("holdfast_disk_up", true, "/dev/sdb")
		s.Add("holdfast_disk_written_bytes_total", 7, "/dev/sdb", "log")
		s.Add("holdfast_volume_epoch", 3, "a\n\"strange\" name")
		s.Add("holdfast_volume_epoch", 9, "a\n\"strange\" name") // another one of that name, being deleted
		return nil
	})
	r.Call("vm-list", "200", 3*time.Millisecond)
	code, text := scrape(t, r)
	if code != 200 {
		t.Fatalf("%d: %s", code, text)
	}
	for _, line := range []string{
		`holdfast_disk_free_bytes{disk="/dev/sdb"} 4096`, `holdfast_disk_up{disk="/dev/sdb"} 1`,
		`# TYPE holdfast_disk_written_bytes_total counter`, `holdfast_disk_written_bytes_total{disk="/dev/sdb",what="log"} 7`,
		`holdfast_volume_epoch{volume="a\n\"strange\" name"} 3`,
		`holdfast_api_requests_total{code="200",operation="vm-list"} 1`, `holdfast_api_request_seconds_bucket{operation="vm-list",le="0.005"} 1`,
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in what is told:\n%s", line, text)
		}
	}
}

func TestAFigureThatIsInNoTableFailsTheScrape(t *testing.T) {
	for why, add := range map[string]func(*Samples){
		"an unknown name": func(s *Samples) { s.Add("holdfast_vibes", 1) },
		"a label missing": func(s *Samples) { s.Add("holdfast_disk_free_bytes", 1) },
		"no text":         func(s *Samples) { s.Add("holdfast_disk_free_bytes", 1, "\xff") },
	} {
		if code, text := scrape(t, New(func(s *Samples) error { add(s); return nil })); code != 500 || !strings.Contains(text, "metrics: holdfast_") {
			t.Errorf("%s: %d, %s", why, code, text)
		}
	}
}

// The names follow Prometheus' advice: a base unit at the end, _total for what
// only grows, and no name twice.
func TestNames(t *testing.T) {
	form := regexp.MustCompile(`^holdfast_[a-z]+(_[a-z]+)*$`)
	all := append(Families(), CallFamilies()...)
	for i, f := range all {
		if !form.MatchString(f.Name) || strings.HasSuffix(f.Name, "_total") != (f.Kind == Counter) || !strings.HasSuffix(f.Help, ".") {
			t.Errorf("%+v", f)
		}
		if slices.ContainsFunc(all[:i], func(o Family) bool { return o.Name == f.Name }) {
			t.Errorf("%s stands there twice", f.Name)
		}
	}
}

func page() string {
	var b strings.Builder
	b.WriteString(`# What a host measures

Every host tells its own figures at ` + "`GET /metrics`" + `, on its socket and over HTTPS for whom the API is for, in the text format of Prometheus: of itself, of its disks, and of the volumes that it writes. What it knows of the cluster (` + "`holdfast_cluster_*`" + `) all hosts tell alike; alert on the highest. Beside these there are ` + "`go_*` and `process_*`" + ` of the program itself. Rules for alerts and a dashboard stand in [deploy](../deploy).

This page is printed from the table in ` + "`internal/telemetry`" + ` (` + "`go test ./internal/telemetry -rewrite`" + `). Names stay; more come.

| name | kind | labels | |
|---|---|---|---|
`)
	for _, f := range append(Families(), CallFamilies()...) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, strings.Join(f.Labels, ", "), f.Help)
	}
	return b.String()
}

func TestThePageIsTheTable(t *testing.T) {
	const path = "../../docs/METRICS.md"
	if *rewrite {
		if err := os.WriteFile(path, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != page() {
		t.Errorf("docs/METRICS.md is not what the table says; again with -rewrite (%v)", err)
	}
}

// Rules and dashboards speak of figures that there are.
func TestWhatIsDeployedNamesWhatThereIs(t *testing.T) {
	known := map[string]bool{"holdfast_api_request_seconds_bucket": true}
	for _, f := range append(Families(), CallFamilies()...) {
		known[f.Name] = true
	}
	for _, file := range []string{"../../deploy/prometheus/alerts.yml", "../../deploy/grafana/holdfast.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`holdfast_[a-z_]+`).FindAllString(string(b), -1)
		if len(names) < 5 {
			t.Errorf("%s names %d figures", file, len(names))
		}
		for _, n := range names {
			if !known[n] {
				t.Errorf("%s: there is no figure %s", file, n)
			}
		}
	}
}
