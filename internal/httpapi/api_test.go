package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

var rewrite = flag.Bool("rewrite", false, "write what came out to testdata")

func TestMain(m *testing.M) {
	programtest.Main()
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// serve starts a server on a socket and returns a client of it.
func serve(t *testing.T, b httpapi.Backend) (*client.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	s := httpapi.New(httpapi.Options{Backend: b, Version: "test"})
	if err := s.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	c := client.Socket(path)
	t.Cleanup(func() {
		c.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx)
	})
	return c, path
}

// raw sends bytes as they are and returns the status and the problem.
func raw(t *testing.T, socket, method, path, body string) (int, v1.Problem) {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	req, _ := http.NewRequest(method, "http://h"+path, strings.NewReader(body))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p v1.Problem
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 400 {
		if err := json.Unmarshal(b, &p); err != nil || p.Type == "" || p.Detail == "" || p.Status != resp.StatusCode {
			t.Fatalf("%s %s: not a problem: %d %s", method, path, resp.StatusCode, b)
		}
	}
	return resp.StatusCode, p
}

func TestAClusterFromNothingToARunningVM(t *testing.T) {
	ctx := context.Background()
	b := apitest.New()
	c, _ := serve(t, b)
	st, err := c.Status(ctx)
	if err != nil || !strings.Contains(st.Sentence, "is in no cluster") {
		t.Fatalf("before: %v, %v", st.Sentence, err)
	}
	if _, err := c.Hosts(ctx); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("hosts without a cluster: %v", err)
	}
	a, err := c.InitCluster(ctx, v1.ClusterInit{Name: "field"})
	if err != nil || a.Key == "" || a.Cluster.Name != "field" {
		t.Fatalf("init: %+v, %v", a, err)
	}
	if _, err := c.InitCluster(ctx, v1.ClusterInit{Name: "again"}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Fatalf("a second init: %v", err)
	}

	three, _ := serve(t, apitest.Three())
	img, err := three.ImportImage(ctx, client.NewImage{Name: "deb", Size: -1}, bytes.NewReader(make([]byte, 10000)))
	if err != nil || img.Size != 3*holdfast.BlockSize || img.State != "ok" || !img.Image {
		t.Fatalf("import: %+v, %v", img, err)
	}
	vm, err := three.CreateVM(ctx, v1.VMSpec{Name: "db1", Image: "deb", Publish: []v1.Publish{{Port: 5432, GuestPort: 5432}}})
	if err != nil || vm.State != "running" || vm.Host != "alpha" || vm.MemoryMiB != 256 || vm.Isolation != "pause" {
		t.Fatalf("create: %+v, %v", vm, err)
	}
	if st, err = three.Status(ctx); err != nil || st.Sentence != "The 1 VM is running. Can lose any 1 rack." {
		t.Fatalf("status: %q, %v", st.Sentence, err)
	}
	if vm, err = three.StopVM(ctx, "db1", v1.StopSpec{}); err != nil || vm.Power != "off" {
		t.Fatalf("stop: %+v, %v", vm, err)
	}
	if err := three.DeleteVM(ctx, vm.ID, v1.VMRemoval{KeepDisk: true}); err != nil {
		t.Fatal(err)
	}
	if v, err := three.Volume(ctx, "db1"); err != nil || v.Origin != "deb" || v.VM != "" {
		t.Fatalf("the kept disk: %+v, %v", v, err)
	}
}

