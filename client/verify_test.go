package client

import (
	"slices"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// TestOnlyAClearMajorityOutvotes: copies are told to be wrong only if more than
// half of all agree everywhere, and are the same ones.
func TestOnlyAClearMajorityOutvotes(t *testing.T) {
	hosts := []string{"a", "b", "c", "d"}
	// Each difference is a word: the i-th letter is what the i-th host holds.
	for _, c := range []struct {
		held []string
		want []string
	}{
		{[]string{"xxy"}, []string{"c"}},
		{[]string{"xyy"}, []string{"a"}},
		{[]string{"xy"}, nil},
		{[]string{"xyz"}, nil},
		{[]string{"xxy", "xyz"}, nil},
		{[]string{"xxy", "yxx"}, nil}, // b alone was right twice
		{[]string{"xxy", "zzy"}, []string{"c"}},
		{[]string{"xxyy"}, nil},
		{[]string{"xxxy", "xxxy"}, []string{"d"}},
		{[]string{"xxxy", "yxxx"}, nil},
		{nil, nil},
	} {
		v := newVotes()
		n := 4
		for _, word := range c.held {
			n = len(word)
			d := v1.CopyDifference{}
			for i, r := range word {
				d.Held = append(d.Held, v1.HeldCopy{Host: hosts[i], State: "data", Hash: string(r)})
			}
			v.count([]v1.CopyDifference{d})
		}
		if got := v.outvoted(hosts[:n]); !slices.Equal(got, c.want) {
			t.Errorf("%v: outvoted %v, want %v", c.held, got, c.want)
		}
	}
}
