package baddays

import (
	"path/filepath"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestStoriesOnProcesses plays stories of the simulator on real processes, by the
// command that people use: one by orders, one by a cable. `holdfast lab play` plays
// all that docs/format/story.md lists.
func TestStoriesOnProcesses(t *testing.T) {
	needs(t, "qemu-system-x86_64")
	for _, name := range []string{"drain", "short_cut"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // labs live side by side, and mostly wait
			if err := lab.CanNetns(); err != nil && name == "short_cut" {
				t.Skipf("not tested: %v", err)
			}
			if out, code := command(t, nil, "lab", "play", "--patience", "5", filepath.Join("../../internal/sim/testdata/stories", name+".txt")); code != 0 {
				t.Errorf("exit status %d:\n%s", code, out)
			}
		})
	}
}
