package iscsi_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/suite"
)

// Judges written by others: libiscsi's conformance suite and tools, and QEMU,
// as initiators of this target.

// judge returns a tool's path or skips the test with the reason.
func judge(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("judge absent: %s is not installed (Debian: libiscsi-bin, qemu-utils, qemu-block-extra)", tool)
	}
	return path
}

// judged serves the four units that the suite needs, over two portal groups.
func judged(t *testing.T) (url, second string) {
	const size = 256 * mib
	unit := func(n byte, o scsi.Options) *scsi.Unit {
		o.ID, o.Atomic = unitID(n), mib
		return newUnit(t, newMemory(t, size), o)
	}
	groups := func() []scsi.Group {
		return []scsi.Group{{ID: 1, Ports: []scsi.Port{{ID: 1, Name: targetName + ",t,0x0001"}}},
			{ID: 2, State: scsi.AccessNonOptimized, Ports: []scsi.Port{{ID: 2, Name: targetName + ",t,0x0002"}}}}
	}
	o := offer(t, newDevice(t, unit(0, scsi.Options{Groups: groups}), unit(1, scsi.Options{Removable: true}),
		unit(2, scsi.Options{ReadOnly: true}), unit(3, scsi.Options{BlockSize: 4096})), anybody, iscsi.Limits{})
	other, err := o.Listen("127.0.0.1:0", "", 2)
	if err != nil {
		t.Fatal(err)
	}
	return "iscsi://" + o.addr + "/" + targetName, "iscsi://" + other.String() + "/" + targetName
}

// smoke is one test in so many: all of them are run against a replicated volume
// of a lab (lab/baddays), and here by `make judge-iscsi`.
const smoke = 8

func TestJudgeLibiscsiSuite(t *testing.T) {
	judge(t, suite.Tool)
	s := suite.Suite{Dir: t.TempDir()}
	s.URL, s.Second = judged(t)
	tests, err := suite.Tests()
	if err != nil {
		t.Fatal(err)
	}
	all := os.Getenv("HOLDFAST_JUDGE") == "all"
	count, ran := map[suite.Verdict]int{}, 0
	for i, name := range tests {
		if !all && i%smoke != 0 {
			continue
		}
		ran++
		v, why := s.Run(name)
		count[v]++
		switch v {
		case suite.Failed:
			t.Errorf("%s %s: %s\n%s", name, v, why, tail(s.Output(name)))
		case suite.Skipped:
			t.Logf("%s %s: %s", name, v, why)
		}
	}
	t.Logf("judge iscsi-test-cu: passed %d, failed %d, skipped %d of %d", count[suite.Passed], count[suite.Failed], count[suite.Skipped], ran)
	if len(tests) < 200 || all && count[suite.Passed]*230 < 215*len(tests) {
		t.Errorf("%d of %d tests passed, want 215 of 230 at least", count[suite.Passed], len(tests))
	}
}

func tail(s string) string { return s[max(0, len(s)-3000):] }

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, judge(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(string(out)))
	}
	return string(out)
}

func TestJudgeLibiscsiTools(t *testing.T) {
	url, _ := judged(t)
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "iscsi://"), "/")
	if out := tool(t, "iscsi-ls", "-s", "iscsi://"+host); !strings.Contains(out, "Target:"+targetName) || strings.Count(out, "Lun:") != 8 {
		t.Errorf("iscsi-ls: %s", out)
	}
	if out := tool(t, "iscsi-inq", url+"/0"); !strings.Contains(out, "Vendor:HOLDFAST") || !strings.Contains(out, "TPGS:1") {
		t.Errorf("iscsi-inq: %s", out)
	}
	for _, page := range []string{"0", "128", "131", "176", "177", "178"} {
		tool(t, "iscsi-inq", "-e", "1", "-c", page, url+"/0")
	}
}

// qemuURL is how QEMU's driver wants a target written.
func qemuURL(t *testing.T, url string) string {
	t.Helper()
	if out, err := exec.Command(judge(t, "qemu-io"), "-r", "-c", "length", url).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Unknown protocol") {
			t.Skip("judge absent: QEMU has no iscsi driver (Debian: qemu-block-extra)")
		}
		t.Fatalf("qemu-io: %v\n%s", err, out)
	}
	return url
}

func TestJudgeQEMU(t *testing.T) {
	url, _ := judged(t)
	url = qemuURL(t, url+"/0")
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	content := make([]byte, 256*mib)
	for i := 0; i < len(content); i += 8 * mib { // noise and holes
		copy(content[i:], noise(i, 3*mib))
	}
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw, url)
	if out := tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, url); !strings.Contains(out, "identical") {
		t.Errorf("qemu-img compare: %s", out)
	}
	if out := tool(t, "qemu-img", "map", "--output=json", "-f", "raw", url); strings.Count(out, `"zero": true`) < 30 {
		t.Errorf("qemu-img map shows too few holes: %s", tail(out))
	}
	tool(t, "qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 4M", "-c", "discard 2M 1M", "-c", "write -z 4M 64k", "-c", "flush",
		"-c", "read -P 0x5a 1M 1M", "-c", "read -P 0 2M 1M", "-c", "read -P 0 4M 64k", "-c", "read -P 0x5a 4160k 896k", url)
	tool(t, "qemu-img", "bench", "-w", "-c", "20000", "-d", "32", "-s", "4096", "-S", "36864", "-f", "raw", "-t", "none", url)
}
