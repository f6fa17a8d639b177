package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The whole of it on small disks, so short that the figures mean nothing.
func TestASmallRun(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	if err := run(settings{Size: 16 << 20, Pairs: 0.1, Dir: dir}, filepath.Join(dir, "result.json"), &out); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "beside a rebuild: median") {
		t.Errorf("no pairs beside the rebuild: %s", text)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "rebuild*")); len(left) > 0 {
		t.Errorf("the disks are still there: %v", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "result.json")); err != nil {
		t.Error(err)
	}
}
