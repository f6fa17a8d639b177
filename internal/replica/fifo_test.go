package replica

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAQueueIsAQueue: a ring that wraps around and grows behaves as a slice.
func TestAQueueIsAQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f fifo[int]
		var model []int
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "pushed") {
					f.push(n)
					model = append(model, n)
					n++
				}
			},
			"pop": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "popped") {
					if len(model) == 0 {
						return
					}
					if got := f.pop(); got != model[0] {
						t.Fatalf("popped %d, want %d", got, model[0])
					}
					model = model[1:]
				}
			},
			"": func(t *rapid.T) {
				var got []int
				for i := range f.len() {
					got = append(got, *f.at(i))
				}
				if !slices.Equal(got, model) {
					t.Fatalf("%v, want %v", got, model)
				}
			},
		})
	})
}

// TestAQueueLetsGoOfWhatIsTaken, so that the memory behind it can be reused.
func TestAQueueLetsGoOfWhatIsTaken(t *testing.T) {
	var f fifo[*int]
	f.push(new(int))
	f.pop()
	for i, p := range f.ring {
		if p != nil {
			t.Errorf("place %d still holds what was taken", i)
		}
	}
}
