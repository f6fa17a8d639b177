package httpapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// node is a part of a description, as JSON has it.
type node = map[string]any

// contract compares two descriptions.
type contract struct {
	was, is node
	broken  []string
	seen    map[string]bool
}

func (c *contract) breaks(at, format string, args ...any) {
	c.broken = append(c.broken, at+": "+fmt.Sprintf(format, args...))
}

func sub(n node, path ...string) node {
	for _, p := range path {
		n, _ = n[p].(node)
	}
	return n
}

// resolved follows a $ref.
func resolved(in, n node) node {
	for {
		ref, ok := n["$ref"].(string)
		if !ok {
			return n
		}
		n = sub(in, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
}

func texts(v any) (out []string) {
	list, _ := v.([]any)
	for _, x := range list {
		out = append(out, fmt.Sprint(x))
	}
	return out
}

func (c *contract) operations() {
	for path, item := range sub(c.was, "paths") {
		for method, op := range item.(node) {
			was, ok := op.(node)
			if !ok {
				continue
			}
			at := strings.ToUpper(method) + " " + path
			is := sub(c.is, "paths", path, method)
			if is == nil {
				c.breaks(at, "it is gone")
				continue
			}
			c.operation(at, was, is)
		}
	}
}

func (c *contract) operation(at string, was, is node) {
	if was["operationId"] != is["operationId"] {
		c.breaks(at, "it was called %v and is called %v", was["operationId"], is["operationId"])
	}
	params := func(op node) map[string]node {
		out := map[string]node{}
		list, _ := op["parameters"].([]any)
		for _, p := range list {
			p := p.(node)
			out[fmt.Sprint(p["in"], " ", p["name"])] = p
		}
		return out
	}
	before, now := params(was), params(is)
	for name := range before {
		if now[name] == nil {
			c.breaks(at, "parameter %s is gone", name)
		} else {
			c.sent(at+" "+name, sub(before[name], "schema"), sub(now[name], "schema"))
		}
	}
	for name, p := range now {
		if p["required"] == true && before[name]["required"] != true {
			c.breaks(at, "parameter %s is required", name)
		}
	}
	for kind := range sub(was, "requestBody", "content") {
		body := sub(is, "requestBody", "content", kind)
		if body == nil {
			c.breaks(at, "it takes no %s", kind)
			continue
		}
		c.sent(at+" body", sub(was, "requestBody", "content", kind, "schema"), sub(body, "schema"))
	}
	for status := range sub(was, "responses") {
		for kind := range sub(was, "responses", status, "content") {
			body := sub(is, "responses", status, "content", kind)
			if body == nil {
				c.breaks(at, "it does not answer %s with %s", status, kind)
				continue
			}
			c.told(at+" "+status, sub(was, "responses", status, "content", kind, "schema"), sub(body, "schema"))
		}
	}
}

// sent compares what callers send: nothing more may be asked of them, and what
// they could say they still can.
func (c *contract) sent(at string, was, is node) { c.schema(at, was, is, true) }

// told compares what callers are told: all of it still is.
func (c *contract) told(at string, was, is node) { c.schema(at, was, is, false) }

func (c *contract) schema(at string, was, is node, sent bool) {
	key := fmt.Sprint(was["$ref"], is["$ref"], sent)
	if was["$ref"] != nil && c.seen[key] {
		return
	}
	c.seen[key] = true
	was, is = resolved(c.was, was), resolved(c.is, is)
	if was == nil {
		return
	}
	if a, b := fmt.Sprint(was["type"]), fmt.Sprint(is["type"]); a != b {
		c.breaks(at, "it was %s and is %s", a, b)
	}
	if is["enum"] != nil && sent {
		for _, v := range texts(was["enum"]) {
			if !slices.Contains(texts(is["enum"]), v) {
				c.breaks(at, "%s cannot be said any more", v)
			}
		}
		if was["enum"] == nil {
			c.breaks(at, "only some values can be said")
		}
	}
	if sent {
		for _, name := range texts(is["required"]) {
			if !slices.Contains(texts(was["required"]), name) {
				c.breaks(at, "field %s is required", name)
			}
		}
	} else {
		for _, name := range texts(was["required"]) {
			if !slices.Contains(texts(is["required"]), name) {
				c.breaks(at, "field %s may be left out", name)
			}
		}
	}
	for name, p := range sub(was, "properties") {
		now := sub(is, "properties", name)
		if now == nil {
			c.breaks(at, "field %s is gone", name)
			continue
		}
		c.schema(at+"."+name, p.(node), now, sent)
	}
	if items := sub(was, "items"); items != nil {
		c.schema(at+"[]", items, sub(is, "items"), sent)
	}
}

func compare(was, is node) []string {
	c := &contract{was: was, is: is, seen: map[string]bool{}}
	c.operations()
	slices.Sort(c.broken)
	return c.broken
}

func description(t *testing.T, name string) (n node) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The API grows by addition: whoever was written for what was released goes on
// working. testdata/released.json is replaced with openapi.json at a release, and at
// no other time.
func TestNothingThatWasReleasedIsBroken(t *testing.T) {
	for _, broken := range compare(description(t, "released.json"), description(t, "openapi.json")) {
		t.Error(broken)
	}
}

// Each kind of break is noticed.
func TestABreakIsNoticed(t *testing.T) {
	for want, spoil := range map[string]func(n node){
		"GET /v1/vms: it is gone":                            func(n node) { delete(sub(n, "paths", "/v1/vms"), "get") },
		"DELETE /v1/vms/{vm}: parameter query force is gone": func(n node) { dropParameter(sub(n, "paths", "/v1/vms/{vm}", "delete"), "force") },
		"POST /v1/volumes body: field copies is gone":        func(n node) { delete(sub(n, "components", "schemas", "VolumeSpec", "properties"), "copies") },
		"POST /v1/volumes body: field zone is required": func(n node) {
			s := sub(n, "components", "schemas", "VolumeSpec")
			s["required"] = append(s["required"].([]any), "zone")
		},
		"POST /v1/volumes body.durability: always cannot be said any more": func(n node) {
			sub(n, "components", "schemas", "VolumeSpec", "properties", "durability")["enum"] = []any{"flush"}
		},
		"GET /v1/hosts 200[]: field rack is gone": func(n node) { delete(sub(n, "components", "schemas", "Host", "properties"), "rack") },
		"GET /v1/hosts 200[].rack: it was string and is integer": func(n node) {
			sub(n, "components", "schemas", "Host", "properties", "rack")["type"] = "integer"
		},
	} {
		is := description(t, "openapi.json")
		spoil(is)
		broken := compare(description(t, "openapi.json"), is)
		if !slices.ContainsFunc(broken, func(b string) bool { return strings.HasSuffix(b, want[strings.Index(want, ": "):]) }) {
			t.Errorf("%s: only %v", want, broken)
		}
	}
	if broken := compare(description(t, "openapi.json"), description(t, "openapi.json")); len(broken) > 0 {
		t.Errorf("nothing is changed, and that breaks: %v", broken)
	}
}

func dropParameter(op node, name string) {
	list := op["parameters"].([]any)
	op["parameters"] = slices.DeleteFunc(list, func(p any) bool { return p.(node)["name"] == name })
}
