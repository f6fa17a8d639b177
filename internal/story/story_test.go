package story

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const page = "../../docs/format/story.md"

// The page has every form; STORY_PAGE=1 writes its tables anew.
func TestThePageHasEveryForm(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(b), "\n## ")
	want := strings.TrimRight(head, "\n") + "\n" + tables()
	if os.Getenv("STORY_PAGE") != "" {
		if err := os.WriteFile(page, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(b) != want {
		t.Errorf("%s is not what the forms are: STORY_PAGE=1 go test ./internal/story writes it", page)
	}
}

// tables are the forms for people.
func tables() string {
	var b strings.Builder
	last := Class(-1)
	for _, f := range Forms() {
		if f.Class != last {
			fmt.Fprintf(&b, "\n## %s\n\n| line | |\n|---|---|\n", f.Class)
			last = f.Class
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(f.Pattern, "|", `\|`), f.Says)
	}
	return b.String()
}

func parse(t *testing.T, text string) *Story {
	t.Helper()
	s, err := NewLanguage().Parse("a.txt", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAStory(t *testing.T) {
	s := parse(t, `# Power goes   twice
make 3 racks x 2 hosts   # six of them
seed 18446744073709551615
at 1.5s power off rack b for 3s,1500ms
cut host a1 from b1,b2 out for 2s
advance 500ms
disk slow a1/2 x80
at 0.1m disk flaky a1 syncs 5% writes 0.50%
advance 4s
`)
	want := `# Power goes twice
make 3 racks x 2 hosts
seed 18446744073709551615
at 1.5s power off rack b for 3s,1.5s
at 1.5s cut host a1 from b1,b2 out for 2s
at 2s disk slow a1/2 x80
at 6s disk flaky a1 syncs 5% writes 0.5%
at 10s end
`
	if s.String() != want {
		t.Errorf("it reads\n%s", s)
	}
	l := s.Lines[0]
	if what, name := l.Place("place"); what != "rack" || name != "b" || len(l.Times("for")) != 2 || l.Times("for")[1].Milliseconds() != 1500 {
		t.Errorf("%v: %v %v %v", l, what, name, l.Times("for"))
	}
	if h, n := s.Lines[2].Disk("disk"); h != "a1" || n != 2 || s.Lines[2].Num("factor") != 80 || s.Lines[3].Share("writes") != 0.005 {
		t.Errorf("%v %v", h, n)
	}
	if c := s.Lines[1]; c.Text("way") != "out" || c.Has("plane") || len(c.Names("from")) != 2 || s.Of("seed")[0].Seed("seed") != 1<<64-1 {
		t.Errorf("%v", c)
	}
}

// What is wrong is said with its line.
func TestWhatIsNoStory(t *testing.T) {
	for text, want := range map[string]string{
		"\npower on":                           "a.txt:2: a place (host a1, rack a, site north, everything, the rack of db1) is missing at its end",
		"power up rack b":                      `a.txt:1: "up" stands where`,
		"explode":                              `a.txt:1: "explode" begins nothing`,
		"kill host a1 for ever":                `a.txt:1: "ever" stands where times such as 1.5s,3s (for) should`,
		"heal\nmake 3 racks x 3 hosts":         "a.txt:2: that is said before anything happens",
		"at 3s heal\nat 2s heal":               "a.txt:2: it happens at 2s, and what stands before it at 3s",
		"at noon heal":                         `a.txt:1: after "at"`,
		"heal heal":                            `a.txt:1: "heal" stands where nothing more should`,
		"advance 999h\nadvance 2h":             "a.txt:2: the story lasts too long",
		"kv lossy 101%":                        `a.txt:1: "101%" stands where a share`,
		"host " + strings.Repeat("a", MaxLine): "a.txt:1: the line is too long",
		strings.Repeat("heal\n", MaxLines+1):   "the story is too long",
		strings.Repeat(" ", MaxBytes+1):        "a.txt: a story has at most",
	} {
		_, err := NewLanguage().Parse("a.txt", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, not %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# t\nmake 3 racks x 3 hosts\nat 1s cut rack a from b1 in kv for 3s\nadvance 2s")
	f.Add("host a1 in rack a disks 2 of 16M clock 3h drift -9900\nlink rack a site b latency 2ms loss 1%\nheal")
	f.Add("at 1h1.5s power off everything for 1s,2s,3ms\ndisk flaky a/2 syncs 1.50% writes 0%")
	l := NewLanguage()
	f.Fuzz(func(t *testing.T, text string) {
		s, err := l.Parse("f", text)
		if err != nil || len(text) > MaxBytes/8 {
			return
		}
		printed := s.String()
		again, err := l.Parse("f", printed)
		if err != nil {
			t.Fatalf("%q is printed as %q, which is none: %v", text, printed, err)
		}
		if again.String() != printed {
			t.Fatalf("%q is printed as %q and then as %q", text, printed, again)
		}
	})
}
