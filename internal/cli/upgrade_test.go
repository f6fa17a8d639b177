package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

// upgrading is a fake cluster on which v1.1.0 was installed, and a command line.
type upgrading struct {
	*testing.T
	k   *talk
	c   *client.Client
	out bytes.Buffer

	wait time.Duration // for a host to be well; 0: a minute
}

// soonOver is how long a walk waits that is to stand still: longer than a busy machine
// takes to say anything.
const soonOver = 2 * time.Second

func newUpgrading(t *testing.T) *upgrading {
	t.Helper()
	u := &upgrading{T: t, k: &talk{t: t, dir: t.TempDir()}}
	u.k.fresh(apitest.Three())
	u.k.b.Installed(apitest.Made("v1.1.0"))
	u.c = client.Socket(u.k.sock)
	t.Cleanup(func() { u.c.Close(); u.k.stop() })
	return u
}

// vm makes one that runs.
func (u *upgrading) vm(name string) v1.VM {
	u.Helper()
	if _, err := u.c.CreateVM(u.Context(), v1.VMSpec{Name: name, Size: 1 << 20}); err != nil {
		u.Fatal(err)
	}
	vm, err := u.c.StartVM(u.Context(), name)
	if err != nil {
		u.Fatal(err)
	}
	return vm
}

// walk walks, and returns what was said, without the times.
func (u *upgrading) walk(ask client.UpgradeAsk, atRisk bool) (string, error) {
	u.Helper()
	u.out.Reset()
	w := &walk{a: &app{Env: Env{Stdout: &u.out, Stderr: &u.out}, format: "table"}, c: u.c, ask: ask, atRisk: atRisk, wait: cmp.Or(u.wait, time.Minute), begun: time.Now()}
	p, err := u.c.UpgradePlan(u.Context(), ask)
	if err != nil {
		u.Fatal(err)
	}
	err = w.run(u.Context(), p)
	return regexp.MustCompile(`(?m)^ *\d+\.\d s  |, \d+\.\d s after its turn began`).ReplaceAllString(u.out.String(), ""), err
}

func (u *upgrading) versions() string {
	u.Helper()
	var out []string
	for _, name := range []string{"alpha", "beta", "gamma"} {
		p, err := u.c.Program(u.Context(), name)
		if err != nil {
			u.Fatal(err)
		}
		out = append(out, p.Running.Version)
	}
	return strings.Join(out, " ")
}

func fromDisk() client.UpgradeAsk { return client.UpgradeAsk{Way: "disk"} }

func TestAWalkFromHostToHost(t *testing.T) {
	u := newUpgrading(t)
	vm := u.vm("db1")
	var turns []string
	u.k.b.Started = func(host string) error { turns = append(turns, host); return nil }
	said, err := u.walk(fromDisk(), false)
	if err != nil || u.versions() != "v1.1.0 v1.1.0 v1.1.0" || len(turns) != 3 || !strings.HasSuffix(said, "done: 3 hosts\n") {
		t.Fatalf("%v, %s, turns %v:\n%s", err, u.versions(), turns, said)
	}
	for _, want := range []string{
		"host " + vm.Host + ": v1.0.0 -> v1.1.0\nhost " + vm.Host + ": it answers with the new program and looks after 1 VM, the same process as before\nhost " + vm.Host + ": the cluster is whole again\n",
		"looks after no VMs, as before",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if said, err := u.walk(fromDisk(), false); err != nil || said != "nothing was to be done\n" || len(turns) != 3 {
		t.Errorf("%v, turns %v: %s", err, turns, said)
	}
	if said, err := u.walk(client.UpgradeAsk{Way: "previous", Back: true}, false); err != nil || u.versions() != "v1.0.0 v1.0.0 v1.0.0" {
		t.Errorf("back: %v, %s\n%s", err, u.versions(), said)
	}
}

func TestNothingIsBegunWhereTheClusterIsNotWhole(t *testing.T) {
	u := newUpgrading(t)
	u.k.b.Started = func(string) error { t.Error("a host was begun with"); return nil }
	u.k.b.Lose("gamma")
	said, err := u.walk(fromDisk(), true)
	if !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "nothing was done: host gamma in rack c is away") || !strings.Contains(said, "FIRST: host gamma") {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestARiskIsAccepted(t *testing.T) {
	u := newUpgrading(t)
	for id, h := range u.k.b.St.Hosts { // all in one rack
		h.Val.Domain.Rack = "a"
		u.k.b.St.Hosts[id] = h
	}
	said, err := u.walk(fromDisk(), false)
	if !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "--at-risk goes on") || !strings.Contains(said, "RISK: if rack a did not come back") || u.versions() != "v1.0.0 v1.0.0 v1.0.0" {
		t.Fatalf("%v\n%s", err, said)
	}
	if said, err := u.walk(fromDisk(), true); err != nil || u.versions() != "v1.1.0 v1.1.0 v1.1.0" {
		t.Errorf("%v\n%s", err, said)
	}
}

// A walk that stood still says where and how to go on, and the next one goes on there.
func TestAWalkThatStoodStillGoesOn(t *testing.T) {
	u := newUpgrading(t)
	n := 0
	u.k.b.Started = func(host string) error {
		if n++; n == 2 {
			return fmt.Errorf("host %s does not come back", host)
		}
		return nil
	}
	u.wait = soonOver
	said, err := u.walk(fromDisk(), false)
	u.wait = 0
	if !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(err.Error(), "the walk stands at host ") || !strings.Contains(err.Error(), "does not run the new program yet") ||
		!strings.Contains(err.Error(), "'holdfast upgrade' again") || !strings.Contains(err.Error(), "--back") || strings.Count(u.versions(), "v1.1.0") != 1 {
		t.Fatalf("%v, %s\n%s", err, u.versions(), said)
	}
	if said, err := u.walk(fromDisk(), false); err != nil || u.versions() != "v1.1.0 v1.1.0 v1.1.0" || !strings.HasSuffix(said, "done: 2 hosts\n") {
		t.Errorf("%v, %s\n%s", err, u.versions(), said)
	}
}

// The next host is not begun with while a host has lost what it looked after.
func TestAWalkEndsWhereAMachineWasNotTakenOver(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*cluster.Machine, *cluster.VM, holdfast.HostID)
		says   string
		kind   holdfast.Kind
	}{
		"another process": {func(m *cluster.Machine, _ *cluster.VM, _ holdfast.HostID) { m.PID += 7 }, "was started anew", holdfast.Conflict},
		"another host":    {func(m *cluster.Machine, vm *cluster.VM, to holdfast.HostID) { m.Host, vm.Host = to, to }, "was started anew on host", holdfast.Conflict},
		"none":            {func(m *cluster.Machine, _ *cluster.VM, _ holdfast.HostID) { m.State = "off" }, "does not look after VM db1 yet", holdfast.Unavailable},
	} {
		t.Run(what, func(t *testing.T) {
			u := newUpgrading(t)
			at := u.vm("db1").Host
			turns := map[string]bool{}
			u.k.b.Started = func(host string) error {
				if turns[host] = true; host == at {
					u.k.b.Change(func(s *cluster.State) {
						for id, m := range s.Machines {
							vm := s.VMs[id]
							c.change(&m.Val, &vm.Val, u.k.b.Host(map[bool]string{true: "beta", false: "alpha"}[at == "alpha"]))
							s.Machines[id], s.VMs[id] = m, vm
						}
					})
				}
				return nil
			}
			if c.kind == holdfast.Unavailable {
				u.wait = soonOver
			}
			said, err := u.walk(fromDisk(), false)
			if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), "stands at host "+at) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}

