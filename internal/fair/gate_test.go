package fair

import (
	"math/rand/v2"
	"testing"
)

// yard has a gate, flows that always want more, and a server that gives back in
// the order of taking, one at a time.
type yard struct {
	g     Gate
	flows []*hungry
	queue []*hungry
	sizes []int64
}

type hungry struct {
	Flow
	size   int64
	served int64
	asked  bool // waits to be woken
	want   bool
}

func (y *yard) add(weight int, size int64) *hungry {
	h := &hungry{size: size, want: true}
	h.SetWeight(weight)
	y.flows = append(y.flows, h)
	return h
}

// go1 lets a flow take what it may.
func (y *yard) take(h *hungry) {
	for h.want && !h.asked {
		if !y.g.Ask(&h.Flow, false, func() { h.asked = false; y.take(h) }) {
			h.asked = true
			return
		}
		y.g.Take(&h.Flow, h.size)
		y.queue, y.sizes = append(y.queue, h), append(y.sizes, h.size)
	}
}

// let lets a flow take what there is room for.
func (y *yard) let(h *hungry) {
	y.take(h)
	for wake := y.g.Next(); wake != nil; wake = y.g.Next() {
		wake()
	}
}

// serve gives back n bytes' worth.
func (y *yard) serve(n int64) {
	for n > 0 {
		for _, h := range y.flows {
			y.let(h)
		}
		if len(y.queue) == 0 {
			return
		}
		h, size := y.queue[0], y.sizes[0]
		y.queue, y.sizes = y.queue[1:], y.sizes[1:]
		y.g.Give(&h.Flow, size)
		h.served += size
		n -= size
	}
}

// TestServiceIsSplitByWeight whatever the sizes of what is taken at once.
func TestServiceIsSplitByWeight(t *testing.T) {
	for _, c := range []struct {
		name         string
		room         int64
		wa, wb       int
		sizeA, sizeB int64
	}{
		{"equal", 64, 0, 100, 1, 1},
		{"one to three", 64, 100, 300, 1, 1},
		{"large beside small", 64, 100, 100, 64, 1},
		{"large with little weight", 64, 50, 400, 64, 1},
		{"both larger than half of the room", 64, 100, 300, 40, 40},
		{"both larger than the room", 64, 100, 300, 100, 100},
		{"far apart", 64, 10, 1000, 1, 1},
	} {
		y := &yard{g: New(c.room, c.room)}
		a, b := y.add(c.wa, c.sizeA), y.add(c.wb, c.sizeB)
		y.serve(200_000)
		want := float64(b.Weight()) / float64(a.Weight())
		if got := float64(b.served) / float64(a.served); got < want*0.8 || got > want*1.2 {
			t.Errorf("%s: weights %d and %d got %d and %d, 1 to %.2f instead of %.2f", c.name, a.Weight(), b.Weight(), a.served, b.served, got, want)
		}
	}
}

// TestWhoHasNothingDoesNotWait for room that another has filled, and pays for it
// all the same.
func TestWhoHasNothingDoesNotWait(t *testing.T) {
	y := &yard{g: New(64, 64)}
	flood := y.add(0, 16)
	y.serve(1 << 20)
	y.let(flood)
	if y.g.taken < 64 {
		t.Fatalf("the flood has only %d of 64", y.g.taken)
	}
	for range 100 {
		var guest Flow
		if !y.g.Ask(&guest, false, nil) {
			t.Fatal("one that had nothing had to wait")
		}
		y.g.Take(&guest, 1)
		if guest.end <= y.g.now {
			t.Fatal("what it took is not counted")
		}
		y.g.Give(&guest, 1)
	}
	var guest Flow
	if y.g.Ask(&guest, true, func() {}) {
		t.Error("a closed gate let one in")
	}
}

// TestIdlingSavesUpNothing: one that was away for long does not shut out those
// that worked meanwhile.
func TestIdlingSavesUpNothing(t *testing.T) {
	y := &yard{g: New(8, 8)}
	a, b := y.add(0, 1), y.add(0, 1)
	y.serve(1000)
	b.want = false
	y.serve(200_000)
	b.want = true
	a.served, b.served = 0, 0
	y.serve(1000)
	if a.served < 450 || b.served < 450 {
		t.Errorf("after a pause of one they got %d and %d", a.served, b.served)
	}
}

// TestOneAloneHasMoreRoom until another comes.
func TestOneAloneHasMoreRoom(t *testing.T) {
	y := &yard{g: New(10, 100)}
	a := y.add(0, 1)
	y.serve(1)
	if n := y.g.taken; n > 10 {
		t.Errorf("%d were let in at first", n)
	}
	y.serve(aloneAfter * 100)
	y.let(a)
	if n := y.g.taken; n != 100 {
		t.Errorf("one alone has %d, want 100", n)
	}
	b := y.add(0, 1)
	y.serve(200)
	if n := y.g.taken; n > 11 || b.served == 0 {
		t.Errorf("two have %d, want 10; the second got %d", n, b.served)
	}
}

// TestNobodyIsForgotten: whoever waits is woken as long as what is taken is given
// back, whatever comes, goes and changes its weight meanwhile.
func TestNobodyIsForgotten(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 1))
		y := &yard{g: New(1+rng.Int64N(50), 1+rng.Int64N(100))}
		for range 2 + rng.IntN(6) {
			y.add(rng.IntN(MaxWeight+1), 1+rng.Int64N(60))
		}
		for range 200 {
			h := y.flows[rng.IntN(len(y.flows))]
			h.want = rng.IntN(3) > 0
			h.SetWeight(rng.IntN(MaxWeight + 1))
			y.serve(rng.Int64N(500))
		}
		for _, h := range y.flows {
			h.want, h.served = true, 0
			h.SetWeight(100)
		}
		y.serve(20_000)
		for i, h := range y.flows {
			if h.served == 0 {
				t.Fatalf("seed %d: flow %d of %d gets nothing", seed, i, len(y.flows))
			}
		}
		for _, h := range y.flows {
			h.want = false
		}
		y.serve(1 << 40)
		if y.g.taken != 0 || y.g.Waits() {
			t.Fatalf("seed %d: %d are still taken, waiting: %v", seed, y.g.taken, y.g.Waits())
		}
	}
}
