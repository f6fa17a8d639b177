package model

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a history may begin with.
const (
	cutA     = "a and the control plane are cut off"
	cutAB    = "a and b are cut off"
	lagAB    = "what a and b say lags"
	powerOff = "a loses its power"
)

// mistaken says what it takes to find a mistake: how it begins, and what else may
// happen then.
type mistaken struct {
	Mistake Mistake
	begin   []string
	kinds   int
	n       int
	long    bool // not in a moment
}

func mistakes() []mistaken {
	return []mistaken{
		{StartEarly, []string{cutA, cutAB}, 0, 0, false},
		{ReadoptDead, nil, Deaths, 1, false},
		{NoEpochCheck, nil, Cuts, 1, false},
		{OpenOvertaken, []string{powerOff}, Deaths, 1, false},
		{LeaseFromAnswer, []string{cutA, lagAB}, 0, 0, true},
	}
}

func (m mistaken) find(t *testing.T) Result {
	t.Helper()
	r, err := Explore(Config{Slow: 1, Disturbances: m.n, Kinds: m.kinds, Begin: m.begin, Mistake: m.Mistake, MaxStates: 150_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%q after %d states and %d transitions:\n%s", r.Broken, r.States, r.Transitions, strings.Join(r.History, "\n"))
	if r.Broken == "" {
		t.Errorf("a mistake was not found: %s", m.Mistake)
	}
	return r
}

// A model that cannot find a mistake says nothing of what has none.
func TestMistakesAreFound(t *testing.T) {
	for _, m := range mistakes() {
		if !m.long {
			t.Run(string(m.Mistake), func(t *testing.T) { m.find(t) })
		}
	}
}

func explored(t *testing.T, c Config) Result {
	t.Helper()
	r, err := Explore(c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Broken != "" {
		t.Errorf("%s:\n%s", r.Broken, strings.Join(r.History, "\n"))
	}
	return r
}

// Whatever one disturbance does, no promise breaks, and the VM runs again.
func TestOneDisturbance(t *testing.T) {
	for _, c := range []Config{
		{Name: "a cable", Slow: 1, Kinds: Cuts},
		{Name: "a death", Slow: 1, Kinds: Deaths},
		{Name: "an unknown outcome", Slow: 2, Kinds: Late | Cuts},
	} {
		t.Run(c.Name, func(t *testing.T) {
			c.Disturbances, c.MaxStates = 1, 200_000
			if r := explored(t, c); !r.Complete || r.States < 1000 {
				t.Errorf("%d states, complete: %v", r.States, r.Complete)
			}
		})
	}
}

// TestModel explores with up to MODEL_STATES states for each configuration and
// writes docs/MODEL.md.
func TestModel(t *testing.T) {
	most, err := strconv.Atoi(os.Getenv("MODEL_STATES"))
	if err != nil {
		t.Skip("nothing asked for: make model explores for long")
	}
	var b strings.Builder
	out, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	fmt.Fprintf(&b, "Explored on %s at %s.\n\n", time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(out)))
	b.WriteString("| disturbances | of | clock that is slow by 1/50 | states | transitions | depth | all there are | the VM ran again within |\n|---|---|---|---|---|---|---|---|\n")
	for _, c := range []Config{
		{Disturbances: 1, Kinds: Cuts, Slow: 1, Name: "cables"}, {Disturbances: 1, Kinds: Cuts, Slow: 2, Name: "cables"},
		{Disturbances: 1, Kinds: Deaths, Slow: 1, Name: "deaths"}, {Disturbances: 1, Kinds: Deaths, Slow: 2, Name: "deaths"},
		{Disturbances: 1, Kinds: KVAway, Slow: 1, Name: "the control plane away"},
		{Disturbances: 2, Kinds: Lags | Late, Slow: 1, Name: "lateness"},
		{Disturbances: 2, Kinds: AllOfIt, Slow: 1, Name: "everything"}, {Disturbances: 2, Kinds: AllOfIt, Slow: 2, Name: "everything"},
	} {
		c.MaxStates = most
		r := explored(t, c)
		fmt.Fprintf(&b, "| %d | %s | %s | %d | %d | %d | %s | %.1f s |\n", c.Disturbances, c.Name, [...]string{"none", "the first host's", "the second's"}[c.Slow],
			r.States, r.Transitions, r.Depth, map[bool]string{true: "yes", false: "no"}[r.Complete], r.Longest.Seconds())
	}
	b.WriteString("\n| mistake | breaks | found after states |\n|---|---|---|\n")
	for _, m := range mistakes() {
		r := m.find(t)
		fmt.Fprintf(&b, "| %s | %s | %d |\n", m.Mistake, r.Broken, r.States)
	}
	if t.Failed() {
		return
	}
	const path, begin = "../../../docs/MODEL.md", "<!-- made: model -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(page), begin)
	if !ok {
		t.Fatalf("%s has no %q", path, begin)
	}
	if err := os.WriteFile(path, []byte(head+begin+b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
