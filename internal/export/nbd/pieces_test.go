package nbd

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// noise offers a volume full of noise and returns that, too.
func noise(t *testing.T, size int) (*offering, []byte) {
	o := offer1(t, int64(size), Limits{})
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range data {
		data[i] = byte(r.Uint32()) | 1
	}
	c := o.dial(t)
	if _, err := c.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	return o, data
}

func TestALongReadIsAnsweredInPieces(t *testing.T) {
	o, data := noise(t, 8*mib)
	w := structured(t, o.path)
	for _, n := range []int{pieceSize, pieceSize + 1, 2*pieceSize - 1, 5*pieceSize + 4711, 8*mib - 77} {
		got, seen := make([]byte, n), 0
		for _, p := range w.pieces(request{off: 77, length: uint64(n), cookie: uint64(n)}) {
			if p.typ != chunkData || p.size > pieceSize {
				t.Fatalf("a read of %d: a chunk of type %d with %d bytes", n, p.typ, p.size)
			}
			copy(got[p.off-77:], p.data)
			seen += p.size
		}
		if seen != n || !bytes.Equal(got, data[77:][:n]) {
			t.Fatalf("a read of %d gave %d bytes, or others", n, seen)
		}
	}
	if got := w.pieces(request{flags: cfDF, length: 5 * pieceSize}); len(got) != 1 || got[0].size != 5*pieceSize {
		t.Errorf("a read that must not be fragmented came in %d chunks", len(got))
	}
}

// Pieces that complete late, in any order, and one that fails: the answer ends
// once, with the last of them.
func TestAPieceThatFailsFailsTheRead(t *testing.T) {
	o, data := noise(t, 8*mib)
	c := o.dial(t)
	defer c.Close()
	got := make([]byte, 8*mib)
	for skip := range 4 {
		o.faults.Fail(export.Read, 3*skip, holdfast.Errorf(holdfast.IO, "a bad place"))
		if _, err := c.ReadAt(got, 0); !holdfast.IsKind(err, holdfast.IO) {
			t.Errorf("with piece %d failing: %v", 3*skip, err)
		}
	}
	o.faults.Hold()
	done := make(chan error, 1)
	go func() { _, err := c.ReadAt(got, 0); done <- err }()
	for o.faults.Held() < 8*mib/pieceSize {
		runtime.Gosched()
	}
	o.faults.Release()
	if err := <-done; err != nil || !bytes.Equal(got, data) {
		t.Errorf("after all that: %v, or other bytes", err)
	}
}

// A client that does not take its answers for a while gets all of them, as they
// were, when it does.
func TestAnswersThatTheSocketDoesNotTake(t *testing.T) {
	o, data := noise(t, 8*mib)
	w := structured(t, o.path)
	for i := range uint64(4) {
		w.send(appendRequest(nil, request{length: 8 * mib, cookie: i + 1}))
	}
	w.send(appendRequest(nil, request{length: 4096, cookie: 9}))
	left := map[uint64]bool{1: true, 2: true, 3: true, 4: true, 9: true}
	for len(left) > 0 {
		h := w.recv(chunkSize)
		p := w.recv(int(be.Uint32(h[16:])))
		at := be.Uint64(p)
		if be.Uint16(h[6:]) != chunkData || !bytes.Equal(p[8:], data[at:][:len(p)-8]) {
			t.Fatalf("chunk % x is not what the volume has at %d", h, at)
		}
		if be.Uint16(h[4:])&chunkDone != 0 {
			if id := be.Uint64(h[8:]); !left[id] {
				t.Fatalf("answer %d ends twice", id)
			} else {
				delete(left, id)
			}
		}
	}
}
