package serve

import (
	"context"
	"reflect"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// stepping compares a volume of size blocks of which all differ, or every second
// one, in steps of a hundred blocks.
func stepping(size uint64, every uint64, steps *int) func(uint64, int) (replica.Diff, error) {
	return func(addr uint64, limit int) (d replica.Diff, err error) {
		*steps++
		d.Size, d.Next = size, min(addr+100, size)
		for at := addr; at < d.Next; at += every {
			if len(d.Extents) == limit {
				d.Next = at
				break
			}
			d.Extents = append(d.Extents, replica.Extent{Addr: at, Blocks: 1, Hole: at >= size/2})
		}
		return d, nil
	}
}

func TestAPageIsMadeOfSteps(t *testing.T) {
	const b = holdfast.BlockSize
	for _, c := range []struct {
		name        string
		size, every uint64
		from        uint64
		limit       int
		next        int64
		extents     int
		first       v1.Extent
		steps       int
	}{
		{"what adjoins is one extent, what reads as zero another", 1000, 1, 0, 2048, 0, 2, v1.Extent{Length: 500 * b}, 10},
		{"it goes on where it was told to", 1000, 1, 700, 2048, 0, 1, v1.Extent{Offset: 700 * b, Length: 300 * b, Zero: true}, 3},
		{"a full page says where to go on", 1000, 2, 0, 60, 120 * b, 60, v1.Extent{Length: b}, 2},
		{"so does one that took all the steps it may", 1 << 20, 1, 0, 2048, diffSteps * 100 * b, 1, v1.Extent{Length: diffSteps * 100 * b}, diffSteps},
		{"beyond the end is nothing", 1000, 1, 1000, 5, 0, 0, v1.Extent{}, 1},
	} {
		steps := 0
		d, err := compare(context.Background(), httpapi.Comparison{Addr: c.from, Limit: c.limit}, stepping(c.size, c.every, &steps))
		if err != nil || d.Next != c.next || len(d.Extents) != c.extents || steps != c.steps || d.Size != int64(c.size)*b {
			t.Errorf("%s: %d extents, next %d, size %d, %d steps, %v", c.name, len(d.Extents), d.Next, d.Size, steps, err)
			continue
		}
		if c.extents > 0 && !reflect.DeepEqual(d.Extents[0], c.first) {
			t.Errorf("%s: it begins with %+v, want %+v", c.name, d.Extents[0], c.first)
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	steps := 0
	if _, err := compare(gone, httpapi.Comparison{Limit: 1}, stepping(10, 1, &steps)); err == nil || steps != 0 {
		t.Errorf("a client that has gone away: %d steps, %v", steps, err)
	}
}