func TestEverythingOfAVolume(t *testing.T) {
	ctx := context.Background()
	c, _ := serve(t, apitest.Three())
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "data", Size: 1 << 20, Copies: 3, Min: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "data", Size: 1 << 20}); !holdfast.IsKind(err, holdfast.Exists) {
		t.Fatalf("the same name: %v", err)
	}
	if _, err := c.Snapshot(ctx, "data", v1.SnapshotSpec{Name: "monday"}); err != nil {
		t.Fatal(err)
	}
	clone, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "copy", From: "data", Snapshot: "monday"})
	if err != nil || clone.Origin != "data@monday" || clone.Size != 1<<20 {
		t.Fatalf("%+v, %v", clone, err)
	}
	if v, err := c.GrowVolume(ctx, "data", v1.GrowSpec{Size: 2 << 20}); err != nil || v.Size != 2<<20 {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := c.GrowVolume(ctx, "data", v1.GrowSpec{Size: 1 << 20}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("shrinking: %v", err)
	}
	for _, err := range []error{c.Revert(ctx, "data", v1.RevertSpec{Snapshot: "monday"}),
		c.DeleteSnapshot(ctx, "data", "monday"), c.DeleteVolume(ctx, "copy")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if a, err := c.Activity(ctx, "data"); err != nil || a.ResentBytes != 8192 {
		t.Fatalf("%+v, %v", a, err)
	}
	all, err := c.Volumes(ctx)
	if err != nil || len(all) != 1 || len(all[0].Replicas) != 3 || all[0].Snapshots != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
}

// refusal is a request that must be refused, and what the reason must say.
type refusal struct {
	method, path, body string
	status             int
	say                string
}

func (r refusal) check(t *testing.T, sock string) {
	t.Helper()
	status, p := raw(t, sock, r.method, r.path, r.body)
	if status != r.status || !strings.Contains(p.Error(), r.say) {
		t.Errorf("%s %s %.60s: got %d %s; want %d and %q", r.method, r.path, r.body, status, p.Error(), r.status, r.say)
	}
}

func TestBadRequestsAreRefusedWithTheReason(t *testing.T) {
	b := apitest.Three()
	c, sock := serve(t, b)
	if _, err := c.ImportImage(context.Background(), client.NewImage{Name: "deb", Size: 8192}, bytes.NewReader(make([]byte, 8192))); err != nil {
		t.Fatal(err)
	}
	for _, r := range []refusal{
		{"POST", "/v1/volumes", `{"name":"x","size":4096,"sise":1}`, 422, "body.sise"},
		{"POST", "/v1/volumes", `{"name":"x","size":4096`, 400, "not JSON"},
		{"POST", "/v1/volumes", `{"name":"x","size":4096} {}`, 400, "something after"},
		{"POST", "/v1/volumes", ``, 400, "body is required"},
		{"POST", "/v1/volumes", `[]`, 422, "object"},
		{"POST", "/v1/volumes", `{"name":"x","size":"big"}`, 422, "body.size"},
		{"POST", "/v1/volumes", `{"name":"x","size":0}`, 400, "size above zero"},
		{"POST", "/v1/volumes", `{"name":"x","size":-4096}`, 422, "body.size"},
		{"POST", "/v1/volumes", `{"name":"x","size":4097}`, 400, "the next larger one is 8192"},
		{"POST", "/v1/volumes", `{"name":"x","size":9223372036854771712}`, 400, "64TiB"},
		{"POST", "/v1/volumes", `{"name":"X!","size":4096}`, 400, "a-z, 0-9"},
		{"POST", "/v1/volumes", `{"name":"","size":4096}`, 400, "empty"},
		{"POST", "/v1/volumes", `{"name":"x","size":4096,"copies":2,"min":3}`, 400, "never be kept"},
		{"POST", "/v1/volumes", `{"name":"x","from":"dep"}`, 404, "did you mean deb?"},
		{"POST", "/v1/volumes", `{"name":"x","size":4096,"from":"deb"}`, 400, "at least as large"},
		{"POST", "/v1/volumes", `{"name":"x","size":4096,"snapshot":"s"}`, 400, "set 'from' too"},
		{"POST", "/v1/volumes", strings.Repeat(" ", 300<<10), 413, "too large"},
		{"POST", "/v1/vms", `{"name":"v"}`, 400, "either an image"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","volume":"x"}`, 400, "either an image"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","memory_mib":4}`, 400, "too little"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","priority":"urgent"}`, 422, "body.priority"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","append":"quiet"}`, 400, "goes with a kernel"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","ssh_keys":["AAAA"]}`, 400, "authorized_keys"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","publish":[{"port":0,"guest_port":1}]}`, 422, "body.publish[0].port"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","publish":[{"port":1,"guest_port":1},{"port":1,"guest_port":2}]}`, 409, "published"},
		{"POST", "/v1/vms", `{"name":"v","image":"deb","publish":[{"addr":"everywhere","port":1,"guest_port":1}]}`, 400, "IP address"},
		{"POST", "/v1/disks", `{"path":"here"}`, 400, "absolute path"},
		{"POST", "/v1/disks", `{"path":"/x","size":1000}`, 400, "multiple"},
		{"POST", "/v1/self/join", `{"code":"hf1-abc"}`, 400, "cut short"},
		{"POST", "/v1/join", `{"secret":"00","host_id":"` + b.Me.ID.String() + `","name":"h","rack":"b","addr":"h:1","api_addr":"h:2","csr":"x"}`, 403, "spent"},
		{"POST", "/v1/images?name=i", "", 400, "empty"},
		{"POST", "/v1/images?name=i", "QFI\xfb....................", 400, "QCOW2 image is damaged"},
		{"POST", "/v1/images?name=i&size=5", "123", 400, "send the whole image"},
		{"POST", "/v1/images", "123", 422, "query.name"},
		{"POST", "/v1/images?name=i&sise=5", "123", 422, "query"},
		{"GET", "/v1/volumes/none", "", 404, "no volume is called"},
		{"GET", "/v1/volumes/deb", "", 404, "no volume is called"},
		{"GET", "/v1/vms/0f0f0f0f-0000-4000-8000-000000000000", "", 404, "no VM"},
		{"GET", "/v1/nothing", "", 404, "/openapi.json"},
		{"PATCH", "/v1/vms", "", 405, "cannot be done"},
		{"GET", "/v1/vms/none/console", "", 400, "websocket"},
	} {
		r.check(t, sock)
	}
	if vols, err := c.Volumes(context.Background()); err != nil || len(vols) != 0 {
		t.Fatalf("a refused request left something: %v, %v", vols, err)
	}
}

