package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/sim"
)

// The page shows what the results say.
func TestThePageIsWrittenFromTheResults(t *testing.T) {
	all, err := sim.PlantedBugs("../../../docs/campaigns/bugs.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../docs/PLANTED_BUGS.md")
	if err != nil {
		t.Fatal(err)
	}
	made, err := parts(string(page), all)
	if err != nil || made != string(page) {
		t.Errorf("docs/PLANTED_BUGS.md is not what docs/campaigns/bugs.json and the table of bugs make; run: go run ./internal/sim/bugs -write (%v)", err)
	}
	for _, r := range all {
		if order(r.Bug) < 0 {
			t.Errorf("a result of %s, which is not planted", r.Bug)
		}
	}
}

func TestResultsAreKeptBesideOthers(t *testing.T) {
	dir := t.TempDir()
	h := hunt{file: filepath.Join(dir, "a", "bugs.json"), page: filepath.Join(dir, "page.md")}
	if err := os.WriteFile(h.page, []byte("# x\n<!-- made: bugs -->\nthe last table\n<!-- end: bugs -->\n<!-- made: reduced -->\n<!-- end: reduced -->\nend\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := bugs()[0].name, bugs()[1].name
	for _, r := range []result{{Bug: second, Tried: 9}, {Bug: first, Tried: 3, Seed: 3, Finding: "x", Reduced: &sim.Reduced{Before: "much", After: "little", Runs: 7, Story: "kill host a1\n"}}, {Bug: second, Tried: 12, Seed: 12, Judge: true}} {
		if err := h.keep(&r); err != nil {
			t.Fatal(err)
		}
	}
	all, err := sim.PlantedBugs(h.file)
	if err != nil || len(all) != len(bugs()) || all[0].Bug != first || all[1].Tried != 12 {
		t.Fatalf("%+v, %v", all, err)
	}
	page, err := os.ReadFile(h.page)
	if s := string(page); err != nil || !strings.Contains(s, "| 3 |") || !strings.Contains(s, "| 12, by both judges |") || !strings.Contains(s, "| 3 | much | little | 7 |") || !strings.Contains(s, "```\nkill host a1\n```") || strings.Contains(s, "the last table") || !strings.HasSuffix(s, "end\n") {
		t.Errorf("%s %v", s, err)
	}
}
