package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The replay of recorded crashes (TestCrashPoints of internal/store, ADR 0083) has to
// find bugs, too: they are planted in the store the same way, and the test has to
// fail.

const (
	commitGo   = "internal/store/commit.go"
	crashTest  = "TestCrashPoints$"
	crashLimit = 20 * time.Minute // for one bug
)

// crashBugs are the bugs that a crash must show: those of the store alone, and some
// that the simulator is to find as well.
func crashBugs() []bug {
	own := []bug{
		{name: "do-not-sync-the-log", rule: "a flush returns when the log is on disk (1)", edits: []edit{
			{commitGo, "\tone = one && sync && len(work) == 1 && len(w.flight) == 1\n", "\tone = false\n"},
			{commitGo, "\t\tif s.sync(\"the log\", s.dev.Sync) != nil {\n", "\t\tif s.sync(\"the log\", func() error { return nil }) != nil {\n"}}},
		{name: "do-not-sync-what-a-checkpoint-names", rule: "pages and catalog are on disk before the root that names them (8)", edits: []edit{
			{ckptGo, "\treturn s.sync(\"a checkpoint\", s.dev.Sync)\n", "\treturn nil\n"}}},
		{name: "do-not-sync-a-checkpoint's-root", rule: "what a checkpoint frees is used again when its root is on disk (8)", edits: []edit{
			{ckptGo, "\treturn s.sync(\"a checkpoint root\", s.dev.Sync)\n", "\treturn nil\n"}}},
	}
	for _, b := range bugs() {
		switch b.name {
		case "void-a-flushed-suffix", "reuse-a-victim-early":
			own = append(own, b)
		}
	}
	return own
}

// crashFound is what came of one bug, and crashFigures of all.
type crashFound struct {
	Bug     string `json:"bug"`
	Rule    string `json:"breaks"`
	Points  int    `json:"points"` // that were replayed until one failed, or in vain
	Found   bool   `json:"found"`
	Finding string `json:"finding,omitempty"`
}

type crashFigures struct {
	What    string       `json:"what"`
	Commit  string       `json:"commit"`
	Planted int          `json:"bugs_planted"`
	Found   int          `json:"bugs_found"`
	Most    int          `json:"points_until_the_last_was_found"`
	Bugs    []crashFound `json:"bugs"`
}

// replay plants each bug and has up to so many crash points replayed.
func replay(points int, file string) error {
	dir, err := os.MkdirTemp("", "holdfast-bugs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	commit, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	f := crashFigures{What: "crash points of a store with a planted bug", Commit: strings.TrimSpace(string(commit))}
	for _, b := range crashBugs() {
		list, err := overlay(dir, &b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		r, err := replayOne(list, &b, points)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		f.Planted++
		if r.Found {
			f.Found++
			f.Most = max(f.Most, r.Points)
			fmt.Printf("%-40s found at crash point %d: %s\n", b.name, r.Points, r.Finding)
		} else {
			fmt.Printf("%-40s NOT FOUND at %d crash points\n", b.name, r.Points)
		}
		f.Bugs = append(f.Bugs, r)
	}
	if file != "" {
		text, err := json.MarshalIndent(f, "", "  ")
		if err == nil {
			err = os.WriteFile(file, append(text, '\n'), 0o666)
		}
		if err != nil {
			return err
		}
	}
	if f.Found < f.Planted {
		return fmt.Errorf("%d bugs were not found", f.Planted-f.Found)
	}
	return nil
}

// replayOne runs the test with a bug in the store. A test that does not build, or
// that tells no points, is an error.
func replayOne(list string, b *bug, points int) (r crashFound, err error) {
	c := exec.Command("go", "test", "-vet=off", "-overlay", list, "-count=1", "-v", "-timeout", crashLimit.String(), "-run", crashTest, "./internal/store")
	c.Env = append(os.Environ(), "CRASH_POINTS="+strconv.Itoa(points), "CRASH_FIGURES=")
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, err
	}
	r = crashFound{Bug: b.name, Rule: b.rule, Found: err != nil}
	if r.Points = pointsIn(string(out), r.Found); r.Points == 0 {
		return r, fmt.Errorf("the test tells no point: %s", out)
	}
	if r.Found {
		r.Finding = findingIn(string(out))
	}
	return r, nil
}

// pointsIn is the number of the point that failed, or how many were replayed; 0: the
// test says neither.
func pointsIn(out string, failed bool) (n int) {
	look := regexp.MustCompile(`"points": (\d+)`)
	if failed {
		look = regexp.MustCompile(`history \d+, point (\d+) \(`)
	}
	if m := look.FindStringSubmatch(out); m != nil {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}

// findingIn is the first thing that the test reported of the point.
func findingIn(out string) string {
	for line := range strings.Lines(out) {
		m := regexp.MustCompile(`_test\.go:\d+: (.*)`).FindStringSubmatch(line)
		if m != nil && !strings.HasPrefix(m[1], "history ") && m[1] != "{" {
			return m[1]
		}
	}
	return ""
}
