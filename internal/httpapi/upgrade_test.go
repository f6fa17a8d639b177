package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

// withPlace gives a fake a directory that programs are sent to.
func withPlace(t *testing.T, b *apitest.Backend) (dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "holdfast")
	if err := os.WriteFile(path, programtest.Version(t, "v1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.Place = program.Open(path)
	return dir
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// TestAProgramIsSentAndStarted goes the way of a client: plan, send, start.
func TestAProgramIsSentAndStarted(t *testing.T) {
	b := apitest.Three()
	dir := withPlace(t, b)
	c, _ := serve(t, b)
	later := programtest.Version(t, "v1.2.0")
	ask := client.UpgradeAsk{Way: "file", File: v1.Build{Version: "v1.2.0", SHA256: programtest.Sum(later), Arch: apitest.Made("").Arch}}
	p, err := c.UpgradePlan(t.Context(), ask)
	if err != nil || len(p.Racks) != 3 || len(p.Blocked) != 0 || p.Racks[0].Hosts[0].State != "to-do" || p.Racks[0].Hosts[0].From.Version != "v1.0.0" {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := c.StartProgram(t.Context(), "beta", v1.ProgramStart{SHA256: ask.File.SHA256}); !holdfast.IsKind(err, holdfast.NotFound) || !strings.Contains(err.Error(), "send it first") {
		t.Fatal(err)
	}
	if _, err := c.SendProgram(t.Context(), "beta", client.NewProgram{SHA256: ask.File.SHA256, Size: int64(len(later))}, bytes.NewReader(later)); err != nil {
		t.Fatal(err)
	}
	if names(t, dir) != "holdfast holdfast.next" {
		t.Error(names(t, dir))
	}
	has, err := c.StartProgram(t.Context(), "beta", v1.ProgramStart{SHA256: ask.File.SHA256})
	if err != nil || has.Running.Version != "v1.2.0" || has.Previous.Version != "v1.0.0" {
		t.Fatalf("%+v, %v", has, err)
	}
	if p, err = c.UpgradePlan(t.Context(), ask); err != nil || p.Racks[0].Hosts[0].Host != "beta" || p.Racks[0].Hosts[0].State != "done" {
		t.Fatalf("%+v, %v", p, err)
	}
}

// TestWhatIsSentAsAProgramIsRefused: by every door, with a problem that says what is
// wrong; and nothing stays of it.
func TestWhatIsSentAsAProgramIsRefused(t *testing.T) {
	b := apitest.Three()
	dir := withPlace(t, b)
	c, socket := serve(t, b)
	good := programtest.Version(t, "v1.2.0")
	sum := programtest.Sum(good)
	foreign := bytes.Clone(good)
	if foreign[18] ^= 62 ^ 183; foreign[18] != 62 && foreign[18] != 183 {
		t.Skip("the test's own program is neither for amd64 nor for arm64")
	}
	for what, x := range map[string]struct {
		n    client.NewProgram
		body []byte
		says string
	}{
		"another hash":   {client.NewProgram{SHA256: strings.Repeat("0", 64), Size: int64(len(good))}, good, "it was damaged on its way"},
		"another arch":   {client.NewProgram{SHA256: programtest.Sum(foreign), Size: int64(len(foreign))}, foreign, "this host needs one for"},
		"half of it":     {client.NewProgram{SHA256: programtest.Sum(good[:len(good)/2]), Size: int64(len(good) / 2)}, good[:len(good)/2], ""},
		"a script":       {client.NewProgram{SHA256: programtest.Sum([]byte("#!/bin/sh\n")), Size: 10}, []byte("#!/bin/sh\n"), "ELF"},
		"nothing":        {client.NewProgram{SHA256: programtest.Sum(nil), Size: -1}, nil, "there is no program"},
		"older":          {client.NewProgram{SHA256: programtest.Sum(programtest.Version(t, "v0.9.0")), Size: -1}, programtest.Version(t, "v0.9.0"), "--back"},
		"of no such sum": {client.NewProgram{SHA256: "abc", Size: int64(len(good))}, good, ""},
	} {
		_, err := c.SendProgram(t.Context(), "beta", x.n, bytes.NewReader(x.body))
		if err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.SendProgram(t.Context(), "nowhere", client.NewProgram{SHA256: sum, Size: int64(len(good))}, bytes.NewReader(good)); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Error(err)
	}
	// What is announced as too large is refused before it is sent.
	head := "PUT /v1/hosts/beta/program?sha256=" + sum + " HTTP/1.1\r\nHost: h\r\nContent-Length: " + strconv.Itoa(program.MaxSize+1) + "\r\n\r\n"
	if said := answerTo(t, socket, head); !strings.HasPrefix(said, "HTTP/1.1 422") && !strings.HasPrefix(said, "HTTP/1.1 400") || !strings.Contains(said, "more than 256 MiB") {
		t.Errorf("too large: %.300s", said)
	}
	// A client that goes away in the middle leaves nothing, and is not waited for.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "PUT /v1/hosts/beta/program?sha256="+sum+" HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n\x7fELF")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for { // it is taken in when the one before is done with
		_, err := c.SendProgram(t.Context(), "beta", client.NewProgram{SHA256: sum, Size: int64(len(good))}, bytes.NewReader(good))
		if err == nil {
			break
		}
		if !holdfast.IsKind(err, holdfast.Busy) {
			t.Fatal(err)
		}
	}
	if names(t, dir) != "holdfast holdfast.next" {
		t.Errorf("left: %s", names(t, dir))
	}
}

// answerTo sends the beginning of a request and returns the beginning of the answer.
func answerTo(t *testing.T, socket, head string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := io.ReadAtLeast(conn, b, 600)
	if err != nil && n == 0 {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestOnlyAnAdministratorSendsPrograms, and it is in the audit log who did.
func TestOnlyAnAdministratorSendsPrograms(t *testing.T) {
	d := newDoor(t)
	dir := withPlace(t, d.b)
	good := programtest.Version(t, "v1.2.0")
	send := func(role account.Role) int {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, "https://"+d.addr+"/v1/hosts/beta/program?sha256="+programtest.Sum(good), bytes.NewReader(good))
		if err != nil {
			t.Fatal(err)
		}
		if role != "" {
			req.Header.Set("Authorization", "Bearer "+d.token(role, ""))
		}
		resp, err := d.http.Do(req)
		if err != nil {
			return 0 // it was refused before all was sent
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for role, want := range map[account.Role]int{"": 401, account.Viewer: 403, account.Operator: 403} {
		if got := send(role); got != want && got != 0 {
			t.Errorf("%q: %d", role, got)
		}
	}
	if names(t, dir) != "holdfast" {
		t.Fatal(names(t, dir))
	}
	if got := send(account.ClusterAdmin); got != 200 {
		t.Fatal(got)
	}
	start := `{"sha256":"` + programtest.Sum(good) + `"}`
	d.want(403, "POST", "/v1/hosts/beta/program/start", start, "Authorization", "Bearer "+d.token(account.Operator, ""))
	d.want(202, "POST", "/v1/hosts/beta/program/start", start, "Authorization", "Bearer "+d.token(account.ClusterAdmin, ""))
	d.want(403, "GET", "/v1/upgrade", "", "Authorization", "Bearer "+d.token(account.Operator, ""))
	var done []string
	for _, e := range d.written() {
		if strings.HasPrefix(e.Op, "program-") && e.Status < 300 {
			done = append(done, e.Who+" "+e.Op+" "+e.Object)
		}
	}
	if got := strings.Join(done, "; "); got != "token t-cluster-admin program-send host=beta; token t-cluster-admin program-start host=beta" {
		t.Errorf("recorded: %s", got)
	}
}

func TestAPlanIsAskedForProperly(t *testing.T) {
	_, socket := serve(t, apitest.Three())
	for path, where := range map[string]string{
		"/v1/upgrade?way=file": "query.sha256", "/v1/upgrade?way=mail": "query.way", "/v1/upgrade?sha256=xyz": "query.sha256", "/v1/upgrade?back=perhaps": "query.back",
	} {
		status, p := raw(t, socket, "GET", path, "")
		if status/100 != 4 || len(p.Errors) == 0 || p.Errors[0].Where != where {
			t.Errorf("%s: %d %+v", path, status, p)
		}
	}
	if status, p := raw(t, socket, "POST", "/v1/hosts/beta/program/start", `{"sha256":"no"}`); status/100 != 4 || len(p.Errors) == 0 {
		t.Errorf("%d %+v", status, p)
	}
}
