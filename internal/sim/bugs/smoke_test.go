package main

import (
	"os"
	"os/exec"
	"testing"
)

// quick are bugs that the first few seeds find, each in a package that little depends
// on: planting one and finding it takes seconds.
var quick = []string{"acknowledge-before-ejection", "do-not-tell-who-is-away"}

const quickSeeds = 20

// The simulator finds bugs that are there: a hunt of a few, as `make bugs` does it of
// all. (What the same seeds find in the product as it is, internal/sim tests.)
func TestTheSimulatorFindsPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it builds the program anew for every bug")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command: bugs are planted by building the program with them")
	}
	t.Chdir("../../..") // where they are planted from
	for _, name := range quick {
		b, err := choose(name)
		if err != nil {
			t.Fatal(err)
		}
		program, err := plant(t.TempDir(), &b[0])
		if err != nil {
			t.Fatal(err)
		}
		var r result
		look(program, &r, quickSeeds, 1)
		if r.Seed == 0 {
			t.Errorf("%s was not found in %d seeds: a fault is not played any more, or a check is missing", name, quickSeeds)
		}
		t.Logf("%s: %s", name, told(&r))
		if err := os.Remove(program); err != nil {
			t.Error(err)
		}
	}
}
