package health_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/health"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

var rewrite = flag.Bool("rewrite", false, "write what is said into testdata")

// TestSaid runs testdata/*.txt: sketch lines, "----", what is said.
// "progress VOLUME PERCENT" tells how far a copy has come, or "waits"; "report HOST ..." is
// a condition that a host reports of itself; "schedule NAME HOST" backups that
// are made there, "failed NAME" and "late NAME" how its last one went; "held HOST" an incident that the
// brake holds.
func TestSaid(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("nothing to say")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				lines, want, _ := strings.Cut(block, "----")
				got := say(t, lines)
				if want = strings.TrimSpace(want); !*rewrite && got != want {
					t.Errorf("%s\ngot:\n%s\nwant:\n%s", lines, got, want)
				}
				fmt.Fprintf(&out, "%s----\n%s\n\n", lines, got)
			}
			if *rewrite {
				if err := os.WriteFile(f, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func say(t *testing.T, lines string) string {
	progress := health.Progress{}
	c := sketch.New()
	var last []func(*cluster.State)
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "progress":
			c := health.Copying{Waits: f[2] == "waits"}
			fmt.Sscan(f[2], &c.Percent)
			progress[sketch.Volume(f[1])] = c
		case len(f) > 2 && f[0] == "report":
			last = append(last, func(s *cluster.State) {
				a := s.Alive[sketch.Host(f[1])]
				a.Val.Conditions = []cluster.Condition{{ID: "clock", Severity: f[2], Text: strings.Join(f[3:], " ")}}
				s.Alive[sketch.Host(f[1])] = a
			})
		case len(f) == 2 && f[0] == "reduced": // its sandbox, as a host says it
			last = append(last, func(s *cluster.State) {
				a := s.Alive[sketch.Host(f[1])]
				a.Val.Sandbox = "reduced (the agent is not root: no user of its own per machine)"
				s.Alive[sketch.Host(f[1])] = a
			})
		case len(f) == 3 && f[0] == "writes":
			last = append(last, func(s *cluster.State) {
				a := s.Alive[sketch.Host(f[1])]
				a.Val.Writes = append(a.Val.Writes, sketch.Volume(f[2]))
				s.Alive[sketch.Host(f[1])] = a
			})
		case len(f) == 3 && f[0] == "schedule":
			last = append(last, func(s *cluster.State) {
				s.Schedules = map[string]cluster.Versioned[cluster.BackupSchedule]{f[1]: {Mod: 1, Val: cluster.BackupSchedule{Name: f[1], Host: sketch.Host(f[2]), Dir: "/mnt/backups"}}}
			})
		case len(f) == 2 && (f[0] == "failed" || f[0] == "late"): // its schedule; the calendar was set back meanwhile
			last = append(last, func(s *cluster.State) {
				b := s.Schedules[f[1]]
				b.Val.Began, b.Val.Ended = sketch.Wall().AddDate(73, 0, 0), sketch.Wall()
				if b.Val.Late = sketch.Wall(); f[0] == "failed" {
					b.Val.Error = "no room"
				}
				s.Schedules[f[1]] = b
			})
		case len(f) == 2 && f[0] == "held":
			last = append(last, func(s *cluster.State) { s.Incidents["1"] = held(f[1]) })
		default:
			if err := c.Do(strings.TrimSpace(line)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := c.State()
	for _, f := range last {
		f(s)
	}
	return render(health.Summary(s, progress))
}

func held(host string) cluster.Versioned[cluster.Incident] {
	var inc cluster.Incident
	inc.ID, inc.Opened = "1", sketch.Wall().Add(time.Hour)
	inc.Hosts = append(inc.Hosts, sketch.Host(host))
	inc.Steps = []cluster.Step{{What: ha.Held}}
	return cluster.Versioned[cluster.Incident]{Mod: kv.Rev(1), Val: inc}
}

func render(st health.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", st.Sentence)
	for _, c := range st.Conditions {
		since := ""
		if !c.Since.IsZero() {
			since = " since " + c.Since.Format("15:04")
		}
		fmt.Fprintf(&b, "%s: %s%s (%s)\n", c.Severity, c.Text, since, c.ID)
		for _, e := range c.Effects {
			fmt.Fprintf(&b, "    %s: %s\n", e.Severity, e.Text)
		}
	}
	return strings.TrimSpace(b.String())
}

func TestWhatIsTolerableMatchesTheVerdict(t *testing.T) {
	c, err := sketch.Draw(`
		host a1 rack=a voter
		host b1 rack=b voter
		host c1 rack=c voter
		volume v in-sync=a1 copies=1`)
	if err != nil {
		t.Fatal(err)
	}
	st := health.Summary(c.State(), nil)
	racks, hosts, notRacks, notHosts := health.Tolerable(st.Verdict, st.Plan)
	if len(racks) != 2 || len(hosts) != 2 || notRacks["a"] != "volume v has its only copy there" || len(notHosts) != 1 || notHosts[sketch.Host("a1")] == "" {
		t.Error(racks, hosts, notRacks, notHosts)
	}
}
