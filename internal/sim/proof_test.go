package sim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// Nobody types the page's figures.
func TestTheProofIsMadeOfTheCampaigns(t *testing.T) {
	parts, err := proofParts("../../docs/campaigns")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../../docs/PROOF.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range parts {
		if made, err := Replace(string(b), name, part); err != nil || made != string(b) {
			t.Errorf("part %q of docs/PROOF.md is not what docs/campaigns makes; run: holdfast sim proof (%v)\n%s", name, err, part)
		}
	}
}

func TestWhatCountsAsEvidence(t *testing.T) {
	dir := t.TempDir()
	save := func(s Summary) {
		t.Helper()
		if _, err := s.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	pair := visitName(&newVisited().all()[0].Machine, claimCommittedPair(t))
	save(Summary{First: 1, Version: "v1", Protocol: "aaa", Counts: Counts{Seeds: 10, TakeOvers: 7, Failed: []Failed{{Seed: 3, Why: "a|b"}}}})
	save(Summary{First: 11, Version: "v2", Protocol: "bbb", Counts: Counts{Seeds: 1000, TakeOvers: 12345, Kinds: map[string]int{"kill": 3, "cut": 5}, Visits: map[string]uint64{pair: 4}}})
	save(Summary{First: 1011, Version: "v2", Protocol: "bbb", Counts: Counts{Seeds: 234, TakeOvers: 5, Kinds: map[string]int{"kill": 1}}})
	save(Summary{First: 2000, Version: "v2-dirty", Counts: Counts{Seeds: 1}})
	put := func(name string, x any) {
		t.Helper()
		b, err := json.Marshal(x)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(BugsFile, []PlantedBug{{Bug: "one-bug", Seed: 3, Tried: 3, Judge: true}, {Bug: "two", Seed: 9, Tried: 9}, {Bug: "not-that", Tried: 40}, {Bug: "new"}})
	put("torture-1.json", map[string]any{"what": "torture", "version": "v2", "minutes": 60.25, "flushed_writes_lost": 0, "ok": true, "checks": []int{1}})
	parts, err := proofParts(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"schedules": {"protocol bbb, from version v2 on", "| fault schedules (seeds) | 1,234 | 1,245 |", "| take-overs | 12,350 | 12,357 |", "| of them broke a promise | 0 | 1 |"},
		"campaigns": {"| 1 to 10 | v1 | aaa |", "3: a/b |", "| 2000 to 2000 | v2-dirty | not known |"},
		"kinds":     {"cut 5 · kill 4"},
		"bugs":      {"4 bugs are planted. 2 of the 3", "within 3 seeds, the last within 9", "found 1 of them", "not that (40 seeds), new (not looked for yet)"},
		"visits":    {"1 of ", "Not visited:", "- take-over: claim, the record cannot be read\n", "Impossible"},
		"processes": {"| torture | v2 |  | flushed writes lost 0 · minutes 60.25 · ok true |"},
	} {
		for _, w := range want {
			if !strings.Contains(parts[name], w) {
				t.Errorf("%s lacks %q:\n%s", name, w, parts[name])
			}
		}
	}
	page := filepath.Join(dir, "page.md")
	if err := WriteProof(page, dir); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("of no page: %v", err)
	}
	put("broken.json", 3)
	if _, err := proofParts(dir); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("of a file that is no summary: %v", err)
	}
}

// claimCommittedPair is a pair of the first machine that can be.
func claimCommittedPair(t *testing.T) int {
	t.Helper()
	for i, p := range newVisited().all()[0].Machine.Pairs {
		if p.Event == "the epoch is committed" {
			return i
		}
	}
	t.Fatal("there is no such pair")
	return 0
}
