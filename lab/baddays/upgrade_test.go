package baddays

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// laterVersion is what the second build of the same source calls itself.
const laterVersion = "v9.0.1"

// buildVersion builds the program under test with a version, and other flags.
func buildVersion(t *testing.T, version string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "holdfast")
	args := append([]string{"build", "-trimpath", "-ldflags", "-X main.version=" + version, "-o", out}, flags...)
	cmd := exec.Command("go", append(args, "../../cmd/holdfast")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build holdfast: %v\n%s", err, text)
	}
	return out
}

// buildFaulty builds one that says its version and takes the configuration, and does
// not start: it knows an older layout of the data directory only.
func buildFaulty(t *testing.T, version string) string {
	t.Helper()
	path, err := filepath.Abs("../../internal/serve/datadir.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile(`(?m)^const dataFormat = \d+$`).ReplaceAll(text, []byte("const dataFormat = 1"))
	if bytes.Equal(changed, text) {
		t.Fatal("the format of the data directory stands elsewhere now")
	}
	dir := t.TempDir()
	other, overlay := filepath.Join(dir, "datadir.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: other}})
	if err == nil {
		err = errors.Join(os.WriteFile(other, changed, 0o600), os.WriteFile(overlay, list, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return buildVersion(t, version, "-overlay", overlay)
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

	s.givenUp(h, before)
	w.goesOn()

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

// givenUp gives the hosts a program that does not start, and one that would not start
// with a host's configuration: the first host that gets it goes on as before, by itself,
// and the others do not get it.
func (s *scene) givenUp(h lab.Host, vm v1.VM) {
	s.t.Helper()
	was := s.versions()
	said, code := s.run(h, nil, "upgrade", "--binary", buildFaulty(s.t, "v9.0.2"))
	s.t.Logf("a program that does not start, exit %d:\n%s", code, said)
	if code != 4 || !strings.Contains(said, "v9.0.2 was given up: ") || !strings.Contains(said, "newer than 1, the newest this build knows") {
		s.t.Errorf("a program that does not start, exit %d", code)
	}
	s.whole()
	if now := s.versions(); !maps.Equal(now, was) {
		s.t.Errorf("versions %v, before %v", now, was)
	}
	s.same(vm)

	good, err := os.ReadFile(h.Config())
	if err == nil {
		err = os.WriteFile(h.Config(), append(slices.Clone(good), "speed: high\n"...), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	// The host is asked alone: which is first is not known here.
	if said, code := s.run(h, nil, "serve", "--config", h.Config(), "--check"); code != 2 || !strings.Contains(said, "speed") {
		s.t.Errorf("a configuration that is not good, exit %d: %s", code, said)
	}
	if err := os.WriteFile(h.Config(), good, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if said, code := s.run(h, nil, "serve", "--config", h.Config(), "--check"); code != 0 {
		s.t.Errorf("a configuration that is good, exit %d: %s", code, said)
	}
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
