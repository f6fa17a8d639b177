package serve

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// TestWhatWasCanceledIsNotBegunAgain: who loses a stream asks for the rest, and
// must be told that nobody wants it.
func TestWhatWasCanceledIsNotBegunAgain(t *testing.T) {
	var all tasks
	stopped := 0
	begin := func(id string) *task {
		t.Helper()
		x, err := all.begin(id, "backup", holdfast.VolumeID{}, func() { stopped++ })
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	one, two, other := begin("a1"), begin("a1"), begin("b2")
	if unnamed := begin(""); unnamed.id == "" {
		t.Error("a task has no name")
	}
	if !all.cancel("a1") || stopped != 2 || !all.wasCanceled("a1") || all.wasCanceled("b2") {
		t.Errorf("%d stopped", stopped)
	}
	all.end(one)
	all.end(two)
	if _, err := all.begin("a1", "backup", holdfast.VolumeID{}, func() {}); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("it is begun again: %v", err)
	}
	all.end(other)
	if all.cancel("b2") {
		t.Error("what has ended was canceled")
	}
	for i := range 2 * maxCanceled {
		all.cancel(string(rune('a'+i%26)) + string(rune('a'+i/26)))
	}
	if len(all.canceled) > maxCanceled+1 {
		t.Errorf("%d are remembered", len(all.canceled))
	}
}
