// Package arch holds the shape of the code to what docs/ARCHITECTURE.md says:
// which package may import which, which are pure, which wait only through the
// clock seam, who alone knows a foreign system. Its tests run over the output
// of `go list` and the parsed sources; a package that has no place fails them.
package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the module's path.
const Module = "github.com/holdfast-cloud/holdfast"

// Row is a layer: its packages import packages of lower rows, and of their own
// only where Within allows it. Why says what the row is for and what its place
// protects.
type Row struct {
	Name     string
	Packages []string // import paths below Module, "." the root; "x/*" is everything directly below x
	Within   bool     // packages of this row may import each other
	Why      string
}

// Rows returns the lattice, the lowest row first. The first row that names a
// package, exactly or by pattern, is its place; exact names win.
func Rows() []Row {
	return []Row{
		{Name: "vocabulary", Packages: []string{"."},
			Why: "identifiers, numbers and error kinds that everybody shares: it may know nobody"},
		{Name: "pages", Packages: []string{"docs/runbooks"},
			Why: "text for people that the command line prints: it knows the kinds of errors and nothing else"},
		{Name: "time", Packages: []string{"internal/clock"},
			Why: "the one way to time, tasks and waiting; every other seam may speak of it"},
		{Name: "sums and structures", Packages: []string{"internal/checksum", "internal/record", "internal/blockmap", "internal/seal", "internal/fair", "internal/pending", "internal/visits", "internal/crashpoint", "internal/config/nearest", "internal/hypervisor/probe", "internal/story"}, Within: true,
			Why: "pure formats and structures that know no device and no network, so that they can be checked by themselves"},
		{Name: "seams", Packages: []string{"internal/disk", "internal/transport", "internal/kv", "internal/hypervisor", "internal/fence", "internal/export"},
			Why: "the interfaces to the outside world: whoever uses one must not see how it is implemented"},
		{Name: "identity", Packages: []string{"internal/auth", "internal/keyring"},
			Why: "certificates and keys, below the sockets that are opened with them and knowing none; records hold wrapped keys"},
		{Name: "conformance", Packages: []string{"internal/clock/clocktest", "internal/disk/disktest", "internal/transport/transporttest",
			"internal/kv/kvtest", "internal/hypervisor/hypervisortest", "internal/fence/fencetest", "internal/export/exporttest"},
			Why: "what every implementation of a seam must do, written without knowing any"},
		{Name: "simulated clock", Packages: []string{"internal/clock/simclock"},
			Why: "the scheduler that the other fakes may live in"},
		{Name: "implementations", Packages: []string{"internal/disk/*", "internal/transport/*", "internal/kv/*", "internal/hypervisor/*", "internal/fence/*", "internal/export/*", "internal/export/iscsi/*"},
			Within: true, Why: "real and fake sides of the seams: they know their seam, not who uses it"},
		{Name: "records", Packages: []string{"internal/cluster", "internal/kept", "internal/account", "internal/once", "internal/task", "internal/turn", "internal/web", "internal/web/webtest"},
			Why: "the cluster's desired and observed state over kv; planners read it, so it stands below them"},
		{Name: "engine", Packages: []string{"internal/store", "internal/replica"},
			Why: "what keeps and replicates the data of one disk and one volume, knowing no cluster"},
		{Name: "images", Packages: []string{"internal/image", "internal/image/*", "internal/backup", "internal/saved"}, Within: true,
			Why: "disk formats of others, of backups and of memories, read and written as streams of blocks"},
		{Name: "planners", Packages: []string{"internal/placement", "internal/placement/sketch", "internal/ha"}, Within: true,
			Why: "decisions as pure functions of the records; they cannot act"},
		{Name: "conduct", Packages: []string{"internal/volume", "internal/reconcile", "internal/health", "internal/telemetry", "internal/tracing", "internal/oidc", "internal/oidc/oidctest", "internal/passkey", "internal/passkey/passkeytest", "internal/mdns", "internal/series", "internal/provision", "internal/upgrade"}, Within: true,
			Why: "engine and planners put to work on the seams"},
		{Name: "host", Packages: []string{"internal/agent"},
			Why: "everything that runs on one host: it converges machines, exports and replicas to the records"},
		{Name: "wire", Packages: []string{"api/v1", "client"}, Within: true,
			Why: "what leaves the process: it may know the vocabulary and nothing of the inside (see Only)"},
		{Name: "surface", Packages: []string{"internal/config", "internal/audit", "internal/alert", "internal/program", "internal/program/programtest", "internal/httpapi", "internal/httpapi/apitest", "internal/ui", "internal/cli", "internal/backup/run"}, Within: true,
			Why: "people and programs come in here; the CLI speaks REST, and so do the pages that the UI serves (see Only)"},
		{Name: "composition", Packages: []string{"internal/node"},
			Why: "puts one host together from its seams, real or fake"},
		{Name: "judges", Packages: []string{"internal/history"},
			Why: "what clients say was done to them is judged without knowing the product, which knows nothing of it"},
		{Name: "process", Packages: []string{"internal/serve", "lab", "lab/*", "internal/lab", "internal/drill"}, Within: true,
			Why: "makes the real seams and runs nodes and labs as processes"},
		{Name: "programs and proof", Packages: []string{"cmd/*", "internal/sim", "internal/sim/*", "internal/ha/model", "internal/metamorphic", "internal/fuzz", "internal/arch", "bench", "bench/*", "images", "images/*", "docs/*", "lab/judges", "lab/judges/*"},
			Within: true, Why: "nobody imports these"},
	}
}

