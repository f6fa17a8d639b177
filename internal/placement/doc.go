// Package placement decides where things go: the replicas of a volume, the
// host of a VM, and, before anything is lost, what would restart where. It is
// pure: a picture of the cluster in, decisions with their reasons out; the same
// picture always gives the same decision.
//
// Everything that is turned down carries a reason that a person can act on,
// and CanLose errs on one side only: it may say no where yes were true, never
// the reverse.
package placement

import "strings"

// Why explains a decision.
type Why struct {
	Chosen   []string    // why each thing chosen was
	Rejected []Rejection // what was turned down, in the order of the cluster
	Short    string      // what the decision falls short of; "" if nothing
}

// Rejection is one candidate that was turned down.
type Rejection struct {
	What   string // a host, or "host/path" for a disk
	Reason string
}

// String prints the reasons on one line, what falls short first.
func (w Why) String() string {
	var parts []string
	if w.Short != "" {
		parts = append(parts, w.Short)
	}
	parts = append(parts, w.Chosen...)
	for _, r := range w.Rejected {
		parts = append(parts, "not "+r.What+": "+r.Reason)
	}
	return strings.Join(parts, "; ")
}

func (w *Why) reject(what, reason string) {
	w.Rejected = append(w.Rejected, Rejection{What: what, Reason: reason})
}
