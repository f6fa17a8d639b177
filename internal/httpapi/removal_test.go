package httpapi_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// An image whose only copy goes with a lost host is named by the plan, and must
// be given up by its name like any volume.
func TestAnImageCanBeGivenUp(t *testing.T) {
	ctx := context.Background()
	b := apitest.Three()
	c, _ := serve(t, b)
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: 8192}, bytes.NewReader(make([]byte, 8192))); err != nil {
		t.Fatal(err)
	}
	gone := b.Host("gamma")
	for id, v := range b.St.Volumes {
		for _, d := range b.St.Disks {
			if d.Val.Host == gone {
				v.Val.InSync = []cluster.Replica{{Host: gone, Disk: d.Val.ID}}
			}
		}
		b.St.Volumes[id] = v
	}
	b.Lose("gamma")
	plan, err := c.HostRemoval(ctx, "gamma", true)
	if err != nil || len(plan.Volumes) != 1 || plan.Volumes[0].Volume != "deb" || plan.Volumes[0].State != "unreachable" {
		t.Fatalf("%+v, %v", plan, err)
	}
	_, err = c.RemoveHost(ctx, "gamma", v1.RemovalSpec{Lost: true})
	if err == nil || !strings.Contains(err.Error(), "deb") {
		t.Fatalf("removed with the only copy of an image nobody gave up: %v", err)
	}
	if _, err := c.RemoveHost(ctx, "gamma", v1.RemovalSpec{Lost: true, GiveUp: []string{"nothing"}}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Fatalf("something that is not there was given up: %v", err)
	}
	if _, err := c.RemoveHost(ctx, "gamma", v1.RemovalSpec{Lost: true, GiveUp: []string{"deb"}}); err != nil {
		t.Fatal(err)
	}
}
