package killpoints

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
)

// smoke are the points that every test run plays, on one host.
func smoke() []crashpoint.Point {
	return []crashpoint.Point{crashpoint.CommitWritten, crashpoint.CommitSynced, crashpoint.CheckpointHalfRoot, crashpoint.SnapshotKept}
}

// TestKillPoints kills a process at points. KILL_POINTS=all does so at every one, in
// a lab of three racks, or at those whose names contain what it says; KILL_FIGURES
// names the file for what came of it.
func TestKillPoints(t *testing.T) {
	points, racks := smoke(), 1
	if which := os.Getenv("KILL_POINTS"); which != "" {
		points, racks = nil, 3
		for _, p := range crashpoint.All() {
			if unprovoked(p) == "" && (which == "all" || strings.Contains(string(p), which)) {
				points = append(points, p)
			}
		}
	}
	begun := time.Now()
	s := newScene(t, racks)
	rng := rand.New(rand.NewPCG(1, uint64(racks)))
	var played []killed
	for _, p := range points {
		t.Run(strings.ReplaceAll(string(p), " ", "-"), func(t *testing.T) {
			k := s.as(t).kill(p, 1+rng.IntN(passages(p)))
			if t.Failed() {
				return
			}
			t.Logf("%s, passage %d, killed after %.1f s: %d operations of clients, %d connections, nothing lost", p, k.Passage, k.After, k.Operations, k.Connections)
			played = append(played, k)
		})
	}
	if path := os.Getenv("KILL_FIGURES"); path != "" {
		if err := keep(path, begun, played); err != nil {
			t.Error(err)
		}
	}
}

// unprovoked says why nothing here has a point passed; "": something has.
func unprovoked(p crashpoint.Point) string {
	if p == crashpoint.TakeoverCutBack {
		return "an in-sync member is cut back only where the control plane was set back to older records, which name one that a later epoch has done without"
	}
	return ""
}

// passages is up to which passage of a point the process lives on: those that are
// passed all the time are met at any moment.
func passages(p crashpoint.Point) int {
	switch step, _, _ := strings.Cut(string(p), ":"); step {
	case "commit":
		return 60
	case "checkpoint", "cleaner":
		return 3
	}
	return 1
}

// figures is what came of all points, those of earlier runs included.
type figures struct {
	What       string    `json:"what"`
	Commit     string    `json:"commit"` // of the last run
	Begun      time.Time `json:"begun"`
	Points     int       `json:"points"`
	Killed     int       `json:"killed_and_verified"`
	Unprovoked int       `json:"not_provoked"`
	Operations int64     `json:"operations_of_clients"`
	Flushes    int       `json:"flushes"`
	List       []killed  `json:"list"`
}

// killed is a point at which a process killed itself, and after which everything was
// there.
type killed struct {
	Point       crashpoint.Point `json:"point"`
	Passage     int              `json:"passage"`
	After       float64          `json:"after_seconds"` // since it was ordered
	Operations  int64            `json:"operations"`
	Flushes     int              `json:"flushes"`
	Connections int64            `json:"connections"`
}

// keep puts what came of some points into a file, in the place of what it says of
// them. It is not asked to where points failed.
func keep(path string, begun time.Time, played []killed) error {
	f := figures{List: played}
	if b, err := os.ReadFile(path); err == nil {
		var before figures
		if err := json.Unmarshal(b, &before); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		f.List = append(f.List, before.List...)
	}
	f.What, f.Commit, f.Begun, f.Points = "kill-points", commit(), begun.UTC().Truncate(time.Second), len(crashpoint.All())
	var list []killed // in the order of the points
	for _, p := range crashpoint.All() {
		if unprovoked(p) != "" {
			f.Unprovoked++
		}
		if i := slices.IndexFunc(f.List, func(k killed) bool { return k.Point == p }); i >= 0 {
			k := f.List[i]
			list = append(list, k)
			f.Killed++
			f.Operations += k.Operations
			f.Flushes += k.Flushes
		}
	}
	f.List = list
	b, err := json.MarshalIndent(&f, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o666)
	}
	return err
}

func commit() string {
	out, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	return cmp.Or(strings.TrimSpace(string(out)), "unknown")
}

// Who builds nothing special gets a program without points.
func TestTheProductHasNoPoints(t *testing.T) {
	if crashpoint.Built {
		t.Error("without the tag a program kills itself at points")
	}
}

// What was played before stays, points that are played again have what came of them
// last, and points that there are not any more go.
func TestFiguresAreKeptBesideOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.json")
	for _, some := range [][]killed{
		{{Point: crashpoint.JoinBuilt, Operations: 5, Flushes: 1}, {Point: "was: there once", Operations: 100}},
		{{Point: crashpoint.CommitTold, Operations: 7}},
		{{Point: crashpoint.JoinBuilt, Operations: 6, Flushes: 2}},
	} {
		if err := keep(path, time.Now(), some); err != nil {
			t.Fatal(err)
		}
	}
	var f figures
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil || f.Killed != 2 || f.Operations != 13 || f.Flushes != 2 || f.List[0].Point != crashpoint.CommitTold || f.Points != len(crashpoint.All()) {
		t.Errorf("%+v, %v", f, err)
	}
}
