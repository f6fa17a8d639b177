package series

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

const began = int64(1_800_000_000) // a multiple of 900

func at(secs int64) time.Time { return time.Unix(began+secs, 0) }

func subject(n int) (u holdfast.UUID) {
	binary.BigEndian.PutUint32(u[:], uint32(n)+1)
	return u
}

func figures(n int, v float64) map[Key]float64 {
	return map[Key]float64{{subject(n), "cpu"}: v}
}

// read asks for the last so many points of a step that end at a time.
func read(t *testing.T, s *Store, n int, end, step int64, points int) []float32 {
	t.Helper()
	w, err := WindowOf(at(end), at(end), time.Duration(points)*time.Duration(step)*time.Second, step)
	if err != nil {
		t.Fatal(err)
	}
	return s.Read(subject(n), w)["cpu"]
}

func text(points []float32) string {
	var out []string
	for _, p := range points {
		if math.IsNaN(float64(p)) {
			out = append(out, "-")
		} else {
			out = append(out, fmt.Sprint(p))
		}
	}
	return strings.Join(out, " ")
}

func TestAPointIsTheMeanOfItsTime(t *testing.T) {
	s := New()
	for i, v := range []float64{1, 3, 5, 7, 9, 11} { // 10 seconds apart
		s.Add(at(int64(i)*10), figures(0, v))
	}
	s.Add(at(65), figures(0, 20))
	s.Add(at(68), figures(0, 22)) // the same 10 seconds
	if got := text(read(t, s, 0, 69, 10, 8)); got != "- 1 3 5 7 9 11 21" {
		t.Errorf("by 10 seconds: %s", got)
	}
	if got := text(read(t, s, 0, 69, 60, 3)); got != "- 6 21" {
		t.Errorf("by minutes: %s", got)
	}
}

func TestWhatWasNotMeasuredIsNotKnown(t *testing.T) {
	s := New()
	s.Add(at(0), figures(0, 1))
	s.Add(at(30), figures(0, math.NaN()))
	s.Add(at(50), figures(0, 2))
	if got := text(read(t, s, 0, 60, 10, 7)); got != "1 - - - - 2 -" {
		t.Errorf("got %s", got)
	}
	if got := s.Read(subject(1), Window{began, 10, 5}); len(got) != 0 {
		t.Errorf("of a stranger: %v", got)
	}
}

func TestARingOverwritesItsOldest(t *testing.T) {
	s := New()
	slots := int64(Rings()[0].Slots)
	for i := range slots + 10 {
		s.Add(at(i*10), figures(0, float64(i)))
	}
	got := read(t, s, 0, (slots+9)*10, 10, int(slots))
	if got[0] != 10 || got[slots-1] != float32(slots+9) {
		t.Errorf("the ring begins with %v and ends with %v", got[0], got[slots-1])
	}
	// Before what is kept, and after what was measured, nothing is known.
	early := s.Read(subject(0), Window{began, 10, 12})["cpu"]
	if text(early) != "- - - - - - - - - - 10 11" {
		t.Errorf("early: %s", text(early))
	}
	// After a long silence nothing of the fine ring is left.
	s.Add(at(100_000), figures(0, 1))
	if got := text(read(t, s, 0, 100_009, 10, 3)); got != "- - 1" {
		t.Errorf("after a silence: %s", got)
	}
	if got := read(t, s, 0, 100_009, 10, int(slots)); !math.IsNaN(float64(got[0])) {
		t.Errorf("%v is left from before", got[0])
	}
}

func TestAClockThatWasSetBackTakesItsPointsAlong(t *testing.T) {
	s := New()
	for i := range int64(10) {
		s.Add(at(i*10), figures(0, float64(i)))
	}
	s.Add(at(50), figures(0, 100))
	if got := text(read(t, s, 0, 90, 10, 10)); got != "0 1 2 3 4 100 - - - -" {
		t.Errorf("got %s", got)
	}
	s.Add(time.Unix(-5, 0), figures(0, 1)) // no time that it can be
	if got := text(read(t, s, 0, 50, 10, 2)); got != "4 100" {
		t.Errorf("got %s", got)
	}
}

func TestLinesAreBounded(t *testing.T) {
	s := New()
	for i := range MaxLines {
		s.Add(at(int64(i)), figures(i, 1))
	}
	s.Add(at(5000), figures(MaxLines, 1)) // in place of the first
	if len(s.lines) != MaxLines || s.lines[Key{subject(0), "cpu"}] != nil || s.lines[Key{subject(1), "cpu"}] == nil {
		t.Errorf("%d lines", len(s.lines))
	}
	all := map[Key]float64{}
	for k := range s.lines {
		all[k] = 1
	}
	s.Add(at(5010), all)
	s.Add(at(5010), figures(MaxLines+1, 1)) // all others are told of
	if len(s.lines) != MaxLines || s.lines[Key{subject(MaxLines + 1), "cpu"}] != nil {
		t.Errorf("%d lines, or what is new displaced what is in use", len(s.lines))
	}
	s.Add(at(5020).Add(Longest()), figures(3, 1)) // silent for as long as anything is kept
	if len(s.lines) != 1 {
		t.Errorf("%d lines are left", len(s.lines))
	}
	s.Forget(subject(3))
	if len(s.lines) != 0 {
		t.Error("it was not forgotten")
	}
}

