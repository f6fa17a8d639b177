package sim

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// What a replica may lack and what it may not.
func TestWhatAReplicaMustHold(t *testing.T) {
	model := newBlockModel(3)
	for b := range 3 {
		model.submitted(b, 1)
		model.acknowledged(b, 1)
	}
	model.flushed()
	m := &mark{may: model.watch(), did: &ordered{}}
	for i, tag := range []uint64{2, 3, 4} { // one after the other, at LSNs 11, 12 and 13
		model.submitted(i, tag)
		model.acknowledged(i, tag)
		n := uint64(i)
		m.did.writes = append(m.did.writes, &orderedWrite{block: i, tag: tag, submitted: 2*n + 1, done: 2*n + 2,
			lower: holdfast.LSN(10 + n), upper: holdfast.LSN(11 + n)})
	}
	for _, c := range []struct {
		holds      []uint64
		upto, sure uint64
		want       string
	}{
		{[]uint64{1, 1, 1}, 0, 0, ""},
		{[]uint64{2, 3, 1}, 0, 0, ""},
		{[]uint64{2, 3, 1}, 12, 12, ""},
		{[]uint64{2, 1, 1}, 12, 11, ""},
		{[]uint64{2, 1, 1}, 12, 12, "write 3 to block 1 is missing"},
		{[]uint64{2, 3, 4}, 12, 12, "write 4 to block 2 is there, which was above LSN"},
		{[]uint64{2, 1, 4}, 0, 0, "write 4 is there, and write 3 to block 1, which was acknowledged before, is not"},
		{[]uint64{0, 1, 1}, 0, 0, "block 0 holds write 0, it may only hold [1 2]"},
	} {
		if why := m.allows(c.holds, holdfast.LSN(c.upto), holdfast.LSN(c.sure)); (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%v up to %d: %q, not %q", c.holds, c.upto, why, c.want)
		}
	}
}
