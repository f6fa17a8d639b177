package main

import "testing"

// Every bug of the store can be planted, and what the test of crash points says of
// one is understood.
func TestBugsThatACrashShows(t *testing.T) {
	if len(crashBugs()) < 4 {
		t.Errorf("%d bugs", len(crashBugs()))
	}
	t.Chdir("../../..") // where they are planted from
	dir := t.TempDir()
	for _, b := range crashBugs() {
		if _, err := overlay(dir, &b); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
	failed := `=== RUN   TestCrashPoints/history1
    crashpoints_test.go:410: 0303 block 7 is of write 12, which was never flushed
    crashpoints_test.go:397: history 1, point 14 (fate 2)
    crashpoints_test.go:483: {
          "points": 14,
`
	if n, what := pointsIn(failed, true), findingIn(failed); n != 14 || what != "0303 block 7 is of write 12, which was never flushed" {
		t.Errorf("%d, %q", n, what)
	}
	if n := pointsIn(`          "points": 1578,`, false); n != 1578 {
		t.Errorf("%d", n)
	}
	if n := pointsIn("FAIL [build failed]", true); n != 0 {
		t.Errorf("a test that does not build failed at point %d", n)
	}
}
