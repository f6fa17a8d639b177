package baddays

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// laterVersion is what the second build of the same source calls itself.
const laterVersion = "v9.0.1"

// buildVersion builds the program under test with a version.
func buildVersion(t *testing.T, version string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "holdfast")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.version="+version, "-o", out, "../../cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build holdfast: %v\n%s", err, text)
	}
	return out
}

// TestAnUpgradeWalksUnderAGuest: three racks get another build, one after the other,
// while a guest writes on: the same machine, from before to after and back again. With
// a rack away nothing is begun. In the end the guest's rack is lost, and all that it
// had flushed is there.
func TestAnUpgradeWalksUnderAGuest(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	if os.Getenv("UPGRADE") == "" {
		t.Skip("not tested: it takes a minute ('make upgrade-walk' plays it)")
	}
	needs(t, "qemu-system-x86_64")
	later := buildVersion(t, laterVersion)
	s := newLabOf(t, lab.Options{Racks: 3, PerRack: 1, DiskSize: lab.DefaultDiskSize, OwnPrograms: true})
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")
	s.whole()
	before := s.running("witness", 0)
	h := s.host(before.Rack + "1") // the host that is asked begins anew, too
	first := s.versions()[h.Name]

	plan, code := s.run(h, nil, "upgrade", "--plan", "--binary", later)
	if code != 0 || !strings.Contains(plan, first+" -> "+laterVersion) || !strings.Contains(plan, "go on: witness") || !strings.Contains(plan, "could be begun now.") {
		t.Fatalf("the plan, exit %d:\n%s", code, plan)
	}
	s.walks(h, laterVersion, "upgrade", "--binary", later)
	s.same(before)
	w.goesOn()
	if said, code := s.run(h, nil, "upgrade", "--binary", later); code != 0 || !strings.Contains(said, "nothing was to be done") {
		t.Errorf("once more, exit %d: %s", code, said)
	}

	away := s.other(before.Rack)
	s.kill(away)
	s.until("a rack to be away", func() (bool, string) {
		st, err := s.status()
		return err == nil && st.Counts.HostsAlive == 2, st.Sentence
	})
	if said, code := s.run(h, nil, "upgrade", "--binary", program(t)); code != 4 || !strings.Contains(said, "nothing was done: host "+away+"1") {
		t.Errorf("with a rack away, exit %d: %s", code, said)
	}
	s.start(away)
	s.whole()
	s.inSync("witness")

	s.walks(h, first, "upgrade", "--back")
	s.same(before)
	w.goesOn()
	s.oneMachine(1)

	s.inSync("witness")
	acked := w.acknowledged()
	s.kill(before.Rack)
	w.verified(acked)
	s.start(before.Rack)
	s.whole()
}

// walks runs an upgrade, after which every host has a version, and was given it in an
// order that ends with the leader.
func (s *scene) walks(h lab.Host, version string, args ...string) {
	s.t.Helper()
	st, err := s.status()
	if err != nil {
		s.t.Fatal(err)
	}
	said, code := s.run(h, nil, args...)
	s.t.Logf("holdfast %s, exit %d:\n%s", strings.Join(args, " "), code, said)
	if code != 0 || !strings.Contains(said, "done: 3 hosts") {
		s.t.Fatalf("exit %d", code)
	}
	for name, v := range s.versions() {
		if v != version {
			s.t.Errorf("host %s has version %s, not %s", name, v, version)
		}
	}
	var turns []string
	for line := range strings.Lines(said) {
		if _, rest, ok := strings.Cut(line, "host "); ok && strings.Contains(rest, " -> "+version) {
			turns = append(turns, rest[:strings.Index(rest, ":")])
		}
	}
	if len(turns) != 3 || turns[2] != st.Cluster.Leader {
		s.t.Errorf("the turns were %q; %s led", turns, st.Cluster.Leader)
	}
	s.whole()
}

// same fails unless a VM is the same process of the same assignment as before.
func (s *scene) same(before v1.VM) {
	s.t.Helper()
	after := s.running(before.Name, 0)
	if after.Assigned != before.Assigned || after.Machine.PID != before.Machine.PID {
		s.t.Errorf("the VM was moved or started anew: process %d of assignment %d, then %d of %d", before.Machine.PID, before.Assigned, after.Machine.PID, after.Assigned)
	}
}

// versions are what the hosts' processes say they are, by the hosts' names.
func (s *scene) versions() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, h := range s.l.Hosts {
		self, err := lab.Ask(s.t.Context(), []lab.Host{h}, func(ctx context.Context, c *client.Client) (v1.Self, error) { return c.Self(ctx) })
		if err != nil {
			s.t.Fatal(err)
		}
		out[h.Name] = self.Version
	}
	return out
}
