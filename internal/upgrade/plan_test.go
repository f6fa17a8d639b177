package upgrade_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

var rewrite = flag.Bool("rewrite", false, "write what is planned into testdata")

// TestPlans runs testdata/*.txt: sketch lines and what the hosts say of their
// programs, "----", the plan.
//
//	runs HOST VERSION [disk VERSION] [previous VERSION] [arch ARCH] [leads-kv]
//	silent HOST WHY...        it answers, but not that
//	leads HOST                it makes the plans
//	report HOST SEVERITY ID TEXT...   a condition that a host reports
//	busy WHAT...              long work that is under way
//	ask file VERSION [ARCH] | disk | previous, and "back"
//
// What no line says runs v1.0.0 on amd64.
func TestPlans(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("nothing to plan")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				lines, want, _ := strings.Cut(block, "----")
				got := planned(t, lines)
				if want = strings.TrimSpace(want); !*rewrite && got != want {
					t.Errorf("%s\ngot:\n%s\nwant:\n%s", lines, got, want)
				}
				fmt.Fprintf(&out, "%s----\n%s\n\n", lines, got)
			}
			if *rewrite {
				if err := os.WriteFile(f, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func of(version, arch string) upgrade.Build {
	return upgrade.Build{Version: version, Sum: "sum of " + version + arch, Arch: arch}
}

func planned(t *testing.T, lines string) string {
	t.Helper()
	c := sketch.New()
	said := map[string]upgrade.Host{}
	a := upgrade.Ask{Way: upgrade.ByFile, File: of("v1.1.0", "amd64"), Hosts: map[holdfast.HostID]upgrade.Host{}}
	leader := ""
	var last []func(*cluster.State)
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "#":
		case f[0] == "runs":
			said[f[1]] = runs(t, f[2:])
		case f[0] == "silent":
			said[f[1]] = upgrade.Host{Silent: strings.Join(f[2:], " ")}
		case f[0] == "leads":
			leader = f[1]
		case f[0] == "busy":
			a.Work = append(a.Work, strings.Join(f[1:], " "))
		case f[0] == "report":
			last = append(last, func(s *cluster.State) {
				x := s.Alive[sketch.Host(f[1])]
				x.Val.Conditions = append(x.Val.Conditions, cluster.Condition{ID: f[3], Severity: f[2], Text: strings.Join(f[4:], " ")})
				s.Alive[sketch.Host(f[1])] = x
			})
		case f[0] == "ask":
			a.Way, a.Back = f[1], f[1] == "previous" || f[len(f)-1] == "back"
			if arch := "amd64"; f[1] == "file" {
				if len(f) > 3 && f[3] != "back" {
					arch = f[3]
				}
				a.File = of(f[2], arch)
			}
		default:
			if err := c.Do(strings.TrimSpace(line)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.State = c.State()
	if leader != "" {
		a.State.Leader = sketch.Host(leader)
	}
	for id, h := range a.State.Hosts {
		x, ok := said[h.Val.Name]
		if !ok {
			x = runs(t, []string{"v1.0.0"})
		}
		if a.State.AliveHost(id) {
			a.Hosts[id] = x
		}
	}
	for _, f := range last {
		f(a.State)
	}
	return render(upgrade.Make(a))
}

func runs(t *testing.T, f []string) (h upgrade.Host) {
	t.Helper()
	version, disk, previous, arch := f[0], f[0], "", "amd64"
	for i := 1; i < len(f); i++ {
		switch f[i] {
		case "leads-kv":
			h.LeadsKV = true
			continue
		case "disk":
			disk = f[i+1]
		case "previous":
			previous = f[i+1]
		case "arch":
			arch = f[i+1]
		default:
			t.Fatalf("runs: %q", f[i])
		}
		i++
	}
	h.Running, h.Disk = of(version, arch), of(disk, arch)
	if previous != "" {
		h.Previous = of(previous, arch)
	}
	return h
}

func render(p upgrade.Plan) string {
	var b strings.Builder
	for _, r := range p.Racks {
		fmt.Fprintf(&b, "rack %s:", r.Domain)
		for _, s := range r.Steps {
			switch {
			case s.Done:
				fmt.Fprintf(&b, " %s done.", s.Name)
			case s.Skipped != "":
				fmt.Fprintf(&b, " %s not: %s.", s.Name, s.Skipped)
			default:
				fmt.Fprintf(&b, " %s %s -> %s.", s.Name, s.From.Version, s.To.Version)
			}
			if len(s.VMs) > 0 {
				fmt.Fprintf(&b, " VMs %s.", strings.Join(s.VMs, ", "))
			}
			for _, x := range s.Away {
				fmt.Fprintf(&b, " Away: %s.", x)
			}
		}
		b.WriteString("\n")
	}
	for _, x := range p.Blocked {
		fmt.Fprintf(&b, "blocked: %s\n", x)
	}
	for _, x := range p.Risks {
		fmt.Fprintf(&b, "risk: %s\n", x)
	}
	for _, x := range p.Notes {
		if !strings.HasPrefix(x, "VMs go on;") && !strings.HasPrefix(x, "a host that is away") {
			fmt.Fprintf(&b, "note: %s\n", x)
		}
	}
	if n := p.Next(); n != nil {
		fmt.Fprintf(&b, "next: %s", n.Name)
	} else {
		b.WriteString("next: none")
	}
	return b.String()
}

func TestVersionsInTheirOrder(t *testing.T) {
	order := []string{"v0.9.9", "v1.0.0-alpha", "v1.0.0-beta.2", "v1.0.0-rc.1", "v1.0.0-rc.2", "v1.0.0-rc.10", "v1.0.0-rc.10-3-gabcdef0", "v1.0.0", "1.0.0-1-gabcdef0-dirty", "v1.0.0-12-g0123456", "v1.0.1", "v1.2", "v1.10.0", "v2.0.0"}
	for i, a := range order {
		for j, b := range order {
			got, known := upgrade.Compare(a, b)
			if want := max(-1, min(1, i-j)); got != want || !known {
				t.Errorf("%s and %s: %d, %v", a, b, got, known)
			}
		}
	}
	for _, p := range [][2]string{{"unreleased", "v1.0.0"}, {"abcdef0", "0123456"}, {"v1.0.0", ""}, {"v1.0.0-foo", "v1.0.0"}, {"v1.0.0\n", "v1.0.0"}, {"v99999999999.0.0", "v1.0.0"}} {
		if n, known := upgrade.Compare(p[0], p[1]); known {
			t.Errorf("%q and %q: %d", p[0], p[1], n)
		}
	}
	if n, known := upgrade.Compare("unreleased", "unreleased"); n != 0 || !known {
		t.Error("a version is not itself")
	}
}
