package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
)

// failing is what a host says of its disk that has failed, and the error that it
// is not in use for.
func (s *scene) failing(st *cluster.State, b *box) (text, down string) {
	a := st.Alive[b.rec.ID].Val
	for _, c := range a.Conditions {
		if strings.HasPrefix(c.ID, "disk-failing/") {
			text = c.Text
		}
	}
	for _, d := range a.Disks {
		down = d.Error
	}
	return text, down
}

// fails makes the next sync of the host's disk fail.
func (s *scene) fails(b *box) {
	s.Helper()
	b.disk.FailNext(memdisk.Sync, 1)
	s.as(b.clk, func() {
		if b.node.Volumes.Stores()[0].Checkpoint() == nil {
			s.Error("the checkpoint succeeded")
		}
	})
}

func TestADiskThatFailedComesBackByItselfAndIsSpokenOf(t *testing.T) {
	s := newScene(t, 31, 2)
	b := s.boxes[1]
	s.fails(b)
	s.until("it is in use again", func(st *cluster.State) bool {
		text, down := s.failing(st, b)
		return down == "" && strings.Contains(text, "failed once within an hour") && strings.Contains(text, "is in use")
	})
	s.run(time.Hour)
	s.until("it is forgotten", func(st *cluster.State) bool {
		text, _ := s.failing(st, b)
		return text == ""
	})
}

func TestADiskThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	s := newScene(t, 32, 2)
	b := s.boxes[1]
	s.fails(b)
	b.disk.SetChances(memdisk.Chances{WriteError: 1, SyncError: 1})
	s.until("it is told that it cannot be opened", func(st *cluster.State) bool {
		text, down := s.failing(st, b)
		return strings.Contains(text, "cannot be opened anew") && down != ""
	})
	s.run(10 * time.Minute)
	b.disk.SetChances(memdisk.Chances{})
	s.run(time.Minute + time.Second)
	s.until("it is in use again", func(st *cluster.State) bool {
		_, down := s.failing(st, b)
		return down == ""
	})
}

func TestAFailedDiskThatWasTakenBackIsNotSpokenOf(t *testing.T) {
	s := newScene(t, 34, 2)
	b := s.boxes[1]
	s.fails(b)
	s.until("it is told that it failed", func(st *cluster.State) bool {
		text, _ := s.failing(st, b)
		return text != ""
	})
	s.as(b.clk, func() { b.node.Volumes.RemoveStore(b.did) })
	s.until("nothing is told of it", func(st *cluster.State) bool {
		text, _ := s.failing(st, b)
		return text == ""
	})
}

func TestADiskThatFailsAgainAndAgainRests(t *testing.T) {
	s := newScene(t, 33, 2)
	b := s.boxes[1]
	for range 5 {
		s.fails(b)
		s.run(20 * time.Second)
	}
	text, down := s.failing(s.eye.State(), b)
	if down == "" || !strings.Contains(text, "failed 5 times within an hour and is left alone") {
		t.Fatalf("after five failures: %q, %q", down, text)
	}
	s.run(time.Hour)
	s.until("it is in use again", func(st *cluster.State) bool {
		_, down := s.failing(st, b)
		return down == ""
	})
}
