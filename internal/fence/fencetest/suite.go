// Package fencetest is the conformance suite of the fence seam.
package fencetest

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/fence"
)

// Lab is one computer with a watchdog and something to act on.
type Lab interface {
	// Run executes body as the agent and returns when it has ended.
	Run(body func())
	// Watchdog is the living agent's.
	Watchdog() fence.Watchdog
	// RestartAgent ends the agent, without any word to the watchdog, and gives
	// another one a watchdog on the same computer.
	RestartAgent()
	// Acted reports whether the machines were acted upon since Mend; Mend puts
	// them back.
	Acted() bool
	Mend()
	// Await lets time pass until cond holds; false: it gave up.
	Await(cond func() bool) bool
	// Pass lets d pass.
	Pass(d time.Duration)
	// Short is long enough for a few calls on a busy computer, and as short as
	// that allows.
	Short() time.Duration
}

// Run runs the suite; newLab makes a fresh computer for each case.
func Run(t *testing.T, newLab func(t *testing.T) Lab) {
	for name, body := range map[string]func(*testing.T, Lab){
		"an unpetted host acts":                unpetted,
		"a petted host does not":               petted,
		"nothing happens before the first pet": unarmed,
		"a disarmed watchdog does not act":     disarmed,
		"it acts when the agent is gone":       agentGone,
		"a new agent takes over":               takenOver,
		"it says that it acted, once":          toldOnce,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // computers of their own, which mostly wait
			lab := newLab(t)
			lab.Run(func() { body(t, lab) })
		})
	}
}

func pet(t *testing.T, lab Lab, d time.Duration) {
	t.Helper()
	if err := lab.Watchdog().Pet(d); err != nil {
		t.Fatalf("pet: %v", err)
	}
}

func mustAct(t *testing.T, lab Lab) {
	t.Helper()
	if !lab.Await(lab.Acted) {
		t.Fatal("the watchdog did not act")
	}
}

func mustNotAct(t *testing.T, lab Lab, d time.Duration) {
	t.Helper()
	lab.Pass(d)
	if lab.Acted() {
		t.Fatal("the watchdog acted")
	}
}

func unpetted(t *testing.T, lab Lab) {
	pet(t, lab, lab.Short())
	mustAct(t, lab)
}

func petted(t *testing.T, lab Lab) {
	pet(t, lab, lab.Short())
	pet(t, lab, time.Hour)
	mustNotAct(t, lab, 2*lab.Short())
}

func unarmed(t *testing.T, lab Lab) {
	lab.Watchdog()
	mustNotAct(t, lab, lab.Short())
}

func disarmed(t *testing.T, lab Lab) {
	pet(t, lab, lab.Short())
	if err := lab.Watchdog().Disarm(); err != nil {
		t.Fatal(err)
	}
	mustNotAct(t, lab, 2*lab.Short())
	pet(t, lab, lab.Short()) // and it can be armed again
	mustAct(t, lab)
}

func agentGone(t *testing.T, lab Lab) {
	pet(t, lab, lab.Short())
	lab.RestartAgent()
	mustAct(t, lab)
}

func takenOver(t *testing.T, lab Lab) {
	pet(t, lab, lab.Short())
	lab.RestartAgent()
	pet(t, lab, time.Hour)
	mustNotAct(t, lab, 2*lab.Short())
}

func toldOnce(t *testing.T, lab Lab) {
	pet(t, lab, lab.Short())
	mustAct(t, lab)
	if err := lab.Watchdog().Pet(time.Hour); !holdfast.IsKind(err, holdfast.Fenced) {
		t.Fatalf("the first pet after the watchdog acted: %v", err)
	}
	lab.Mend()
	pet(t, lab, lab.Short())
	mustAct(t, lab)
}
