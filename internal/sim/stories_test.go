package sim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/story"
)

// TestStories plays the corpus: stories that the lab plays too, and the smallest
// runs that once broke a promise (found).
func TestStories(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"testdata/stories/*.txt", "testdata/stories/found/*.txt"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, some...)
	}
	if len(paths) < 10 {
		t.Fatalf("there are only %d stories", len(paths))
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			s, err := story.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if r := Run(Options{Story: s, Out: &out}); len(r.Failures) > 0 {
				t.Errorf("%s", out.String())
			}
		})
	}
}

// An expectation that is not met is a failure that names its line.
func TestAStoryThatDoesNotComeTrue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wrong.txt")
	text := "make 3 racks x 1 hosts\nstart vm db1\nexpect vm db1 runs within 1m\nexpect vm db1 moved within 2s\nexpect condition rack-lost raised\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := story.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	r := Run(Options{Story: s})
	if len(r.Failures) != 1 || !strings.Contains(r.Failures[0], path+":4: expect vm db1 moved within 2s: it is still on") {
		t.Errorf("%q", r.Failures)
	}
}

// Stories that ask for what there is not are refused, with the line.
func TestStoriesThatCannotBePlayed(t *testing.T) {
	for text, want := range map[string]string{
		"make 3 racks x 1 hosts\nat 1s kill host d1":              "s.txt:2: there is no host d1",
		"make 3 racks x 1 hosts\nat 1s disk slow a1/2 x9":         "s.txt:2: there is no a1",
		"make 3 racks x 11 hosts":                                 "has 1 to 30 hosts in up to 10 racks and 2 sites, not 33 in 3 and 1",
		"host a1 in rack a\nhost a1 in rack b":                    "host a1 is there twice",
		"host a1 in rack a of 1M":                                 "s.txt:1: a disk has",
		"clients 99":                                              "s.txt:1: there are 12 clients at most",
		"faults earthquake weight 3":                              "s.txt:1: there is no kind of fault of that name",
		"make 3 racks x 1 hosts\nlink rack a rack z loss 1%":      "s.txt:2: there is no rack z",
		"host a1 in rack a drift 20000":                           "s.txt:1: a clock is off by",
		"make 3 racks x 1 hosts\nvms 2\nvolume v0 copies 77":      "s.txt:3: a volume has",
		"make 3 racks x 1 hosts\nat 1s cut host a1 from q for 1s": "s.txt:2: there is no q",
		"make 3 racks x 1 hosts\nclients 1\nread v1 at a1 for 1s": "s.txt:3: there is no client of v1",
	} {
		dir := t.TempDir()
		t.Chdir(dir)
		if err := os.WriteFile("s.txt", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := story.Read("s.txt")
		if err != nil {
			t.Fatal(err)
		}
		if err := (Options{Seed: 1, Story: s}).Check(); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
}
