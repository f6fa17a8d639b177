package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// packages runs go list over the module.
func packages(t *testing.T) []Package {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestGoFiles", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []Package
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p Package
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages", len(pkgs))
	}
	return pkgs
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	slices.Sort(wrong)
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestImportsRunOneWay(t *testing.T) { report(t, CheckImports(packages(t))) }

func TestNamesAndComments(t *testing.T) { report(t, CheckNames(packages(t))) }

func TestEveryRowHasItsReason(t *testing.T) {
	seen := map[string]string{}
	for _, r := range Rows() {
		if r.Why == "" || len(r.Packages) == 0 {
			t.Errorf("row %q has no reason or no packages", r.Name)
		}
		for _, p := range r.Packages {
			if seen[p] != "" {
				t.Errorf("%s stands in rows %q and %q", p, seen[p], r.Name)
			}
			seen[p] = r.Name
		}
	}
}

func TestSources(t *testing.T) {
	for _, p := range packages(t) {
		files, err := parse(p, nil)
		if err != nil {
			t.Errorf("%s: %v", p.name(), err)
			continue
		}
		report(t, checkGlobals(files))
		for _, f := range files {
			report(t, checkWords(f))
			if slices.Contains(Pure(), p.name()) {
				report(t, checkPure(f))
			}
			if slices.Contains(Scheduled(), p.name()) {
				report(t, checkScheduled(f))
			}
		}
	}
}

// The checks themselves: each finds what it is for.

func TestALatticeViolationIsFound(t *testing.T) {
	in := func(from string, imports ...string) Package {
		p := Package{ImportPath: Module + "/" + from, Doc: "x", GoFiles: []string{"x.go"}}
		for _, i := range imports {
			if i == "." {
				p.Imports = append(p.Imports, Module)
			} else if strings.Contains(i, ".") {
				p.Imports = append(p.Imports, i)
			} else {
				p.Imports = append(p.Imports, Module+"/"+i)
			}
		}
		return p
	}
	for _, c := range []struct {
		what string
		p    Package
		want string // "" if nothing is wrong
	}{
		{"downwards", in("internal/ha", ".", "internal/placement", "internal/cluster", "internal/kv"), ""},
		{"upwards", in("internal/kv", "internal/cluster"), `row "records" stands above row "seams"`},
		{"sideways between engines", in("internal/store", "internal/replica"), `do not import each other`},
		{"a planner that reaches for the agent", in("internal/ha", "internal/agent"), "stands above"},
		{"a package without a place", in("internal/stuff"), "has no place"},
		{"an import without a place", in("internal/node", "internal/stuff"), "has no place"},
		{"a fake in the product", in("internal/node", "internal/kv/memkv"), "fake"},
		{"a fake in the simulator", in("internal/sim", "internal/kv/memkv"), ""},
		{"a suite in the product", in("internal/node", "internal/kv/kvtest"), "conformance suite"},
		{"the command line past the API", in("internal/cli", "internal/cluster"), "may import only"},
		{"etcd where it may be", in("internal/kv/etcd", "go.etcd.io/etcd/client/v3"), ""},
		{"etcd where it may not", in("internal/cluster", "go.etcd.io/etcd/client/v3"), "which only"},
		{"a test module in the product", in("internal/cluster", "pgregory.net/rapid"), "which only"},
		{"somebody imports a program", in("internal/node", "cmd/holdfast"), "stands above"},
	} {
		wrong := CheckImports([]Package{c.p})
		if c.want == "" && len(wrong) > 0 || c.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], c.want)) {
			t.Errorf("%s: %q, want %q", c.what, wrong, c.want)
		}
	}
}

func TestBadNamesAreFound(t *testing.T) {
	wrong := CheckNames([]Package{{ImportPath: Module + "/internal/util", Doc: "x"}, {ImportPath: Module + "/internal/ok", GoFiles: []string{"x.go"}}})
	if len(wrong) != 2 {
		t.Errorf("%q", wrong)
	}
}

func TestImpureSourcesAreFound(t *testing.T) {
	for _, c := range []struct{ what, src, want string }{
		{"a clean file", "package x\nimport \"time\"\ntype T struct{ d time.Duration }\nvar names = []string{\"a\"}\nfunc f(names []string) { names[0] = \"b\" }", ""},
		{"a lock", "package x\nimport _ \"sync\"", "imports sync"},
		{"a socket", "package x\nimport _ \"net/http\"", "imports net/http"},
		{"a logger", "package x\nimport _ \"log/slog\"", "imports log/slog"},
		{"the time of day", "package x\nimport \"time\"\nfunc f() time.Time { return time.Now() }", "time.Now"},
		{"under another name", "package x\nimport chrono \"time\"\nfunc f() { chrono.Sleep(1) }", "time.Sleep"},
		{"global randomness", "package x\nimport \"math/rand/v2\"\nfunc f() int { return rand.IntN(3) }", "rand.IntN"},
		{"injected randomness", "package x\nimport \"math/rand/v2\"\nfunc f(r *rand.Rand) int { return r.IntN(3) }", ""},
		{"a goroutine", "package x\nfunc f() { go f() }", "a go statement"},
		{"a channel", "package x\nvar c chan int", "a channel"},
		{"a receive", "package x\nfunc f(c C) { <-c }", "a receive"},
		{"a select", "package x\nfunc f() { select {} }", "a select"},
		{"a context", "package x\nimport _ \"context\"", "a context"},
		{"init", "package x\nfunc init() {}", "an init function"},
		{"a method called init", "package x\nfunc (t T) init() {}", ""},
		{"a changed variable", "package x\nvar n int\nfunc f() { n++ }", "package variable n is changed"},
		{"a changed map", "package x\nvar m = map[string]int{}\nfunc f() { m[\"a\"] = 1 }", "package variable m is changed"},
		{"a local of the same name", "package x\nvar n int\nfunc f() { n := 1; n++; var m int; m = n; _ = m }", ""},
		{"a foreign key name", "package x\nconst k = \"holdfast/2/vm\"", "known only to"},
		{"QMP", "package x\nconst k = `{\"execute\":\"qmp_capabilities\"}`", "known only to"},
	} {
		files, err := parse(Package{ImportPath: Module + "/internal/ha", GoFiles: []string{"x.go"}}, map[string]string{"x.go": c.src})
		if err != nil {
			t.Fatal(err)
		}
		wrong := append(checkGlobals(files), checkPure(files[0])...)
		wrong = append(append(wrong, checkScheduled(files[0])...), checkWords(files[0])...)
		if c.want == "" && len(wrong) > 0 || c.want != "" && !strings.Contains(strings.Join(wrong, "\n"), c.want) {
			t.Errorf("%s: %q, want %q", c.what, wrong, c.want)
		}
	}
}
