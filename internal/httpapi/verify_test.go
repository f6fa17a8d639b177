package httpapi_test

import (
	"context"
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// A comparison of copies is put together of its parts, and what it found stands
// with the volume until a copy was built anew.
func TestCopiesAreVerifiedInParts(t *testing.T) {
	ctx := context.Background()
	c, sock := serve(t, apitest.Three())
	for _, name := range []string{"data", "torn"} {
		if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: 1 << 20, Copies: 3}); err != nil {
			t.Fatal(err)
		}
	}
	var told []float64
	r, err := c.Verify(ctx, "data", func(done float64) { told = append(told, done) })
	if err != nil || !r.Equal || r.Blocks != 200 || len(r.Copies) != 3 || r.Differ != 0 || !slices.Equal(told, []float64{0.5, 1}) {
		t.Errorf("%+v, %v, told %v", r, err, told)
	}
	r, err = c.Verify(ctx, "torn", func(float64) {})
	if err != nil || r.Equal || r.Differ != 1 || len(r.Differences) != 1 || !slices.Equal(r.Outvoted, []string{"alpha"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if v, err := c.Volume(ctx, "torn"); err != nil || v.Compared == nil || v.Compared.Differ != 1 || !v.Compared.At.Equal(r.Started) {
		t.Errorf("the volume has %+v, %v", v.Compared, err)
	}
	if st, err := c.Status(ctx); err != nil || !slices.ContainsFunc(st.Conditions, func(x v1.Condition) bool { return x.ID == "copies-differ/torn" }) {
		t.Errorf("the status is %+v, %v", st.Conditions, err)
	}
	if err := c.RebuildCopies(ctx, "torn", []string{"alpha", "beta", "gamma"}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("all copies: %v", err)
	}
	if err := c.RebuildCopies(ctx, "torn", r.Outvoted); err != nil {
		t.Error(err)
	}
	if v, err := c.Volume(ctx, "torn"); err != nil || v.Compared != nil || len(v.Replicas) != 2 {
		t.Errorf("then it has %+v, %v", v, err)
	}
	for _, r := range []refusal{
		{"POST", "/v1/volumes/none/verify", `{}`, 404, "no volume"},
		{"POST", "/v1/volumes/data/verify", `{"from":"7"}`, 400, "no place"},
		{"POST", "/v1/volumes/data/verify", `{"from":"1.2.3.99999999999"}`, 400, "no place"},
		{"POST", "/v1/volumes/torn/rebuild", `{"hosts":["alpha"]}`, 404, "no copy"},
		{"POST", "/v1/volumes/torn/rebuild", `{"hosts":["delta"]}`, 404, "delta"},
		{"POST", "/v1/volumes/torn/rebuild", `{"hosts":[]}`, 422, "hosts"},
	} {
		r.check(t, sock)
	}
}

func FuzzParseVerifyPlace(f *testing.F) {
	for _, s := range []string{"", "1771000000.3.18446744073709551615.512", "0.0.0.0", "1.2.3", "-1.0.0.0", "1.2.3.4.5", "99999999999.0.0.0", "+1.0.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := httpapi.ParseVerifyPlace(s)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if again, err := httpapi.ParseVerifyPlace(p.String()); s != "" && (err != nil || again != p) {
			t.Fatalf("%q: %+v, then %+v, %v", s, p, again, err)
		}
	})
}
