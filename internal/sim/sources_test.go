package sim

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdfast-cloud/holdfast"
)

func TestWhatCountsAsAChangeOfTheSources(t *testing.T) {
	hash := func(text string) string {
		t.Helper()
		h, err := HashSources(fstest.MapFS{"p/a.go": {Data: []byte(text)}, "p/a_test.go": {Data: []byte(text)}, "p/x.txt": {Data: []byte(text)}}, []string{"p"})
		if err != nil || len(h) != 12 {
			t.Fatal(h, err)
		}
		return h
	}
	was := hash("package p\n\n// F is f.\nfunc F() int { return 1 }\n")
	if hash("package p\n\n// F is nothing of the kind.\nfunc F() int { return 1 } // one\n") != was {
		t.Error("a comment counts")
	}
	if hash("package p\n\n// F is f.\nfunc F() int { return 2 }\n") == was {
		t.Error("another number does not count")
	}
	if _, err := HashSources(fstest.MapFS{}, []string{"p"}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("of no package: %v", err)
	}
}

// The hash of a commit is that of its files.
func TestACommitsHashIsThatOfItsFiles(t *testing.T) {
	if out, err := exec.Command("git", "status", "--porcelain", "--", "../replica").Output(); err != nil || len(out) > 0 {
		t.Skipf("internal/replica is not as it was committed: %s %v", out, err)
	}
	head, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skip("not in a repository")
	}
	a, err := HashRevision(strings.TrimSpace(string(head)), []string{"internal/replica"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := HashSources(os.DirFS("../.."), []string{"internal/replica"}); err != nil || a != b {
		t.Errorf("%s of the commit, %s of the files, %v", a, b, err)
	}
	if c, err := builtProtocol(strings.TrimSpace(string(head))); err != nil || c == a {
		t.Errorf("of a version: %s, %v", c, err)
	}
	for _, version := range []string{"0123456-dirty", "unreleased"} {
		if c, err := builtProtocol(version); err == nil {
			t.Errorf("of version %s: %s", version, c)
		}
	}
	if _, err := HashSources(os.DirFS("../.."), append(ProtocolPackages(), SimulatorPackages()...)); err != nil {
		t.Error(err)
	}
}
