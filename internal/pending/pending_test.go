package pending

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// hands is a clock that is set by hand.
type hands struct {
	clock.System
	now time.Duration
}

func (h *hands) Now() time.Duration { return h.now }

func TestWhatIsPendingIsTakenOnce(t *testing.T) {
	h := &hands{}
	l := New[int](h, Limits{Life: time.Minute, Most: 8, From: 3})
	if !l.Put("a", "x", 1) || !l.Put("b", "x", 2) {
		t.Fatal("there is room")
	}
	if _, there, _ := l.Take("a", func(n int) bool { return n == 2 }); there {
		t.Error("somebody else's was taken")
	}
	if v, there, fresh := l.Take("a", func(n int) bool { return n == 1 }); v != 1 || !there || !fresh {
		t.Errorf("%d, %v, %v", v, there, fresh)
	}
	if _, there, _ := l.Take("a", nil); there {
		t.Error("it was taken twice")
	}
	h.now = time.Minute
	if _, there, fresh := l.Take("b", nil); !there || fresh {
		t.Errorf("it outlived its time: there %v, fresh %v", there, fresh)
	}
}

func TestWhatIsPendingIsBounded(t *testing.T) {
	h := &hands{}
	l := New[int](h, Limits{Life: time.Minute, Most: 8, From: 3})
	for n := range 5 { // the oldest of one address go
		h.now++
		if !l.Put(fmt.Sprint(n), "x", n) {
			t.Error("an address fills the list alone")
		}
	}
	if _, there, _ := l.Take("1", nil); there || l.Len() != 3 {
		t.Errorf("the oldest stays; there are %d", l.Len())
	}
	for n := range 10 {
		l.Put(fmt.Sprint("more", n), fmt.Sprint(n), n)
	}
	if l.Put("last", "z", 1) || l.Len() != 8 {
		t.Errorf("there are %d", l.Len())
	}
	h.now += time.Minute
	if !l.Put("later", "z", 1) || l.Len() != 1 {
		t.Errorf("what outlived its time stays: %d", l.Len())
	}
}
