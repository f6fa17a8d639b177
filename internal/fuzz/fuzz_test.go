package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

// Every fuzz target of a package of the table is in the table, and is there.
func TestTheTableHasEveryTarget(t *testing.T) {
	var have []target
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	for _, p := range packages() {
		tests, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(p), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range tests {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllSubmatch(text, -1) {
				have = append(have, target{p, string(m[1])})
			}
		}
	}
	for _, x := range have {
		if !slices.Contains(targets(), x) {
			t.Errorf("%s of %s is not in the table", x.name, x.pkg)
		}
	}
	for _, x := range targets() {
		if !slices.Contains(have, x) {
			t.Errorf("%s has no %s", x.pkg, x.name)
		}
	}
}

// Of inputs that reach the same the shortest is kept; of those that reach
// nothing new, none; and no more than there is room for.
func TestWhatIsKept(t *testing.T) {
	of := func(blocks ...string) reach {
		out := reach{}
		for _, b := range blocks {
			out[b] = struct{}{}
		}
		return out
	}
	all := []input{{"long", 30, of("a", "b", "c")}, {"short", 10, of("a", "b", "c")}, {"known", 1, of("k")}, {"alone", 20, of("d")}, {"part", 5, of("a", "b")}}
	names := func(n int, room int64) (out []string) {
		for _, in := range choose(all, of("k"), n, room) {
			out = append(out, in.name)
		}
		return out
	}
	for _, c := range []struct {
		n    int
		room int64
		want []string
	}{
		{40, 1000, []string{"short", "alone"}},
		{1, 1000, []string{"short"}},
		{40, 15, []string{"short"}},
		{40, 9, []string{"part"}},
		{0, 1000, nil},
	} {
		if got := names(c.n, c.room); !slices.Equal(got, c.want) {
			t.Errorf("%d files and %d bytes: %v is kept, want %v", c.n, c.room, got, c.want)
		}
	}
}

// A profile's counts are told apart by powers of two.
func TestAProfileIsRead(t *testing.T) {
	got := parse("mode: count\nx.go:1.2,3.4 2 0\nx.go:5.1,6.2 1 1\nx.go:7.1,8.2 1 3\n")
	want := []string{"x.go:5.1,6.2 0", "x.go:7.1,8.2 0", "x.go:7.1,8.2 1"}
	if len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, w := range want {
		if _, ok := got[w]; !ok {
			t.Errorf("%s is missing of %v", w, got)
		}
	}
}

// What several runs of one target print is added up, but not the time in which
// the machine stood still.
func TestProgressIsAddedUp(t *testing.T) {
	var r result
	r.add([]byte("fuzz: elapsed: 3s, execs: 10 (5/sec), new interesting: 1 (total: 5)\n" +
		"fuzz: elapsed: 1m6s, execs: 12 (0/sec), new interesting: 1 (total: 5)\nfuzz: elapsed: 1m9s, execs: 200 (60/sec), new interesting: 2 (total: 6)\nFAIL\n"))
	r.add([]byte("fuzz: elapsed: 4s, execs: 7 (0/sec), new interesting: 0 (total: 6)\nPASS\n"))
	r.add([]byte("it never began\n"))
	if want := (result{10 * time.Second, 207, 2, 6, 1}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
}
