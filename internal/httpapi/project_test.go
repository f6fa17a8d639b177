package httpapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// tenants is a door with two projects, each with an administrator, a VM and a
// volume, and an image of everybody's.
func tenants(t *testing.T) (d *door, red, blue []string) {
	d = newDoor(t)
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, ""), "Content-Type", "application/octet-stream"}
	d.want(201, "POST", "/v1/images?name=deb", "a disk, say", admin...)
	for _, p := range []string{"red", "blue"} {
		h := []string{"Authorization", "Bearer " + d.token(account.TenantAdmin, p)}
		d.want(201, "POST", "/v1/vms", `{"name":"`+p+`-vm","image":"deb"}`, h...)
		d.want(201, "POST", "/v1/volumes", `{"name":"`+p+`-volume","size":1048576}`, h...)
		d.want(201, "POST", "/v1/volumes/"+p+"-volume/snapshots", `{"name":"`+p+`-snap"}`, h...)
		if p == "red" {
			red = h
		} else {
			blue = h
		}
	}
	return d, red, blue
}

// TestNobodyReachesAnothersThings calls every operation of the description with
// the things of another project in its path and its body, by name and by
// identity: none does anything, tells anything, or says that they are there.
func TestNobodyReachesAnothersThings(t *testing.T) {
	d, red, blue := tenants(t)
	var vm v1.VM
	var vol v1.Volume
	for text, into := range map[string]any{
		d.want(200, "GET", "/v1/vms/blue-vm", "", blue...): &vm, d.want(200, "GET", "/v1/volumes/blue-volume", "", blue...): &vol,
	} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	before := d.want(200, "GET", "/v1/vms", "", blue...) + d.want(200, "GET", "/v1/volumes", "", blue...)
	bodies := []string{"", `{"name":"stolen"}`, `{"name":"stolen","from":"blue-volume"}`, `{"name":"stolen","volume":"blue-volume"}`, `{"volume":"blue-volume"}`,
		`{"size":1099511627776}`, `{"snapshot":"blue-snap"}`, `{"memory_mib":512}`, `{"force":true}`, `{"password":"correct horse battery"}`}
	calls, reached := 0, 0
	for _, ids := range [][2]string{{"blue-vm", "blue-volume"}, {vm.ID, vol.ID}} {
		for _, op := range d.operations() {
			if op.id == "watch" { // which does not end: TestAProjectWatchesWhatItHas
				continue
			}
			path := strings.NewReplacer("{vm}", ids[0], "{volume}", ids[1], "{disk}", ids[1], "{snapshot}", "blue-snap", "{project}", "blue", "{user}", "blue-admin").Replace(op.path)
			named := path != op.path
			path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "blue")
			for _, body := range bodies {
				if op.method == "GET" && body != "" {
					continue
				}
				resp, text := d.call(op.method, path, body, red...)
				calls++
				if resp.StatusCode < 300 && named && !strings.Contains(op.path, "/projects") {
					t.Errorf("%s %s %s: %d %s", op.method, path, body, resp.StatusCode, text)
				}
				if resp.StatusCode < 300 {
					reached++
				}
				// What an answer quotes of the question is no news; the rest tells of others.
				if resp.StatusCode < 300 && strings.Contains(text, "blue") {
					t.Errorf("%s %s %s tells %s", op.method, path, body, text)
				}
				if resp.StatusCode == 409 && named {
					t.Errorf("%s %s %s: that it is there shows: %s", op.method, path, body, text)
				}
			}
		}
	}
	if calls < 500 || reached == 0 {
		t.Errorf("%d calls, %d of them did something", calls, reached)
	}
	after := d.want(200, "GET", "/v1/vms", "", blue...) + d.want(200, "GET", "/v1/volumes", "", blue...)
	if before != after {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

func TestAProjectHasWhatItMakesAndSharedImages(t *testing.T) {
	d, red, blue := tenants(t)
	for _, h := range [][]string{red, blue} {
		if text := d.want(200, "GET", "/v1/images", "", h...); strings.Count(text, `"name":"deb"`) != 1 {
			t.Error(text)
		}
		d.want(403, "DELETE", "/v1/images/deb", "", h...)
	}
	for _, path := range []string{"/v1/vms", "/v1/volumes"} {
		if text := d.want(200, "GET", path, "", red...); strings.Contains(text, "blue") || !strings.Contains(text, "red") {
			t.Error(text)
		}
	}
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	if text := d.want(200, "GET", "/v1/vms", "", admin...); !strings.Contains(text, "blue") || !strings.Contains(text, "red") {
		t.Error(text)
	}
	d.want(204, "POST", "/v1/projects/blue/assign", `{"volume":"red-volume"}`, admin...)
	d.want(404, "GET", "/v1/volumes/red-volume", "", red...)
	d.want(200, "GET", "/v1/volumes/red-volume", "", blue...)
	d.want(409, "DELETE", "/v1/projects/blue", "", admin...)
	d.want(204, "POST", "/v1/projects/default/assign", `{"volume":"red-volume"}`, admin...)
	d.want(404, "GET", "/v1/volumes/red-volume", "", blue...)
	// A disk that stays when its VM goes stays in the project.
	d.want(200, "POST", "/v1/vms/red-vm/stop", `{"force":true}`, red...)
	d.want(204, "DELETE", "/v1/vms/red-vm?keep_disk=true", "", red...)
	d.want(200, "GET", "/v1/volumes/red-vm", "", red...)
	d.want(404, "GET", "/v1/volumes/red-vm", "", blue...)
}

// TestAProjectIsToldHowItIs and nothing of the rest.
func TestAProjectIsToldHowItIs(t *testing.T) {
	d, red, _ := tenants(t)
	status := func() (s v1.Status) {
		t.Helper()
		text := d.want(200, "GET", "/v1/status", "", red...)
		for _, others := range []string{"blue", "beta", "gamma"} {
			if strings.Contains(text, others) {
				t.Errorf("%s is told of: %s", others, text)
			}
		}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := status()
	if s.Sentence != "The 1 VM is running." || s.Level != "ok" || s.Counts.VMs != 1 || s.Counts.Hosts != 0 || s.Counts.BytesTotal != 0 || s.CanLose.Unknown == "" || s.Cluster != nil {
		t.Errorf("%+v", s)
	}
	for id, m := range d.b.St.Machines {
		m.Val.State = "failed"
		d.b.St.Machines[id] = m
	}
	if s = status(); s.Sentence != "0 of 1 VMs running." || s.Level != "error" || len(s.Conditions) != 1 || s.Conditions[0].ID != "vm-down/red-vm" {
		t.Errorf("%+v", s)
	}
	d.want(200, "POST", "/v1/vms/red-vm/stop", `{"force":true}`, red...)
	if s = status(); s.Sentence != "No VM should be running." || s.Level != "ok" {
		t.Errorf("%+v", s)
	}
}

// TestAProjectWatchesWhatItHas: somebody to whom a project is all there is, is told
// what that has, and each change of it, and nothing of others; what is taken from it
// is gone for them. The stream ends when they are given to another project.
func TestAProjectWatchesWhatItHas(t *testing.T) {
	d, _, blue := tenants(t)
	name := "ann"
	if err := d.a.AddUser(name, account.TenantAdmin, "red", goodPassword); err != nil {
		t.Fatal(err)
	}
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	req, _ := http.NewRequest(http.MethodGet, "https://"+d.addr+"/v1/watch", nil)
	req.Header.Set("Cookie", d.login(name))
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	told := bufio.NewScanner(resp.Body)
	until := func(what string) (before string) {
		t.Helper()
		for told.Scan() {
			before += told.Text() + "\n"
			if strings.Contains(told.Text(), what) {
				return before
			}
		}
		t.Fatalf("no %s: %v; only %s", what, told.Err(), before)
		return ""
	}
	all := until("event: ready")
	d.want(201, "POST", "/v1/volumes", `{"name":"blue-2","size":1048576}`, blue...)
	d.want(204, "POST", "/v1/projects/red/assign", `{"volume":"blue-2"}`, admin...)
	all += until(`"blue-2"`)
	d.want(204, "POST", "/v1/projects/blue/assign", `{"volume":"blue-2"}`, admin...)
	all += until(`"gone":true`)
	for _, of := range []string{`"red-vm"`, `"red-volume"`, `"deb"`, "event: status", "The 1 VM is running"} {
		if !strings.Contains(all, of) {
			t.Errorf("nothing is told of %s: %s", of, all)
		}
	}
	for _, of := range []string{"blue-vm", "blue-volume", "event: host", "event: disk"} {
		if strings.Contains(all, of) {
			t.Errorf("%s is told of: %s", of, all)
		}
	}
	to := "blue"
	if err := d.a.SetUser(name, account.UserChange{Project: &to}); err != nil {
		t.Fatal(err)
	}
	for told.Scan() {
		if strings.Contains(told.Text(), "blue") {
			t.Errorf("the stream goes on with another project: %s", told.Text())
		}
	}
	if err := told.Err(); err != nil { // the client's limit of time, if it goes on
		t.Errorf("the stream goes on: %v", err)
	}
}

func TestQuotasHoldAtAdmission(t *testing.T) {
	d, red, _ := tenants(t)
	admin := []string{"Authorization", "Bearer " + d.token(account.ClusterAdmin, "")}
	used := func() (p v1.Project) {
		t.Helper()
		if err := json.Unmarshal([]byte(d.want(200, "GET", "/v1/projects/red", "", red...)), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	u := used().Used
	if u.VMs != 1 || u.CPUs != 1 || u.MemoryMiB != 256 || u.Bytes <= 1<<20 {
		t.Fatalf("%+v", u)
	}
	quota := func(q v1.Share) {
		t.Helper()
		d.want(200, "PATCH", "/v1/projects/red", fmt.Sprintf(`{"quota":{"vms":%d,"cpus":%d,"memory_mib":%d,"bytes":%d}}`, q.VMs, q.CPUs, q.MemoryMiB, q.Bytes), admin...)
	}
	vm := func(status int, more string) {
		t.Helper()
		d.want(status, "POST", "/v1/vms", `{"name":"more","image":"deb"`+more+`}`, red...)
	}
	for _, q := range []v1.Share{{VMs: 1}, {CPUs: 1}, {MemoryMiB: 511}, {Bytes: u.Bytes}} {
		quota(q)
		vm(507, "")
	}
	quota(v1.Share{CPUs: 3, MemoryMiB: 1024})
	d.want(507, "PATCH", "/v1/vms/red-vm", `{"cpus":4}`, red...)
	d.want(507, "PATCH", "/v1/vms/red-vm", `{"memory_mib":2048}`, admin...) // whoever does it
	d.want(200, "PATCH", "/v1/vms/red-vm", `{"cpus":2}`, red...)
	vm(507, `,"cpus":2`)
	vm(201, "")
	if got := used().Used; got.CPUs != 3 || got.VMs != 2 {
		t.Errorf("%+v", got)
	}
	d.want(507, "POST", "/v1/vms/more/clone", `{"name":"clone"}`, red...)
	quota(v1.Share{Bytes: used().Used.Bytes + 1<<20})
	d.want(507, "POST", "/v1/volumes/red-volume/grow", `{"size":4194304}`, red...)
	d.want(200, "POST", "/v1/volumes/red-volume/grow", `{"size":2097152}`, red...)
	d.want(507, "POST", "/v1/volumes", `{"name":"x","size":4096}`, red...)
	d.want(507, "POST", "/v1/vms/more/disks", `{"size":4096}`, red...)
	d.want(204, "DELETE", "/v1/volumes/red-volume", "", red...)
	d.want(201, "POST", "/v1/volumes", `{"name":"x","size":2097152}`, red...)
	// What fails is given back.
	quota(v1.Share{})
	before := used().Used
	d.want(409, "POST", "/v1/volumes", `{"name":"x","size":4096}`, red...)
	d.want(409, "POST", "/v1/volumes", `{"name":"blue-volume","size":4096}`, red...) // names are the cluster's: docs/THREATS.md
	if got := used().Used; got != before {
		t.Errorf("%+v, was %+v", got, before)
	}
}
