package sim

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/story"
)

// Every situation is one that clusters get into, and what the product gets out of.
func TestEverySituationIsPlayed(t *testing.T) {
	left := make(map[string]bool)
	for _, x := range situations() {
		left[x.name] = true
	}
	for seed := uint64(3000); len(left) > 0; seed++ {
		if seed == 3200 {
			t.Fatalf("200 seeds did not play %v", left)
		}
		var out bytes.Buffer
		r := Run(Options{Seed: seed, Steps: 400, Situations: 1, Out: &out})
		if len(r.Failures) > 0 {
			t.Fatalf("%s", out.String())
		}
		for name := range r.Situations {
			delete(left, name)
		}
	}
}

// An endgame leaves what was before it as it is, and is left out where a story says
// so or says itself what happens.
func TestAnEndgameChangesNothingBeforeIt(t *testing.T) {
	without, err := story.NewLanguage().Parse("w.txt", "without endgame\n")
	if err != nil {
		t.Fatal(err)
	}
	for seed := uint64(3000); seed < 3003; seed++ {
		var a, b bytes.Buffer
		with := Run(Options{Seed: seed, Steps: 600, Situations: 1, Out: &a})
		plain := Run(Options{Seed: seed, Steps: 600, Situations: 1, Story: without, Out: &b})
		if len(with.Situations) != 1 || len(plain.Situations) != 0 {
			t.Errorf("seed %d: %v and %v", seed, with.Situations, plain.Situations)
		}
		told := func(out string, until string) string {
			out, _, _ = strings.Cut(strings.Replace(out, "    0.000000  without endgame\n", "", 1), until)
			return out[:strings.LastIndex(out, "\n")+1]
		}
		before := told(a.String(), "heal")
		if after := told(b.String(), "everything is put right"); len(before) < 300 || !strings.HasPrefix(before, after) && !strings.HasPrefix(after, before) {
			t.Errorf("seed %d: %s", seed, differs(before, after))
		}
	}
}
