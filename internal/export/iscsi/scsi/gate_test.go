package scsi

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/export"
)

// script begins and runs commands by name and notes the order in which they
// end; the disk holds what it is told to hold.
type script struct {
	*stage
	p     *Path
	tasks map[string]*Task
	ended []string
}

func (s *script) begin(name string, attr Attr, cdb []byte, expect int64) {
	s.t.Helper()
	t := &Task{Path: s.p, Attr: attr, Expect: expect, Done: func(*Task) { s.ended = append(s.ended, name) }}
	copy(t.CDB[:], cdb)
	if !s.p.Begin(t) {
		s.t.Fatalf("%s is refused", name)
	}
	t.Buf = make([]byte, t.Need)
	s.tasks[name] = t
}

func (s *script) write(name string, attr Attr, lba int) {
	s.t.Helper()
	s.begin(name, attr, write10(lba, 1), 512)
}

// supply gives tasks their data.
func (s *script) supply(names ...string) {
	for _, n := range names {
		s.p.Run(s.tasks[n])
	}
}

func (s *script) wantEnded(names ...string) {
	s.t.Helper()
	if !slices.Equal(s.ended, names) {
		s.t.Fatalf("ended: %q, want %q", s.ended, names)
	}
}

func newScript(t *testing.T) *script {
	s := newStage(t, Options{}, nil)
	return &script{stage: s, p: s.path(1), tasks: map[string]*Task{}}
}

// An ordered task waits for what came before it, and holds up what comes after.
func TestOrderedTasks(t *testing.T) {
	s := newScript(t)
	s.write("first", Simple, 0)
	s.write("barrier", Ordered, 1)
	s.write("after", Simple, 2)
	s.write("urgent", Head, 3)
	s.supply("after", "barrier") // the data of the first is still on its way
	s.wantEnded()
	s.supply("urgent")
	s.wantEnded("urgent")
	s.supply("first")
	s.wantEnded("urgent", "first", "barrier", "after")
}

// A task that wants its blocks alone waits for those that touch them, and only
// for those.
func TestTasksThatWantTheirBlocksAlone(t *testing.T) {
	s := newScript(t)
	s.bad.Hold()
	s.write("same blocks", Simple, 8)
	s.write("other blocks", Simple, 100)
	atomic := []byte{opOrWrite16, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0}
	s.begin("alone", Simple, atomic, 512)
	s.write("behind", Simple, 8)
	s.supply("same blocks", "alone", "behind", "other blocks")
	if n := s.bad.Seen(export.Write); n != 2 {
		t.Fatalf("%d writes came to the disk, want the two that nobody is in the way of", n)
	}
	done := make(chan struct{})
	s.tasks["behind"].Done = func(*Task) { close(done) }
	s.bad.Release()
	<-done
	if !slices.Contains(s.ended, "alone") {
		t.Errorf("ended: %q; the last came before the one that wanted its blocks alone", s.ended)
	}
}
