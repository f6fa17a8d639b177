package sim

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// broken is a story that fails by what it expects: of all that happens in it, only
// that rack b is dark in the end matters.
const broken = `seed 11
operations 600
host a1 in rack a of 24M
host b1 in rack b of 24M
host c1 in rack c of 24M
host c2 in rack c of 24M
clients 2
volume v0 copies 2
volume v1 copies 2
vms 1
at 200ms slow a1 out by 5ms for 300ms
at 400ms cut host c1 kv for 200ms
at 700ms kill host c2 for 300ms
at 1s power off rack b
at 1.2s expect everything whole
`

// A failing run becomes smaller, still fails in that way, and always becomes the
// same.
func TestReduce(t *testing.T) {
	lang := story.NewLanguage()
	s, err := lang.Parse("broken", broken)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for range 2 {
		var out bytes.Buffer
		red, err := reduce(Options{Story: s}, 60, &out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if red.after.lines > 2 || red.after.hosts >= red.before.hosts || operations(red.story) >= operations(s) || !strings.Contains(red.story.String(), "expect everything whole") {
			t.Errorf("%v is now %v:\n%s\n%s", red.before, red.after, red.story, out.String())
		}
		if r := Run(Options{Story: red.story}); len(r.Failures) == 0 || way(r.Failures[0]) != way(red.why) {
			t.Errorf("the smallest run fails in another way: %q, not %q", r.Failures, red.why)
		}
		texts = append(texts, red.story.String())
	}
	if texts[0] != texts[1] {
		t.Errorf("one run became two stories:\n%s\n%s", texts[0], texts[1])
	}
}

func TestARunThatDoesNotFailIsNotReduced(t *testing.T) {
	if _, err := reduce(Options{Seed: 5, Steps: 200}, 10, &bytes.Buffer{}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("%v", err)
	}
}
