package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// withSnapshots has a volume "data" with n snapshots, every tenth of them hidden.
func withSnapshots(t *testing.T, n int) (*apitest.Backend, *client.Client) {
	t.Helper()
	b := apitest.Three()
	c, _ := serve(t, b)
	if _, err := c.CreateVolume(context.Background(), v1.VolumeSpec{Name: "data", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for id, v := range b.St.Volumes {
		for i := range n {
			s := cluster.Snapshot{ID: holdfast.SnapshotID{UUID: holdfast.UUID{0: 0xff, 1: byte(i >> 8), 2: byte(i)}}, Name: fmt.Sprintf("s-%d", i), LSN: holdfast.MakeLSN(holdfast.Epoch(1+i/100), uint64(i)), Hidden: i%10 == 9}
			v.Val.Snapshots = append(v.Val.Snapshots, s)
		}
		b.St.Volumes[id] = v
	}
	return b, c
}

// A volume with as many snapshots as there may be is as short in a list as any
// other, and they are listed whole, the newest last.
func TestSnapshotsAreListedInPages(t *testing.T) {
	ctx := context.Background()
	_, c := withSnapshots(t, cluster.MaxSnapshots)
	vols, err := c.Volumes(ctx)
	if err != nil || len(vols) != 1 || vols[0].Snapshots != cluster.MaxSnapshots*9/10 {
		t.Fatalf("%+v, %v", vols, err)
	}
	if text, _ := json.Marshal(vols); len(text) > 4096 {
		t.Errorf("a list of one volume has %d bytes", len(text))
	}
	all, err := c.Snapshots(ctx, "data")
	if err != nil || len(all) != vols[0].Snapshots {
		t.Fatalf("%d snapshots, %v", len(all), err)
	}
	for i, s := range all {
		if want := fmt.Sprintf("s-%d", i/9*10+i%9); s.Name != want {
			t.Fatalf("snapshot %d is %s, want %s", i, s.Name, want)
		}
	}
}

// Snapshots that go between two pages, also that at which the next one begins,
// keep nothing else from being listed.
func TestAWalkOfSnapshotsMissesNoneThatStays(t *testing.T) {
	ctx := context.Background()
	_, c := withSnapshots(t, 9)
	page, err := c.SnapshotPage(ctx, "data", "", 4)
	if err != nil || len(page.Snapshots) != 4 || page.Total != 9 || page.Next == "" {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, name := range []string{"s-0", "s-3", "s-5"} {
		if err := c.DeleteSnapshot(ctx, "data", name); err != nil {
			t.Fatal(err)
		}
	}
	if page, err = c.SnapshotPage(ctx, "data", page.Next, 4); err != nil || page.Next != "" || page.Total != 6 {
		t.Fatalf("%+v, %v", page, err)
	}
	var names []string
	for _, s := range page.Snapshots {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"s-4", "s-6", "s-7", "s-8"}) {
		t.Fatalf("the second page has %v", names)
	}
	if s, err := c.SnapshotOf(ctx, "data", "s-8"); err != nil || s.Name != "s-8" {
		t.Fatalf("%+v, %v", s, err)
	}
}

// A comparison is put together of its pages, whatever their length.
func TestADiffIsPutTogetherOfPages(t *testing.T) {
	ctx := context.Background()
	_, c := withSnapshots(t, 2)
	if _, err := c.GrowVolume(ctx, "data", v1.GrowSpec{Size: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	want := []v1.Extent{{Offset: 8192, Length: 4096}, {Offset: 12288, Length: 65536, Zero: true}, {Offset: 1<<20 - 4096, Length: 2<<20 + 4096}}
	for _, ask := range []client.DiffAsk{{From: "s-0", To: "s-1"}, {From: "s-1", To: "head", Limit: 1}, {From: "nothing", To: "s-0", Limit: 2}} {
		var got []v1.Extent
		size, err := c.Diff(ctx, "data", ask, func(e v1.Extent) error { got = append(got, e); return nil })
		if err != nil || size != 8<<20 || !slices.Equal(got, want) {
			t.Errorf("%+v: %+v of %d, %v", ask, got, size, err)
		}
	}
	page, err := c.DiffPage(ctx, "data", client.DiffAsk{From: "s-0", To: "s-1", Limit: 1})
	if err != nil || len(page.Extents) != 1 || page.Next != 12288 {
		t.Errorf("a page of one extent: %+v, %v", page, err)
	}
	n := 0
	if _, err := c.Diff(ctx, "data", client.DiffAsk{From: "head", To: "head"}, func(v1.Extent) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("the head differs from itself in %d extents, %v", n, err)
	}
}

func TestBadPagesAreRefusedWithTheReason(t *testing.T) {
	b := apitest.Three()
	c, sock := serve(t, b)
	if _, err := c.CreateVolume(context.Background(), v1.VolumeSpec{Name: "data", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []refusal{
		{"GET", "/v1/volumes/data/snapshots?limit=0", "", 422, "query.limit"},
		{"GET", "/v1/volumes/data/snapshots?limit=1001", "", 422, "query.limit"},
		{"GET", "/v1/volumes/data/snapshots?after=1", "", 400, "not an LSN"},
		{"GET", "/v1/volumes/data/snapshots?after=99999999.1", "", 400, "not an LSN"},
		{"GET", "/v1/volumes/data/snapshots?after=1.2.3", "", 400, "not an LSN"},
		{"GET", "/v1/volumes/none/snapshots", "", 404, "no volume"},
		{"POST", "/v1/snapshot-groups", `{"name":"monday","volumes":[]}`, 422, "body.volumes"},
		{"POST", "/v1/snapshot-groups", `{"name":"monday"}`, 422, "volumes"},
		{"POST", "/v1/snapshot-groups", `{"name":"monday","volumes":["data"` + strings.Repeat(`,"data"`, cluster.MaxGroup) + `]}`, 422, "body.volumes"},
		{"POST", "/v1/snapshot-groups", `{"name":"monday","volumes":["data","data"]}`, 400, "named twice"},
		{"POST", "/v1/snapshot-groups", `{"name":"Monday!","volumes":["data"]}`, 400, "snapshot"},
		{"POST", "/v1/snapshot-groups", `{"name":"monday","volumes":["data","none"]}`, 404, "no volume"},
		{"GET", "/v1/snapshot-groups/none", "", 404, "snapshot groups"},
		{"DELETE", "/v1/snapshot-groups/13000000-0000-4000-8000-000000000013", "", 404, "snapshot groups"},
		{"GET", "/v1/volumes/data/snapshots/none", "", 404, "volume snapshot list data"},
		{"GET", "/v1/volumes/data/diff?from=head", "", 422, "query.to"},
		{"GET", "/v1/volumes/data/diff?from=&to=head", "", 422, "query.from"},
		{"GET", "/v1/volumes/data/diff?from=monday&to=head", "", 404, "monday"},
		{"GET", "/v1/volumes/data/diff?from=nothing&to=head&offset=1", "", 422, "query.offset"},
		{"GET", "/v1/volumes/data/diff?from=nothing&to=head&offset=-4096", "", 422, "query.offset"},
		{"GET", "/v1/volumes/data/diff?from=nothing&to=head&offset=70368744181760", "", 422, "query.offset"},
		{"GET", "/v1/volumes/data/diff?from=nothing&to=head&limit=2049", "", 422, "query.limit"},
		{"GET", "/v1/volumes/none/diff?from=nothing&to=head", "", 404, "no volume"},
	} {
		r.check(t, sock)
	}
}

// A group is one answer, shows what is left of it, and goes in one go.
func TestAGroupOfSnapshots(t *testing.T) {
	ctx := context.Background()
	c, _ := serve(t, apitest.Three())
	for _, name := range []string{"db", "log"} {
		if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	g, err := c.SnapshotGroup(ctx, v1.SnapshotGroupSpec{Name: "monday", Volumes: []string{"log", "db"}})
	if err != nil || g.Volumes != 2 || len(g.Members) != 2 || g.Members[0].Volume != "log" {
		t.Fatalf("%+v, %v", g, err)
	}
	if s, err := c.SnapshotOf(ctx, "db", "monday"); err != nil || s.Group != g.ID {
		t.Errorf("%+v, %v", s, err)
	}
	if err := c.DeleteSnapshot(ctx, "log", "monday"); err != nil {
		t.Fatal(err)
	}
	if left, err := c.SnapshotGroupOf(ctx, g.ID); err != nil || left.Volumes != 2 || len(left.Members) != 1 || left.Members[0].Volume != "db" {
		t.Errorf("%+v, %v", left, err)
	}
	if err := c.DeleteSnapshotGroup(ctx, g.ID); err != nil {
		t.Fatal(err)
	}
	if all, err := c.SnapshotGroups(ctx); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
