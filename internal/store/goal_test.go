package store

import "testing"

// A disk that is full must be cleaned, however small it is: when writers stall
// because only the reserve is left, the cleaner is behind its goal.
func TestEveryFullDiskIsCleaned(t *testing.T) {
	for places := uint32(minPlaces); places < 2000; places++ {
		s := &Store{sb: superblock{places: places}}
		if s.cleanGoal() <= s.reserve() {
			t.Fatalf("a disk of %d places stalls its writers at %d free places and is cleaned below %d only", places, s.reserve(), s.cleanGoal())
		}
	}
}