// Only narrows what a package may import of the module, beyond its row.
func Only() map[string][]string {
	return map[string][]string{
		"api/v1":                   {"."},
		"client":                   {".", "api/v1"},
		"internal/cli":             {".", "docs/runbooks", "api/v1", "client", "internal/config", "internal/config/nearest", "lab", "internal/lab", "internal/drill", "internal/image", "internal/image/qcow2", "internal/backup", "internal/backup/run", "internal/program", "internal/serve"},
		"internal/backup/run":      {".", "api/v1", "client", "internal/backup"},
		"internal/ui":              {"docs/runbooks"},
		"internal/hypervisor/qemu": {".", "internal/hypervisor", "internal/hypervisor/guestnet", "internal/hypervisor/probe", "internal/clock"},
	}
}

// Fakes are the packages that exist for tests and simulation: product code does
// not import them.
func Fakes() []string {
	return []string{"internal/clock/simclock", "internal/disk/memdisk", "internal/disk/recorder", "internal/transport/simnet", "internal/kv/memkv", "internal/kv/etcdtest",
		"internal/hypervisor/fakevm", "internal/fence/simfence", "internal/export/memexport", "internal/placement/sketch", "internal/httpapi/apitest", "internal/program/programtest", "internal/oidc/oidctest", "internal/passkey/passkeytest", "internal/web/webtest"}
}

// Foreign says which packages alone may import a foreign module, by prefix.
// An empty list: tests only.
func Foreign() map[string][]string {
	return map[string][]string{
		"go.etcd.io/":                    {"internal/kv/etcd"},
		"github.com/spf13/cobra":         {"internal/cli", "lab", "internal/lab", "internal/drill", "internal/sim", "internal/sim/fleet", "cmd/*"},
		"github.com/vishvananda/":        {"lab"},
		"github.com/prometheus/":         {"internal/telemetry"},
		"go.opentelemetry.io/":           {"internal/tracing"},
		"github.com/coreos/go-oidc/":     {"internal/oidc"},
		"golang.org/x/oauth2":            {"internal/oidc"},
		"github.com/go-webauthn/":        {"internal/passkey"},
		"github.com/descope/":            {"internal/passkey/passkeytest", "internal/web/webtest"},
		"github.com/pion/":               {"internal/mdns"},
		"github.com/danielgtaylor/huma/": {"internal/httpapi", "api/v1"},
		"github.com/klauspost/compress/": {"internal/seal", "internal/image/qcow2", "internal/backup"},
		"filippo.io/age":                 {"internal/backup", "internal/backup/run", "internal/cli"},
		"pgregory.net/rapid":             {},
		"go.uber.org/goleak":             {},
		"github.com/anishathalye/":       {"internal/history", "internal/kv/kvtest"},
	}
}

// Pure are the packages that decide without the world: no file, socket, lock,
// clock, logger or global randomness.
func Pure() []string {
	return []string{".", "internal/blockmap", "internal/replica", "internal/record", "internal/placement", "internal/ha", "internal/health", "internal/checksum", "internal/visits"}
}

