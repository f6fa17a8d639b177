package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

// ListQuery is what a list may be asked for beside all of it.
type ListQuery struct {
	Limit  int      `query:"limit" minimum:"1" maximum:"1000" doc:"At most so many; the header Link has the next page"`
	Cursor string   `query:"cursor" maxLength:"1024" doc:"Where a page ended, from its Link"`
	Filter []string `query:"filter,explode" maxItems:"8" doc:"FIELD=VALUE: only what has that there, or among what is there; all of several must hold"`
	Fields string   `query:"fields" maxLength:"512" doc:"Only these fields of each, with commas between"`
}

// Resolve implements huma.Resolver: huma takes no filters at all if the first one is
// empty.
func (q *ListQuery) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	if q.Filter = u.Query()["filter"]; len(q.Filter) > maxFilters {
		return []error{&huma.ErrorDetail{Location: "query.filter", Message: fmt.Sprintf("at most %d of them are taken", maxFilters)}}
	}
	return nil
}

const maxFilters = 8

// page is what a list is answered with: things, or what was asked for of each.
type page[T any] struct {
	all  []T
	some []map[string]json.RawMessage // unless nil
}

// MarshalJSON implements json.Marshaler.
func (p page[T]) MarshalJSON() ([]byte, error) {
	if p.some != nil {
		return json.Marshal(p.some)
	}
	return json.Marshal(p.all)
}

// Schema implements huma.SchemaProvider.
func (page[T]) Schema(r huma.Registry) *huma.Schema {
	return huma.SchemaFromType(r, reflect.TypeFor[[]T]())
}

type listAnswer[T any] struct {
	Link string `header:"Link" doc:"The next page (rel=next), if there is one (RFC 8288)"`
	Body page[T]
}

// listing is a list of things that are told in the order of a key of theirs, which
// nothing else has.
type listing[T any] struct {
	path, id, summary string
	key               func(T) string
	down              bool // the highest first
	all               func(ctx context.Context, p picture) ([]T, error)
	more              bool // it is made of more than the picture
}

// list registers a list.
func list[T any](s *Server, l listing[T]) {
	huma.Register(s.api, s.operation(http.MethodGet, l.path, l.id, l.summary, http.StatusOK),
		func(ctx context.Context, in *ListQuery) (*listAnswer[T], error) {
			p, err := s.picture(ctx)
			if err != nil {
				return nil, fail(err)
			}
			if !l.more {
				pure(ctx, p.State)
			}
			all, err := l.all(ctx, p)
			if err != nil {
				return nil, fail(err)
			}
			out, err := l.page(all, in)
			if err != nil {
				return nil, err
			}
			return out, nil
		})
}

// page is what is asked for of all.
func (l *listing[T]) page(all []T, q *ListQuery) (*listAnswer[T], error) {
	names := fields(reflect.TypeFor[T]())
	if q.Cursor != "" {
		at, err := base64.RawURLEncoding.DecodeString(q.Cursor)
		if err != nil {
			return nil, mistake("query.cursor", "it is not where a page ended; take it from the header Link of that page")
		}
		all = slices.DeleteFunc(slices.Clone(all), func(x T) bool {
			c := strings.Compare(l.key(x), string(at))
			return c == 0 || c < 0 != l.down
		})
	}
	var wanted []string
	if q.Fields != "" {
		wanted = strings.Split(q.Fields, ",")
		for _, name := range wanted {
			if err := known("query.fields", name, names); err != nil {
				return nil, err
			}
		}
	}
	var wants [][2]string
	for _, f := range q.Filter {
		name, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, mistake("query.filter", "FIELD=VALUE is expected, as in state=running")
		}
		if err := known("query.filter", name, names); err != nil {
			return nil, err
		}
		wants = append(wants, [2]string{name, value})
	}
	return l.choose(all, q, wants, wanted)
}

// choose leaves out what does not match and what is beyond the page.
func (l *listing[T]) choose(all []T, q *ListQuery, wants [][2]string, wanted []string) (*listAnswer[T], error) {
	out := &listAnswer[T]{Body: page[T]{all: []T{}}}
	if wanted != nil {
		out.Body.some = []map[string]json.RawMessage{}
	}
	for _, x := range all {
		var parts map[string]json.RawMessage
		if len(wants) > 0 || wanted != nil {
			b, err := json.Marshal(x)
			if err == nil {
				err = json.Unmarshal(b, &parts)
			}
			if err != nil {
				return nil, fail(err)
			}
		}
		if slices.ContainsFunc(wants, func(w [2]string) bool { return !has(parts[w[0]], w[1]) }) {
			continue
		}
		if n := len(out.Body.all); q.Limit > 0 && n == q.Limit {
			out.Link = l.link(q, l.key(out.Body.all[n-1]))
			break
		}
		out.Body.all = append(out.Body.all, x)
		if wanted != nil {
			some := make(map[string]json.RawMessage, len(wanted))
			for _, name := range wanted {
				if v, ok := parts[name]; ok {
					some[name] = v
				}
			}
			out.Body.some = append(out.Body.some, some)
		}
	}
	return out, nil
}

// link is where the page after a key is.
func (l *listing[T]) link(q *ListQuery, key string) string {
	next := url.Values{"limit": {fmt.Sprint(q.Limit)}, "cursor": {base64.RawURLEncoding.EncodeToString([]byte(key))}}
	if q.Fields != "" {
		next.Set("fields", q.Fields)
	}
	if len(q.Filter) > 0 {
		next["filter"] = q.Filter
	}
	return "<" + l.path + "?" + next.Encode() + `>; rel="next"`
}

// has reports whether a field is a value, or is a list that has it. A field that is
// left out has the empty value, which is also false and 0.
func has(field json.RawMessage, value string) bool {
	var v any
	if len(field) == 0 {
		return value == "" || value == "false" || value == "0"
	}
	if json.Unmarshal(field, &v) != nil {
		return false
	}
	many, ok := v.([]any)
	if !ok {
		return text(v, field) == value
	}
	return slices.ContainsFunc(many, func(x any) bool { return text(x, nil) == value })
}

// text is a value as people write it; raw is its JSON, for numbers.
func text(v any, raw json.RawMessage) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		if raw != nil {
			return string(raw)
		}
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

// known refuses the name of a field that there is not.
func known(where, name string, names []string) error {
	if slices.Contains(names, name) {
		return nil
	}
	what := "there is no field " + clip(name)
	if near := nearest.Of(name, names); near != "" {
		return mistake(where, what+"; did you mean "+near+"?")
	}
	return mistake(where, what+"; there are "+strings.Join(names, ", "))
}

// mistake is a problem with one part of a request.
func mistake(where, what string) error {
	return &v1.Problem{Type: v1.ProblemType(holdfast.Invalid), Title: holdfast.Invalid.String(), Status: http.StatusUnprocessableEntity, Detail: "the request is not understood", Errors: []v1.Mistake{{Where: where, What: what}}}
}

// keyOf is the key of what is sorted by one thing after the other.
func keyOf(parts ...string) string { return strings.Join(parts, "\x00") }

func volumeKey(v v1.Volume) string { return keyOf(v.Name, v.ID) }
