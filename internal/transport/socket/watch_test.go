package socket

import (
	"testing"
	"time"
)

// watched counts the waits that are watched of n, if each ends as came says.
func (w *watch) watched(n int, came bool) (k int) {
	for range n {
		if w.worthwhile() {
			k++
			w.over(came)
		}
	}
	return k
}

func TestAnOtherEndThatAnswersAtOnceIsWatched(t *testing.T) {
	w := watch{may: func() bool { return true }}
	if k := w.watched(1000, true); k != 1000 {
		t.Errorf("%d of 1000 waits are watched", k)
	}
}

func TestAQuietConnectionIsLeftAlone(t *testing.T) {
	w := watch{may: func() bool { return true }}
	if k := w.watched(64000, false); k > 64000/watchRest+8 {
		t.Errorf("%d of 64000 waits are watched in vain", k)
	}
	if k := w.watched(watchRest+1, true); k == 0 {
		t.Error("it is never watched again")
	}
	if k := w.watched(100, true); k != 100 {
		t.Errorf("once it has answered at once, %d of 100 waits are watched", k)
	}
}

// TestWhatComesWhileWatchedIsRead has one end answer within the moment, and
// another that it is waited for.
func TestWhatComesWhileWatchedIsRead(t *testing.T) {
	each(t, func(t *testing.T, a, b *Conn) {
		a.Watch(func() bool { return true })
		go func() {
			p := make([]byte, 1)
			for {
				if _, err := b.Read(p); err != nil {
					return
				}
				if p[0]%16 == 0 {
					time.Sleep(10 * watchFor) // a parks
				}
				if _, err := b.Write(p); err != nil {
					return
				}
			}
		}()
		for i := range 1000 {
			p := []byte{byte(i)}
			if _, err := a.Write(p); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Read(p); err != nil || p[0] != byte(i) {
				t.Fatalf("message %d comes back as %d, %v", i, p[0], err)
			}
		}
	})
}