// Scheduled are the packages that must run in the simulator: they start tasks
// and wait through the clock seam only (docs/adr/0002).
func Scheduled() []string {
	return append(Pure(), "internal/store", "internal/volume", "internal/cluster", "internal/reconcile", "internal/provision",
		"internal/agent", "internal/node", "internal/kv/memkv", "internal/kv/etcdtest", "internal/disk/memdisk", "internal/transport/simnet", "internal/hypervisor/fakevm", "internal/fence/simfence")
}

// Package is what `go list` says of one package.
type Package struct {
	ImportPath  string
	Dir         string
	Doc         string
	GoFiles     []string
	Imports     []string
	TestGoFiles []string
}

// name is the path below the module.
func (p Package) name() string { return below(p.ImportPath) }

func below(path string) string {
	if path == Module {
		return "."
	}
	return strings.TrimPrefix(path, Module+"/")
}

func inModule(path string) bool { return path == Module || strings.HasPrefix(path, Module+"/") }

// matches reports whether a pattern of Rows names a package.
func matches(pattern, name string) bool {
	dir, ok := strings.CutSuffix(pattern, "/*")
	if !ok {
		return pattern == name
	}
	rest, under := strings.CutPrefix(name, dir+"/")
	return under && !strings.Contains(rest, "/")
}

// place returns the row of a package, or -1.
func place(rows []Row, name string) int {
	for i, r := range rows {
		if slices.Contains(r.Packages, name) {
			return i
		}
	}
	return slices.IndexFunc(rows, func(r Row) bool {
		return slices.ContainsFunc(r.Packages, func(p string) bool { return matches(p, name) })
	})
}

// CheckImports returns every import that goes against the lattice.
func CheckImports(pkgs []Package) (wrong []string) {
	rows, only := Rows(), Only()
	for _, p := range pkgs {
		from := p.name()
		at := place(rows, from)
		if at < 0 {
			wrong = append(wrong, fmt.Sprintf("%s has no place: put it into a row of arch.Rows, with the direction of its imports in mind", from))
			continue
		}
		for _, imp := range p.Imports {
			if !inModule(imp) {
				wrong = append(wrong, checkForeign(from, imp)...)
				continue
			}
			if reason := checkOne(rows, only, from, at, below(imp)); reason != "" {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", from, below(imp), reason))
			}
		}
	}
	return wrong
}

func checkOne(rows []Row, only map[string][]string, from string, at int, to string) string {
	toAt := place(rows, to)
	last := len(rows) - 1
	switch allowed, narrow := only[from]; {
	case toAt < 0:
		return "that has no place"
	case narrow && !slices.Contains(allowed, to):
		return fmt.Sprintf("it may import only %s", strings.Join(allowed, ", "))
	case toAt > at:
		return fmt.Sprintf("row %q stands above row %q, which is there because: %s", rows[toAt].Name, rows[at].Name, rows[at].Why)
	case toAt == at && !rows[at].Within:
		return fmt.Sprintf("packages of row %q do not import each other: %s", rows[at].Name, rows[at].Why)
	case slices.Contains(Fakes(), to) && at != last && !slices.Contains(Fakes(), from):
		return "that is a fake, for tests and simulation"
	case strings.HasSuffix(to, "test") && rows[toAt].Name == "conformance":
		return "that is a conformance suite, for tests"
	}
	return ""
}

func checkForeign(from, imp string) (wrong []string) {
	for prefix, allowed := range Foreign() { // at most one prefix fits
		if strings.HasPrefix(imp, prefix) && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, from) }) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s, which only %v may", from, imp, allowed))
		}
	}
	return wrong
}

// badNames are words that say nothing about what a package is for.
func badNames() []string {
	return []string{"util", "utils", "common", "types", "manager", "helper", "helpers", "misc", "base", "shared", "lib", "core", "models"}
}

// CheckNames returns the packages with names that say nothing, or no doc comment.
func CheckNames(pkgs []Package) (wrong []string) {
	for _, p := range pkgs {
		for part := range strings.SplitSeq(p.name(), "/") {
			if slices.Contains(badNames(), part) {
				wrong = append(wrong, fmt.Sprintf("%s: %q does not say what the package is for", p.name(), part))
			}
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			wrong = append(wrong, p.name()+" has no package comment")
		}
	}
	return wrong
}
