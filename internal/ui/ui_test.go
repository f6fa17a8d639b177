package ui_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/ui"
)

const firstLoad = 150_000 // bytes, compressed, that the first page may take

func get(t *testing.T, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if !ui.Public(r) {
		t.Fatalf("%s is not public", path)
	}
	w := httptest.NewRecorder()
	ui.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		in = z
	}
	b, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheBuildMatchesItsSources: what is embedded was built from web/ as it is.
func TestTheBuildMatchesItsSources(t *testing.T) {
	apart := []string{"node_modules", "test", ".vite", ".gitignore", "README.md", "src/lib/schema.d.ts"} // as in web/pack.js
	web := os.DirFS("../../web")
	var names []string
	err := fs.WalkDir(web, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && slices.Contains(apart, p) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err == nil && !d.IsDir() {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	all := sha256.New()
	for _, name := range names {
		b, err := fs.ReadFile(web, name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(all, "%x  %s\n", sha256.Sum256(b), name)
	}
	built, err := os.ReadFile("dist/SOURCES")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(all.Sum(nil)); got != strings.TrimSpace(string(built)) {
		t.Errorf("web/ is %s, internal/ui/dist was built from %s: run 'make ui' and commit what it builds", got, strings.TrimSpace(string(built)))
	}
}

// TestPagesCallWhatTheAPIHas: with Node missing, this sees that an operation which the
// pages call has another path or is gone. 'make ui' looks at every field.
func TestPagesCallWhatTheAPIHas(t *testing.T) {
	b, err := os.ReadFile("../httpapi/testdata/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(b, &api); err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`\b(get|post|put|patch|remove)\('(/v1/[^']+)'`)
	n := 0
	err = fs.WalkDir(os.DirFS("../../web/src"), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, ".d.ts") {
			return err
		}
		b, err := os.ReadFile(filepath.Join("../../web/src", p))
		for _, m := range calls.FindAllStringSubmatch(string(b), -1) {
			method := strings.Replace(m[1], "remove", "delete", 1)
			if n++; api.Paths[m[2]][method] == nil {
				t.Errorf("%s calls %s %s, which the API does not have", p, strings.ToUpper(method), m[2])
			}
		}
		return err
	})
	if err != nil || n < 50 {
		t.Fatalf("%d calls, %v", n, err)
	}
}

// TestPagesAreServed: every page of the application is the one file, and what it
// names is there, within the size that a slow line allows.
func TestPagesAreServed(t *testing.T) {
	named := regexp.MustCompile(`(?:src|href)="/ui/([^"]+)"`)
	for _, path := range []string{"/ui/", "/ui/vms", "/ui/vms/db1.example", "/ui/runbooks/rack-away", "/ui/setup"} {
		r := get(t, path, "Accept-Encoding", "gzip")
		page := body(t, r)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(page, `<div id="app">`) {
			t.Fatalf("%s: %d %s\n%.300s", path, r.StatusCode, r.Header.Get("Content-Type"), page)
		}
		sent := r.ContentLength
		found := named.FindAllStringSubmatch(page, -1)
		if len(found) < 3 {
			t.Fatalf("%s names %d files", path, len(found))
		}
		for _, m := range found {
			part := get(t, "/ui/"+m[1], "Accept-Encoding", "gzip")
			sent += part.ContentLength
			if part.StatusCode != http.StatusOK || !strings.Contains(part.Header.Get("Cache-Control"), "immutable") || len(body(t, part)) == 0 {
				t.Errorf("%s, which %s names: %d %v", m[1], path, part.StatusCode, part.Header)
			}
		}
		if sent > firstLoad {
			t.Errorf("the first page takes %d bytes, more than %d", sent, firstLoad)
		}
		t.Logf("%s: %d bytes with gzip", path, sent)
	}
	if r := get(t, "/ui/assets/gone.js"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a file that is not there: %d", r.StatusCode)
	}
}

// TestEveryCodingIsTheSame: brotli, gzip and neither.
func TestEveryCodingIsTheSame(t *testing.T) {
	files, err := filepath.Glob("dist/assets/*.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		path := "/ui/assets/" + strings.TrimSuffix(filepath.Base(f), ".gz")
		gz, none, br := get(t, path, "Accept-Encoding", "gzip"), get(t, path), get(t, path, "Accept-Encoding", "gzip, br;q=0.5")
		if coded := body(t, gz); coded != body(t, none) || coded == "" {
			t.Errorf("%s differs with gzip and without", path)
		}
		if got := br.Header.Get("Content-Encoding"); got != "br" {
			t.Errorf("%s with brotli allowed: %q", path, got)
		}
		if got := get(t, path, "Accept-Encoding", "br;q=0, gzip").Header.Get("Content-Encoding"); got != "gzip" {
			t.Errorf("%s with brotli refused: %q", path, got)
		}
		if r := get(t, path, "If-None-Match", gz.Header.Get("ETag")); r.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: %d", path, r.StatusCode)
		}
	}
}

// TestBrowsersAreToldToTrustNothingElse: headers of every answer, and no script in
// the page itself, which they would forbid.
func TestBrowsersAreToldToTrustNothingElse(t *testing.T) {
	for _, path := range []string{"/", "/ui/", "/ui/vms", "/ui/assets/none.js", "/ui/runbooks.json", "/setup"} {
		h := get(t, path).Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q does not say %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "data:") {
			t.Errorf("%s: the policy allows too much: %s", path, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
	}
	page := body(t, get(t, "/ui/"))
	if m := regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^<\s]|\son\w+=|\sstyle=|<style|https?://`).FindString(page); m != "" {
		t.Errorf("the page holds %q", m)
	}
}

func TestWhereTheDoorsLead(t *testing.T) {
	for path, want := range map[string]string{"/": "/ui/", "/ui": "/ui/", "/setup": "/ui/setup"} {
		if r := get(t, path); r.StatusCode != http.StatusFound || r.Header.Get("Location") != want {
			t.Errorf("%s: %d to %q", path, r.StatusCode, r.Header.Get("Location"))
		}
	}
	for _, r := range []*http.Request{httptest.NewRequest(http.MethodGet, "/v1/status", nil), httptest.NewRequest(http.MethodPost, "/ui/", nil),
		httptest.NewRequest(http.MethodGet, "/metrics", nil), httptest.NewRequest(http.MethodGet, "/uis", nil)} {
		if ui.Public(r) {
			t.Errorf("%s %s is public", r.Method, r.URL.Path)
		}
	}
}

func TestRunbooksAreThereWithoutANetwork(t *testing.T) {
	var pages []struct{ Name, Title, Text string }
	if err := json.Unmarshal([]byte(body(t, get(t, "/ui/runbooks.json", "Accept-Encoding", "gzip"))), &pages); err != nil || len(pages) < 40 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	if !slices.ContainsFunc(pages, func(p struct{ Name, Title, Text string }) bool {
		return p.Name == "rack-away" && p.Title != "" && strings.Contains(p.Text, "## What to type")
	}) {
		t.Error("there is no page rack-away")
	}
}