// TestTheProgramIsSent by the command itself: a plan, and what is refused before it is
// sent.
func TestTheProgramIsSent(t *testing.T) {
	u := newUpgrading(t)
	dir := t.TempDir()
	place := filepath.Join(dir, "holdfast")
	if err := os.WriteFile(place, programtest.Version(t, "v1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	u.k.b.Place = program.Open(place)
	file := func(name string, b []byte) string {
		path := filepath.Join(u.k.dir, name)
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	later := file("later", programtest.Version(t, "v1.2.0"))
	for line, want := range map[string]string{
		" upgrade --plan --binary " + later:   "v1.0.0 -> v1.2.0",
		" upgrade --plan":                     "v1.0.0 -> " + programtest.Own, // the program that runs the test
		" upgrade --plan --from-disk":         "v1.0.0 -> v1.1.0",
		" upgrade --plan --from-disk -o json": `"state": "to-do"`,
		" upgrade --plan --binary " + file("old", programtest.Version(t, "v0.9.0")): "FIRST: host alpha: version v0.9.0 is older",
		" upgrade --plan --back --binary " + filepath.Join(u.k.dir, "old"):          "This could be begun now.",
		" upgrade --binary " + file("script", []byte("#!/bin/sh\n")):                "does not begin as one (ELF)",
		" upgrade --binary " + filepath.Join(u.k.dir, "nothing"):                    "there is no program at",
		" upgrade --binary x --from-disk":                                           "none of the others can be",
		" upgrade --wait 1s":                                                        "--wait is 10s to 24h",
		" upgrade x":                                                                "one argument too many",
		" upgrade --binary " + filepath.Join(u.k.dir, "old"):                        "nothing was done",
	} {
		if said := u.k.run(line); !strings.Contains(said, want) {
			t.Errorf("holdfast%s:\n%s", line, said)
		}
	}
	w := &walk{a: &app{Env: Env{Stdout: &u.out, Stderr: &u.out}, format: "table"}, c: u.c, ask: client.UpgradeAsk{Way: "file"}, wait: time.Minute, begun: time.Now()}
	closer, err := w.open(context.Background(), later)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	p, err := u.c.UpgradePlan(t.Context(), w.ask)
	if err == nil {
		err = w.run(t.Context(), p)
	}
	if err != nil || u.versions() != "v1.2.0 v1.2.0 v1.2.0" || strings.Count(u.out.String(), "it has taken the program in") != 3 {
		t.Errorf("%v, %s\n%s", err, u.versions(), u.out.String())
	}
}
