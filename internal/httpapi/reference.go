package httpapi

import (
	"bytes"
	"cmp"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
)

// referenceRoute serves the description as a page: made of it when it is asked for
// first, without scripts, and with nothing from elsewhere.
func (s *Server) referenceRoute(r chi.Router) {
	page := sync.OnceValues(func() ([]byte, error) {
		var out bytes.Buffer
		err := referencePage().Execute(&out, s.reference())
		return out.Bytes(), err
	})
	r.Get("/v1/docs", func(w http.ResponseWriter, _ *http.Request) {
		b, err := page()
		if err != nil {
			writeProblem(w, err)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "private, no-cache")
		_, _ = w.Write(b) // the client may be gone, which is its own affair
	})
}

// reference is what the page tells.
type reference struct {
	Title, Version, About string
	Calls                 []call
	Types                 []typeOf
}

type call struct {
	Method, Path, ID, Summary string
	Params                    []field
	Takes, Answers            []string // kind of body: type
}

type typeOf struct {
	Name   string
	Fields []field
}

type field struct {
	Name, Where, Type, About string
	Required                 bool
}

func (s *Server) reference() reference {
	api := s.api.OpenAPI()
	out := reference{Title: api.Info.Title, Version: api.Info.Version, About: api.Info.Description}
	for _, path := range slices.Sorted(maps.Keys(api.Paths)) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if op := s.described(method, path); op != nil {
				out.Calls = append(out.Calls, callOf(method, path, op))
			}
		}
	}
	all := api.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t := typeOf{Name: name}
		for _, f := range slices.Sorted(maps.Keys(all[name].Properties)) {
			p := all[name].Properties[f]
			t.Fields = append(t.Fields, field{Name: f, Type: typeName(p), About: p.Description, Required: slices.Contains(all[name].Required, f)})
		}
		out.Types = append(out.Types, t)
	}
	return out
}

func callOf(method, path string, op *huma.Operation) call {
	c := call{Method: method, Path: path, ID: op.OperationID, Summary: op.Summary}
	for _, p := range op.Parameters {
		c.Params = append(c.Params, field{Name: p.Name, Where: p.In, Type: typeName(p.Schema), About: p.Description, Required: p.Required})
	}
	if op.RequestBody != nil {
		c.Takes = bodies("", op.RequestBody.Content)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		if status == "default" || status >= "400" {
			continue // all errors are problems
		}
		c.Answers = append(c.Answers, cmp.Or(strings.Join(bodies(status, op.Responses[status].Content), "; "), status))
	}
	return c
}

func bodies(status string, of map[string]*huma.MediaType) (out []string) {
	for _, kind := range slices.Sorted(maps.Keys(of)) {
		out = append(out, strings.TrimSpace(status+" "+kind+" "+typeName(of[kind].Schema)))
	}
	return out
}

// typeName says what a schema is, in a few words.
func typeName(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Type == huma.TypeArray:
		return "list of " + typeName(s.Items)
	case len(s.Enum) > 0:
		var of []string
		for _, v := range s.Enum {
			if t, ok := v.(string); ok {
				of = append(of, t)
			}
		}
		return s.Type + ": " + strings.Join(of, ", ")
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}

func referencePage() *template.Template {
	return template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} API</title>
<style>
:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h2{margin-top:2.5rem}section{border-top:1px solid #8886;padding:.5rem 0}h3{margin:.3rem 0;font-size:1rem;overflow-wrap:anywhere}
code{font-family:ui-monospace,monospace}table{border-collapse:collapse;width:100%}td{padding:.15rem .8rem .15rem 0;vertical-align:top;overflow-wrap:anywhere}
ul.all{columns:18rem;padding-left:1.2rem}p{margin:.3rem 0}
</style></head><body>
<h1>{{.Title}} API</h1>
<p>{{.About}} Version {{.Version}}. The same as a document: <a href="/openapi.json"><code>/openapi.json</code></a>. Every error is a <a href="#type-Problem">Problem</a>.</p>
<h2>Calls</h2>
<ul class="all">{{range .Calls}}<li><a href="#{{.ID}}">{{.ID}}</a></li>{{end}}</ul>
{{range .Calls}}<section id="{{.ID}}"><h3><code>{{.Method}} {{.Path}}</code></h3><p>{{.Summary}}</p>
{{if .Params}}<table>{{range .Params}}<tr><td><code>{{.Name}}</code></td><td>{{.Where}}{{if .Required}}, required{{end}}</td><td>{{.Type}}</td><td>{{.About}}</td></tr>{{end}}</table>{{end}}
{{range .Takes}}<p>Takes {{.}}</p>{{end}}{{range .Answers}}<p>Answers {{.}}</p>{{end}}</section>
{{end}}<h2>Types</h2>
{{range .Types}}<section id="type-{{.Name}}"><h3>{{.Name}}</h3><table>{{range .Fields}}<tr><td><code>{{.Name}}</code></td><td>{{if .Required}}always{{end}}</td><td>{{.Type}}</td><td>{{.About}}</td></tr>{{end}}</table></section>
{{end}}</body></html>
`))
}