func TestAnImportThatBreaksOffLeavesNothing(t *testing.T) {
	b := apitest.Three()
	c, _ := serve(t, b)
	broken := io.MultiReader(bytes.NewReader(make([]byte, 100000)), failing{})
	if _, err := c.ImportImage(context.Background(), client.NewImage{Name: "deb", Size: 200000}, broken); err == nil {
		t.Fatal("an import that broke off was accepted")
	}
	b.Space = 4096
	_, err := c.ImportImage(context.Background(), client.NewImage{Name: "deb", Size: -1}, bytes.NewReader(make([]byte, 8192)))
	if !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Fatalf("larger than space: %v", err)
	}
	if imgs, err := c.Images(context.Background()); err != nil || len(imgs) != 0 {
		t.Fatalf("%v, %v", imgs, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the stick was pulled out") }

func TestAConsoleShowsHistoryAndTakesInput(t *testing.T) {
	ctx := context.Background()
	b := apitest.Three()
	b.Echo = func(s string) string { return "you said " + s }
	c, _ := serve(t, b)
	if _, err := c.ImportImage(ctx, client.NewImage{Name: "deb", Size: -1}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVM(ctx, v1.VMSpec{Name: "v", Image: "deb"}); err != nil {
		t.Fatal(err)
	}
	con, err := c.Console(ctx, "v", false)
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	if _, err := con.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	want := "booted\r\nyou said hello\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(con, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	screen, err := c.Screen(ctx, "v", false)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	hello := make([]byte, 12)
	if _, err := io.ReadFull(screen, hello); err != nil || string(hello) != "RFB 003.008\n" {
		t.Fatalf("the screen says %q, %v", hello, err)
	}
	if _, err := con.Write([]byte("halt\n")); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(con); err != nil || len(rest) != 0 {
		t.Fatalf("after the end: %q, %v", rest, err)
	}
	if _, err := c.StopVM(ctx, "v", v1.StopSpec{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Console(ctx, "v", false); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("the console of a stopped VM: %v", err)
	}
	if _, err := c.Screen(ctx, "v", false); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("the screen of a stopped VM: %v", err)
	}
}

func TestASocketIsTheOwnersAlone(t *testing.T) {
	_, path := serve(t, apitest.New())
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	s := httpapi.New(httpapi.Options{Backend: apitest.New()})
	if err := s.ServeUnix(path); !holdfast.IsKind(err, holdfast.Busy) {
		t.Fatalf("a socket in use: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ServeUnix(file); !holdfast.IsKind(err, holdfast.Exists) {
		t.Fatalf("a file in the way: %v", err)
	}
	if err := s.ServeUnix("/" + strings.Repeat("x", 200)); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Fatalf("a long path: %v", err)
	}
}

// The description is a contract: a change of it is a change of the API.
func TestTheDescriptionIsWhatItWas(t *testing.T) {
	b, err := httpapi.New(httpapi.Options{Backend: apitest.New(), Version: "test"}).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "openapi.json", out.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s differs (%v); run with -rewrite and read the change", path, err)
	}
}
