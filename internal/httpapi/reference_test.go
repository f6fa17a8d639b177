package httpapi_test

import (
	"html"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

func TestThePageTellsEveryCallAndEveryField(t *testing.T) {
	_, socket := serve(t, apitest.Three())
	status, h, page := newPlain(t, socket).do("GET", "/v1/docs", "")
	if status != 200 || h.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("%d %v", status, h)
	}
	for _, alien := range []string{"<script", "http://", "https://", " src=", "ZgotmplZ"} {
		if strings.Contains(page, alien) {
			t.Errorf("the page has %s", alien)
		}
	}
	text := html.UnescapeString(page)
	api := description(t, "openapi.json")
	for path, item := range sub(api, "paths") {
		for method, op := range item.(node) {
			if op, ok := op.(node); ok && !strings.Contains(text, "<code>"+strings.ToUpper(method)+" "+path+"</code></h3><p>"+op["summary"].(string)) {
				t.Errorf("the page does not tell of %s %s", method, path)
			}
		}
	}
	for name, s := range sub(api, "components", "schemas") {
		_, after, ok := strings.Cut(text, `id="type-`+name+`"`)
		own, _, _ := strings.Cut(after, "</section>")
		for field := range sub(s.(node), "properties") {
			if !ok || !strings.Contains(own, "<code>"+field+"</code>") {
				t.Errorf("the page does not tell of %s of %s", field, name)
			}
		}
	}
}
