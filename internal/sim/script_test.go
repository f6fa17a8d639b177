package sim

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/story"
)

// A run that is written down and played again is the same run: nothing but the
// lines of its story breaks anything while clients go on.
func TestARunIsItsStory(t *testing.T) {
	lang := story.NewLanguage()
	for seed := uint64(2000); seed < 2006; seed++ {
		var first, second bytes.Buffer
		r := Run(Options{Seed: seed, Steps: 4000, Out: &first})
		text := r.Story.String()
		told, err := lang.Parse("told", text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		again := Run(Options{Story: told, Out: &second})
		if len(told.Lines) < 5 {
			t.Errorf("seed %d did little:\n%s", seed, text)
		}
		if again.Hash != r.Hash || again.Story.String() != text {
			t.Errorf("seed %d is %016x, its story %016x\n%s", seed, r.Hash, again.Hash, differs(first.String(), second.String()))
		}
	}
}

// differs are the first lines in which two texts are not the same.
func differs(a, b string) string {
	for {
		x, rest, more := bytes.Cut([]byte(a), []byte("\n"))
		y, rest2, _ := bytes.Cut([]byte(b), []byte("\n"))
		if !bytes.Equal(x, y) || !more {
			return string(x) + "\n" + string(y)
		}
		a, b = string(rest), string(rest2)
	}
}
