package sim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestCampaignsAddUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "campaigns")
	play := func(args ...string) (string, error) {
		c := Command("v1-test")
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(append([]string{"campaign", "--summaries", dir, "--steps", "300"}, args...))
		err := c.Execute()
		return out.String(), err
	}
	for range 2 {
		if out, err := play("--seeds", "3", "--jobs", "2"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	all, err := Summaries(dir)
	if err != nil || len(all) != 2 || all[0].First != 1 || all[1].First != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, s := range all {
		var want Counts
		for seed := s.First; seed < s.First+3; seed++ {
			r := Run(Options{Seed: seed, Steps: 300})
			want.Add(countsOf(&r))
		}
		if s.Version != "v1-test" || s.Seeds != 3 || s.Operations < 900 || s.Operations != want.Operations || s.Faults != want.Faults ||
			s.TakeOvers != want.TakeOvers || s.Recoveries != want.Recoveries || s.Partitions != want.Partitions || s.Hours <= 0 {
			t.Errorf("%+v, each by itself %+v", s, want)
		}
	}
	sum := all[0].Counts
	if sum.Add(all[1].Counts); sum.Seeds != 6 || sum.Operations != all[0].Operations+all[1].Operations || sum.TakeOvers == 0 || sum.Recoveries == 0 {
		t.Errorf("%+v", sum)
	}
	if out, err := play("--seeds", "1", "--first-seed", "4"); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a seed that was played: %v\n%s", err, out)
	}
	if _, err := play(); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("without an end: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seed-9.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := play("--seeds", "1"); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "seed-9.json") {
		t.Errorf("beside a damaged summary: %v", err)
	}
}

func TestABrokenPromiseIsCountedAndNamed(t *testing.T) {
	s := countsOf(&Result{Seed: 7, Failures: []string{"a read went back", "and more"}})
	s.Add(countsOf(&Result{Seed: 8}))
	if s.Seeds != 2 || len(s.Failed) != 1 || s.Failed[0] != (Failed{Seed: 7, Why: "a read went back"}) {
		t.Errorf("%+v", s)
	}
}

func TestACampaignEnds(t *testing.T) {
	end := make(chan struct{})
	close(end)
	if s := (Campaign{First: 1, Seeds: 1000, End: end}).Run(); s.Seeds != 0 {
		t.Errorf("%d seeds were played", s.Seeds)
	}
}

// TestACampaignThatIsCutShortCounts: what was kept last says which seeds were under
// way, and the next campaign plays none of them twice.
func TestACampaignThatIsCutShortCounts(t *testing.T) {
	dir := t.TempDir()
	cut := Summary{First: 10, Next: 25, Counts: Counts{Seeds: 13}}
	for range 2 { // in its own place
		if _, err := cut.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Summaries(dir)
	if err != nil || len(all) != 1 || all[0].next() != 25 || (&Summary{First: 10, Counts: Counts{Seeds: 13}}).next() != 23 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestSeedsThatACheckWasWrongAboutArePlayedAgain: what passes with the same
// protocol is noted; what is of another one is left as it is.
func TestSeedsThatACheckWasWrongAboutArePlayedAgain(t *testing.T) {
	dir := t.TempDir()
	for _, s := range []Summary{
		{Protocol: "0123456789ab", First: 1, Steps: 300, Counts: Counts{Seeds: 3, Failed: []Failed{{Seed: 2, Why: "a check's mistake"}}}},
		{Protocol: "another", First: 4, Steps: 300, Counts: Counts{Seeds: 3, Failed: []Failed{{Seed: 5, Why: "a bug"}}}},
	} {
		if _, err := s.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := playAgain(&out, "v2-test", "0123456789ab", dir); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	all, err := Summaries(dir)
	if err != nil || all[0].Failed[0].Again != "v2-test" || all[0].broken() != 0 || all[1].broken() != 1 {
		t.Errorf("%+v, %v\n%s", all, err, out.String())
	}
}
