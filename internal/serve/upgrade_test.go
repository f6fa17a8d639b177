package serve

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
	"github.com/holdfast-cloud/holdfast/internal/turn"
)

// TestAHostTakesAProgramWhereThatIsRight: over the real API of a host in a cluster. What
// it refuses changes nothing, neither its program nor whose turn it is; what it takes it
// asks to become, once.
func TestAHostTakesAProgramWhereThatIsRight(t *testing.T) {
	b := newBox(t, 1, "a")
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "holdfast")
	if err := os.WriteFile(path, programtest.Version(t, "v1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.host.program = program.Open(path)
	b.host.version = "v1.0.0"
	if _, err := b.api.Program(ctx, "box1"); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("in no cluster: %v", err)
	}
	if _, err := b.api.InitCluster(ctx, v1.ClusterInit{Name: "field"}); err != nil {
		t.Fatal(err)
	}
	later := programtest.Version(t, "v1.2.0")
	sum := programtest.Sum(later)
	send := func() error {
		_, err := b.api.SendProgram(ctx, "box1", client.NewProgram{SHA256: sum, Size: int64(len(later))}, bytes.NewReader(later))
		return err
	}
	start := func(s v1.ProgramStart) error {
		s.SHA256 = sum
		_, err := b.api.StartProgram(ctx, "box1", s)
		return err
	}
	refused := func(what string, err error, kind holdfast.Kind, says string) {
		t.Helper()
		if !holdfast.IsKind(err, kind) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
		if now, err := os.ReadFile(path); err != nil || bytes.Equal(now, later) || len(b.host.becomes) > 0 {
			t.Fatalf("%s: it was exchanged, %v", what, err)
		}
	}
	refused("a program that nobody sent", start(v1.ProgramStart{AtRisk: true}), holdfast.NotFound, "send it first")
	b.host.cfg.Upgrade = "from-disk"
	refused("a host that takes none", send(), holdfast.Denied, "upgrade --from-disk")
	b.host.cfg.Upgrade = "api"
	if err := send(); err != nil {
		t.Fatal(err)
	}
	refused("the only host", start(v1.ProgramStart{}), holdfast.Conflict, "--at-risk")
	m, err := b.host.member()
	if err != nil {
		t.Fatal(err)
	}
	other := holdfast.HostID{UUID: holdfast.UUID{0: 9, 6: 0x40, 8: 0x80}}
	if err := turn.Take(m.kv, other, "box2"); err != nil {
		t.Fatal(err)
	}
	refused("another host's turn", start(v1.ProgramStart{AtRisk: true}), holdfast.Busy, "host box2 begins anew just now")
	if err := turn.Give(m.kv, other); err != nil {
		t.Fatal(err)
	}
	p, err := b.api.UpgradePlan(ctx, client.UpgradeAsk{Way: "file", File: v1.Build{Version: "v1.2.0", SHA256: sum, Arch: "none"}})
	if err != nil || len(p.Racks) != 1 || p.Racks[0].Hosts[0].State != "skipped" || !strings.Contains(p.Racks[0].Hosts[0].Why, "it needs a program for") {
		t.Errorf("a plan for another processor: %+v, %v", p, err)
	}
	if err := start(v1.ProgramStart{AtRisk: true}); err != nil {
		t.Fatal(err)
	}
	until(t, "the process is asked to become the program", func() bool { return len(b.host.becomes) == 1 })
	has, err := b.api.Program(ctx, "box1")
	if err != nil || has.Disk == nil || has.Disk.Version != "v1.2.0" || has.Previous == nil || has.Previous.Version != "v1.0.0" {
		t.Errorf("%+v, %v", has, err)
	}
	if err := turn.Take(m.kv, other, "box2"); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("it has no turn: %v", err)
	}
}
