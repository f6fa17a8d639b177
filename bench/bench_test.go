package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportComparesMedians(t *testing.T) {
	r := report{Settings: settings{Runs: 3, Seconds: 1}}
	cs := []*candidate{
		{name: nbdkitFile, base: nbdkitFile},
		{name: "Holdfast, one copy", base: nbdkitFile, goals: map[string]goal{"reads": {0.7, 2}}},
		{name: "Holdfast, two copies", base: nbdkitFile, goals: map[string]goal{"reads": {0.9, 0}}},
	}
	r.add(cell{name: "reads"}, cs, []result{
		{Runs: []float64{90, 1000, 100}}, {Runs: []float64{80, 75, 5}}, {Runs: []float64{50, 60, 70}},
	})
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{"100     90 to 1000  1.00", "75      5 to 80     0.75", "0.05 to 0.89", "≥ 0.7 met, ≥ 2.0 MISSED", "0.60", "≥ 0.9 MISSED"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestWhoTakesPartInWhat(t *testing.T) {
	kit := &candidate{uri: "u", clients: []string{"a", "b"}}
	file := &candidate{file: "f"}
	inside := &candidate{durable: &durable{}}
	always := &candidate{uri: "u", only: "random write, 32"}
	plain := &candidate{uri: "u", halves: true}
	for _, w := range cells {
		for _, x := range []struct {
			who  string
			c    *candidate
			want bool
		}{
			{"a server", kit, !w.durable && !w.halves}, {"a file", file, !w.clients && !w.halves}, {"a volume in the process", inside, w.durable},
			{"what is compared with a sealed volume", plain, !w.durable && !w.clients},
			{"one for a single cell", always, w.name == "random write, 32"},
		} {
			if x.c.can(w) != x.want {
				t.Errorf("%s takes part in %s: %v", x.who, w.name, !x.want)
			}
		}
	}
}

func TestGoalsNameCells(t *testing.T) {
	known := map[string]bool{}
	for _, w := range cells {
		known[w.name] = true
	}
	for _, goals := range []map[string]goal{goalsOfOne(), goalsOfTwo(), goalsOfAlways(), goalsOfSealed()} {
		for name := range goals {
			if !known[name] {
				t.Errorf("a goal for %q, which is no cell", name)
			}
		}
	}
}

func TestDurableWritesAreDurable(t *testing.T) {
	c, err := startDurable(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	ops, err := c.durable.run(0.1)
	if err != nil || ops <= 0 {
		t.Errorf("%v writes a second, %v", ops, err)
	}
}

func TestFioOutput(t *testing.T) {
	for in, want := range map[string]float64{
		`{"jobs":[{"error":0,"read":{"iops":10.5,"total_ios":9},"write":{"iops":2,"total_ios":1}}]}`: 12.5,
		`{"jobs":[{"error":5,"read":{"iops":10.5,"total_ios":9}}]}`:                                  -1,
		`{"jobs":[{"read":{"iops":0,"total_ios":0}}]}`:                                               -1,
		`{"jobs":[{"write":{"iops":3,"total_ios":9}},{"write":{"iops":4,"total_ios":9}}]}`:           7,
		`{"jobs":[]}`:           -1,
		`fio: bad option <foo>`: -1,
	} {
		got, err := parseFio([]byte(in))
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%s: %v (%v), want %v", in, got, err, want)
		}
	}
}

func FuzzFioOutput(f *testing.F) {
	f.Add([]byte(`{"jobs":[{"error":0,"read":{"iops":1,"total_ios":1}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { parseFio(b) })
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	good := settings{Runs: 3, Seconds: 2, Size: 1 << 20}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*settings){
		func(s *settings) { s.Runs = 0 }, func(s *settings) { s.Seconds = 0 }, func(s *settings) { s.Size = 5000 },
	} {
		s := good
		change(&s)
		if s.check() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

func TestServersTakePartOnceTheyAnswer(t *testing.T) {
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("not tested: nbdkit is not installed ('make packages' installs it)")
	}
	c, err := startNbdkitMemory(settings{Size: 1 << 20}, t.TempDir())
	defer c.stop()
	if err != nil {
		t.Fatal(err)
	}
	if !c.can(cells[0]) {
		t.Errorf("%s takes part in nothing", c.name)
	}
	mute := &candidate{name: "a server that serves nothing"}
	if err := mute.start(filepath.Join(t.TempDir(), "s"), "", "true"); err == nil {
		t.Error("a server that never answers counts as started")
	}
}