func TestWindows(t *testing.T) {
	for _, c := range []struct {
		back, span, step int64
		want             string
	}{
		{0, 3600, 0, "10 360"}, {0, 3601, 0, "60 61"}, {0, 86400, 0, "60 1440"}, {0, 86401, 0, "900 97"},
		{600, 3600, 0, "60 60"}, {90_000, 3600, 0, "900 4"}, {0, 2_678_400, 0, "900 2976"}, {0, 600, 60, "60 10"},
		{0, 2_678_401, 0, "range"}, {0, 0, 0, "range"}, {0, -5, 0, "range"}, {0, 3601, 10, "range"}, {0, 3600, 11, "step"}, {0, 3600, -1, "step"},
	} {
		w, err := WindowOf(at(0), at(-c.back), time.Duration(c.span)*time.Second, c.step)
		got := fmt.Sprint(w.Step, w.Points)
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		} else if end := w.Start + w.Step*int64(w.Points); end <= began-c.back || end > began-c.back+w.Step {
			t.Errorf("%+v ends at %d", c, end)
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// noise is a store of random lines.
func noise(seed uint64) *Store {
	r := rand.New(rand.NewPCG(seed, 1))
	s := New()
	t := int64(0)
	for range 400 {
		t += r.Int64N(40)
		s.Add(at(t), map[Key]float64{{subject(r.IntN(3)), "cpu"}: r.Float64(), {subject(r.IntN(3)), "memory"}: r.NormFloat64() * 1e9})
	}
	return s
}

func TestAStoreIsItsFile(t *testing.T) {
	for seed := range uint64(5) {
		s := noise(seed)
		b := s.Encode()
		if int64(len(b)) > MaxFile() {
			t.Fatalf("%d bytes, more than a file may have", len(b))
		}
		back, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			for i, r := range Rings() {
				w := Window{(s.now[i] - int64(r.Slots) + 1) * r.Step, r.Step, r.Slots}
				x, y := s.Read(subject(n), w), back.Read(subject(n), w)
				for m := range x {
					if text(x[m]) != text(y[m]) {
						t.Fatalf("seed %d: %s of %d by %d seconds differs", seed, m, n, r.Step)
					}
				}
			}
		}
		back.Add(at(100_000), figures(0, 1)) // goes on
	}
}

// sealed gives a damaged file the checksum that it should have.
func sealed(b []byte) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[len(b)-4:], checksum.CRC(b[:len(b)-4]))
	return b
}

func TestDamagedFiles(t *testing.T) {
	good := noise(1).Encode()
	edit := func(f func([]byte) []byte) []byte { return f(bytes.Clone(good)) }
	for why, b := range map[string][]byte{
		"it is none": nil, "checksum": edit(func(b []byte) []byte { b[500] ^= 1; return b }),
		"version 9":             edit(func(b []byte) []byte { b[8] = 9; return b }),
		"too many lines":        sealed(edit(func(b []byte) []byte { b[14] = 1; return b })),
		"no time":               sealed(edit(func(b []byte) []byte { b[23] = 0xff; return b })),
		"ends within":           sealed(edit(func(b []byte) []byte { return b[:40+4] })),
		"a line is none":        sealed(edit(func(b []byte) []byte { return b[:len(b)-100] })),
		"follows its last line": sealed(append(bytes.Clone(good), 0, 0, 0, 0)),
	} {
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(New().Encode())
	s := New()
	s.Add(at(0), figures(0, 1))
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			b = sealed(b)
		}
		s, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(s.Encode())
		if err != nil || len(again.lines) != len(s.lines) {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		s.Add(at(0), figures(0, 1))
		s.Read(subject(0), Window{began, 10, 360})
	})
}

// The page is what the file can be read by without the program.
func TestThePageSaysWhatTheFileIs(t *testing.T) {
	b, err := os.ReadFile("../../docs/format/series.md")
	if err != nil {
		t.Fatal(err)
	}
	says := []string{fmt.Sprintf("`%s`", magic), fmt.Sprintf("Format **%d**", version), fmt.Sprintf("at most %d lines", MaxLines), fmt.Sprintf("at most %d bytes", MaxMetric)}
	for _, r := range Rings() {
		says = append(says, fmt.Sprintf("%d points of %d seconds", r.Slots, r.Step))
	}
	for _, s := range says {
		if !strings.Contains(string(b), s) {
			t.Errorf("docs/format/series.md does not say %q", s)
		}
	}
}
