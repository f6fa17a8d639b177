package model

import (
	"strings"
	"testing"
)

// What a history may begin with.
const (
	cutA     = "a and the control plane are cut off"
	cutAB    = "a and b are cut off"
	lagAB    = "what a and b say lags"
	lagLead  = "the leader lags"
	powerOff = "a loses its power"
)

// mistaken says what it takes to find a mistake: how it begins, and what else may
// happen then.
type mistaken struct {
	Mistake Mistake
	begin   []string
	kinds   int
	n       int
}

func allMistakes() []mistaken {
	return []mistaken{
		{LeaseFromAnswer, []string{cutA, lagAB}, 0, 0},
		{ReadoptDead, nil, Deaths, 1},
		{StartEarly, []string{cutA}, Cuts, 1},
		{NoEpochCheck, nil, Cuts, 1},
		{GivenAlive, []string{cutA, cutAB, lagLead}, Lags, 1},
		{NewLeaseIsWord, []string{cutA}, Lags, 1},
		{HeldLate, []string{cutA}, Cuts, 1},
		{NoTimeToStop, []string{cutA}, Cuts, 1},
		{OpenOvertaken, []string{powerOff}, Deaths, 1},
	}
}

// A model that cannot find a mistake says nothing of what has none.
func TestMistakesAreFound(t *testing.T) {
	for _, m := range allMistakes() {
		t.Run(string(m.Mistake), func(t *testing.T) {
			r, err := Explore(Config{Slow: 1, Disturbances: m.n, Kinds: m.kinds, Begin: m.begin, Mistake: m.Mistake, MaxStates: 150000})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%q after %d states and %d transitions:\n%s", r.Broken, r.States, r.Transitions, strings.Join(r.History, "\n"))
			if r.Broken == "" {
				t.Errorf("not found")
			}
		})
	}
}
