package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// walk follows a list's pages from a path on, and calls between for each.
func walk(t *testing.T, p *plain, at string, between func(page int)) (names []string) {
	t.Helper()
	for page := 0; at != ""; page++ {
		status, h, body := p.do("GET", at, "")
		var got []v1.Volume
		if err := json.Unmarshal([]byte(body), &got); status != 200 || err != nil {
			t.Fatalf("%s: %d %s", at, status, body)
		}
		for _, v := range got {
			names = append(names, v.Name)
		}
		at, _, _ = strings.Cut(strings.TrimPrefix(h.Get("Link"), "<"), ">")
		between(page)
	}
	return names
}

func TestAListIsReadInPages(t *testing.T) {
	ctx := context.Background()
	c, socket := serve(t, apitest.Three())
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("v%02d", i)
		if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	p := newPlain(t, socket)
	none := func(int) {}
	for _, limit := range []string{"1", "7", "25", "1000"} {
		if got := walk(t, p, "/v1/volumes?limit="+limit, none); !slices.Equal(got, want) {
			t.Errorf("by %s: %v", limit, got)
		}
	}
	got := walk(t, p, "/v1/volumes?limit=10", func(page int) {
		if page == 0 { // the last one told goes, and one comes before it
			if err := c.DeleteVolume(ctx, "v09"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "v05b", Size: 1 << 20}); err != nil {
				t.Fatal(err)
			}
		}
	})
	if !slices.Equal(got, want) {
		t.Errorf("while it changed: %v", got)
	}
}

func TestAListIsReadInPart(t *testing.T) {
	ctx := context.Background()
	c, socket := serve(t, apitest.Three())
	for i, d := range []string{"flush", "always", "always"} {
		if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: fmt.Sprintf("v%d", i), Size: int64(i+1) << 20, Durability: d}); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlain(t, socket)
	for _, c := range []struct{ query, want string }{
		{"fields=name", `[{"name":"v0"},{"name":"v1"},{"name":"v2"}]`},
		{"fields=name,size&filter=durability%3Dalways", `[{"name":"v1","size":2097152},{"name":"v2","size":3145728}]`},
		{"fields=name&filter=durability%3Dalways&filter=size%3D3145728", `[{"name":"v2"}]`},
		{"fields=name&filter=vm%3D&filter=image%3Dfalse&limit=1", `[{"name":"v0"}]`},
		{"fields=name&filter=durability%3Dnever", `[]`},
		{"filter=name%3Dnone", `[]`},
	} {
		if status, h, body := p.do("GET", "/v1/volumes?"+c.query, ""); status != 200 || strings.TrimSpace(body) != c.want {
			t.Errorf("%s: %d %s", c.query, status, body)
		} else if link := h.Get("Link"); strings.Contains(c.query, "limit") != strings.Contains(link, "fields=name&filter=vm%3D") {
			t.Errorf("%s: Link %s", c.query, link)
		}
	}
	if _, _, body := p.do("GET", "/v1/hosts?fields=name&filter=rack%3Db", ""); strings.TrimSpace(body) != `[{"name":"beta"}]` {
		t.Errorf("hosts: %s", body)
	}
	for _, c := range [][3]string{
		{"limit=0", "query.limit", ""}, {"limit=1001", "query.limit", ""}, {"limit=x", "query.limit", ""},
		{"cursor=%25%25", "query.cursor", "Link"}, {"fields=nam", "query.fields", "did you mean name?"}, {"fields=", "", ""},
		{"filter=durability", "query.filter", "FIELD=VALUE"}, {"filter=zzzzzz%3D1", "query.filter", "durability"}, {"sort=name", "query.sort", ""},
		{"filter=&filter=name%3Dx", "query.filter", "FIELD=VALUE"}, {strings.Repeat("&filter=name%3Dx", 9)[1:], "query.filter", ""}, {"cursor=" + strings.Repeat("A", 2000), "query.cursor", ""},
	} {
		status, _, body := p.do("GET", "/v1/volumes?"+c[0], "")
		if c[1] == "" {
			if status != 200 {
				t.Errorf("%s: %d %s", c[0], status, body)
			}
			continue
		}
		var problem v1.Problem
		if err := json.Unmarshal([]byte(body), &problem); status != 422 || err != nil || len(problem.Errors) == 0 ||
			!strings.HasPrefix(problem.Errors[0].Where, c[1]) || !strings.Contains(problem.Errors[0].What, c[2]) {
			t.Errorf("%s: %d %s", c[0], status, body)
		}
	}
}
