// Package suite runs libiscsi's conformance suite, iscsi-test-cu, against a
// target: every test in a process of its own, on the kind of unit it needs. It
// knows which tests cannot pass anywhere, and counts a skipped test as skipped,
// which the tool itself does not.
package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Tool is the suite's program.
const Tool = "iscsi-test-cu"

// Verdict of a test of the suite.
type Verdict string

// The verdicts.
const (
	Passed  Verdict = "passed"
	Failed  Verdict = "failed"
	Skipped Verdict = "skipped"
)

// The units that a target must have to be judged, by their numbers: one with
// blocks of 512 bytes on physical ones of 4 KiB, writable and fixed; a
// removable one; a read-only one; one with blocks of 4096 bytes.
const (
	Plain = iota
	Removable
	ReadOnly
	Large
)

// elsewhere says which tests do not run on unit 0 (512-byte blocks on physical
// ones of 4 KiB, writable, fixed), where they run, and why.
func elsewhere(test string) (lun int, why string) {
	switch suite, _, _ := strings.Cut(strings.TrimPrefix(test, "ALL."), "."); {
	case suite == "PreventAllow" || suite == "NoMedia" || suite == "StartStopUnit":
		return Removable, "needs a removable medium"
	case suite == "ReadOnly":
		return ReadOnly, "needs a read-only unit"
	case test == "ALL.GetLBAStatus.UnmapSingle":
		return Large, "asks for block i+1 and wants to be told of block i+blocks-per-physical-block: right only where that is 1"
	}
	return 0, ""
}

// noVerdict are the tests of this release of the suite that cannot pass
// anywhere, each with the pattern of the failure that is the suite's own. Any
// other failure of the same test counts.
func noVerdict() map[string]struct{ why, only string } {
	return map[string]struct{ why, only string }{
		"ALL.iSCSITMF.LUNResetSimpleAsync": {
			"1.19.0 asserts that the answer has come before it has sent the request (mended in libiscsi 5553d6b)",
			`test_async_lu_reset_simple\.c:\d+\s+- CU_ASSERT_EQUAL\(reconnect_succeeded,1\)`},
	}
}

// Suite is the suite against one target.
type Suite struct {
	URL, Second string // of the target by two portal groups, without the unit
	Dir         string // keeps what every test printed
}

// Tests lists the tests in the suite's order.
func Tests() (list []string, err error) {
	out, err := exec.Command(Tool, "-l").CombinedOutput()
	if len(out) == 0 {
		return nil, err
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "ALL.") && strings.Count(line, ".") == 2 {
			list = append(list, line)
		}
	}
	return list, nil
}

var (
	// The summary's row: all tests that ran passed. A skipped one counts as
	// passed for the tool; here it does not.
	summary = regexp.MustCompile(`(?m)^\s*tests\s+\d+\s+1\s+1\s+0\s`)
	notRun  = regexp.MustCompile(`(?i)\[SKIPPED\]|not implemented|not available`)
	reasons = regexp.MustCompile(`\[SKIPPED\] *([^\n]+)`)
	asserts = regexp.MustCompile(`(?m)^\s+\d+\. test_\S+\s+- .*$`)
)

// Run runs one test. why says what failed, or why it was skipped.
func (s Suite) Run(name string) (v Verdict, why string) {
	lun, _ := elsewhere(name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Tool, "-d", "-S", "-V", "-t", name, fmt.Sprintf("%s/%d", s.URL, lun), fmt.Sprintf("%s/%d", s.Second, lun))
	out, err := cmd.CombinedOutput()
	os.WriteFile(filepath.Join(s.Dir, name), out, 0o600)
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		return Failed, err.Error()
	case ctx.Err() != nil:
		return Failed, "it hangs"
	}
	if known, ok := noVerdict()[name]; ok && !summary.Match(out) {
		own := regexp.MustCompile(known.only)
		others := slices.DeleteFunc(asserts.FindAllString(string(out), -1), own.MatchString)
		if own.Match(out) && len(others) == 0 {
			return Skipped, "no verdict: " + known.why
		}
	}
	switch {
	case !summary.Match(out):
		return Failed, strings.Join(append(asserts.FindAllString(string(out), -1), fmt.Sprint(err)), "; ")
	case notRun.Match(out):
		if m := reasons.FindSubmatch(out); m != nil {
			return Skipped, string(m[1])
		}
		return Skipped, "not implemented"
	}
	return Passed, ""
}

// Output is what a test printed.
func (s Suite) Output(name string) string {
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		return err.Error()
	}
	return string(b)
}
