// Package ui serves the web interface: files that were built from web/ and are
// part of the program, so that a page needs neither the internet nor Node. What
// the pages show they ask of the public API, as every other client does; nothing
// that is served here says anything about a cluster.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// Built by `make ui`: of each file FILE.br and FILE.gz, and in SOURCES the hash of
// what they were built from.
//
//go:embed all:dist
var dist embed.FS

const (
	// Base is where the pages are.
	Base = "/ui/"
	// policy lets a page load from where it comes from, and run and be framed by nothing else.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	index = "index.html" // the page of every path that is no file
	books = "runbooks.json"
)

// file is one of them, as it is sent.
type file struct {
	kind   string // Content-Type
	tag    string // ETag, the same in every coding
	coded  map[string][]byte
	hashed bool // its name tells its content: it never changes
}

// Public reports whether a request is for the pages, which are served to whoever
// asks: who has not logged in needs the page to do so.
func Public(r *http.Request) bool {
	p := r.URL.Path
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && (p == "/" || p == "/setup" || p == "/ui" || strings.HasPrefix(p, Base))
}

// Handler serves everything for which Public says yes.
func Handler() http.Handler {
	files := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		switch r.URL.Path {
		case "/", "/ui":
			http.Redirect(w, r, Base, http.StatusFound)
			return
		case "/setup": // its token is behind a #, which browsers keep
			http.Redirect(w, r, Base+"setup", http.StatusFound)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, Base)
		f, ok := files[name]
		if !ok && !strings.HasPrefix(name, "assets/") { // a page of the application, of whose path names of things are part
			f, ok = files[index], true
		}
		if !ok {
			http.Error(w, "there is no such file; load "+Base+" anew", http.StatusNotFound)
			return
		}
		f.send(w, r)
	})
}

// secure sets what browsers are told of everything.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
}

func (f *file) send(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if f.hashed {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	coding := Coding(r.Header.Get("Accept-Encoding"), "br", "gzip")
	body, ok := f.coded[coding]
	if !ok {
		coding, body = "gzip", f.coded["gzip"]
	}
	if coding == "" {
		body = plain(f.coded["gzip"])
	} else {
		h.Set("Content-Encoding", coding)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may be gone, which is its own affair
	}
}

// Coding returns the first of the codings that a client takes by its Accept-Encoding
// (RFC 9110, section 12.5.3), or none.
func Coding(accept string, codings ...string) string {
	takes := map[string]bool{}
	for part := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		weight = strings.ReplaceAll(weight, " ", "")
		takes[strings.TrimSpace(name)] = weight != "q=0" && weight != "q=0.0"
	}
	for _, c := range codings {
		if takes[c] {
			return c
		}
	}
	return ""
}

func plain(packed []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil // a test reads every file
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return nil
	}
	return out
}

// load reads the files of the program.
func load() map[string]*file {
	files := map[string]*file{}
	_ = fs.WalkDir(dist, "dist", func(p string, d fs.DirEntry, err error) error {
		name, packed := strings.CutSuffix(strings.TrimPrefix(p, "dist/"), ".gz")
		if err != nil || !packed {
			return err
		}
		gz, err := dist.ReadFile(p)
		if err != nil {
			return err
		}
		f := newFile(name, gz)
		if br, err := dist.ReadFile(strings.TrimSuffix(p, ".gz") + ".br"); err == nil {
			f.coded["br"] = br
		}
		files[name] = f
		return nil
	})
	files[books] = newFile(books, packed(pages()))
	return files
}

func newFile(name string, gz []byte) *file {
	sum := sha256.Sum256(gz)
	return &file{kind: kindOf(name), tag: `"` + hex.EncodeToString(sum[:12]) + `"`,
		coded: map[string][]byte{"gzip": gz}, hashed: strings.HasPrefix(name, "assets/")}
}

func kindOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}

// pages are the runbooks, for a person who has no network.
func pages() []byte {
	type page struct {
		Name  string `json:"name"`
		Title string `json:"title"`
		Text  string `json:"text"`
	}
	var all []page
	for _, p := range runbooks.Pages() {
		all = append(all, page{p.Name, p.Title, p.Text})
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil // strings can be marshaled
	}
	return b
}

func packed(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // to memory
	_ = w.Close()
	return out.Bytes()
}
