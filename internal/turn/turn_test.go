package turn_test

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/turn"
)

func host(n byte) holdfast.HostID {
	return holdfast.HostID{UUID: holdfast.UUID{0: n, 6: 0x40, 8: 0x80}}
}

// TestOneHostHasTheTurn: it keeps it while it asks again, others wait, and get it when
// it was given back or has ended.
func TestOneHostHasTheTurn(t *testing.T) {
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	over := false
	w.Clock().Go(func() {
		st := srv.Handle("a", w.Clock())
		take := func(n byte, busy bool) {
			t.Helper()
			if err := turn.Take(st, host(n), string('a'+rune(n))); busy != holdfast.IsKind(err, holdfast.Busy) || !busy && err != nil {
				t.Errorf("host %d: %v", n, err)
			}
		}
		give := func(n byte) {
			t.Helper()
			if err := turn.Give(st, host(n)); err != nil {
				t.Errorf("host %d: %v", n, err)
			}
		}
		take(1, false)
		take(1, false)
		take(2, true)
		give(2) // not its to give
		take(2, true)
		give(1)
		take(2, false)
		clock.Sleep(w.Clock(), turn.Life*3/2)
		take(3, false)
		if _, err := st.Commit(nil, []kv.Op{{Key: "holdfast/2/turn", Value: []byte("{")}}); err != nil {
			t.Error(err)
		}
		take(3, true) // what cannot be read is somebody's
		over = true
	})
	w.Run(4 * turn.Life)
	w.Close()
	if !over {
		t.Error("it did not end")
	}
}
