package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small starts a fleet in which nothing happens by itself.
func small(t *testing.T) *Fleet {
	t.Helper()
	f, err := Start(Options{Hosts: 6, Racks: 3, VMs: 30, Listen: "127.0.0.1:0", Seed: 1, Still: true, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// asker asks on a fleet's socket.
type asker struct {
	t  *testing.T
	tr *http.Transport
}

func newAsker(t *testing.T, f *Fleet) *asker {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.Socket())
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &asker{t, tr}
}

func (a *asker) get(path string) (status int, body []byte) {
	a.t.Helper()
	req, err := http.NewRequest("GET", "http://h"+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := a.tr.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, body
}

type node = map[string]any

// fits says where a value is not as a schema has it.
func fits(all, schema node, value any, at string) error {
	if ref, ok := schema["$ref"].(string); ok {
		next := all
		for _, p := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			next, _ = next[p].(node)
		}
		return fits(all, next, value, at)
	}
	if among, ok := schema["enum"].([]any); ok && !slices.Contains(among, value) {
		return fmt.Errorf("%s: %v is none of %v", at, value, among)
	}
	types, _ := schema["type"].([]any)
	if one, ok := schema["type"].(string); ok {
		types = []any{one}
	}
	is := map[bool]string{}
	switch v := value.(type) {
	case nil:
		is[true] = "null"
	case string:
		is[true] = "string"
	case bool:
		is[true] = "boolean"
	case float64:
		if is[true] = "number"; v == float64(int64(v)) && slices.Contains(types, any("integer")) {
			is[true] = "integer"
		}
	case []any:
		is[true] = "array"
		items, _ := schema["items"].(node)
		for i, x := range v {
			if err := fits(all, items, x, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case node:
		is[true] = "object"
		props, _ := schema["properties"].(node)
		more, _ := schema["additionalProperties"].(node)
		needed, _ := schema["required"].([]any)
		for _, name := range needed {
			if _, ok := v[name.(string)]; !ok {
				return fmt.Errorf("%s: %v is missing", at, name)
			}
		}
		for name, x := range v {
			of, ok := props[name].(node)
			if !ok && more == nil && props != nil {
				return fmt.Errorf("%s: %s is not described", at, name)
			}
			if !ok {
				of = more
			}
			if err := fits(all, of, x, at+"."+name); err != nil {
				return err
			}
		}
	}
	if len(types) > 0 && !slices.Contains(types, any(is[true])) {
		return fmt.Errorf("%s: %s instead of %v", at, is[true], types)
	}
	return nil
}

// TestEverythingThatCanBeReadIs: every GET of the API is answered, with what its
// description says, and not with nothing where there is something.
func TestEverythingThatCanBeReadIs(t *testing.T) {
	t.Parallel()
	f := small(t)
	a := newAsker(t, f)
	var api node
	if status, body := a.get("/openapi.json"); status != 200 || json.Unmarshal(body, &api) != nil {
		t.Fatal(status)
	}
	vm := f.plan.vms[slices.IndexFunc(f.plan.vms, func(v cluster.VM) bool { return v.Power == cluster.On })]
	names := strings.NewReplacer("{host}", f.self.Name, "{rack}", "b", "{vm}", vm.Name, "{volume}", vm.Name, "{image}", "debian-12", "{disk}", f.plan.disks[0].ID.String(),
		"{pool}", "archive", "{export}", f.plan.exports[0].Name, "{project}", "clinic", "{kind}", "vm", "{id}", vm.ID.String())
	// What there is none of, or no bytes.
	without := map[string]int{"incident-show": 404, "task-show": 404, "task-wait": 404, "user-show": 404, "backup-schedule-show": 404, "snapshot-show": 404, "volume-diff": 503, "volume-copies": 503,
		"volume-force-plan": 503, "cluster-recovery-plan": 503, "kv-move-plan": 503, "watch": 0, "vm-console": 0, "vm-screen": 0,
		"volume-export": 503, "image-export": 503, "volume-backup": 503, "cluster-backup": 503, "alert-receiver-list": 503, "oidc-show": 404, "pages-show": 503, "pages-authority": 503, "upgrade-plan": 503, "program-show": 503}
	empty := []string{"incident-list", "task-list", "user-list", "token-list", "session-list", "join-code-list", "volume-faults", "image-import-list", "snapshot-group-list", "cluster-key-list", "volume-snapshot-list", "vm-snapshot-list"}
	asked := 0
	for path, item := range api["paths"].(node) {
		op, ok := item.(node)["get"].(node)
		if !ok {
			continue
		}
		id := op["operationId"].(string)
		want, known := without[id]
		if !known {
			want = 200
		}
		if want == 0 || strings.Contains(names.Replace(path), "{") && !known {
			continue
		}
		asked++
		status, body := a.get(strings.NewReplacer("{incident}", "none", "{task}", "none", "{user}", "none", "{schedule}", "none", "{snapshot}", "none").Replace(names.Replace(path)))
		if status != want && !(known && status >= 400) {
			t.Errorf("%s %s: %d %s", id, path, status, body)
			continue
		}
		content, _ := op["responses"].(node)["200"].(node)["content"].(node)
		said, isJSON := content["application/json"].(node)
		if status != 200 || !isJSON {
			continue
		}
		var value any
		if err := json.Unmarshal(body, &value); err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if err := fits(api, said["schema"].(node), value, id); err != nil {
			t.Error(err)
		}
		if list, ok := value.([]any); ok && len(list) == 0 && !slices.Contains(empty, id) {
			t.Errorf("%s: there is nothing in it", id)
		}
	}
	if asked < 30 {
		t.Errorf("only %d operations were asked for", asked)
	}
}

func socket(t *testing.T, f *Fleet) *client.Client {
	c := client.Socket(f.Socket())
	t.Cleanup(c.Close)
	return c
}

func TestItSaysThatItIsSimulated(t *testing.T) {
	t.Parallel()
	c := socket(t, small(t))
	st, err := c.Status(t.Context())
	if err != nil || !st.Simulated || !st.Host.Simulated || !strings.Contains(st.Sentence, "Can lose any 1 rack") {
		t.Fatalf("%+v, %v", st, err)
	}
	a := newAsker(t, small(t))
	if _, body := a.get("/v1/features"); !bytes.Contains(body, []byte(`"simulated"`)) {
		t.Errorf("%s", body)
	}
	var out bytes.Buffer
	f := small(t)
	f.tell(&out, "LINK")
	if !strings.Contains(out.String(), "No such host exists") || !strings.Contains(out.String(), "LINK") {
		t.Error(out.String())
	}
}

// TestARackIsLost: the records tell it as a real cluster's would: an incident, VMs
// that run elsewhere, and every copy in the end.
func TestARackIsLost(t *testing.T) {
	t.Parallel()
	f := small(t)
	f.fall(func(h cluster.Host) bool { return h.Domain.Rack == "b" })
	within := 2 * time.Minute
	mended := func(st *cluster.State) bool {
		for _, i := range st.Incidents {
			return len(i.Val.Racks) == 1 && i.Val.Closed != nil
		}
		return false
	}
	moved := func(st *cluster.State) bool {
		n := 0
		for _, v := range st.VMs {
			m := st.Machines[v.Val.ID].Val
			if v.Val.Power == cluster.On && (m.State != "running" || st.Hosts[m.Host].Val.Domain.Rack == "b") {
				return false
			}
			n++
		}
		return n == 30
	}
	if !f.Records.WaitFor(moved, within) {
		t.Fatal("the VMs of a lost rack do not run elsewhere")
	}
	f.riseAgain()
	if !f.Records.WaitFor(mended, within) {
		t.Fatal("a rack that came back is not mended")
	}
}

func TestActsAreDoneOnTheRecordsOrRefused(t *testing.T) {
	t.Parallel()
	f := small(t)
	c, ctx := socket(t, f), t.Context()
	vm, err := c.CreateVM(ctx, v1.VMSpec{Name: "mine", Image: "debian-12"})
	if err != nil || vm.Name != "mine" {
		t.Fatalf("%+v, %v", vm, err)
	}
	runs := func(st *cluster.State) bool {
		for _, m := range st.Machines {
			if st.VMs[m.Val.VM].Val.Name == "mine" && m.Val.State == "running" {
				return true
			}
		}
		return false
	}
	if !f.Records.WaitFor(runs, time.Minute) {
		t.Fatal("a VM that was made does not run")
	}
	if _, err := c.Snapshot(ctx, "mine", v1.SnapshotSpec{Name: "now"}); err != nil {
		t.Error(err)
	}
	if err := c.DeleteVM(ctx, "mine", v1.VMRemoval{Force: true}); err != nil {
		t.Error(err)
	}
	gone := func(st *cluster.State) bool { return !runs(st) }
	if !f.Records.WaitFor(gone, time.Minute) {
		t.Error("a VM that was deleted is still there")
	}
	if _, err := c.CreateJoinCode(ctx, v1.JoinCodeSpec{}); !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "simulated") {
		t.Errorf("a join code: %v", err)
	}
}

func TestTheSetUpLinkMakesAnAdmin(t *testing.T) {
	t.Parallel()
	f := small(t)
	link, err := f.SetupLink()
	_, secret, ok := strings.Cut(link, "https://"+f.Addr()+"/setup#")
	if err != nil || !ok {
		t.Fatal(link, err)
	}
	if _, _, err := f.accounts.Setup(secret, "ann", "a long enough password", "127.0.0.1"); err != nil {
		t.Error(err)
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"--serve --hosts 0", "--hosts 0"}, {"--serve --hosts 2000", "--hosts 2000"}, {"--serve --hosts x", "hosts"},
		{"--serve --racks 0", "--racks 0"}, {"--serve --hosts 3 --racks 4", "--racks 4"},
		{"--serve --vms -1", "--vms -1"}, {"--serve --vms 99999", "--vms 99999"}, {"--serve --hosts 2 --racks 2 --vms 500", "--vms 500"},
		{"--serve --listen here", "--listen"}, {"--serve --listen localhost:1", "--listen"}, {"--serve --listen 127.0.0.1:99999", "--listen"},
		{"--hosts 7", "--hosts goes with --serve"}, {"--still", "--still goes with --serve"}, {"--serve --steps 7", "--steps does not go with --serve"},
	} {
		sim := &cobra.Command{Use: "sim", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
		sim.Flags().Uint64("seed", 1, "")
		sim.Flags().Int("steps", 1, "")
		cmd := Serve(sim, "test")
		cmd.SetArgs(strings.Fields(c.args))
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // should one be let through, it ends at once
		if err := cmd.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}
