package baddays

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the program under test, built once for all tests of the package.
var built = sync.OnceValues(build)

// scratch holds the binary; TestMain removes it.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "hfbin") })

func build() (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "holdfast")
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, "../../cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build holdfast: %w\n%s", err, text)
	}
	return out, nil
}

// labsAtOnce is how many labs live side by side. They mostly wait, for leases to
// end and guests to boot, so that it is more than there are processors.
const labsAtOnce = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", labsAtOnce); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// program returns the path of the program.
func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// atLength skips a test that takes minutes where nobody asked for such.
func atLength(t *testing.T) {
	t.Helper()
	if os.Getenv("BAD_DAYS") == "" {
		t.Skip("not tested: it takes minutes ('make bad-days' plays it)")
	}
}

// needs skips a test where a program that it cannot do without is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("not tested: %s is not installed here ('make packages' installs it)", p)
		}
	}
}
