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
