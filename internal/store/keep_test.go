package store

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestWhatTheHostKeepsOutlivesATornWrite(t *testing.T) {
	b := newBed(t, 3)
	long := bytes.Repeat([]byte("the records of a cluster "), 900) // several blocks
	b.keep([]byte("the first"))
	b.keep(long)
	b.isKept(long, []byte("the first"))
	b.keep([]byte("the third"))
	b.isKept([]byte("the third"), long)
	b.crash()
	b.isKept([]byte("the third"), long)

	b.d.Rot(b.s.sb.keptAt(1) + blockSize + 2) // the newest was torn
	b.crash()
	b.isKept(long)
	b.keep([]byte("the fourth")) // not in the place of the only one that is left
	b.isKept([]byte("the fourth"), long)
}

func TestTooMuchIsNotKept(t *testing.T) {
	b := newBed(t, 3)
	b.keep([]byte("before"))
	if err := b.try(func() error { return b.s.Keep(make([]byte, b.s.KeptRoom()+1)) }); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Errorf("more than there is room for: %v", err)
	}
	b.isKept([]byte("before"))
	all := bytes.Repeat([]byte{7}, int(b.s.KeptRoom()))
	b.keep(all)
	b.isKept(all, []byte("before"))
}

func (b *bed) keep(p []byte) {
	b.t.Helper()
	b.run(func() error { return b.s.Keep(p) })
}

// isKept reads what is kept from the disk of a host that runs no store.
func (b *bed) isKept(want ...[]byte) {
	b.t.Helper()
	b.run(func() error {
		id, got, err := Kept(b.s.dev)
		if err == nil && (id != testIdentity() || len(got) != len(want)) {
			b.t.Fatalf("disk %v keeps %d, want %d", id, len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				b.t.Errorf("number %d: %.40q, want %.40q", i, got[i], want[i])
			}
		}
		return err
	})
}
