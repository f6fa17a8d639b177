package drill

import (
	"encoding/xml"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

func testRacks() map[string][]string {
	return map[string][]string{"a": {"a1", "a2"}, "b": {"b1", "b2"}, "c": {"c1", "c2"}}
}

func planned(t *testing.T, seed uint64, episodes int, short bool) (out [][]torment) {
	t.Helper()
	p, err := newPlanner(seed, testRacks(), nil, short)
	if err != nil {
		t.Fatal(err)
	}
	for range episodes {
		out = append(out, p.episode())
	}
	return out
}

func TestASeedIsATorture(t *testing.T) {
	if a, b := planned(t, 3, 50, false), planned(t, 3, 50, false); !reflect.DeepEqual(a, b) {
		t.Error("one seed drew two tortures")
	}
	if a, b := planned(t, 3, 50, false), planned(t, 4, 50, false); reflect.DeepEqual(a, b) {
		t.Error("two seeds drew one torture")
	}
}

func TestEveryKindOfFaultHasItsTurn(t *testing.T) {
	times := map[string]int{}
	for _, e := range planned(t, 1, 200, false) {
		for _, f := range e {
			times[f.kind]++
		}
	}
	least, most := 1<<30, 0
	for _, k := range tortureKinds() {
		least, most = min(least, times[k.name]), max(most, times[k.name])
	}
	if least < 5 || most > least+1 {
		t.Errorf("kinds come as often as each other: %v", times)
	}
}

func TestFaultsOfAnEpisodeDoNotMeet(t *testing.T) {
	alone := map[string]tortureKind{}
	for _, k := range tortureKinds() {
		alone[k.name] = k
	}
	for seed := range uint64(50) {
		for _, e := range planned(t, seed, 20, seed%2 == 0) {
			var racks []string
			for _, f := range e {
				k := alone[f.kind]
				switch {
				case k.alone && len(e) > 1:
					t.Fatalf("seed %d: %s beside others: %v", seed, f.kind, e)
				case k.slow && seed%2 == 0:
					t.Fatalf("seed %d: %s in a short torture", seed, f.kind)
				case k.process && slices.Contains(racks, f.racks[0]):
					t.Fatalf("seed %d: two faults act on the processes of rack %s: %v", seed, f.racks[0], e)
				case len(f.racks) == 2 && f.racks[0] == f.racks[1]:
					t.Fatalf("seed %d: rack %s is cut from itself", seed, f.racks[0])
				case f.lasts < k.least || f.lasts > max(k.least, k.most) || !strings.HasPrefix(f.host, f.racks[0]):
					t.Fatalf("seed %d: %+v", seed, f)
				}
				if k.process {
					racks = append(racks, f.racks[0])
				}
			}
			if len(e) == 0 || len(e) > mostTorments {
				t.Fatalf("seed %d: an episode of %d faults", seed, len(e))
			}
		}
	}
}

func TestOnlySomeFaults(t *testing.T) {
	p, err := newPlanner(1, testRacks(), []string{rotBlocks, fillDisks}, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		for _, f := range p.episode() {
			if f.kind != rotBlocks && f.kind != fillDisks {
				t.Errorf("%s was not asked for", f.kind)
			}
		}
	}
	if _, err := newPlanner(1, testRacks(), []string{"flood"}, false); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), rotBlocks) {
		t.Errorf("a fault that there is not: %v", err)
	}
}

// wobble is n samples of two hosts over an hour, to which grow is added.
func wobble(n int, grow func(hours float64) int64) (out []SoakSample) {
	for i := range n {
		at := float64(i) / float64(n) * 3600
		noise := int64(i * 7919 % 11 << 17)
		for _, h := range []string{"a1", "a2"} {
			out = append(out, SoakSample{At: at, Host: h, Resident: 100<<20 + noise + grow(at/3600), Heap: 40<<20 + noise, Goroutines: 200 + i%7, Files: 60 + i%3, Disk: 300 << 20})
		}
	}
	return out
}

func flat(samples []SoakSample) (growing []string) {
	for _, t := range trends(samples, []string{"a1", "a2"}, time.Hour) {
		if !t.Flat {
			growing = append(growing, t.What+" "+t.Host)
		}
	}
	return growing
}

func TestALeakIsToldFromAWobble(t *testing.T) {
	if g := flat(wobble(720, func(float64) int64 { return 0 })); len(g) > 0 {
		t.Errorf("what wobbles is told to grow: %v", g)
	}
	warm := func(h float64) int64 { return int64(min(h, 0.3) * (100 << 20)) }
	if g := flat(wobble(720, warm)); len(g) > 0 {
		t.Errorf("what grows in the first third only is told to grow: %v", g)
	}
	leak := func(h float64) int64 { return int64(h * (20 << 20)) }
	if g := flat(wobble(720, leak)); !slices.Equal(g, []string{"memory a1", "memory a2"}) {
		t.Errorf("20 MiB an hour of 100: %v", g)
	}
	moved := wobble(720, func(h float64) int64 { return int64(h*4) * (30 << 20) })
	for i := range moved {
		moved[i].VMs = int(moved[i].At / 900)
	}
	if g := flat(moved); len(g) > 0 {
		t.Errorf("a VM more every quarter of an hour is no leak: %v", g)
	}
	outliers := func(h float64) int64 {
		if h > 0.9 {
			return 50 << 20
		}
		return 0
	}
	if g := flat(wobble(720, outliers)); len(g) > 0 {
		t.Errorf("a step at the end is no slope: %v", g)
	}
	if g := flat(nil); len(g) != 10 {
		t.Errorf("what was not sampled is not known to be flat: %v", g)
	}
}

func TestThePlotIsAPicture(t *testing.T) {
	r := SoakReport{Hosts: 2, Guests: 3, Minutes: 60, Lived: []string{"a1"}, Samples: wobble(720, func(float64) int64 { return 0 }), Timeline: []Mark{{What: "rack killed", After: 300}}}
	svg := r.plot()
	d, lines := xml.NewDecoder(strings.NewReader(svg)), 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if want := 2 * len(soakedThings()); lines < want || strings.Contains(svg, "NaN") {
		t.Errorf("%d curves, want %d\n%.300s", lines, want, svg)
	}
}

func TestFiguresOfAHost(t *testing.T) {
	got, err := parseFigures(strings.NewReader("# HELP go_goroutines x\n# TYPE go_goroutines gauge\ngo_goroutines 213\nprocess_resident_memory_bytes 1.2e+08 1700000000\nholdfast_x{a=\"b c\"} 4\nbroken\nnot_a number\n"))
	want := map[string]float64{"go_goroutines": 213, "process_resident_memory_bytes": 1.2e8}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzFigures(f *testing.F) {
	f.Add("go_goroutines 213\n")
	f.Add("x{y=\"z\"} NaN\nq +Inf 5")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFigures(strings.NewReader(text))
		for name := range got {
			if err != nil || !strings.Contains(text, name) {
				t.Fatal(fmt.Sprint(name, err))
			}
		}
	})
}
