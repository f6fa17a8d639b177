package program_test

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

// TestAProgramIsTried before a process becomes it: what it does not take is told in its
// words, and one that does not know the question is not asked.
func TestAProgramIsTried(t *testing.T) {
	s := newScene(t)
	o := offer(programtest.Version(t, "v1.1.0"))
	if _, err := s.place.Take(t.Context(), "v1.0.0", o); err != nil {
		t.Fatal(err)
	}
	for said, want := range map[string]string{"good": "", "bad": "the key 'speed' is not known", "unknown": ""} {
		err := s.place.Try(t.Context(), o.Sum, "serve", "--check", said)
		if want == "" && err != nil || want != "" && (!holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", said, err)
		}
	}
	if err := s.place.Try(t.Context(), strings.Repeat("0", 64), "serve"); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Error(err)
	}
}
