package sim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// PlantedBug is what came of looking for a bug that was planted (internal/sim/bugs).
type PlantedBug struct {
	Bug     string `json:"bug"`
	Commit  string `json:"commit,omitempty"`        // that it was planted in
	World   string `json:"sources,omitempty"`       // hash of the protocol's and the simulator's sources
	Tried   uint64 `json:"seeds_tried"`             // from 1 on
	Seed    uint64 `json:"found_by_seed,omitempty"` // 0: none of them found it
	Finding string `json:"finding,omitempty"`       // the first of that seed
	Judge   bool   `json:"by_porcupine,omitempty"`  // one of that seed's findings is the judge's of histories

	Reduced *Reduced `json:"reduced,omitempty"` // what the reducer made of that seed; nil: it was not asked
}

// Reduced is what became of a failing run that was made smaller.
type Reduced struct {
	Before  string `json:"before"` // what there is to it
	After   string `json:"after"`
	Runs    int    `json:"runs"`    // that were tried
	Finding string `json:"finding"` // of the smallest
	Story   string `json:"story"`   // which is this
}

// BugsFile is where they are kept, beside the summaries of campaigns.
const BugsFile = "bugs.json"

// PlantedBugs reads what came of all planted bugs; a file that is not there has
// nothing.
func PlantedBugs(file string) (all []PlantedBug, err error) {
	err = readEvidence(file, &all)
	return all, err
}

// readEvidence reads a file into x; one that is not there leaves it as it is.
func readEvidence(file string, x any) error {
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, x)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.Invalid, "%s is not what campaigns leave there: %w", file, err)
	}
	return nil
}

// DirectedRun is a run that is aimed at what random ones hardly ever reach.
type DirectedRun struct {
	Name    string   `json:"name"`
	Reaches []string `json:"reaches"` // pairs of a state and an event, as Summary.Visits has them
}

// DirectedFile is where they are kept, beside the summaries of campaigns.
const DirectedFile = "directed.json"

// directedRuns reads them; a file that is not there has none.
func directedRuns(file string) (all []DirectedRun, err error) {
	err = readEvidence(file, &all)
	return all, err
}

// evidence is all that is in a directory of campaigns.
type evidence struct {
	campaigns []Summary
	bugs      []PlantedBug
	directed  []DirectedRun
	others    []map[string]any // of real processes and of disks, each of one file
}

// gather reads a directory of campaigns.
func gatherEvidence(dir string) (e evidence, err error) {
	if e.campaigns, err = Summaries(dir); err != nil {
		return e, err
	}
	if e.bugs, err = PlantedBugs(filepath.Join(dir, BugsFile)); err != nil {
		return e, err
	}
	if e.directed, err = directedRuns(filepath.Join(dir, DirectedFile)); err != nil {
		return e, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return e, holdfast.Errorf(holdfast.Invalid, "campaigns in %q: %w", dir, err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		if name == BugsFile || name == DirectedFile || strings.HasPrefix(name, "seed-") {
			continue
		}
		var x map[string]any
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &x)
		}
		if err != nil {
			return e, holdfast.Errorf(holdfast.Invalid, "%s is not a summary: %w", path, err)
		}
		if _, ok := x["what"].(string); !ok {
			x["what"] = strings.TrimSuffix(name, ".json")
		}
		e.others = append(e.others, x)
	}
	return e, nil
}

// latest are the summaries of the protocol that was played last, and its hash.
func (e *evidence) latest() (protocol string, of []Summary) {
	for i := range e.campaigns {
		if p := e.campaigns[i].Protocol; p != "" {
			protocol = p
		}
	}
	for i := range e.campaigns {
		if protocol != "" && e.campaigns[i].Protocol == protocol {
			of = append(of, e.campaigns[i])
		}
	}
	return protocol, of
}

// total adds summaries up.
func total(of []Summary) (c Counts) {
	for i := range of {
		c.Add(of[i].Counts)
	}
	return c
}
