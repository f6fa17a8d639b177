package model

import (
	"fmt"
	"time"
)

// broken returns the promise that a state breaks, "" if it breaks none
// (docs/INVARIANTS.md has the numbers).
func (w *world) broken(s *state) string {
	var acks, reads [2]bool
	for h := range s.hosts {
		x := &s.hosts[h]
		acks[h] = w.acknowledges(s, h)
		reads[h] = x.up && x.w.on && x.leaseLeft(w, h, w.local(h, s.now)) > 0
	}
	a, b := &s.hosts[0], &s.hosts[1]
	switch {
	case acks[0] && acks[1]:
		return "3: two epochs of a volume can acknowledge writes"
	case a.m.awake() && b.m.awake() && acks[0] && acks[1]:
		return "4: two machines of a VM can write"
	case a.m.awake() && b.m.awake() && !a.m.loose && !b.m.loose:
		return "14: two machines of a VM are awake"
	}
	for h := range s.hosts {
		if x, y := &s.hosts[h], &s.hosts[1-h]; y.w.on && y.w.epoch > x.w.epoch {
			if acks[h] {
				return fmt.Sprintf("3: epoch %d acknowledges a write and epoch %d is open", x.w.epoch, y.w.epoch)
			}
			if reads[h] && acks[1-h] {
				return fmt.Sprintf("6: epoch %d serves reads and epoch %d acknowledges writes", x.w.epoch, y.w.epoch)
			}
		}
	}
	if s.only == kvWasAway {
		if rec := s.records.VMs[w.vm].Val; rec.Host != w.ids[0] || rec.Generation != 1 || a.m.act != running {
			return "a machine was held or restarted though only the control plane was away"
		}
	}
	return ""
}

// acknowledges reports whether a write of the host's volume would be acknowledged
// now: every replica that it waits for serves its epoch.
func (w *world) acknowledges(s *state, h int) bool {
	x := &s.hosts[h]
	if !x.up || !x.w.on {
		return false
	}
	for i, in := range x.w.inSync {
		if !in {
			continue
		}
		y := &s.hosts[i]
		if i != h && !s.meet() {
			return false
		}
		if p := y.auth.Promise(); p != x.w.epoch && (w.Mistake != NoEpochCheck || p < x.w.epoch) {
			return false
		}
	}
	return true
}

// runs reports whether the VM is up where it belongs.
func (w *world) runs(s *state) bool {
	for h := range s.hosts {
		x := &s.hosts[h]
		if x.m.act == running && s.records.VMs[w.vm].Val.Host == w.ids[h] && x.m.gen == s.records.VMs[w.vm].Val.Generation && w.acknowledges(s, h) {
			return true
		}
	}
	return false
}

// within is how long after the last disturbance a VM must run again.
const within = time.Minute
