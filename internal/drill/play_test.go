package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/sim"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/lab"
)

const storyPage = "../../docs/format/story.md"

// The page says which stories play where, and which lines a lab refuses; with
// STORY_PAGE=1 that is written anew. TestStories of the simulator plays all of them.
func TestThePageSaysWhatALabPlays(t *testing.T) {
	paths, err := filepath.Glob("../sim/testdata/stories/*.txt")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d stories, %v", len(paths), err)
	}
	var where, not strings.Builder
	where.WriteString("| story | | simulator | lab |\n|---|---|---|---|\n")
	both := 0
	for _, path := range paths {
		s, err := story.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		in := "yes"
		st, err := stage(s)
		switch {
		case err != nil:
			in = "no: " + strings.TrimSuffix(strings.ReplaceAll(err.Error(), path, "line"), "; it plays in 'holdfast sim play'")
			in = strings.ReplaceAll(in, "line:", "line ")
		case st.cables > 0 || st.bays > 0:
			in = "yes, as root"
		}
		if err == nil {
			both++
		}
		fmt.Fprintf(&where, "| `%s` | %s | yes | %s |\n", filepath.Base(path), s.Title, in)
	}
	if both < 6 {
		t.Errorf("a lab plays only %d of the stories", both)
	}
	not.WriteString("| line | why a lab refuses it |\n|---|---|\n")
	for _, f := range story.Forms() {
		why := unplayable(f.Kind)
		if why == untold {
			t.Errorf("of '%s' it is not said how a lab does it, or why not", f.Pattern)
		}
		if why != "" {
			fmt.Fprintf(&not, "| `%s` | %s |\n", strings.ReplaceAll(f.Pattern, "|", `\|`), why)
		}
	}
	b, err := os.ReadFile(storyPage)
	if err != nil {
		t.Fatal(err)
	}
	want, err := sim.Replace(string(b), "where", where.String())
	if err == nil {
		want, err = sim.Replace(want, "refused", not.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("STORY_PAGE") != "" {
		err = os.WriteFile(storyPage, []byte(want), 0o666)
	} else if string(b) != want {
		t.Errorf("%s is not what a lab plays: STORY_PAGE=1 go test ./internal/drill writes it", storyPage)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func parsed(t *testing.T, text string) *story.Story {
	t.Helper()
	s, err := story.NewLanguage().Parse("s.txt", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a lab cannot do is refused with its line, before anything is started.
func TestWhatALabCannotPlay(t *testing.T) {
	for text, want := range map[string]string{
		"make 3 racks x 1 hosts\nat 1s storm for 2s": "s.txt:2: 'storm for 2s' has no counterpart on real processes (what real connections carry comes in order and whole); it plays in 'holdfast sim play'",
		"seed 7":                              "s.txt:1: 'seed 7' has no counterpart",
		"at 1s disk hang a1":                  "s.txt:1: 'disk hang a1' has no counterpart",
		"at 1s disk full a1/2":                "s.txt:1: 'disk full a1/2' has no counterpart on real processes (hosts of a lab have one disk each)",
		"host a1 in rack a clock 3h":          "s.txt:1: 'host a1 in rack a clock 3h0m0s' has no counterpart",
		"at 1s cut site north":                "s.txt:1: 'cut site north' has no counterpart",
		"make 10 racks x 3 hosts":             "1 to 12 hosts, not of 30",
		"host a1 in rack a\nhost x in rack b": "the hosts of a lab are a1, a2",
		"host a1 in rack a\nhost b1 in rack b\nhost b2 in rack b": "the hosts of a lab are a1, a2",
		"at 1s kill host d1":                  "s.txt:1: there is no host d1",
		"at 1s power off the rack of db1":     "s.txt:1: there is no VM db1",
		"at 1s expect vm db1 stays":           "s.txt:1: there is no VM db1",
		"clients 1\nexpect client v1 goes on": "s.txt:2: there is no volume v1",
		"at 1s cut host a1 from b1,q":         "s.txt:1: there is no q",
		"clients 99":                          "s.txt:1: 'clients 99': a lab has at most 12",
		"clients 1\nexpect nothing lost\nexpect client v0 goes on within 3s":                             "line 2 has their history judged",
		"make 3 racks x 1 hosts\nstart vm db1\nat 1s disk swap a1 with b1\nat 2s calendar a1 back by 3h": "s.txt:3: 'disk swap a1 with b1' has no counterpart",
	} {
		if _, err := stage(parsed(t, text)); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(strings.ReplaceAll(err.Error(), "host q", "q"), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
}

// A story's lab has what the story needs.
func TestALabIsStagedForItsStory(t *testing.T) {
	for text, want := range map[string]staging{
		"start vm db1": {racks: 3, perRack: 1},
		"make 4 racks x 2 hosts\nat 1s kill rack d":                                                 {racks: 4, perRack: 2},
		"host b1 in rack b\nhost a1 in rack a\nat 1s power off everything\nat 2s cut rack b for 3s": {racks: 2, perRack: 1, power: 3, cables: 4},
		"clients 1\nat 1s disk pull b1 for 3s":                                                      {racks: 3, perRack: 1, bays: 2},
		"at 1s kv away for 3s":                                                                      {racks: 3, perRack: 1, cables: 1},
	} {
		if got, err := stage(parsed(t, text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// A cut is what the simulator cuts, between each two hosts.
func TestWhatACutCuts(t *testing.T) {
	var all []lab.Host
	for _, name := range []string{"a1", "b1", "b2"} {
		all = append(all, lab.Host{Name: name, Rack: name[:1]})
	}
	for _, c := range []struct {
		x    cutting
		want []string
	}{
		{cutting{hosts: all[1:], in: true, out: true}, []string{"a1>b1", "a1>b2", "b1>a1", "b2>a1"}},
		{cutting{hosts: all[1:2], out: true, part: "data"}, []string{"b1>a1:data", "b1>b2:data"}},
		{cutting{hosts: all[1:2], in: true, from: []string{"b2"}}, []string{"b2>b1"}},
		{cutting{hosts: all, in: true, out: true, part: "kv", all: true}, []string{"a1>b1:kv", "a1>b2:kv", "b1>a1:kv", "b1>b2:kv", "b2>a1:kv", "b2>b1:kv"}},
	} {
		if got := c.x.ways(all); !slices.Equal(got, c.want) {
			t.Errorf("%v, not %v", got, c.want)
		}
	}
}
