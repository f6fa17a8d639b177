package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// written waits until everything is written and returns it, verified.
func (d *door) written() []v1.AuditEntry {
	d.Helper()
	d.log.Close() // writes what waits; it can still be read
	p, err := d.log.Read(0, 1000)
	if err != nil {
		d.Fatal(err)
	}
	if head, err := v1.VerifyChain("", 0, p.Entries); err != nil || head != p.Head {
		d.Fatal(err)
	}
	return p.Entries
}

// TestEveryChangeIsRecorded calls all operations of the description, which leave
// an entry each if they change something or give data away.
func TestEveryChangeIsRecorded(t *testing.T) {
	d := newDoor(t)
	token := d.token(account.ClusterAdmin, "")
	want := map[string]bool{"cluster-backup": true, "volume-backup": true, "volume-export": true, "image-export": true, "vm-console": true, "vm-screen": true}
	for _, op := range d.operations() {
		if op.method != http.MethodGet {
			want[op.id] = true
		}
		d.call(op.method, filled(op.path), "", "Authorization", "Bearer "+token)
	}
	got := map[string]bool{}
	for _, e := range d.written() {
		got[e.Op] = true
		if e.Status == 0 || e.Who != "token t-cluster-admin" || e.From != "127.0.0.1" || e.Host != "alpha" {
			t.Errorf("%+v", e)
		}
	}
	for _, op := range d.operations() {
		if got[op.id] != want[op.id] {
			t.Errorf("%s: recorded %v", op.id, got[op.id])
		}
	}
}

// TestWhoWaitsDoesNotFillTheLog: a console of a machine that does not run yet is
// asked for again and again. What changes something is recorded each time.
func TestWhoWaitsDoesNotFillTheLog(t *testing.T) {
	d := newDoor(t)
	token := d.token(account.ClusterAdmin, "")
	for range 100 {
		d.call("GET", "/v1/vms/none/console", "", "Authorization", "Bearer "+token)
		d.call("DELETE", "/v1/vms/none", "", "Authorization", "Bearer "+token)
	}
	n := map[string]int{}
	for _, e := range d.written() {
		n[e.Op]++
	}
	if n["vm-console"] == 0 || n["vm-console"] > 60 || n["vm-delete"] != 100 {
		t.Errorf("recorded: %v", n)
	}
}

func TestTheRecordSaysWhoDidWhatAndNoSecret(t *testing.T) {
	d := newDoor(t)
	if err := d.a.AddUser("ann", account.ClusterAdmin, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	if err := d.a.AddUser("vic", account.Viewer, "", goodPassword); err != nil {
		t.Fatal(err)
	}
	ann := []string{"Cookie", d.login("ann"), "X-Holdfast-Request", "1"}
	vic := []string{"Cookie", d.login("vic"), "X-Holdfast-Request", "1"}
	d.want(201, "POST", "/v1/volumes", `{"name":"data","size":1048576}`, ann...)
	d.want(201, "POST", "/v1/users", `{"name":"new","role":"viewer","password":"`+goodPassword+`"}`, ann...)
	d.want(204, "DELETE", "/v1/volumes/data", "", ann...)
	d.want(403, "DELETE", "/v1/volumes/other", "", vic...)
	d.want(401, "POST", "/v1/login", `{"user":"ann","password":"wrong `+goodPassword+`"}`)
	d.want(401, "POST", "/v1/login", `{"user":"`+goodPassword+`","password":"ann"}`)
	d.want(401, "DELETE", "/v1/volumes/other", "")                       // by nobody: it is not looked at
	d.want(200, "GET", "/v1/volumes", "", ann...)                        // changes nothing
	d.want(403, "GET", "/v1/audit", "", vic...)                          // and is for cluster admins
	d.want(404, "DELETE", "/v1/tokens/x%0Ay%22%3Cscript%3E", "", ann...) // whatever a path holds
	var lines []string
	for _, e := range d.written() {
		lines = append(lines, strings.Join([]string{e.Who, e.Op, e.Object, http.StatusText(e.Status)}, " | "))
		if strings.Contains(e.Who+e.Object+e.Note, goodPassword) {
			t.Errorf("a secret: %+v", e)
		}
	}
	want := []string{
		"user ann | login | ann | OK",
		"user vic | login | vic | OK",
		"user ann | volume-create | data | Created",
		"user ann | user-create | new | Created",
		"user ann | volume-delete | volume=data | No Content",
		"user vic | volume-delete | volume=other | Forbidden",
		"nobody | login | ann | Unauthorized",
		"nobody | login | (no such user) | Unauthorized",
	}
	if !slices.Equal(lines[:min(len(lines), len(want))], want) || len(lines) != len(want)+1 {
		t.Errorf("recorded:\n%s", strings.Join(lines, "\n"))
	}
}
