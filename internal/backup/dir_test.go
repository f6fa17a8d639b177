package backup

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// history makes files of one volume, a full one wherever full says so, else the
// difference to the one before.
func history(times []time.Time, full func(i int) bool) (out []File) {
	for i, at := range times {
		h := header(i)
		if i > 0 && !full(i) {
			h = after(h, out[i-1].Header)
		}
		h.Created = at
		out = append(out, File{Path: fmt.Sprint(i), Header: h, Whole: true})
	}
	return out
}

func days(n int, every time.Duration) (out []time.Time) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for range n {
		out, at = append(out, at), at.Add(every)
	}
	return out
}

// jumped is times of which the n-th was told by a clock some years off.
func jumped(times []time.Time, n, years int) []time.Time {
	times = slices.Clone(times)
	times[n] = times[n].AddDate(years, 0, 0)
	return times
}

// dying is times of which every other was told by a clock that begins in 1970.
func dying(times []time.Time) []time.Time {
	times = slices.Clone(times)
	for i := 1; i < len(times); i += 2 {
		times[i] = time.Unix(int64(1000-i), 0)
	}
	return times
}

// reborn is times that were all told by a clock that had just begun in 1970.
func reborn(times []time.Time) []time.Time {
	times = slices.Clone(times)
	for i := range times {
		times[i] = time.Unix(int64(1000-i), 0)
	}
	return times
}

func TestWhatIsKept(t *testing.T) {
	never := func(int) bool { return false }
	always := func(int) bool { return true }
	month := days(30, 24*time.Hour)
	for _, c := range []struct {
		name string
		keep string
		list []File
		want string // files that are left
	}{
		{"nothing is said", "", history(month, always), "all"},
		{"the newest three", "last=3", history(month, always), "27 28 29"},
		{"a chain of differences is kept whole", "last=1", history(month, never), "all"},
		{"what a kept one goes over stays", "last=3", history(month, func(i int) bool { return i%7 == 0 }), "21 22 23 24 25 26 27 28 29"},
		{"one a week", "weekly=3", history(month, always), "21 28 29"}, // 1 November 2026 is a Sunday
		{"tiers add up", "last=2,daily=4,weekly=2", history(month, always), "26 27 28 29"},
		{"of several a day the last", "daily=3", history(days(12, 6*time.Hour), always), "5 9 11"},
		{"by age", "within=48h", history(month, always), "28 29"},
		{"by age, after the clock jumped to 2099", "within=72h", history(jumped(month, 29, 73), always), "27 28 29"},
		{"by age, once it is back", "within=72h", history(jumped(month, 27, 73), always), "26 27 28 29"},
		{"by age, after it fell to 1970", "within=72h", history(jumped(month, 29, -56), always), "26 27 28 29"},
		{"by age, a clock that falls to 1970 at each start", "within=12h", history(dying(days(20, time.Hour)), always), "all"},
		{"by age, the first two with a jump between", "within=72h", history(jumped(days(2, time.Hour), 1, 73), always), "all"},
		{"by age, after a pause of a month", "within=72h", history(append(month[:20:20], month[19].AddDate(0, 1, 0)), always), "18 19 20"},
		{"by age, once a week", "within=20d", history(days(10, 7*24*time.Hour), always), "7 8 9"},
		{"a day each, after it jumped to 2099", "daily=3", history(jumped(month, 29, 73), always), "27 28 29"},
		{"a day each, a clock that falls to 1970 at each start takes no day's place", "daily=3", history(dying(month[:20]), always), "15 16 17 18 19"},
		{"a day each, every one at 1970", "daily=3", history(reborn(month[:6]), always), "all"},
	} {
		k, err := ParseKeep(c.keep)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseKeep(k.String()); err != nil || again != k {
			t.Errorf("%s: %q is read as %+v, %v", c.name, k, again, err)
		}
		drop := k.Prune(c.list)
		var left []string
		for _, f := range c.list {
			if !slices.ContainsFunc(drop, func(g File) bool { return g.Path == f.Path }) {
				left = append(left, f.Path)
			}
		}
		got := strings.Join(left, " ")
		if len(drop) == 0 {
			got = "all"
		}
		if got != c.want {
			t.Errorf("%s: %s is left, want %s", c.name, got, c.want)
		}
	}
	for _, bad := range []string{"last", "last=0", "last=-1", "yearly=3", "within=", "within=x", ",", "last=3,"} {
		if _, err := ParseKeep(bad); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestPruningNeverBreaksAChain: whatever is kept can be restored, also if it was
// interrupted anywhere.
func TestPruningNeverBreaksAChain(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		list := history(days(40, time.Duration(1+rnd.IntN(30))*time.Hour), func(int) bool { return rnd.IntN(6) == 0 })
		k := Keep{Last: rnd.IntN(4), Daily: rnd.IntN(4), Weekly: rnd.IntN(3), Within: time.Duration(rnd.IntN(100)) * time.Hour}
		drop := k.Prune(list)
		slices.Reverse(drop)
		for _, gone := range drop {
			list = slices.DeleteFunc(list, func(f File) bool { return f.Path == gone.Path })
			for _, f := range list {
				if _, err := Chain(list, f); err != nil {
					t.Fatalf("seed %d: without %s: %v", seed, gone.Path, err)
				}
			}
		}
	}
}

func TestADirectoryExplainsItself(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	parts := chunks(t, rnd, true)[:2]
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h1, h2, h3 := header(1), after(header(2), header(1)), after(header(3), header(9))
	put(FileName(&h1), file(t, h1, parts))
	put(FileName(&h2), file(t, h2, parts))
	put(FileName(&h3), file(t, h3, parts))
	whole := file(t, header(4), parts)
	put("cut"+Suffix, whole[:len(whole)-1])
	put("begun"+Suffix+PartSuffix, whole[:900])
	put("other"+Suffix, []byte("something else"))
	put("notes.txt", []byte("nothing of ours"))
	files, err := List(dir)
	if err != nil || len(files) != 6 {
		t.Fatal(len(files), err)
	}
	mine, err := Of(files, "")
	if err != nil || len(mine) != 3 || filepath.Base(mine[0].Path) != "data.20261122-120001.full.hfb" || filepath.Base(mine[1].Path) != "data.20261122-120002.incr.hfb" {
		t.Fatalf("%+v, %v", mine, err)
	}
	if chain, err := Chain(files, mine[1]); err != nil || len(chain) != 2 || chain[0].Path != mine[0].Path {
		t.Errorf("%+v, %v", chain, err)
	}
	if _, err := Chain(files, mine[2]); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("its base is missing: %v", err)
	}
	if f, err := At(mine, h2.Created.Add(time.Millisecond)); err != nil || f.Header.ID != h2.ID {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := At(mine, h1.Created.Add(-1)); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("before the first: %v", err)
	}
}

func TestNothingIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a"+Suffix)
	place := func(text string, force bool) error {
		f, err := os.Create(path + PartSuffix)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString(text)
		return Place(f, path, force)
	}
	if err := place("one", false); err != nil {
		t.Fatal(err)
	}
	if err := place("two", false); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("a second one: %v", err)
	}
	if err := place("three", true); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "three" {
		t.Errorf("%s", b)
	}
}
