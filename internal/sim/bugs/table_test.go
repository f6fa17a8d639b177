package main

import (
	"os"
	"strings"
	"testing"
)

// Every bug can still be planted: what it changes is there, once.
func TestEveryBugHasItsPlace(t *testing.T) {
	names := make(map[string]bool)
	for _, b := range bugs() {
		if names[b.name] {
			t.Errorf("%s is there twice", b.name)
		}
		names[b.name] = true
		for _, e := range b.edits {
			text, err := os.ReadFile("../../../" + e.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), e.old); n != 1 {
				t.Errorf("%s: %s has %d times, instead of once: %q", b.name, e.file, n, e.old)
			}
			if e.old == e.new {
				t.Errorf("%s changes nothing", b.name)
			}
		}
	}
}

// Who asks for a bug that there is not has mistyped it.
func TestBugsAreChosenByName(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(bugs()) {
		t.Errorf("%d of %d bugs, %v", len(all), len(bugs()), err)
	}
	two := all[1].name + "," + all[0].name
	if got, err := choose(two); err != nil || len(got) != 2 || got[0].name != all[1].name {
		t.Errorf("of %s: %v, %v", two, got, err)
	}
	if got, err := choose(all[0].name + ",nosuch"); err == nil {
		t.Errorf("a bug that there is not is %v", got)
	}
}
