package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/oidc/oidctest"
)

// unsteady is what differs between what was tried and what was done: identities, and
// things that follow from them.
var unsteady = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|02:[0-9a-f:]{14}|"changed":"[^"]+"`)

// Everything that can be tried is tried, and changes nothing; then it is done, and
// answered in the same way.
func TestWhatIsTriedIsNotDone(t *testing.T) {
	d := newDoor(t)
	token := d.token(account.ClusterAdmin, "")
	as := []string{"Authorization", "Bearer " + token}
	d.want(201, "POST", "/v1/volumes", `{"name":"spare","size":1048576}`, as...)
	left, noted := httpapi.DryRuns(), int64(1)
	issuer := (&agency{d, oidctest.New(t), as}).spec(nil)
	site, strange := siteSpec(t, "cloud.example.org"), siteSpec(t, "localhost")
	for _, c := range []struct {
		op, method, path, body string
		status                 int
	}{
		{"pool-create", "POST", "/v1/pools", `{"name":"fast","tier":"ssd"}`, 201},
		{"pool-create", "POST", "/v1/pools", `{"name":"fast","tier":"ssd"}`, 409},
		{"pool-delete", "DELETE", "/v1/pools/fast", "", 204},
		{"volume-create", "POST", "/v1/volumes", `{"name":"data","size":1048576}`, 201},
		{"volume-create", "POST", "/v1/volumes", `{"name":"data","size":1048576}`, 409},
		{"volume-create", "POST", "/v1/volumes", `{"name":"UPPER","size":1048576}`, 400},
		{"volume-grow", "POST", "/v1/volumes/data/grow", `{"size":2097152}`, 200},
		{"volume-grow", "POST", "/v1/volumes/data/grow", `{"size":4096}`, 400},
		{"export-create", "POST", "/v1/exports", `{"name":"san","units":[{"volume":"data"}]}`, 201},
		{"export-allow", "POST", "/v1/exports/san/initiators", `{"name":"iqn.1993-08.org.debian:01:h","secret":"twelve bytes"}`, 200},
		{"export-allow", "POST", "/v1/exports/san/initiators", `{"name":"nobody"}`, 400},
		{"export-deny", "DELETE", "/v1/exports/san/initiators/iqn.1993-08.org.debian:01:h", "", 200},
		{"export-deny", "DELETE", "/v1/exports/san/initiators/iqn.1993-08.org.debian:01:h", "", 404},
		{"export-delete", "DELETE", "/v1/exports/san", "", 204},
		{"backup-schedule-create", "POST", "/v1/backup-schedules", `{"name":"nightly","volumes":["data"],"host":"beta","dir":"/mnt/b","every":3600}`, 201},
		{"backup-schedule-create", "POST", "/v1/backup-schedules", `{"name":"nightly","volumes":["data"],"host":"beta","dir":"/mnt/b","every":3600}`, 409},
		{"backup-schedule-create", "POST", "/v1/backup-schedules", `{"name":"other","volumes":["none"],"host":"beta","dir":"/mnt/b","every":3600}`, 404},
		{"backup-schedule-set", "PATCH", "/v1/backup-schedules/nightly", `{"every":7200}`, 200},
		{"backup-schedule-set", "PATCH", "/v1/backup-schedules/nightly", `{"dir":"here"}`, 400},
		{"backup-schedule-run", "POST", "/v1/backup-schedules/nightly/run", "", 204},
		{"backup-schedule-delete", "DELETE", "/v1/backup-schedules/nightly", "", 204},
		{"backup-schedule-delete", "DELETE", "/v1/backup-schedules/nightly", "", 404},
		{"snapshot-group-delete", "DELETE", "/v1/snapshot-groups/GROUP", "", 204},
		{"volume-revert", "POST", "/v1/volumes/data/revert", `{"snapshot":"monday"}`, 204},
		{"volume-revert", "POST", "/v1/volumes/data/revert", `{"snapshot":"sunday"}`, 404},
		{"snapshot-delete", "DELETE", "/v1/volumes/data/snapshots/monday", "", 204},
		{"snapshot-delete", "DELETE", "/v1/volumes/data/snapshots/monday", "", 404},
		{"vm-create", "POST", "/v1/vms", `{"name":"web","volume":"data"}`, 201},
		{"vm-create", "POST", "/v1/vms", `{"name":"web","volume":"spare"}`, 409},
		{"vm-set", "PATCH", "/v1/vms/web", `{"cpus":2}`, 200},
		{"vm-set", "PATCH", "/v1/vms/none", `{"cpus":2}`, 404},
		{"vm-disk-add", "POST", "/v1/vms/web/disks", `{"volume":"spare"}`, 200},
		{"vm-disk-resize", "POST", "/v1/vms/web/disks/spare/resize", `{"size":4194304}`, 200},
		{"vm-disk-remove", "DELETE", "/v1/vms/web/disks/spare", "", 200},
		{"vm-snapshot-revert", "POST", "/v1/vms/web/snapshots/good/revert", `{}`, 409},
		{"vm-snapshot-revert", "POST", "/v1/vms/web/snapshots/good/revert", `{"stop":true}`, 200},
		{"vm-snapshot-delete", "DELETE", "/v1/vms/web/snapshots/good", "", 204},
		{"vm-snapshot-delete", "DELETE", "/v1/vms/web/snapshots/good", "", 404},
		{"vm-delete", "DELETE", "/v1/vms/web?force=true", "", 204},
		{"volume-delete", "DELETE", "/v1/volumes/spare", "", 204},
		{"image-delete", "DELETE", "/v1/images/deb", "", 204},
		{"disk-add", "POST", "/v1/disks", `{"path":"/dev/vdc"}`, 201},
		{"disk-replace", "POST", "/v1/disks/alpha:%2Fdev%2Fvdc/replace", `{"path":"/dev/vdd"}`, 201},
		{"disk-replace", "POST", "/v1/disks/alpha:%2Fdev%2Fvdd/replace", `{"path":"/dev/vde","pool":"none"}`, 404},
		{"disk-evacuate", "POST", "/v1/disks/beta:%2Fdev%2Fvdb/evacuation", `{"on":true}`, 200},
		{"host-drain", "POST", "/v1/hosts/beta/drain", `{"on":true}`, 200},
		{"disk-remove", "DELETE", "/v1/disks/beta:%2Fdev%2Fvdb", "", 204},
		{"host-remove", "POST", "/v1/hosts/beta/removal", `{"lost":false}`, 200},
		{"oidc-set", "PUT", "/v1/oidc", issuer, 200},
		{"oidc-set", "PUT", "/v1/oidc", `{"issuer":"http://id.example","client_id":"x"}`, 400},
		{"pages-set", "PUT", "/v1/pages", `{"names":["cloud.example.org"]}`, 200},
		{"pages-set", "PUT", "/v1/pages", `{"names":["10.0.0.1"]}`, 400},
		{"pages-site-set", "PUT", "/v1/pages/site", site, 200},
		{"pages-site-set", "PUT", "/v1/pages/site", strange, 400},
		{"pages-site-delete", "DELETE", "/v1/pages/site", "", 204},
		{"pages-site-delete", "DELETE", "/v1/pages/site", "", 404},
		{"rack-remove", "POST", "/v1/racks/c/removal", `{"lost":false}`, 409},
		{"alert-receiver-create", "POST", "/v1/alert-receivers", `{"name":"ops","kind":"webhook","url":"https://example.org","secret":"0123456789abcdef"}`, 201},
		{"alert-receiver-create", "POST", "/v1/alert-receivers", `{"name":"ops","kind":"webhook","url":"https://example.org","secret":"0123456789abcdef"}`, 409},
		{"alert-receiver-create", "POST", "/v1/alert-receivers", `{"name":"here","kind":"webhook","url":"https://127.0.0.1","secret":"0123456789abcdef"}`, 403},
		{"alert-receiver-set", "PATCH", "/v1/alert-receivers/ops", `{"severity":"error"}`, 200},
		{"alert-receiver-set", "PATCH", "/v1/alert-receivers/ops", `{"from":"a@example.org"}`, 400},
		{"alert-receiver-delete", "DELETE", "/v1/alert-receivers/ops", "", 204},
		{"alert-receiver-delete", "DELETE", "/v1/alert-receivers/ops", "", 404},
	} {
		switch { // what it needs
		case c.op == "image-delete":
			d.want(201, "POST", "/v1/images?name=deb", "a disk", append(as, "Content-Type", "application/octet-stream")...)
			noted++
		case c.op == "snapshot-group-delete":
			var g v1.SnapshotGroup
			if err := json.Unmarshal([]byte(d.want(201, "POST", "/v1/snapshot-groups", `{"name":"both","volumes":["data","spare"]}`, as...)), &g); err != nil {
				t.Fatal(err)
			}
			c.path = "/v1/snapshot-groups/" + g.ID
			d.want(201, "POST", "/v1/volumes/data/snapshots", `{"name":"monday"}`, as...)
			noted += 2
		case c.op == "vm-snapshot-revert" && c.status == 409:
			d.want(201, "POST", "/v1/vms/web/snapshots", `{"name":"good"}`, as...)
			noted++
		}
		before := d.everything(as)
		join := "?"
		if strings.Contains(c.path, "?") {
			join = "&"
		}
		tried, would := d.call(c.method, c.path+join+"dryRun=true", c.body, append(as, "Idempotency-Key", "x")...)
		if tried.StatusCode != c.status || tried.Header.Get("Dry-Run") != "true" {
			t.Errorf("%s, tried: %d %s", c.op, tried.StatusCode, would)
		}
		if after := d.everything(as); after != before {
			t.Errorf("%s was not only tried:\n%s\n%s", c.op, before, after)
		}
		done, is := d.call(c.method, c.path, c.body, as...)
		noted++
		if a, b := unsteady.ReplaceAllString(would, "ID"), unsteady.ReplaceAllString(is, "ID"); done.StatusCode != c.status || done.Header.Get("Dry-Run") != "" || a != b {
			t.Errorf("%s: tried, it is answered with\n%s\nand done, with %d\n%s", c.op, a, done.StatusCode, b)
		}
		left = slices.DeleteFunc(left, func(op string) bool { return op == c.op })
	}
	if len(left) > 0 {
		t.Errorf("never tried: %v", left)
	}
	for { // the log follows; what was tried is not in it
		p, err := d.log.Read(-1, 1)
		if err != nil || p.Next > noted {
			t.Fatalf("%d entries, %v", p.Next, err)
		}
		if p.Next == noted {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

// everything is what there is, and what is noted of what was done.
func (d *door) everything(as []string) string {
	d.Helper()
	var out strings.Builder
	for _, path := range []string{"vms", "volumes", "images", "pools", "exports", "hosts", "disks", "alert-receivers", "backup-schedules", "snapshot-groups"} {
		out.WriteString(d.want(200, "GET", "/v1/"+path, "", as...))
	}
	return fmt.Sprint(d.b.St.Rev, out.String())
}

func TestWhatCannotBeTriedIsRefused(t *testing.T) {
	d := newDoor(t)
	as := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	d.want(201, "POST", "/v1/volumes?dryRun=false", `{"name":"data","size":1048576}`, as...)
	before := d.everything(as)
	for _, c := range [][3]string{{"POST", "/v1/volumes?dryRun=maybe", `{"name":"x","size":1048576}`}, {"POST", "/v1/volumes?dryRun=true&dryRun=false", `{"name":"x","size":1048576}`},
		{"POST", "/v1/volumes?dryRun", `{"name":"x","size":1048576}`}, {"POST", "/v1/volumes/data/snapshots?dryRun=true", `{"name":"x"}`}, {"POST", "/v1/join-codes?dryRun=true", `{}`}, {"POST", "/v1/projects?dryRun=true", `{"name":"x"}`}} {
		if text := d.want(http.StatusUnprocessableEntity, c[0], c[1], c[2], as...); !strings.Contains(text, "query.dryRun") {
			t.Errorf("%s: %s", c[1], text)
		}
	}
	for op := range httpapi.Access() { // reads have no such parameter
		if slices.Contains(httpapi.DryRuns(), op) && strings.HasSuffix(op, "-list") {
			t.Errorf("%s is tried", op)
		}
	}
	d.want(http.StatusUnprocessableEntity, "GET", "/v1/volumes?dryRun=true", "", as...)
	if after := d.everything(as); strings.Contains(after, `"x"`) || !strings.HasPrefix(after, before[:3]) {
		t.Errorf("something was done: %s", after)
	}
	// Trying takes the same rights.
	viewer := []string{"Authorization", "Bearer " + d.token(account.Viewer, "")}
	d.want(http.StatusForbidden, "DELETE", "/v1/volumes/data?dryRun=true", "", viewer...)
}

// A project's quota is asked, and not touched.
func TestAQuotaIsTried(t *testing.T) {
	d := newDoor(t)
	as := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	d.want(201, "POST", "/v1/projects", `{"name":"small","quota":{"bytes":2097152,"cpus":0,"memory_mib":0,"vms":0}}`, as...)
	mine := []string{"Authorization", "Bearer " + d.token(account.TenantAdmin, "small")}
	for range 3 { // of which only two would fit
		d.want(201, "POST", "/v1/volumes?dryRun=true", `{"name":"a","size":1048576}`, mine...)
	}
	d.want(507, "POST", "/v1/volumes?dryRun=true", `{"name":"a","size":4194304}`, mine...)
	d.want(201, "POST", "/v1/volumes", `{"name":"a","size":1048576}`, mine...)
	d.want(507, "POST", "/v1/volumes/a/grow?dryRun=true", `{"size":4194304}`, mine...)
	d.want(200, "POST", "/v1/volumes/a/grow?dryRun=true", `{"size":2097152}`, mine...)
	d.want(204, "DELETE", "/v1/volumes/a?dryRun=true", "", mine...)
	d.want(201, "POST", "/v1/volumes", `{"name":"b","size":1048576}`, mine...) // what was tried holds no share
	d.want(507, "POST", "/v1/volumes", `{"name":"c","size":1048576}`, mine...) // and lets none go
}

func TestFeatures(t *testing.T) {
	h := newLongHost(t, nil)
	all, err := h.c.Features(t.Context())
	if err != nil || !slices.IsSortedFunc(all, func(a, b v1.Feature) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("%+v, %v", all, err)
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
	}
	// Names are added here, and never taken away.
	for _, name := range []string{"audit", "dry-run", "etag", "idempotency-key", "if-match", "image-fetch", "pages", "projects", "tasks", "watch"} {
		if !slices.Contains(names, name) {
			t.Errorf("the feature %s is gone", name)
		}
	}
	// By the client.
	v, err := h.c.CreateVolume(client.DryRun(t.Context()), v1.VolumeSpec{Name: "x", Size: 1 << 20})
	if b, _ := json.Marshal(v); err != nil || v.Name != "x" {
		t.Errorf("%s, %v", b, err)
	}
	if all, err := h.c.Volumes(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("it was done: %+v, %v", all, err)
	}
}
