package httpapi_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// babbler says nonsense that follows a description, more or less.
type babbler struct {
	*rand.Rand
	api node
}

// odd are texts that are often mistaken for something.
func odd() []string {
	return []string{"", " ", ".", "..", "../../etc/passwd", "%2e%2e%2f", "a/b", "a\\b", "\x00", "\u202eabc", "é́", "🦀", strings.Repeat("x", 300), strings.Repeat("x", 70000),
		"null", "true", "-1", "0", "1e999", "9223372036854775808", "NaN", "<script>alert(1)</script>", "'; DROP TABLE vms;--", "${x}", "{{x}}",
		"00000000-0000-0000-0000-000000000000", "alpha", "data", "\ufeff", "\r\nX: y"}
}

func (b *babbler) pick(of []string) string { return of[b.IntN(len(of))] }

// anything is some JSON.
func (b *babbler) anything(depth int) any {
	switch b.IntN(8) {
	case 0:
		return nil
	case 1:
		return b.IntN(2) == 0
	case 2:
		return b.Int64() - 1<<62
	case 3:
		return []any{1e308, -1, 0.5, 1 << 53}[b.IntN(4)]
	case 4:
		if depth > 0 {
			return []any{b.anything(depth - 1), b.anything(depth - 1)}
		}
	case 5:
		if depth > 0 {
			return node{b.pick(odd()): b.anything(depth - 1), "name": b.anything(depth - 1)}
		}
	}
	return b.pick(odd())
}

// like is what a schema asks for, or something else here and there.
func (b *babbler) like(s node, depth int) any {
	s = resolved(b.api, s)
	if depth < 0 || s == nil || b.IntN(6) == 0 {
		return b.anything(3)
	}
	if enum := texts(s["enum"]); len(enum) > 0 && b.IntN(3) > 0 {
		return b.pick(enum)
	}
	kind := fmt.Sprint(s["type"])
	switch {
	case strings.Contains(kind, "object"):
		out := node{}
		for name, p := range sub(s, "properties") {
			if b.IntN(3) > 0 || slices.Contains(texts(s["required"]), name) && b.IntN(8) > 0 {
				out[name] = b.like(p.(node), depth-1)
			}
		}
		if b.IntN(10) == 0 {
			out[b.pick(odd())] = b.anything(2)
		}
		return out
	case strings.Contains(kind, "array"):
		var out []any
		for range b.IntN(4) {
			out = append(out, b.like(sub(s, "items"), depth-1))
		}
		return out
	case strings.Contains(kind, "integer"), strings.Contains(kind, "number"):
		return []int64{0, 1, -1, 2, 7, 4096, 1 << 20, 1 << 40, 1<<63 - 1, -1 << 63}[b.IntN(10)]
	case strings.Contains(kind, "boolean"):
		return b.IntN(2) == 0
	}
	return b.pick(odd())
}

// path fills a path's names in.
func (b *babbler) path(p string) string {
	var out []string
	for part := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(part, "{") {
			part = url.PathEscape(b.pick(append(odd(), "alpha", "data", "vm1", "monday")))
			if len(part) > 5000 {
				part = part[:5000]
			}
		}
		out = append(out, part)
	}
	return strings.Join(out, "/")
}

// Every call is made with what its description lets expect, and with what it does
// not: it is done, or answered with a problem that says what is wrong.
func TestNonsenseIsAnsweredWithProblems(t *testing.T) {
	back := apitest.Three()
	c, socket := serve(t, back)
	p := newPlain(t, socket)
	b := &babbler{rand.New(rand.NewPCG(95, 1)), description(t, "openapi.json")}
	ctx := t.Context()
	again := func() { // something to be right about, sometimes
		_, _ = c.CreateVolume(ctx, v1.VolumeSpec{Name: "data", Size: 1 << 20})
		_, _ = c.Snapshot(ctx, "data", v1.SnapshotSpec{Name: "monday"})
	}
	again()
	var names []string
	for path := range sub(b.api, "paths") {
		names = append(names, path)
	}
	slices.Sort(names)
	done, statuses := map[bool]int{}, map[int]int{}
	for _, path := range names {
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			op := sub(b.api, "paths", path, method)
			if op == nil || path == "/v1/watch" || (strings.HasSuffix(path, "/console") || strings.HasSuffix(path, "/screen")) && method == "get" || path == "/metrics" {
				continue // streams
			}
			for range 12 {
				q := url.Values{}
				params, _ := op["parameters"].([]any)
				for _, x := range params {
					if x := x.(node); x["in"] == "query" && b.IntN(3) == 0 {
						q.Add(x["name"].(string), b.pick(append(odd()[:12], "1", "true", "data", "name=x")))
					}
				}
				if b.IntN(10) == 0 {
					q.Add("more", "1")
				}
				body, kind := "", "application/json"
				if content := sub(op, "requestBody", "content"); content != nil {
					raw, err := json.Marshal(b.like(sub(content, "application/json", "schema"), 5))
					if err != nil {
						t.Fatal(err)
					}
					body = string(raw)
					switch b.IntN(12) {
					case 0:
						body = body[:b.IntN(len(body)+1)]
					case 1:
						body = strings.Repeat("[", 50000)
					case 2:
						body = `{"a":` + strings.Repeat(" ", 300<<10) + "1}"
					case 3:
						kind = b.pick([]string{"text/plain", "application/xml", "x", ""})
					}
				}
				at := b.path(path)
				if len(q) > 0 {
					at += "?" + q.Encode()
				}
				status, h, said := p.do(strings.ToUpper(method), at, body, "Content-Type", kind)
				done[status < 400]++
				statuses[status]++
				if status < 400 {
					again()
					continue
				}
				var problem v1.Problem
				err := json.Unmarshal([]byte(said), &problem)
				known := status < 500 || problem.Type == "urn:holdfast:problem:unavailable" || problem.Type == "urn:holdfast:problem:no-space"
				if !known || err != nil || problem.Status != status || problem.Detail == "" || h.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s %.200s with %.300s: %d %.300s", method, at, body, status, said)
				}
				if problem.Detail == "the request is not understood" && (len(problem.Errors) == 0 || problem.Errors[0].Where == "") {
					t.Errorf("%s %.200s with %.300s: nothing is named in %.300s", method, at, body, said)
				}
			}
		}
	}
	if done[true] < 100 || done[false] < 500 || statuses[400] == 0 || statuses[404] == 0 || statuses[409] == 0 || statuses[413] == 0 || statuses[415] == 0 || statuses[422] == 0 {
		t.Errorf("it is not nonsense of all kinds: %v", statuses)
	}
	t.Log(statuses)
}
